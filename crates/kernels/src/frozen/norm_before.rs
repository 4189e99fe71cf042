//! Group normalisation on the way into a convolution's padded picture: the normalised picture is in memory only once.

use candle_core::{DType, Result, bail};

use super::padded::Prologue;
use crate::activation::Activation;
use crate::isa::Tier;
use crate::norm::{Affine, Groups, Scales, group_norm_backward, group_scales, normalise_rows};
use crate::product::Engine;
use crate::simd::Simd;

/// `group_norm(xs)`, before a convolution.
#[derive(Clone, Copy, Debug)]
pub struct NormBefore<'a> {
    /// Groups of channels.
    pub groups: usize,
    /// Scale and shift of each channel.
    pub affine: Affine<'a>,
}

pub(super) struct Norm {
    groups: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
}

impl Norm {
    pub(super) fn new(norm: NormBefore<'_>) -> Result<Self> {
        let NormBefore { groups, affine: Affine { weight, bias, eps } } = norm;
        if weight.track_op() || bias.track_op() {
            bail!("conv2d: a norm that is trained goes before it as an operator of its own");
        }
        let numbers = |tensor: &candle_core::Tensor| tensor.to_dtype(DType::F32)?.to_vec1::<f32>();
        Ok(Self { groups, weight: numbers(weight)?, bias: numbers(bias)?, eps })
    }

    pub(super) fn check(&self, channels: usize) -> Result<()> {
        let Self { groups, weight, bias, .. } = self;
        if (weight.len(), bias.len()) != (channels, channels)
            || *groups == 0
            || !channels.is_multiple_of(*groups)
        {
            bail!(
                "conv2d: a norm of {} channels in {groups} groups before {channels}",
                weight.len()
            );
        }
        Ok(())
    }

    const fn size(&self, images: usize, rows: usize) -> Groups {
        Groups { images, rows, channels: self.weight.len(), groups: self.groups, eps: self.eps }
    }

    /// Factors and terms for these pictures, `(images, rows, channels)`, with what is behind the norm.
    pub(super) fn scaled<T: Engine>(
        &self,
        tier: Tier,
        xs: &[T],
        (images, rows): (usize, usize),
        activation: Option<Activation>,
    ) -> Scaled {
        let scales = group_scales(tier, xs, self.size(images, rows), &self.weight, &self.bias);
        Scaled { scales, activation }
    }

    /// The gradient by the pictures, from that by what came out of the activation.
    pub(super) fn pull_back<T: Engine>(
        &self,
        tier: Tier,
        (xs, grad): (&[T], &[T]),
        (images, rows): (usize, usize),
        activation: Option<Activation>,
    ) -> Vec<T> {
        let affine = (self.weight.as_slice(), self.bias.as_slice());
        let size = self.size(images, rows);
        group_norm_backward(tier, (xs, grad), size, affine, activation).xs
    }
}

/// Each image's channels scaled, shifted and bent.
pub(super) struct Scaled {
    scales: Scales,
    activation: Option<Activation>,
}

impl<T: Engine> Prologue<T> for Scaled {
    #[inline(always)]
    unsafe fn run<S: Simd>(
        &self,
        simd: S,
        image: usize,
        from: *const T,
        to: *mut T,
        (pixels, channels): (usize, usize),
    ) {
        let (scale, shift) = self.scales.of(image, channels);
        let (scales, size) = ((scale.as_ptr(), shift.as_ptr()), (pixels, channels));
        // SAFETY: the caller's word; there is a scale and a shift for each channel.
        unsafe { normalise_rows(simd, from, scales, self.activation, to, size) };
    }
}
