//! diffusers' `Downsample2D` and `Upsample2D`, nearest-neighbour resizing, and the order of channels.
//!
//! Layers take and give channels-last pictures, `(b, h, w, c)`; models turn what comes in and goes out.

use candle_core::{DType, Module, Tensor};

use super::{Around, Conv2d, Conv2dConfig, Params, on_kernels};
use crate::error::{DiffusionError, Result};

/// A 3×3 convolution of stride 2.
#[derive(Clone, Debug)]
pub struct Downsample2D {
    conv: Conv2d,
    padding: usize,
}

impl Downsample2D {
    /// Loads `conv`. With `padding` 0 the image is padded by one row below and one column on the right, as diffusers'
    /// autoencoders do.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(channels: usize, padding: usize, params: &Params) -> Result<Self> {
        let config =
            Conv2dConfig { padding_behind: padding.max(1), ..Conv2dConfig::new(3, 2, padding) };
        Ok(Self { conv: Conv2d::load(channels, channels, config, &params.pp("conv"))?, padding })
    }

    /// # Shapes
    /// - xs: `(b, h, w, c)`
    /// - returns: `(b, h/2, w/2, c)`, odd sides rounded up with padding 1, down with padding 0
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] if the image is too small for the kernel.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = xs.dims4()?;
        let padded = if self.padding == 0 { 1 } else { 2 * self.padding };
        if h.min(w) + padded < 3 {
            return Err(DiffusionError::shape("downsampled image", "larger sides", xs.dims()));
        }
        Ok(self.conv.forward(xs)?)
    }
}

/// Nearest-neighbour enlargement and a 3×3 convolution.
#[derive(Clone, Debug)]
pub struct Upsample2D {
    conv: Conv2d,
}

impl Upsample2D {
    /// Loads `conv`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(channels: usize, params: &Params) -> Result<Self> {
        let conv = Conv2d::load(channels, channels, Conv2dConfig::SAME_3X3, &params.pp("conv"))?;
        Ok(Self { conv })
    }

    /// # Shapes
    /// - xs: `(b, h, w, c)`
    /// - returns: `(b, height, width, c)` for `size = (height, width)`, twice the input's if `None`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(&self, xs: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        let (_, h, w, _) = xs.dims4()?;
        let resize = Some(size.unwrap_or((2 * h, 2 * w)));
        Ok(self.conv.forward_around(xs, Around { resize, ..Around::default() })?)
    }
}

/// `torch.nn.functional.interpolate(xs, (height, width), mode="nearest")`: source index `⌊i · h / height⌋`.
///
/// # Shapes
/// - xs: `(b, h, w, c)`
/// - returns: `(b, height, width, c)`
///
/// # Errors
/// Those of the tensor operations.
pub fn resize_nearest(xs: &Tensor, height: usize, width: usize) -> candle_core::Result<Tensor> {
    let (_, h, w, _) = xs.dims4()?;
    if (h, w) == (height, width) {
        return Ok(xs.clone());
    }
    if on_kernels(xs) {
        return kernels::upsample_nearest(xs, height, width);
    }
    let index = |from: usize, to: usize| {
        let index: Vec<u32> = (0..to).map(|i| (i * from / to) as u32).collect();
        Tensor::from_vec(index, to, xs.device())
    };
    xs.index_select(&index(h, height)?, 1)?.index_select(&index(w, width)?, 2)
}

/// `(b, c, h, w)` as `(b, h, w, c)` in a dtype.
pub(crate) fn channels_last(xs: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    if xs.device().is_cpu() {
        return kernels::channels_last(&xs.to_dtype(DType::F32)?, dtype);
    }
    xs.permute((0, 2, 3, 1))?.contiguous()?.to_dtype(dtype)
}

/// `(b, h, w, c)` as `(b, c, h, w)`; in f32 on the CPU.
pub(crate) fn channels_first(xs: &Tensor) -> candle_core::Result<Tensor> {
    if on_kernels(xs) {
        return kernels::channels_first(xs);
    }
    xs.permute((0, 3, 1, 2))?.contiguous()
}

/// Two pictures' channels side by side.
pub(crate) fn concat_channels(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    if on_kernels(a) { kernels::concat_channels(a, b) } else { Tensor::cat(&[a, b], 3) }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn resizing_copies_and_its_gradient_counts() -> Result<()> {
        let xs = Var::from_vec(vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 2, 3, 1), &Device::Cpu)?;
        // Height 2 to 3: rows 0, 0, 1. Width 3 to 5: columns 0, 0, 1, 1, 2.
        let ys = resize_nearest(&xs, 3, 5)?;
        let expected = vec![
            vec![1f32, 1.0, 2.0, 2.0, 3.0],
            vec![1.0, 1.0, 2.0, 2.0, 3.0],
            vec![4.0, 4.0, 5.0, 5.0, 6.0],
        ];
        assert_eq!(ys.reshape((3, 5))?.to_vec2::<f32>()?, expected);
        // The input is used twice: gradients add up.
        let grads = (ys.sum_all()? + xs.sum_all()?)?.backward()?;
        let grad = grads.get(&xs).expect("the input is a variable").reshape((2, 3))?;
        assert_eq!(grad.to_vec2::<f32>()?, vec![vec![5f32, 5.0, 3.0], vec![3.0, 3.0, 2.0]]);
        Ok(())
    }

    #[test]
    fn shrinking_takes_the_first_pixel_of_each_cell() -> Result<()> {
        let xs = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 4, 4, 1))?;
        let ys = resize_nearest(&xs, 2, 2)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(ys, [0.0, 2.0, 8.0, 10.0]);
        Ok(())
    }
}
