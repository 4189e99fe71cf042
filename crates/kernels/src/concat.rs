//! Concatenation of channels, as the UNet's skip connections take it.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use crate::output::{Rows, written_in_blocks};
use crate::simd::Real;
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// The channels of `a`, then those of `b`, channels last.
///
/// # Shapes
/// - a: `(.., c1)`, f32 or bf16 on the CPU
/// - b: `(.., c2)`, in the same dtype
/// - returns: `(.., c1 + c2)`, in the same dtype
///
/// # Errors
/// If the other dimensions or the dtypes differ, or the dtype or device is another one.
pub fn concat_channels(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let widths = [a.dim(D::Minus1)?, b.dim(D::Minus1)?];
    if a.dims()[..a.rank() - 1] != b.dims()[..b.rank() - 1] {
        bail!("concat_channels: expected one shape, found {:?} and {:?}", a.dims(), b.dims());
    }
    crate::recording::apply2(&a.contiguous()?, &b.contiguous()?, Concat { widths })
}

struct Concat {
    /// Channels of each.
    widths: [usize; 2],
}

impl Concat {
    fn forward<T: Real>(&self, a: &[T], b: &[T], rows: usize) -> Vec<T> {
        let [a_width, b_width] = self.widths;
        let width = a_width + b_width;
        // SAFETY: each row writes the numbers of both.
        unsafe {
            written_in_blocks(Rows::new(1, rows, width), width, |block, to: *mut T| {
                let (a, b) = (block.of(a, a_width), block.of(b, b_width));
                for row in 0..block.count {
                    copy(&a[row * a_width..][..a_width], to.add(row * width));
                    copy(&b[row * b_width..][..b_width], to.add(row * width + a_width));
                }
            })
        }
    }

    /// The channels of one of both.
    fn split<T: Real>(&self, xs: &[T], rows: usize, which: usize) -> Vec<T> {
        let (from, width) = (which * self.widths[0], self.widths[which]);
        let total = self.widths[0] + self.widths[1];
        // SAFETY: each row writes its numbers.
        unsafe {
            written_in_blocks(Rows::new(1, rows, width), width, |block, to: *mut T| {
                let xs = block.of(xs, total);
                for row in 0..block.count {
                    copy(&xs[row * total + from..][..width], to.add(row * width));
                }
            })
        }
    }
}

/// # Safety
/// There is room for all numbers at `to`.
unsafe fn copy<T: Copy>(from: &[T], to: *mut T) {
    // SAFETY: the caller's word.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
}

impl CustomOp2 for Concat {
    fn name(&self) -> &'static str {
        "concat-channels"
    }
    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [a_width, b_width] = self.widths;
        let mut dims = a_layout.dims().to_vec();
        let rows = dims[..dims.len() - 1].iter().product();
        if let Some(last) = dims.last_mut() {
            *last = a_width + b_width;
        }
        for_real!(a.dtype(), |T| {
            let (a, b) = (numbers::<T>(a, a_layout)?, numbers::<T>(b, b_layout)?);
            Ok((T::storage(self.forward(a, b, rows)), dims.into()))
        })
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let rows = grad.dims()[..grad.rank() - 1].iter().product();
        let part = |of: &Tensor, which| -> Result<Option<Tensor>> {
            if !of.track_op() {
                return Ok(None);
            }
            for_real!(of.dtype(), |T| {
                let part = with_numbers::<T, _>(&grad, |grad| Ok(self.split(grad, rows, which)))?;
                from_numbers(part, of.dims()).map(Some)
            })
        };
        Ok((part(a, 0)?, part(b, 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, agrees};

    #[test]
    fn values_and_gradients_are_those_of_candle() -> Result<()> {
        let mut numbers = Numbers::new(60);
        for (a, b) in [([1, 1, 1], [1, 1, 2]), ([2, 5, 7], [2, 5, 3]), ([1, 99, 320], [1, 99, 640])]
        {
            let (a, b) = (numbers.tensor(&a)?, numbers.tensor(&b)?);
            agrees(
                0.0,
                &[&a, &b],
                |_, vars| Tensor::cat(&[vars[0].as_tensor(), vars[1].as_tensor()], 2),
                |_, vars| concat_channels(&vars[0], &vars[1]),
            )?;
        }
        Ok(())
    }

    #[test]
    fn other_dimensions_must_agree() -> Result<()> {
        let mut numbers = Numbers::new(61);
        assert!(concat_channels(&numbers.tensor(&[2, 3])?, &numbers.tensor(&[3, 3])?).is_err());
        Ok(())
    }
}
