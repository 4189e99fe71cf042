//! Layer normalisation: each row by its own moments.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{Affine, weight_gradient};
use crate::isa::Tier;
use crate::output::{Rows, Target, written};
use crate::simd::{Kernel, MAX_LANES, Real, Simd, dispatch};
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// Numbers summed in f32 before they are added in f64.
const BLOCK: usize = 4096;
/// Rows whose gradients by the weights are summed in f32 before they are added in f64.
const MOST_ROWS: usize = 256;

/// Normalises the last dimension of a tensor on the CPU, and scales and shifts each feature.
///
/// # Shapes
/// - xs: `(.., features)`, f32 or bf16
/// - weight, bias: `(features)`
/// - returns: that of xs, in its dtype
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
    if features == 0 {
        bail!("layer_norm: expected features, found {:?}", xs.dims());
    }
    let (weight, bias) = affine.checked(features)?;
    let op = LayerNorm { tier, features, eps: affine.eps };
    crate::recording::apply3(&xs.contiguous()?, &weight, &bias, op)
}

#[derive(Clone, Copy)]
struct LayerNorm {
    tier: Tier,
    features: usize,
    eps: f64,
}

impl LayerNorm {
    fn rows(self, len: usize) -> Rows {
        Rows::of(len, self.features).in_blocks_of(MOST_ROWS)
    }

    fn forward<T: Real>(self, xs: &[T], weight: &[f32], bias: &[f32]) -> Vec<T> {
        let features = self.features;
        // SAFETY: the blocks cover all rows, do not overlap, and write as many numbers as they have.
        unsafe {
            written(xs.len(), |to: &Target<T>| {
                self.rows(xs.len()).blocks().for_each(|block| {
                    let (xs, to) = (block.of(xs, features), to.at(block.start * features));
                    dispatch(self.tier, Forward { norm: self, xs, weight, bias, to });
                });
            })
        }
    }

    /// The gradients by xs, weight and bias.
    fn backward<T: Real>(
        self,
        xs: &[T],
        grad: &[T],
        weight: &[f32],
    ) -> (Vec<T>, Vec<f32>, Vec<f32>) {
        let features = self.features;
        let mut parts: Vec<Vec<f32>> = Vec::new();
        // SAFETY: as in `forward`.
        let dxs = unsafe {
            written(xs.len(), |to: &Target<T>| {
                self.rows(xs.len())
                    .blocks()
                    .map(|block| {
                        let (xs, grad) = (block.of(xs, features), block.of(grad, features));
                        let to = to.at(block.start * features);
                        dispatch(self.tier, Backward { norm: self, xs, grad, weight, to })
                    })
                    .collect_into_vec(&mut parts);
            })
        };
        let mut sums = vec![0.0_f64; 2 * features];
        for part in parts {
            let (by_weight, by_bias) = part.split_at(part.len() / 2);
            let part = by_weight[..features].iter().chain(&by_bias[..features]);
            for (sum, &x) in sums.iter_mut().zip(part) {
                *sum += f64::from(x);
            }
        }
        let as_f32 = |sums: &[f64]| sums.iter().map(|&sum| sum as f32).collect();
        (dxs, as_f32(&sums[..features]), as_f32(&sums[features..]))
    }
}

/// The mean of a row, and the factor to unit variance.
#[inline(always)]
fn moments<S: Simd, T: Real>(simd: S, xs: &[T], eps: f64) -> (S::V, S::V) {
    let len = xs.len();
    let mut sum = 0.0;
    for start in (0..len).step_by(BLOCK) {
        let mut lanes = simd.zero();
        for at in (start..(start + BLOCK).min(len)).step_by(S::LANES) {
            // SAFETY: as many numbers are left of the row.
            lanes = simd.add(lanes, unsafe { T::load_up_to(simd, xs.as_ptr().add(at), len - at) });
        }
        sum += total(simd, lanes);
    }
    let mean = simd.splat((sum / len as f64) as f32);
    let mut squares = 0.0;
    for start in (0..len).step_by(BLOCK) {
        let mut lanes = simd.zero();
        for at in (start..(start + BLOCK).min(len)).step_by(S::LANES) {
            // SAFETY: as above.
            let x = unsafe { T::load_up_to(simd, xs.as_ptr().add(at), len - at) };
            let x = inside(simd, simd.sub(x, mean), len - at);
            lanes = simd.mul_add(x, x, lanes);
        }
        squares += total(simd, lanes);
    }
    let inverse = (squares / len as f64 + eps).sqrt().recip();
    (mean, simd.splat(inverse as f32))
}

/// The sum of a register's numbers.
#[inline(always)]
fn total<S: Simd>(simd: S, lanes: S::V) -> f64 {
    let mut sums = simd.to_array(lanes);
    let mut half = MAX_LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    f64::from(sums[0])
}

