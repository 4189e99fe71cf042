//! `torch.nn.functional.conv2d`, one group, undilated: an implicit product of weights and gathered pixels.
//!
//! Weights stay in the dtype that they are stored in and become f32 while they are packed. Gradients are those that
//! are asked for: by the input if it is tracked, by the weight if that is.

mod im2col;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use self::im2col::{Flipped, Geometry, Im2col, Im2row};
use crate::gemm::{Bias, Matrix, Size, gemm};
use crate::isa::Tier;
use crate::tensors::{cpu, from_numbers, frozen_bias, numbers, strided, with_weights};

/// A convolution with bias of f32 activations on the CPU.
///
/// # Shapes
/// - xs: `(b, in_channels, h, w)`, f32, any strides
/// - weight: `(out_channels, in_channels, kh, kw)`, f32, bf16 or f16
/// - bias: `(out_channels)`, any float dtype
/// - returns: `(b, out_channels, h', w')` with `h' = (h + 2 · padding - kh) / stride + 1`
///
/// # Errors
/// If a shape, dtype or device is another one.
pub fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    conv2d_on(Tier::current(), xs, weight, bias, stride, padding)
}

/// [`conv2d`] on a given tier.
///
/// # Errors
/// Those of [`conv2d`].
pub fn conv2d_on(
    tier: Tier,
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let out_channels = weight.dims4()?.0;
    let (fused, separate) = frozen_bias(bias, out_channels)?;
    let op = Conv2d { tier, stride, padding, bias: fused };
    let ys = if weight.track_op() {
        crate::recording::apply2(xs, weight, op)?
    } else {
        crate::recording::apply1(xs, FrozenConv2d { op, weight: weight.clone() })?
    };
    match separate {
        Some(bias) => ys.broadcast_add(&bias.reshape((1, out_channels, 1, 1))?),
        None => Ok(ys),
    }
}

/// A convolution whose weight may want a gradient.
struct Conv2d {
    tier: Tier,
    stride: usize,
    padding: usize,
    bias: Option<Vec<f32>>,
}

/// A convolution whose weight wants none.
struct FrozenConv2d {
    op: Conv2d,
    weight: Tensor,
}

impl Conv2d {
    fn geometry(&self, input: &[usize], weight: &[usize]) -> Result<Geometry> {
        let (&[batch, channels, height, width], &[_, in_channels, kh, kw]) = (input, weight) else {
            bail!(
                "conv2d: expected (b, c, h, w) and (out, in, kh, kw), found {input:?} and {weight:?}"
            );
        };
        let Self { stride, padding, .. } = *self;
        if channels != in_channels {
            bail!("conv2d: expected {in_channels} channels for {weight:?}, found {input:?}");
        }
        if stride == 0
            || kh == 0
            || kw == 0
            || height + 2 * padding < kh
            || width + 2 * padding < kw
        {
            bail!("conv2d: a {kh}×{kw} kernel at stride {stride}, padding {padding} on {input:?}");
        }
        Ok(Geometry {
            batch,
            channels,
            height,
            width,
            out_height: (height + 2 * padding - kh) / stride + 1,
            out_width: (width + 2 * padding - kw) / stride + 1,
            kernel: (kh, kw),
            stride,
            padding: (padding as isize, padding as isize),
            spread: 1,
        })
    }

    fn forward(
        &self,
        (xs, x_layout): (&CpuStorage, &Layout),
        (weight, w_layout): (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let geometry = self.geometry(x_layout.dims(), w_layout.dims())?;
        let out_channels = w_layout.dims()[0];
        let (values, strides) = strided(xs, x_layout)?;
        let size = Size {
            rows: out_channels,
            columns: geometry.batch * geometry.out_pixels(),
            depth: geometry.channels * geometry.taps(),
        };
        let mut ys = vec![0.0; size.rows * size.columns];
        let pixels = Im2col::new(values, strides, geometry);
        let bias = self.bias.as_deref().map_or(Bias::None, Bias::Row);
        with_weights!(weight, w_layout, |weight| {
            let weight = Matrix::new(weight, (size.rows, size.depth), (size.depth, 1));
            gemm(self.tier, size, &weight, &pixels, bias, geometry.out_pixels(), &mut ys);
        });
        let shape = (geometry.batch, out_channels, geometry.out_height, geometry.out_width);
        Ok((CpuStorage::F32(ys), shape.into()))
    }

    /// The transposed convolution of the outputs' gradient.
    fn input_gradient(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let forward = self.geometry(xs.dims(), weight.dims())?;
        let (kh, kw) = forward.kernel;
        let out_channels = weight.dims()[0];
        let turned = |k: usize| k as isize - 1 - self.padding as isize;
        let geometry = Geometry {
            channels: out_channels,
            height: forward.out_height,
            width: forward.out_width,
            out_height: forward.height,
            out_width: forward.width,
            stride: 1,
            padding: (turned(kh), turned(kw)),
            spread: self.stride,
            ..forward
        };
        let size = Size {
            rows: forward.channels,
            columns: forward.batch * geometry.out_pixels(),
            depth: out_channels * forward.taps(),
        };
        let mut dxs = vec![0.0; size.rows * size.columns];
        let (storage, layout) = grad.storage_and_layout();
        let (values, strides) = strided(cpu(&storage)?, layout)?;
        let pixels = Im2col::new(values, strides, geometry);
        let (storage, layout) = weight.storage_and_layout();
        let storage = cpu(&storage)?;
        with_weights!(storage, layout, |weight| {
            let weight = Flipped::new(weight, out_channels, forward.channels, forward.taps());
            gemm(self.tier, size, &weight, &pixels, Bias::None, geometry.out_pixels(), &mut dxs);
        });
        from_numbers(dxs, xs.dims())
    }

    /// The sum over outputs of their gradient times the pixels that they saw.
    fn weight_gradient(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let geometry = self.geometry(xs.dims(), weight.dims())?;
        let size = Size {
            rows: weight.dims()[0],
            columns: geometry.channels * geometry.taps(),
            depth: geometry.batch * geometry.out_pixels(),
        };
        let grad = grad.transpose(0, 1)?.contiguous()?; // (out_channels, b, h', w')
        let mut dw = vec![0.0; size.rows * size.columns];
        let (storage, layout) = xs.storage_and_layout();
        let (values, strides) = strided(cpu(&storage)?, layout)?;
        let taps = Im2row(Im2col::new(values, strides, geometry));
        let (storage, layout) = grad.storage_and_layout();
        let grad = numbers::<f32>(cpu(&storage)?, layout)?;
        let grad = Matrix::new(grad, (size.rows, size.depth), (size.depth, 1));
        gemm(self.tier, size, &grad, &taps, Bias::None, size.columns, &mut dw);
        from_numbers(dw, weight.dims())?.to_dtype(weight.dtype())
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((xs, x_layout), (weight, w_layout))
    }
    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dxs = xs.track_op().then(|| self.input_gradient(xs, weight, grad)).transpose()?;
        Ok((dxs, Some(self.weight_gradient(xs, weight, grad)?)))
    }
}

impl CustomOp1 for FrozenConv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, w_layout) = self.weight.storage_and_layout();
        self.op.forward((xs, layout), (cpu(&storage)?, w_layout))
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.op.input_gradient(xs, &self.weight, grad).map(Some)
    }
}

#[cfg(test)]
mod tests;
