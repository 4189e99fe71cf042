//! Nearest-neighbour resizing of channels-last activations, as between the decoder's blocks.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::isa::Tier;
use crate::output::{Rows, written_in_blocks};
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// Resizes to `(height, width)`: pixel `i` of `to` is pixel `⌊i · from / to⌋` of `from`, in each direction.
///
/// # Shapes
/// - xs: `(b, h, w, c)`, f32 or bf16 on the CPU
/// - returns: `(b, height, width, c)`, in the dtype of xs
///
/// # Errors
/// If a side is zero, or the shape, dtype or device is another one.
pub fn upsample_nearest(xs: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    upsample_nearest_on(Tier::current(), xs, height, width)
}

/// [`upsample_nearest`] on a given tier.
///
/// # Errors
/// Those of [`upsample_nearest`].
pub fn upsample_nearest_on(tier: Tier, xs: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, h, w, channels) = xs.dims4()?;
    if [h, w, height, width].contains(&0) {
        bail!("upsample_nearest: cannot resize {:?} to {height}×{width}", xs.dims());
    }
    let op = Nearest { tier, from: (h, w), to: (height, width), channels };
    crate::recording::apply1(&xs.contiguous()?, op)
}

#[derive(Clone, Copy)]
pub(crate) struct Nearest {
    pub(crate) tier: Tier,
    pub(crate) from: (usize, usize),
    pub(crate) to: (usize, usize),
    pub(crate) channels: usize,
}

/// The pixels of `to` that show pixel `i` of `from`: those with `⌊j · from / to⌋ = i`.
const fn shown(i: usize, from: usize, to: usize) -> Range<usize> {
    (i * to).div_ceil(from)..((i + 1) * to).div_ceil(from)
}

impl Nearest {
    fn forward<T: Real>(self, xs: &[T], images: usize) -> Vec<T> {
        let Self { from: (h, w), to: (height, width), channels, .. } = self;
        // Rows of whole lines: each block is some lines of an image.
        let lines = Rows::new(images, height, width * channels);
        // SAFETY: each line writes `width` pixels.
        unsafe {
            written_in_blocks(lines, width * channels, |block, to: *mut T| {
                for line in 0..block.count {
                    let y = block.image * h + (block.first + line) * h / height;
                    let from = &xs[y * w * channels..][..w * channels];
                    let to = to.add(line * width * channels);
                    for x in 0..width {
                        let pixel = &from[x * w / width * channels..][..channels];
                        let to = to.add(x * channels);
                        std::ptr::copy_nonoverlapping(pixel.as_ptr(), to, channels);
                    }
                }
            })
        }
    }

    /// The gradient by `images` pictures, from that by the resized ones.
    pub(crate) fn backward<T: Real>(self, grad: &[T], images: usize) -> Vec<T> {
        let Self { from: (h, w), to: (height, width), channels, .. } = self;
        // SAFETY: each line writes `w` pixels.
        unsafe {
            written_in_blocks(
                Rows::new(images, h, w * channels),
                w * channels,
                |block, to: *mut T| {
                    for line in 0..block.count {
                        let image = &grad[block.image * height * width * channels..];
                        let grad = &image[..height * width * channels];
                        let to = to.add(line * w * channels);
                        dispatch(self.tier, Line { op: self, grad, y: block.first + line, to });
                    }
                },
            )
        }
    }
}

/// A line of the input's gradient: each pixel is the sum over those that show it.
struct Line<'a, T> {
    op: Nearest,
    /// By an image of the output.
    grad: &'a [T],
    y: usize,
    to: *mut T,
}

impl<T: Real> Kernel for Line<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, grad, y, to } = self;
        let Nearest { from: (h, w), to: (height, width), channels, .. } = op;
        assert_eq!(grad.len(), height * width * channels);
        let lines = shown(y, h, height);
        for x in 0..w {
            let pixels = shown(x, w, width);
            for at in (0..channels).step_by(S::LANES) {
                let left = channels - at;
                let mut sum = simd.zero();
                for line in lines.clone() {
                    for pixel in pixels.clone() {
                        let pixel = (line * width + pixel) * channels + at;
                        // SAFETY: `left` numbers of a pixel inside the image are left.
                        let g = unsafe { T::load_up_to(simd, grad.as_ptr().add(pixel), left) };
                        sum = simd.add(sum, g);
                    }
                }
                // SAFETY: the line has `w` pixels.
                unsafe { T::store_up_to(simd, to.add(x * channels + at), sum, left) };
            }
        }
    }
}

impl CustomOp1 for Nearest {
    fn name(&self) -> &'static str {
        "upsample-nearest"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let images = layout.dims()[0];
        for_real!(xs.dtype(), |T| {
            let ys = self.forward::<T>(numbers(xs, layout)?, images);
            Ok((T::storage(ys), (images, self.to.0, self.to.1, self.channels).into()))
        })
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_real!(xs.dtype(), |T| {
            let dxs = with_numbers::<T, _>(&grad, |grad| Ok(self.backward(grad, xs.dims()[0])))?;
            from_numbers(dxs, xs.dims()).map(Some)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, agrees};

    #[test]
    fn values_and_gradients_are_those_of_indexing() -> Result<()> {
        let mut numbers = Numbers::new(70);
        let cases = [
            ([1, 1, 1, 1], (1, 3)),
            ([2, 3, 4, 5], (6, 8)),
            ([1, 8, 8, 40], (16, 16)),
            ([1, 5, 3, 32], (7, 4)),
            ([1, 5, 4, 3], (3, 9)),
        ];
        for (dims, (height, width)) in cases {
            let xs = numbers.tensor(&dims)?;
            let index = |from: usize, to: usize| {
                let at: Vec<u32> = (0..to).map(|i| (i * from / to) as u32).collect();
                Tensor::new(at, xs.device())
            };
            agrees(
                1e-6,
                &[&xs],
                |_, vars| {
                    let lines = vars[0].index_select(&index(dims[1], height)?, 1)?;
                    lines.index_select(&index(dims[2], width)?, 2)
                },
                |tier, vars| upsample_nearest_on(tier, &vars[0], height, width),
            )?;
        }
        assert!(upsample_nearest(&numbers.tensor(&[1, 2, 2, 3])?, 0, 4).is_err());
        Ok(())
    }
}
