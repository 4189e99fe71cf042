//! `torch.nn.functional.group_norm` (Wu and He 2018), with a non-linearity behind it if wished, and `layer_norm` (Ba,
//! Kiros and Hinton 2016).
//!
//! Sums run over registers in blocks and over blocks in f64: a million elements keep f32's digits.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::activation::{Activation, activate_on, load, store};
use crate::isa::Tier;
use crate::simd::{Kernel, Simd, dispatch};
use crate::tensors::{contiguous, cpu, from_values};

/// Numbers summed in f32 before they are added in f64.
const BLOCK: usize = 4096;

/// Scale and shift, and what is added to the variance.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// One factor a channel or feature, any float dtype.
    pub weight: &'a Tensor,
    /// One term a channel or feature, any float dtype.
    pub bias: &'a Tensor,
    /// Added to the variance.
    pub eps: f64,
}

/// Normalises groups of channels of an f32 tensor on the CPU, scales and shifts each channel, and applies `activation`.
///
/// # Shapes
/// - xs: `(b, channels, ..)`
/// - weight, bias: `(channels)`
/// - returns: that of xs
///
/// # Errors
/// If the groups do not divide the channels, or a shape, dtype or device is another one.
pub fn group_norm(
    xs: &Tensor,
    groups: usize,
    affine: Affine<'_>,
    activation: Option<Activation>,
) -> Result<Tensor> {
    group_norm_on(Tier::current(), xs, groups, affine, activation)
}

/// [`group_norm`] on a given tier.
///
/// # Errors
/// Those of [`group_norm`].
pub fn group_norm_on(
    tier: Tier,
    xs: &Tensor,
    groups: usize,
    affine: Affine<'_>,
    activation: Option<Activation>,
) -> Result<Tensor> {
    let channels = xs.dim(1)?;
    if groups == 0 || !channels.is_multiple_of(groups) {
        bail!("group_norm: {groups} groups of {channels} channels");
    }
    let xs = xs.contiguous()?;
    let op = |weight, bias, activation| Norm {
        tier,
        rows_per_image: groups,
        per_weight: xs.dims()[2..].iter().product(),
        weight,
        bias,
        eps: affine.eps,
        activation,
    };
    if let Some((weight, bias)) = frozen(affine, channels)? {
        return xs.apply_op1(op(weight, bias, activation));
    }
    let mut shape = vec![1; xs.rank()];
    shape[1] = channels;
    let ys = xs.apply_op1(op(vec![1.0; channels], vec![0.0; channels], None))?;
    let ys = ys.broadcast_mul(&affine.weight.to_dtype(DType::F32)?.reshape(shape.as_slice())?)?;
    let ys = ys.broadcast_add(&affine.bias.to_dtype(DType::F32)?.reshape(shape.as_slice())?)?;
    match activation {
        Some(activation) => activate_on(tier, &ys, activation),
        None => Ok(ys),
    }
}

/// Normalises the last dimension of an f32 tensor on the CPU, and scales and shifts each feature.
///
/// # Shapes
/// - xs: `(.., features)`
/// - weight, bias: `(features)`
/// - returns: that of xs
///
/// # Errors
/// If a shape, dtype or device is another one.
pub fn layer_norm(xs: &Tensor, affine: Affine<'_>) -> Result<Tensor> {
    layer_norm_on(Tier::current(), xs, affine)
}

/// [`layer_norm`] on a given tier.
///
/// # Errors
/// Those of [`layer_norm`].
pub fn layer_norm_on(tier: Tier, xs: &Tensor, affine: Affine<'_>) -> Result<Tensor> {
    let features = xs.dim(D::Minus1)?;
    let op = |weight, bias| Norm {
        tier,
        rows_per_image: 1,
        per_weight: 1,
        weight,
        bias,
        eps: affine.eps,
        activation: None,
    };
    let xs = xs.contiguous()?;
    if let Some((weight, bias)) = frozen(affine, features)? {
        return xs.apply_op1(op(weight, bias));
    }
    let ys = xs.apply_op1(op(vec![1.0; features], vec![0.0; features]))?;
    ys.broadcast_mul(&affine.weight.to_dtype(DType::F32)?)?
        .broadcast_add(&affine.bias.to_dtype(DType::F32)?)
}

