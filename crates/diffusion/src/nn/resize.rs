//! diffusers' `Downsample2D` and `Upsample2D`, and nearest-neighbour resizing.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Module, Shape, Tensor, WithDType};

use super::{Conv2d, Conv2dConfig, Params};
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
        let config = Conv2dConfig { kernel_size: 3, stride: 2, padding };
        Ok(Self { conv: Conv2d::load(channels, channels, config, &params.pp("conv"))?, padding })
    }

    /// # Shapes
    /// - xs: `(b, c, h, w)`
    /// - returns: `(b, c, h/2, w/2)`, odd sides rounded up with padding 1, down with padding 0
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] if the image is too small for the kernel.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = xs.dims4()?;
        let padded = if self.padding == 0 { 1 } else { 2 * self.padding };
        if h.min(w) + padded < 3 {
            return Err(DiffusionError::shape("downsampled image", "larger sides", xs.dims()));
        }
        // With padding 0, the kernel reaches the zeros below and on the right only from even sides. With padding 1 it
        // reaches no further than one more row or column of zeros behind odd sides. So both sides can be made odd or
        // both even without a change in the output, and have to be: candle takes the width's remainder of the stride
        // from the height when it goes backward.
        let pad_if = if self.padding == 0 { 0 } else { 1 };
        let mut xs = xs.clone();
        for (dim, side) in [(2, h), (3, w)] {
            if side % 2 == pad_if {
                xs = xs.pad_with_zeros(dim, 0, 1)?;
            }
        }
        Ok(self.conv.forward(&xs)?)
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
    /// - xs: `(b, c, h, w)`
    /// - returns: `(b, c, height, width)` for `size = (height, width)`, twice the input's if `None`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(&self, xs: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        let (_, _, h, w) = xs.dims4()?;
        let (height, width) = size.unwrap_or((2 * h, 2 * w));
        Ok(self.conv.forward(&resize_nearest(xs, height, width)?)?)
    }
}

/// `torch.nn.functional.interpolate(xs, (height, width), mode="nearest")`: source index `⌊i · h / height⌋`.
///
/// candle has this operation, but its backward takes whole factors only and overwrites what other users of the input
/// have put into its gradient.
///
/// # Shapes
/// - xs: `(b, c, h, w)`
/// - returns: `(b, c, height, width)`
///
/// # Errors
/// Those of the tensor operations.
pub fn resize_nearest(xs: &Tensor, height: usize, width: usize) -> candle_core::Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    if (h, w) == (height, width) {
        return Ok(xs.clone());
    }
    if xs.device().is_cpu() {
        return xs.contiguous()?.apply_op1(Nearest { from: (h, w), to: (height, width) });
    }
    let index = |from: usize, to: usize| {
        let index: Vec<u32> = source_indices(from, to).into_iter().map(|i| i as u32).collect();
        Tensor::from_vec(index, to, xs.device())
    };
    xs.index_select(&index(h, height)?, 2)?.index_select(&index(w, width)?, 3)
}

/// For each of `to` pixels, the pixel of `from` that it copies.
fn source_indices(from: usize, to: usize) -> Vec<usize> {
    (0..to).map(|i| i * from / to).collect()
}

/// Copies pixels.
struct Nearest {
    from: (usize, usize),
    to: (usize, usize),
}

/// Sums over the copies of each pixel.
struct NearestBackward {
    from: (usize, usize),
    to: (usize, usize),
}

impl CustomOp1 for Nearest {
    fn name(&self) -> &'static str {
        "resize-nearest"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let (height, width) = self.to;
        let (rows, columns) = (source_indices(h, height), source_indices(w, width));
        let shape = Shape::from((b, c, height, width));
        let storage = match storage {
            CpuStorage::F32(xs) => {
                CpuStorage::F32(copies(contiguous(xs, layout)?, w, h, &rows, &columns))
            }
            CpuStorage::F16(xs) => {
                CpuStorage::F16(copies(contiguous(xs, layout)?, w, h, &rows, &columns))
            }
            CpuStorage::BF16(xs) => {
                CpuStorage::BF16(copies(contiguous(xs, layout)?, w, h, &rows, &columns))
            }
            CpuStorage::F64(xs) => {
                CpuStorage::F64(copies(contiguous(xs, layout)?, w, h, &rows, &columns))
            }
            _ => candle_core::bail!("resize-nearest takes floats"),
        };
        Ok((storage, shape))
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let op = NearestBackward { from: self.from, to: self.to };
        // Sums are taken in f32.
        let grad = grad.to_dtype(DType::F32)?.contiguous()?;
        Ok(Some(grad.apply_op1_no_bwd(&op)?.to_dtype(arg.dtype())?))
    }
}

impl CustomOp1 for NearestBackward {
    fn name(&self) -> &'static str {
        "resize-nearest-backward"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let CpuStorage::F32(grad) = storage else {
            candle_core::bail!("resize-nearest-backward takes f32");
        };
        let (b, c, height, width) = layout.shape().dims4()?;
        let (h, w) = self.from;
        let (rows, columns) = (source_indices(h, self.to.0), source_indices(w, self.to.1));
        let grad = contiguous(grad, layout)?;
        let mut sums = vec![0f32; b * c * h * w];
        for (plane, sums) in grad.chunks_exact(height * width).zip(sums.chunks_exact_mut(h * w)) {
            for (row, y) in plane.chunks_exact(width).zip(&rows) {
                for (value, x) in row.iter().zip(&columns) {
                    sums[y * w + x] += value;
                }
            }
        }
        Ok((CpuStorage::F32(sums), Shape::from((b, c, h, w))))
    }
}

/// The elements of a contiguous layout.
fn contiguous<'a, T>(data: &'a [T], layout: &Layout) -> candle_core::Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!("resize-nearest takes contiguous tensors"),
    }
}

/// Each `(h, w)` plane of `xs` with its rows and columns picked.
fn copies<T: WithDType>(xs: &[T], w: usize, h: usize, rows: &[usize], columns: &[usize]) -> Vec<T> {
    let planes = xs.len() / (h * w).max(1);
    let mut out: Vec<T> = Vec::with_capacity(planes * rows.len() * columns.len());
    for plane in xs.chunks_exact(h * w) {
        let mut previous = None;
        for y in rows {
            if previous == Some(y) {
                // The same row again: copied whole from the output.
                let start = out.len() - columns.len();
                out.extend_from_within(start..);
            } else {
                let row = &plane[y * w..(y + 1) * w];
                out.extend(columns.iter().map(|x| row[*x]));
            }
            previous = Some(y);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn resizing_copies_and_its_gradient_counts() -> Result<()> {
        let xs = Var::from_vec(vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 1, 2, 3), &Device::Cpu)?;
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
        let xs = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 1, 4, 4))?;
        let ys = resize_nearest(&xs, 2, 2)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(ys, [0.0, 2.0, 8.0, 10.0]);
        Ok(())
    }
}
