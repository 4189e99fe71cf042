//! Convolutions of slices with nothing around them, forward and backward by the input.

use candle_core::{Result, bail};

use super::padded::{Copy, Padding};
use super::windows::{Ends, Windows};
use super::{Finish, product};
use crate::product::{Engine, Packed, Side};

/// Sizes of a convolution; a linear layer is one of a single line of tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvShape {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
    /// Height and width of the input and of the output.
    pub(crate) size: (usize, usize),
    pub(crate) out: (usize, usize),
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: usize,
    /// Zeros above and on the left.
    pub(crate) before: usize,
}

impl ConvShape {
    /// A convolution of pictures `(images, size.0, size.1, channels)` by a weight `(outputs, channels, kernel)`.
    ///
    /// # Errors
    /// If the kernel does not fit into the padded picture, or there is none, or no stride.
    pub(crate) fn new(
        (images, size): (usize, (usize, usize)),
        (outputs, channels, kernel): (usize, usize, (usize, usize)),
        stride: usize,
        padding: (usize, usize),
    ) -> Result<Self> {
        let ((kh, kw), sum) = (kernel, padding.0 + padding.1);
        if stride == 0 || kh * kw == 0 || size.0 + sum < kh || size.1 + sum < kw {
            bail!("conv2d: a {kh}×{kw} kernel at stride {stride}, padding {padding:?} on {size:?}");
        }
        let out = |side: usize, k: usize| (side + sum - k) / stride + 1;
        let out = (out(size.0, kh), out(size.1, kw));
        Ok(Self { images, channels, outputs, size, out, kernel, stride, before: padding.0 })
    }

    /// A linear layer.
    pub(crate) const fn linear(tokens: usize, channels: usize, outputs: usize) -> Self {
        let (size, kernel) = ((1, tokens), (1, 1));
        Self { images: 1, channels, outputs, size, out: size, kernel, stride: 1, before: 0 }
    }

    pub(crate) const fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }

    /// Pixels of all outputs.
    pub(crate) const fn pixels(&self) -> usize {
        self.images * self.out.0 * self.out.1
    }

    /// True if a pixel's outputs depend on that pixel alone.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.before == 0 && self.size == self.out
    }

    /// The kernel over pictures of `source` that are resized first.
    pub(super) fn windows(&self, source: (usize, usize)) -> Windows {
        let before = self.before as isize;
        Windows {
            padding: Padding {
                image: 0,
                images: self.images,
                channels: self.channels,
                source,
                size: self.size,
                before: (before, before),
                spread: 1,
                padded: (0, 0),
            },
            kernel: self.kernel,
            stride: self.stride,
            out: self.out,
        }
    }

    /// The output with the weight's bias, `(images, out.0, out.1, outputs)`.
    pub(crate) fn convolve<T: Engine>(&self, packed: &Packed, xs: &[T]) -> Vec<T> {
        let bias = packed.bias.as_deref();
        if self.is_pointwise() {
            let finish = Finish { bias, residual: None, gated: false, columns: self.outputs };
            return product(Side::Forward(packed), xs, self.pixels(), None, &finish);
        }
        let ends = Ends { bias, image_bias: None, residual: None };
        self.windows(self.size).multiply(xs, Side::Forward(packed), &ends, &Copy)
    }

    /// The transposed convolution of the gradient by the output; `side` multiplies outputs to channels.
    pub(crate) fn input_gradient<T: Engine>(&self, side: Side<'_>, grad: &[T]) -> Vec<T> {
        if self.is_pointwise() {
            let columns = self.channels;
            let finish = Finish { bias: None, residual: None, gated: false, columns };
            return product(side, grad, self.pixels(), None, &finish);
        }
        let before = |k: usize| k as isize - 1 - self.before as isize;
        let turned = Windows {
            padding: Padding {
                image: 0,
                images: self.images,
                channels: self.outputs,
                source: self.out,
                size: self.out,
                before: (before(self.kernel.0), before(self.kernel.1)),
                spread: self.stride,
                padded: (0, 0),
            },
            kernel: self.kernel,
            stride: 1,
            out: self.size,
        };
        let ends = Ends { bias: None, image_bias: None, residual: None };
        turned.multiply(grad, side, &ends, &Copy)
    }
}
