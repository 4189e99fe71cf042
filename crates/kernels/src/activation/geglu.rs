//! GEGLU (Shazeer 2020): a product with a gate that went through GELU.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use super::Activation;
use crate::isa::Tier;
use crate::output::{Rows, written_in_blocks};
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// `a · gelu(gate)` where `a` is the first half of the last dimension and `gate` the second.
///
/// # Shapes
/// - xs: `(.., 2 · d)`, f32 or bf16 on the CPU
/// - returns: `(.., d)`, in the dtype of xs
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
    let width = xs.dim(D::Minus1)?;
    if width == 0 || !width.is_multiple_of(2) {
        bail!("geglu: expected an even last dimension, found {:?}", xs.dims());
    }
    crate::recording::apply1(&xs.contiguous()?, Geglu { tier, width })
}

struct Geglu {
    tier: Tier,
    /// Of the input.
    width: usize,
}

impl Geglu {
    fn forward<T: Real>(&self, xs: &[T]) -> Vec<T> {
        let Self { tier, width } = *self;
        // SAFETY: each row writes half as many numbers as it has inputs.
        unsafe {
            written_in_blocks(Rows::of(xs.len(), width), width / 2, |block, to| {
                dispatch(tier, Gate { width, xs: block.of(xs, width), to });
            })
        }
    }

    fn backward<T: Real>(&self, xs: &[T], grad: &[T]) -> Vec<T> {
        let Self { tier, width } = *self;
        // SAFETY: each row writes as many numbers as it has inputs.
        unsafe {
            written_in_blocks(Rows::of(xs.len(), width), width, |block, to| {
                let (xs, grad) = (block.of(xs, width), block.of(grad, width / 2));
                dispatch(tier, Pull { width, xs, grad, to });
            })
        }
    }
}

/// Rows: `to = a · gelu(gate)`.
struct Gate<'a, T> {
    width: usize,
    xs: &'a [T],
    to: *mut T,
}

impl<T: Real> Kernel for Gate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { width, xs, to } = self;
        let half = width / 2;
        for (row, xs) in xs.chunks_exact(width).enumerate() {
            for at in (0..half).step_by(S::LANES) {
                let left = half - at;
                // SAFETY: `left` numbers are left of either half of the row, and of its output.
                unsafe {
                    let value = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let gate = T::load_up_to(simd, xs.as_ptr().add(half + at), left);
                    let y = simd.mul(value, Activation::Gelu.value(simd, gate));
                    T::store_up_to(simd, to.add(row * half + at), y, left);
                }
            }
        }
    }
}

/// Rows: the gradients of both halves.
struct Pull<'a, T> {
    width: usize,
    xs: &'a [T],
    grad: &'a [T],
    to: *mut T,
}

impl<T: Real> Kernel for Pull<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { width, xs, grad, to } = self;
        let half = width / 2;
        let rows = xs.chunks_exact(width).zip(grad.chunks_exact(half));
        for (row, (xs, grad)) in rows.enumerate() {
            for at in (0..half).step_by(S::LANES) {
                let left = half - at;
                // SAFETY: `left` numbers are left of either half of the row, of its gradient and of what is written.
                unsafe {
                    let value = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let gate = T::load_up_to(simd, xs.as_ptr().add(half + at), left);
                    let grad = T::load_up_to(simd, grad.as_ptr().add(at), left);
                    let to = to.add(row * width + at);
                    let d_value = simd.mul(grad, Activation::Gelu.value(simd, gate));
                    T::store_up_to(simd, to, d_value, left);
                    let slope = Activation::Gelu.slope(simd, gate);
                    let d_gate = simd.mul(grad, simd.mul(value, slope));
                    T::store_up_to(simd, to.add(half), d_gate, left);
                }
            }
        }
    }
}

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.width / 2;
        }
        for_real!(xs.dtype(), |T| {
            Ok((T::storage(self.forward::<T>(numbers(xs, layout)?)), dims.into()))
        })
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_real!(xs.dtype(), |T| {
            let dxs = with_numbers::<T, _>(xs, |xs| {
                with_numbers(&grad, |grad| Ok(self.backward(xs, grad)))
            })?;
            from_numbers(dxs, xs.dims()).map(Some)
        })
    }
}