/// `x`, zero from its lane `left` on.
#[inline(always)]
fn inside<S: Simd>(simd: S, x: S::V, left: usize) -> S::V {
    if left >= S::LANES {
        return x;
    }
    let mut array = simd.to_array(x);
    array[left..].fill(0.0);
    // SAFETY: no tier has more lanes.
    unsafe { simd.load(array.as_ptr()) }
}

/// Rows.
struct Forward<'a, T> {
    norm: LayerNorm,
    xs: &'a [T],
    weight: &'a [f32],
    bias: &'a [f32],
    to: *mut T,
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm: LayerNorm { features, eps, .. }, xs, weight, bias, to } = self;
        assert!(weight.len() == features && bias.len() == features);
        for (row, xs) in xs.chunks_exact(features).enumerate() {
            let (mean, inverse) = moments(simd, xs, eps);
            for at in (0..features).step_by(S::LANES) {
                let left = features - at;
                // SAFETY: the row, the weights and what is written have `features` numbers.
                unsafe {
                    let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let x = simd.mul(simd.sub(x, mean), inverse);
                    let weight = f32::load_up_to(simd, weight.as_ptr().add(at), left);
                    let bias = f32::load_up_to(simd, bias.as_ptr().add(at), left);
                    let y = simd.mul_add(x, weight, bias);
                    T::store_up_to(simd, to.add(row * features + at), y, left);
                }
            }
        }
    }
}

/// The gradient by rows; gives the sums of the gradients by the weights, padded, and then by the biases.
struct Backward<'a, T> {
    norm: LayerNorm,
    xs: &'a [T],
    grad: &'a [T],
    weight: &'a [f32],
    to: *mut T,
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { norm: LayerNorm { features, eps, .. }, xs, grad, weight, to } = self;
        assert_eq!(weight.len(), features);
        let padded = features.next_multiple_of(MAX_LANES);
        let mut sums = vec![0.0_f32; 2 * padded];
        let (by_weight, by_bias) = sums.split_at_mut(padded);
        let rows = xs.chunks_exact(features).zip(grad.chunks_exact(features));
        for (row, (xs, grad)) in rows.enumerate() {
            let (mean, inverse) = moments(simd, xs, eps);
            let (mut sum_d, mut sum_dx) = (simd.zero(), simd.zero());
            for at in (0..features).step_by(S::LANES) {
                let left = features - at;
                // SAFETY: the row, its gradient and the weights have `features` numbers, and registers of the padded
                // sums are whole. Past the end the gradient is zero, and with it all that is summed.
                unsafe {
                    let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let x = simd.mul(simd.sub(x, mean), inverse);
                    let grad = T::load_up_to(simd, grad.as_ptr().add(at), left);
                    let d = simd.mul(grad, f32::load_up_to(simd, weight.as_ptr().add(at), left));
                    sum_d = simd.add(sum_d, d);
                    sum_dx = simd.mul_add(d, x, sum_dx);
                    let sum = by_weight.as_mut_ptr().add(at);
                    simd.store(sum, simd.mul_add(grad, x, simd.load(sum)));
                    let sum = by_bias.as_mut_ptr().add(at);
                    simd.store(sum, simd.add(simd.load(sum), grad));
                }
            }
            let mean_d = simd.splat((total(simd, sum_d) / features as f64) as f32);
            let mean_dx = simd.splat((total(simd, sum_dx) / features as f64) as f32);
            // With d = grad · weight: dx = inverse · (d - mean(d) - x̂ · mean(d · x̂)).
            for at in (0..features).step_by(S::LANES) {
                let left = features - at;
                // SAFETY: as above; what is written has `features` numbers too.
                unsafe {
                    let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let x = simd.mul(simd.sub(x, mean), inverse);
                    let grad = T::load_up_to(simd, grad.as_ptr().add(at), left);
                    let d = simd.mul(grad, f32::load_up_to(simd, weight.as_ptr().add(at), left));
                    let d = simd.sub(simd.sub(d, mean_d), simd.mul(x, mean_dx));
                    let y = simd.mul(d, inverse);
                    T::store_up_to(simd, to.add(row * features + at), y, left);
                }
            }
        }
        sums
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }
    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        w_layout: &Layout,
        bias: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (weight, bias) = (numbers(weight, w_layout)?, numbers(bias, b_layout)?);
        for_real!(xs.dtype(), |T| {
            let ys = self.forward::<T>(numbers(xs, layout)?, weight, bias);
            Ok((T::storage(ys), layout.shape().clone()))
        })
    }
    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let factors = weight.to_vec1()?;
        let grad = grad.contiguous()?;
        for_real!(xs.dtype(), |T| {
            let (dxs, by_weight, by_bias) = with_numbers::<T, _>(xs, |xs| {
                with_numbers(&grad, |grad| Ok(self.backward(xs, grad, &factors)))
            })?;
            Ok((
                Some(from_numbers(dxs, xs.dims())?),
                weight_gradient(weight, by_weight)?,
                weight_gradient(bias, by_bias)?,
            ))
        })
    }
}
