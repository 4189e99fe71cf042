//! Pointwise non-linearities: SiLU, GELU with the exact error function, CLIP's quick GELU, and GEGLU (Shazeer 2020).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::isa::Tier;
use crate::simd::math::{erf, exp, sigmoid};
use crate::simd::{Kernel, Simd, dispatch};
use crate::tensors::{contiguous, cpu, from_values};

/// Numbers in a task.
const CHUNK: usize = 1 << 14;

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`.
    Gelu,
    /// `x · σ(1.702 x)`.
    QuickGelu,
}

/// Applies a non-linearity to every element of an f32 tensor on the CPU.
///
/// # Errors
/// If the dtype or device is another one.
pub fn activate(xs: &Tensor, activation: Activation) -> Result<Tensor> {
    activate_on(Tier::current(), xs, activation)
}

/// [`activate`] on a given tier.
///
/// # Errors
/// Those of [`activate`].
pub fn activate_on(tier: Tier, xs: &Tensor, activation: Activation) -> Result<Tensor> {
    xs.contiguous()?.apply_op1(Activate { tier, activation })
}

/// `a · gelu(gate)` where `a` is the first half of the last dimension and `gate` the second.
///
/// # Shapes
/// - xs: `(.., 2 · d)`, f32 on the CPU
/// - returns: `(.., d)`
///
/// # Errors
/// If the last dimension is odd, or the dtype or device is another one.
pub fn geglu(xs: &Tensor) -> Result<Tensor> {
    geglu_on(Tier::current(), xs)
}

/// [`geglu`] on a given tier.
///
/// # Errors
/// Those of [`geglu`].
pub fn geglu_on(tier: Tier, xs: &Tensor) -> Result<Tensor> {
    xs.contiguous()?.apply_op1(Geglu { tier })
}

impl Activation {
    #[inline(always)]
    pub(crate) fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        match self {
            Self::Silu => simd.mul(x, sigmoid(simd, x)),
            Self::Gelu => simd.mul(x, normal_cdf(simd, x)),
            Self::QuickGelu => simd.mul(x, sigmoid(simd, simd.mul(x, simd.splat(QUICK)))),
        }
    }

    #[inline(always)]
    pub(crate) fn slope<S: Simd>(self, simd: S, x: S::V) -> S::V {
        let logistic = |scale: f32| {
            // (x σ(a x))' = σ + a x σ (1 - σ)
            let ax = simd.mul(x, simd.splat(scale));
            let s = sigmoid(simd, ax);
            let rest = simd.mul(s, simd.sub(simd.splat(1.0), s));
            simd.mul_add(ax, rest, s)
        };
        match self {
            Self::Silu => logistic(1.0),
            Self::Gelu => {
                // (x Φ(x))' = Φ + x φ, φ(x) = e^(-x² / 2) / √(2 π)
                let density = exp(simd, simd.mul(simd.splat(-0.5), simd.mul(x, x)));
                let density = simd.mul(density, simd.splat(0.398_942_3));
                simd.mul_add(x, density, normal_cdf(simd, x))
            }
            Self::QuickGelu => logistic(QUICK),
        }
    }
}

/// The factor of CLIP's approximation of GELU.
const QUICK: f32 = 1.702;

#[inline(always)]
fn normal_cdf<S: Simd>(simd: S, x: S::V) -> S::V {
    let erf = erf(simd, simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
    simd.mul_add(simd.splat(0.5), erf, simd.splat(0.5))
}

/// Register `at` of a slice, zero beyond its end.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, from: &[f32], at: usize) -> S::V {
    let rest = &from[at..];
    if rest.len() >= S::LANES {
        // SAFETY: a register's worth is left.
        return unsafe { simd.load(rest.as_ptr()) };
    }
    let mut padded = [0.0; crate::simd::MAX_LANES];
    padded[..rest.len()].copy_from_slice(rest);
    // SAFETY: no tier has more lanes.
    unsafe { simd.load(padded.as_ptr()) }
}

/// Writes what fits of a register at `at`.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, to: &mut [f32], at: usize, x: S::V) {
    let rest = &mut to[at..];
    if rest.len() >= S::LANES {
        // SAFETY: there is room for a register.
        unsafe { simd.store(rest.as_mut_ptr(), x) };
    } else {
        let count = rest.len();
        rest.copy_from_slice(&simd.to_array(x)[..count]);
    }
}

struct Activate {
    tier: Tier,
    activation: Activation,
}

/// A chunk: `to = f(xs)`, or `to = grad · f'(xs)`.
struct Chunk<'a> {
    activation: Activation,
    xs: &'a [f32],
    grad: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl Kernel for Chunk<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { activation, xs, grad, to } = self;
        for at in (0..to.len()).step_by(S::LANES) {
            let x = load(simd, xs, at);
            let y = match grad {
                None => activation.value(simd, x),
                Some(grad) => simd.mul(load(simd, grad, at), activation.slope(simd, x)),
            };
            store(simd, to, at, y);
        }
    }
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Self { tier, activation } = *self;
        let xs = contiguous(xs, layout)?;
        let mut ys = vec![0.0; xs.len()];
        ys.par_chunks_mut(CHUNK).zip(xs.par_chunks(CHUNK)).for_each(|(to, xs)| {
            dispatch(tier, Chunk { activation, xs, grad: None, to });
        });
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Self { tier, activation } = *self;
        let grad = grad.contiguous()?;
        let ((xs_storage, xs_layout), (grad_storage, grad_layout)) =
            (xs.storage_and_layout(), grad.storage_and_layout());
        let values = contiguous(cpu(&xs_storage)?, xs_layout)?;
        let grad = contiguous(cpu(&grad_storage)?, grad_layout)?;
        let mut dxs = vec![0.0; values.len()];
        let inputs = values.par_chunks(CHUNK).zip(grad.par_chunks(CHUNK));
        dxs.par_chunks_mut(CHUNK).zip(inputs).for_each(|(to, (xs, grad))| {
            dispatch(tier, Chunk { activation, xs, grad: Some(grad), to });
        });
        from_values(dxs, xs.dims()).map(Some)
    }
}

