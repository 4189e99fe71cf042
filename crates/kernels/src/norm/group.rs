//! Group normalisation of channels-last activations.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use super::backward::group_norm_backward;
use super::statistics::{Groups, group_scales};
use super::{Affine, apply, weight_gradient};
use crate::activation::Activation;
use crate::isa::Tier;
use crate::output::written_in_blocks;
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// Normalises groups of channels of a tensor on the CPU, scales and shifts each channel, and applies `activation`.
///
/// # Shapes
/// - xs: `(b, .., channels)`, f32 or bf16
/// - weight, bias: `(channels)`
/// - returns: that of xs, in its dtype
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
    let (images, channels) = (xs.dim(0)?, xs.dim(D::Minus1)?);
    if xs.rank() < 2 || groups == 0 || channels == 0 || !channels.is_multiple_of(groups) {
        bail!("group_norm: {groups} groups of the channels of {:?}", xs.dims());
    }
    let (weight, bias) = affine.checked(channels)?;
    let rows = xs.dims()[1..xs.rank() - 1].iter().product();
    let size = Groups { images, rows, channels, groups, eps: affine.eps };
    crate::recording::apply3(
        &xs.contiguous()?,
        &weight,
        &bias,
        GroupNorm { tier, size, activation },
    )
}

/// `activation(x · scale + shift)` of neighbouring pixels.
///
/// # Safety
/// `pixels · channels` numbers can be read at `xs` and written at `to`, which may be `xs`, and `channels` read at `scale`
/// and at `shift`.
#[inline(always)]
pub(crate) unsafe fn normalise_rows<S: Simd, T: Real>(
    simd: S,
    xs: *const T,
    (scale, shift): (*const f32, *const f32),
    activation: Option<Activation>,
    to: *mut T,
    (pixels, channels): (usize, usize),
) {
    for at in (0..channels).step_by(S::LANES) {
        let left = channels - at;
        // SAFETY: `left` numbers are left of each of the caller's rows.
        unsafe {
            let scale = f32::load_up_to(simd, scale.add(at), left);
            let shift = f32::load_up_to(simd, shift.add(at), left);
            for at in (0..pixels).map(|pixel| pixel * channels + at) {
                let z = simd.mul_add(T::load_up_to(simd, xs.add(at), left), scale, shift);
                T::store_up_to(simd, to.add(at), apply(simd, activation, z), left);
            }
        }
    }
}

/// Rows of one image.
struct Block<'a, T> {
    xs: &'a [T],
    /// Of each channel.
    scales: (&'a [f32], &'a [f32]),
    activation: Option<Activation>,
    to: *mut T,
}

impl<T: Real> Kernel for Block<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { xs, scales: (scale, shift), activation, to } = self;
        let channels = scale.len();
        assert_eq!(channels, shift.len());
        let (scales, size) = ((scale.as_ptr(), shift.as_ptr()), (xs.len() / channels, channels));
        // SAFETY: there are as many rows, and scales for each channel; what is written is as long.
        unsafe { normalise_rows(simd, xs.as_ptr(), scales, activation, to, size) };
    }
}

struct GroupNorm {
    tier: Tier,
    size: Groups,
    activation: Option<Activation>,
}

impl GroupNorm {
    fn forward<T: Real>(&self, xs: &[T], weight: &[f32], bias: &[f32]) -> Vec<T> {
        let Self { tier, size, activation } = *self;
        let channels = size.channels;
        let scales = group_scales(tier, xs, size, weight, bias);
        // SAFETY: each row writes as many numbers as it has.
        unsafe {
            written_in_blocks(size.blocks(), channels, |block, to| {
                let scales = scales.of(block.image, channels);
                dispatch(tier, Block { xs: block.of(xs, channels), scales, activation, to });
            })
        }
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
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
        let Self { tier, size, activation } = *self;
        let affine = (weight.to_vec1()?, bias.to_vec1()?);
        let grad = grad.contiguous()?;
        for_real!(xs.dtype(), |T| {
            let gradients = with_numbers::<T, _>(xs, |xs| {
                with_numbers(&grad, |grad| {
                    let affine = (&affine.0[..], &affine.1[..]);
                    Ok(group_norm_backward(tier, (xs, grad), size, affine, activation))
                })
            })?;
            Ok((
                Some(from_numbers(gradients.xs, xs.dims())?),
                weight_gradient(weight, gradients.weight)?,
                weight_gradient(bias, gradients.bias)?,
            ))
        })
    }
}
