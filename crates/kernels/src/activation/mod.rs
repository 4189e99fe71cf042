//! Pointwise non-linearities: SiLU, GELU with the exact error function, CLIP's quick GELU, ReLU, plain and leaky, and GEGLU
//! (Shazeer 2020).

mod geglu;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

pub use self::geglu::{geglu, geglu_on};
use crate::isa::Tier;
use crate::output::{Rows, written_in_blocks};
use crate::simd::math::{exp, gelu, normal_cdf, sigmoid};
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`.
    Gelu,
    /// `x · σ(1.702 x)`.
    QuickGelu,
    /// `max(x, 0)`, with slope 0 at 0.
    Relu,
    /// `x` above 0, `slope · x` elsewhere.
    LeakyRelu {
        /// Slope below 0.
        slope: f32,
    },
}

/// Applies a non-linearity to every element of an f32 or bf16 tensor on the CPU.
///
/// # Shapes
/// - xs: any
/// - returns: that of xs, in its dtype
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
    crate::recording::apply1(&xs.contiguous()?, Activate { tier, activation })
}

impl Activation {
    #[inline(always)]
    pub(crate) fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        match self {
            Self::Silu => simd.mul(x, sigmoid(simd, x)),
            Self::Gelu => gelu(simd, x),
            Self::QuickGelu => simd.mul(x, sigmoid(simd, simd.mul(x, simd.splat(QUICK)))),
            Self::Relu => simd.max(x, simd.zero()),
            Self::LeakyRelu { slope } => {
                let below = simd.min(x, simd.zero());
                simd.mul_add(below, simd.splat(slope), simd.max(x, simd.zero()))
            }
        }
    }

    #[inline(always)]
    pub(crate) fn slope<S: Simd>(self, simd: S, x: S::V) -> S::V {
        match self {
            Self::Silu => logistic_slope(simd, x, 1.0),
            Self::Gelu => {
                // (x Φ(x))' = Φ + x φ, φ(x) = e^(-x² / 2) / √(2 π)
                let density = exp(simd, simd.mul(simd.splat(-0.5), simd.mul(x, x)));
                let density = simd.mul(density, simd.splat(0.398_942_3));
                simd.mul_add(x, density, normal_cdf(simd, x))
            }
            Self::QuickGelu => logistic_slope(simd, x, QUICK),
            Self::Relu => step(simd, x),
            Self::LeakyRelu { slope } => {
                simd.mul_add(step(simd, x), simd.splat(1.0 - slope), simd.splat(slope))
            }
        }
    }

    /// The gradient by the input, from that by the output, of as many numbers.
    pub(crate) fn pull_back<T: Real>(self, tier: Tier, xs: &[T], grad: &[T]) -> Vec<T> {
        Activate { tier, activation: self }.run(xs, Some(grad))
    }
}

/// The factor of CLIP's approximation of GELU.
const QUICK: f32 = 1.702;

/// `(x σ(a x))' = σ + a x σ (1 - σ)`. A function: a closure may be compiled apart, without the tier's instructions.
#[inline(always)]
fn logistic_slope<S: Simd>(simd: S, x: S::V, scale: f32) -> S::V {
    let ax = simd.mul(x, simd.splat(scale));
    let s = sigmoid(simd, ax);
    let rest = simd.mul(s, simd.sub(simd.splat(1.0), s));
    simd.mul_add(ax, rest, s)
}

/// 1 above 0 and 0 elsewhere; between them where `x` is subnormal.
#[inline(always)]
fn step<S: Simd>(simd: S, x: S::V) -> S::V {
    let scaled = simd.mul(x, simd.splat(1.0 / f32::MIN_POSITIVE));
    simd.min(simd.max(scaled, simd.zero()), simd.splat(1.0))
}

struct Activate {
    tier: Tier,
    activation: Activation,
}

impl Activate {
    fn run<T: Real>(&self, xs: &[T], grad: Option<&[T]>) -> Vec<T> {
        let Self { tier, activation } = *self;
        // SAFETY: a chunk writes as many numbers as it has inputs.
        unsafe {
            written_in_blocks(Rows::of(xs.len(), 1), 1, |block, to| {
                let (xs, grad) = (block.of(xs, 1), grad.map(|grad| block.of(grad, 1)));
                dispatch(tier, Chunk { activation, xs, grad, to });
            })
        }
    }
}

/// `f(xs)`.
///
/// # Safety
/// `count` numbers can be read at `xs` and written at `to`.
#[inline(always)]
pub(crate) unsafe fn bend<S: Simd, T: Real>(
    simd: S,
    activation: Activation,
    xs: *const T,
    to: *mut T,
    count: usize,
) {
    for at in (0..count).step_by(S::LANES) {
        // SAFETY: `count - at` numbers are left.
        unsafe {
            let x = T::load_up_to(simd, xs.add(at), count - at);
            T::store_up_to(simd, to.add(at), activation.value(simd, x), count - at);
        }
    }
}

/// A chunk: `to = f(xs)`, or `to = grad · f'(xs)`.
struct Chunk<'a, T> {
    activation: Activation,
    xs: &'a [T],
    grad: Option<&'a [T]>,
    to: *mut T,
}

impl<T: Real> Kernel for Chunk<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { activation, xs, grad, to } = self;
        let Some(grad) = grad else {
            // SAFETY: what is written is as long as the slice.
            return unsafe { bend(simd, activation, xs.as_ptr(), to, xs.len()) };
        };
        assert_eq!(grad.len(), xs.len());
        for at in (0..xs.len()).step_by(S::LANES) {
            let left = xs.len() - at;
            // SAFETY: `left` numbers are left of each slice, and of `to`, which is as long.
            unsafe {
                let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                let grad = T::load_up_to(simd, grad.as_ptr().add(at), left);
                let y = simd.mul(grad, activation.slope(simd, x));
                T::store_up_to(simd, to.add(at), y, left);
            }
        }
    }
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        for_real!(xs.dtype(), |T| {
            let ys = self.run::<T>(numbers(xs, layout)?, None);
            Ok((T::storage(ys), layout.shape().clone()))
        })
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_real!(xs.dtype(), |T| {
            let dxs = with_numbers::<T, _>(xs, |xs| {
                with_numbers(&grad, |grad| Ok(self.run(xs, Some(grad))))
            })?;
            from_numbers(dxs, xs.dims()).map(Some)
        })
    }
}

#[cfg(test)]
mod tests;