/// Scale and shift as numbers, unless one of them wants a gradient.
fn frozen(affine: Affine<'_>, count: usize) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
    let Affine { weight, bias, .. } = affine;
    if weight.dims() != [count] || bias.dims() != [count] {
        bail!("norm: {:?} and {:?} for {count} channels", weight.dims(), bias.dims());
    }
    if weight.track_op() || bias.track_op() {
        return Ok(None);
    }
    let values = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_vec1::<f32>();
    Ok(Some((values(weight)?, values(bias)?)))
}

/// Rows are normalised; in a row, each weight serves `per_weight` neighbours; an image has `rows_per_image` rows.
struct Norm {
    tier: Tier,
    rows_per_image: usize,
    per_weight: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
    activation: Option<Activation>,
}

impl Norm {
    /// Runs every row, with its gradient if there is one.
    fn run(&self, xs: &[f32], grad: Option<&[f32]>) -> Vec<f32> {
        let mut to = vec![0.0; xs.len()];
        let weights = self.weight.len() / self.rows_per_image;
        let len = weights * self.per_weight;
        if len == 0 {
            return to;
        }
        to.par_chunks_mut(len).enumerate().for_each(|(at, to)| {
            let first = at % self.rows_per_image * weights;
            let row = Row {
                norm: self,
                weight: &self.weight[first..first + weights],
                bias: &self.bias[first..first + weights],
                xs: &xs[at * len..][..len],
                grad: grad.map(|grad| &grad[at * len..][..len]),
                to,
            };
            dispatch(self.tier, row);
        });
        to
    }
}

struct Row<'a> {
    norm: &'a Norm,
    weight: &'a [f32],
    bias: &'a [f32],
    xs: &'a [f32],
    grad: Option<&'a [f32]>,
    to: &'a mut [f32],
}

/// `Σ f(at, xs[at])` over registers; `f` gives zeros beyond the end.
#[inline(always)]
fn sum<S: Simd>(simd: S, xs: &[f32], f: impl Fn(usize, S::V) -> S::V) -> f64 {
    let mut total = 0.0;
    for start in (0..xs.len()).step_by(BLOCK) {
        let mut lanes = simd.zero();
        for at in (start..(start + BLOCK).min(xs.len())).step_by(S::LANES) {
            lanes = simd.add(lanes, f(at, load(simd, xs, at)));
        }
        for &x in &simd.to_array(lanes)[..S::LANES] {
            total += f64::from(x);
        }
    }
    total
}

/// `x` where a register at `at` is inside `len`, zero beyond.
#[inline(always)]
fn inside<S: Simd>(simd: S, at: usize, len: usize, x: S::V) -> S::V {
    if at + S::LANES <= len {
        return x;
    }
    let mut array = simd.to_array(x);
    array[len - at..].fill(0.0);
    // SAFETY: no tier has more lanes.
    unsafe { simd.load(array.as_ptr()) }
}

/// What maps an input to the normalised one.
#[derive(Clone, Copy)]
struct Moments<V> {
    mean: V,
    inverse: V,
}

// Functions and not closures: a closure may be compiled apart, and then without the tier's instructions.
impl<V: Copy> Moments<V> {
    #[inline(always)]
    fn normal<S: Simd<V = V>>(self, simd: S, x: V) -> V {
        simd.mul(simd.sub(x, self.mean), self.inverse)
    }
}

#[inline(always)]
fn apply<S: Simd>(simd: S, activation: Option<Activation>, z: S::V) -> S::V {
    match activation {
        Some(activation) => activation.value(simd, z),
        None => z,
    }
}