struct Geglu {
    tier: Tier,
}

/// A row: `to = a · gelu(gate)`, or the gradients of both halves.
struct Row<'a> {
    xs: &'a [f32],
    grad: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (values, gates) = self.xs.split_at(self.xs.len() / 2);
        let Some(grad) = self.grad else {
            for at in (0..values.len()).step_by(S::LANES) {
                let gate = Activation::Gelu.value(simd, load(simd, gates, at));
                store(simd, self.to, at, simd.mul(load(simd, values, at), gate));
            }
            return;
        };
        let (d_values, d_gates) = self.to.split_at_mut(values.len());
        for at in (0..values.len()).step_by(S::LANES) {
            let (value, gate) = (load(simd, values, at), load(simd, gates, at));
            let grad = load(simd, grad, at);
            store(simd, d_values, at, simd.mul(grad, Activation::Gelu.value(simd, gate)));
            let slope = Activation::Gelu.slope(simd, gate);
            store(simd, d_gates, at, simd.mul(grad, simd.mul(value, slope)));
        }
    }
}

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut().filter(|last| **last > 0 && last.is_multiple_of(2)) else {
            bail!("geglu: expected an even last dimension, found {:?}", layout.dims());
        };
        let width = *last;
        *last /= 2;
        let xs = contiguous(xs, layout)?;
        let mut ys = vec![0.0; xs.len() / 2];
        ys.par_chunks_mut(width / 2).zip(xs.par_chunks(width)).for_each(|(to, xs)| {
            dispatch(self.tier, Row { xs, grad: None, to });
        });
        Ok((CpuStorage::F32(ys), dims.into()))
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = xs.dim(candle_core::D::Minus1)?;
        let grad = grad.contiguous()?;
        let ((xs_storage, xs_layout), (grad_storage, grad_layout)) =
            (xs.storage_and_layout(), grad.storage_and_layout());
        let values = contiguous(cpu(&xs_storage)?, xs_layout)?;
        let grad = contiguous(cpu(&grad_storage)?, grad_layout)?;
        let mut dxs = vec![0.0; values.len()];
        let inputs = values.par_chunks(width).zip(grad.par_chunks(width / 2));
        dxs.par_chunks_mut(width).zip(inputs).for_each(|(to, (xs, grad))| {
            dispatch(self.tier, Row { xs, grad: Some(grad), to });
        });
        from_values(dxs, xs.dims()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{Numbers, assert_same, tiers};

    const ALL: [Activation; 3] = [Activation::Silu, Activation::Gelu, Activation::QuickGelu];

    /// The same from candle's own operations.
    fn plain(xs: &Tensor, activation: Activation) -> Result<Tensor> {
        let sigmoid = |xs: Tensor| (xs.neg()?.exp()? + 1.0)?.recip();
        match activation {
            Activation::Silu => xs * sigmoid(xs.clone())?,
            Activation::Gelu => xs.gelu_erf(),
            Activation::QuickGelu => xs * sigmoid((xs * 1.702)?)?,
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composed_operations() -> Result<()> {
        let mut numbers = Numbers::new(20);
        for count in [1, 7, 16, 100, CHUNK + 3] {
            let xs = Var::from_tensor(&(numbers.tensor(&[count])? * 8.0)?)?;
            let pull = numbers.tensor(&[count])?;
            for activation in ALL {
                let expected = plain(&xs, activation)?;
                let gradient = (&expected * &pull)?.sum_all()?.backward()?;
                for tier in tiers() {
                    let found = activate_on(tier, &xs, activation)?;
                    assert_same(&found, &expected, 1e-6);
                    let found = (found * &pull)?.sum_all()?.backward()?;
                    assert_same(found.get(&xs).unwrap(), gradient.get(&xs).unwrap(), 1e-6);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn large_inputs_stay_finite() -> Result<()> {
        let xs = Var::new(&[-1e30_f32, -1e4, -100.0, 0.0, 100.0, 1e4, 1e30], &Device::Cpu)?;
        for (tier, activation) in tiers().flat_map(|tier| ALL.map(|activation| (tier, activation)))
        {
            let ys = activate_on(tier, &xs, activation)?;
            let gradient = ys.sum_all()?.backward()?;
            let gradient = gradient.get(&xs).unwrap().to_vec1::<f32>()?;
            for (x, y) in xs.to_vec1::<f32>()?.into_iter().zip(ys.to_vec1::<f32>()?) {
                assert!(
                    (y - x.max(0.0)).abs() <= 1e-6 * x.abs().min(1e30),
                    "{activation:?}({x}) = {y}"
                );
            }
            assert!(gradient.iter().all(|slope| (-0.1..1.1).contains(slope)), "{gradient:?}");
        }
        Ok(())
    }

    #[test]
    fn geglu_is_a_product_with_gelu() -> Result<()> {
        let mut numbers = Numbers::new(21);
        for dims in [[1, 1, 2], [2, 3, 34], [1, 5, 128]] {
            let xs = Var::from_tensor(&(numbers.tensor(&dims)? * 3.0)?)?;
            let half = dims[2] / 2;
            let gate = xs.narrow(2, half, half)?.contiguous()?.gelu_erf()?;
            let expected = (xs.narrow(2, 0, half)? * gate)?;
            let pull = numbers.tensor(expected.dims())?;
            let gradient = (&expected * &pull)?.sum_all()?.backward()?;
            for tier in tiers() {
                let found = geglu_on(tier, &xs)?;
                assert_same(&found, &expected, 1e-6);
                let found = (found * &pull)?.sum_all()?.backward()?;
                assert_same(found.get(&xs).unwrap(), gradient.get(&xs).unwrap(), 1e-6);
            }
        }
        assert!(geglu(&numbers.tensor(&[2, 3])?).is_err());
        Ok(())
    }
}