/// The gradient by what the activation takes.
#[inline(always)]
fn pulled<S: Simd>(simd: S, activation: Option<Activation>, z: S::V, grad: S::V) -> S::V {
    match activation {
        Some(activation) => simd.mul(grad, activation.slope(simd, z)),
        None => grad,
    }
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, weight, bias, xs, grad, to } = self;
        let (len, activation) = (xs.len(), norm.activation);
        let mean = sum(simd, xs, |_, x| x) / len as f64;
        let mean_v = simd.splat(mean as f32);
        let variance = sum(simd, xs, |at, x| {
            let x = simd.sub(x, mean_v);
            inside(simd, at, len, simd.mul(x, x))
        }) / len as f64;
        let inverse = (variance + norm.eps).sqrt().recip() as f32;
        let moments = Moments { mean: mean_v, inverse: simd.splat(inverse) };

        if norm.per_weight == 1 {
            for at in (0..len).step_by(S::LANES) {
                let weight = load(simd, weight, at);
                let x = moments.normal(simd, load(simd, xs, at));
                let z = simd.mul_add(x, weight, load(simd, bias, at));
                let y = match grad {
                    None => apply(simd, activation, z),
                    Some(grad) => {
                        simd.mul(pulled(simd, activation, z, load(simd, grad, at)), weight)
                    }
                };
                store(simd, to, at, y);
            }
        } else {
            for (channel, (&weight, &bias)) in weight.iter().zip(bias).enumerate() {
                let range = channel * norm.per_weight..(channel + 1) * norm.per_weight;
                let (xs, to) = (&xs[range.clone()], &mut to[range.clone()]);
                let grad = grad.map(|grad| &grad[range]);
                // (x - mean) · inverse · weight + bias in one multiplication and addition.
                let scale = simd.splat(inverse * weight);
                let shift = f64::from(bias) - mean * f64::from(inverse * weight);
                let shift = simd.splat(shift as f32);
                let weight = simd.splat(weight);
                for at in (0..xs.len()).step_by(S::LANES) {
                    let z = simd.mul_add(load(simd, xs, at), scale, shift);
                    let y = match grad {
                        None => apply(simd, activation, z),
                        Some(grad) => {
                            simd.mul(pulled(simd, activation, z, load(simd, grad, at)), weight)
                        }
                    };
                    store(simd, to, at, y);
                }
            }
        }
        if grad.is_none() {
            return;
        }
        // `to` holds d, the gradient by x̂: dx = inverse · (d - mean(d) - x̂ · mean(d · x̂)).
        let mean_d = sum(simd, to, |_, d| d) / len as f64;
        let mean_dx = sum(simd, to, |at, d| {
            inside(simd, at, len, simd.mul(d, moments.normal(simd, load(simd, xs, at))))
        }) / len as f64;
        let (mean_d, mean_dx) = (simd.splat(mean_d as f32), simd.splat(mean_dx as f32));
        for at in (0..len).step_by(S::LANES) {
            let d = simd.sub(load(simd, to, at), mean_d);
            let x = moments.normal(simd, load(simd, xs, at));
            let d = simd.sub(d, simd.mul(x, mean_dx));
            store(simd, to, at, simd.mul(d, moments.inverse));
        }
    }
}

impl CustomOp1 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.run(contiguous(xs, layout)?, None)), layout.shape().clone()))
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let ((xs_storage, xs_layout), (grad_storage, grad_layout)) =
            (xs.storage_and_layout(), grad.storage_and_layout());
        let values = contiguous(cpu(&xs_storage)?, xs_layout)?;
        let grad = contiguous(cpu(&grad_storage)?, grad_layout)?;
        from_values(self.run(values, Some(grad)), xs.dims()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::testing::{Numbers, assert_same, tiers};

    /// Normalises the last dimension.
    fn plain(xs: &Tensor, eps: f64) -> Result<Tensor> {
        let xs = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
        xs.broadcast_div(&(xs.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
    }

    #[test]
    fn group_norm_agrees_with_the_composed_operations() -> Result<()> {
        let mut numbers = Numbers::new(40);
        let cases = [([1, 2, 1, 2], 1), ([2, 6, 5, 7], 3), ([1, 32, 9, 9], 8), ([1, 4, 70, 70], 2)];
        for (dims, groups) in cases {
            let c = dims[1];
            let xs = Var::from_tensor(&((numbers.tensor(&dims)? * 3.0)? + 5.0)?)?;
            let weight = Var::from_tensor(&(numbers.tensor(&[c])? + 1.5)?)?;
            let bias = Var::from_tensor(&numbers.tensor(&[c])?)?;
            let normal = plain(&xs.reshape((dims[0], groups, ()))?, 1e-5)?.reshape(&dims)?;
            let normal = normal.broadcast_mul(&weight.reshape((1, c, 1, 1))?)?;
            let normal = normal.broadcast_add(&bias.reshape((1, c, 1, 1))?)?;
            for activation in [None, Some(Activation::Silu)] {
                let expected = if activation.is_some() { normal.silu()? } else { normal.clone() };
                let pull = numbers.tensor(&dims)?;
                let gradients = (&expected * &pull)?.sum_all()?.backward()?;
                for tier in tiers() {
                    let tracked = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
                    let found = group_norm_on(tier, &xs, groups, tracked, activation)?;
                    assert_same(&found, &expected, 1e-5);
                    let found = (found * &pull)?.sum_all()?.backward()?;
                    for var in [&xs, &weight, &bias] {
                        assert_same(found.get(var).unwrap(), gradients.get(var).unwrap(), 1e-4);
                    }
                    let (weight, bias) = (weight.as_detached_tensor(), bias.as_detached_tensor());
                    let frozen = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
                    let found = group_norm_on(tier, &xs, groups, frozen, activation)?;
                    assert_same(&found, &expected, 1e-5);
                    let found = (found * &pull)?.sum_all()?.backward()?;
                    assert_same(found.get(&xs).unwrap(), gradients.get(&xs).unwrap(), 1e-4);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn layer_norm_agrees_with_the_composed_operations() -> Result<()> {
        let mut numbers = Numbers::new(41);
        for dims in [[1, 1, 3], [2, 5, 32], [1, 7, 100]] {
            let xs = Var::from_tensor(&(numbers.tensor(&dims)? * 2.0)?)?;
            let weight = Var::from_tensor(&numbers.tensor(&[dims[2]])?)?;
            let bias = Var::from_tensor(&numbers.tensor(&[dims[2]])?)?;
            let expected = plain(&xs, 1e-5)?.broadcast_mul(&weight)?.broadcast_add(&bias)?;
            let pull = numbers.tensor(&dims)?;
            let gradients = (&expected * &pull)?.sum_all()?.backward()?;
            for tier in tiers() {
                let tracked = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
                let found = layer_norm_on(tier, &xs, tracked)?;
                assert_same(&found, &expected, 1e-5);
                let found = (found * &pull)?.sum_all()?.backward()?;
                for var in [&xs, &weight, &bias] {
                    assert_same(found.get(var).unwrap(), gradients.get(var).unwrap(), 1e-4);
                }
                let (weight, bias) = (weight.as_detached_tensor(), bias.as_detached_tensor());
                let frozen = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
                let found = layer_norm_on(tier, &xs, frozen)?;
                assert_same(&found, &expected, 1e-5);
                let found = (found * &pull)?.sum_all()?.backward()?;
                assert_same(found.get(&xs).unwrap(), gradients.get(&xs).unwrap(), 1e-4);
            }
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors() -> Result<()> {
        let mut numbers = Numbers::new(42);
        let (xs, weight) = (numbers.tensor(&[1, 6, 2, 2])?, numbers.tensor(&[6])?);
        let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
        assert!(group_norm(&xs, 4, affine, None).is_err());
        assert!(group_norm(&xs, 0, affine, None).is_err());
        assert!(layer_norm(&xs, affine).is_err());
        Ok(())
    }
}
