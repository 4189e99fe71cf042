//! `torch.nn.Conv2d` on channels-last pictures, with LoRA beside it.

use candle_core::{Module, Tensor};
use kernels::FrozenConv2d;

use super::frozen::{Precision, Weight};
use super::{Activation, GroupNorm, Params, add, cast, on_kernels, resize_nearest};
use crate::error::Result;
use crate::lora::LoraLayer;

/// Kernel, stride and padding, square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Kernel side.
    pub kernel_size: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros above and on the left.
    pub padding: usize,
    /// Zeros below and on the right.
    pub padding_behind: usize,
}

impl Conv2dConfig {
    /// 3×3, stride 1, same size.
    pub const SAME_3X3: Self = Self::new(3, 1, 1);
    /// 1×1.
    pub const POINTWISE: Self = Self::new(1, 1, 0);

    /// With the same padding on all sides.
    #[must_use]
    pub const fn new(kernel_size: usize, stride: usize, padding: usize) -> Self {
        Self { kernel_size, stride, padding, padding_behind: padding }
    }
}

/// What is done before a convolution and after it, as one operator where that is possible.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// A norm.
    pub norm: Option<&'a GroupNorm>,
    /// What bends the picture, behind the norm.
    pub activation: Option<Activation>,
    /// Height and width that the picture is resized to by nearest neighbours.
    pub resize: Option<(usize, usize)>,
    /// Added to every pixel of an image: `(b, out_channels)`.
    pub image_bias: Option<&'a Tensor>,
    /// Added to the output, which has its shape.
    pub residual: Option<&'a Tensor>,
}

/// A convolution with bias, plus `scale · up(down(x))` of each live adapter.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Weight,
    config: Conv2dConfig,
    adapters: Vec<LoraLayer>,
}

impl Conv2d {
    /// Loads `weight` `(out_channels, in_channels, k, k)` and `bias` `(out_channels)`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(
        in_channels: usize,
        out_channels: usize,
        config: Conv2dConfig,
        params: &Params,
    ) -> Result<Self> {
        Self::load_as(Precision::OfWeights, in_channels, out_channels, config, params)
    }

    /// As [`Conv2d::load`], computed in f32 on the CPU whatever the weights are stored in.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load_in_f32(
        in_channels: usize,
        out_channels: usize,
        config: Conv2dConfig,
        params: &Params,
    ) -> Result<Self> {
        Self::load_as(Precision::F32, in_channels, out_channels, config, params)
    }

    fn load_as(
        precision: Precision,
        in_channels: usize,
        out_channels: usize,
        config: Conv2dConfig,
        params: &Params,
    ) -> Result<Self> {
        let k = config.kernel_size;
        let weight = Weight::load(&[out_channels, in_channels, k, k], true, precision, params)?;
        Ok(Self { weight, config, adapters: params.live_adapters() })
    }

    /// The convolution with what is around it.
    ///
    /// # Shapes
    /// - xs: `(b, h, w, in_channels)`
    /// - returns: `(b, h', w', out_channels)`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward_around(&self, xs: &Tensor, around: Around<'_>) -> candle_core::Result<Tensor> {
        let Around { norm, activation, resize, image_bias, residual } = around;
        let Weight::Packed(weight) = &self.weight else { return self.step_by_step(xs, around) };
        if image_bias.is_some_and(Tensor::track_op) {
            return self.step_by_step(xs, around);
        }
        let compute = weight.compute_dtype();
        let residual = residual.map(|residual| cast(residual, compute)).transpose()?;
        let conv = FrozenConv2d { image_bias, residual: residual.as_ref(), ..self.frozen(weight) };
        if !self.adapters.is_empty() {
            // They see what the convolution sees.
            let xs = before(xs, around)?;
            return self.adapted(conv.forward(&cast(&xs, compute)?)?, &xs);
        }
        let norm = match norm.map(GroupNorm::as_frozen) {
            Some(None) => return self.step_by_step(xs, around),
            norm => norm.flatten(),
        };
        let activation = activation.map(Activation::on_kernels);
        FrozenConv2d { resize, norm, activation, ..conv }.forward(&cast(xs, compute)?)
    }

    const fn frozen<'a>(&self, weight: &'a kernels::PackedWeight) -> FrozenConv2d<'a> {
        let Conv2dConfig { stride, padding, padding_behind, .. } = self.config;
        let plain = FrozenConv2d::new(weight, stride, padding);
        FrozenConv2d { padding: (padding, padding_behind), ..plain }
    }

    fn step_by_step(&self, xs: &Tensor, around: Around<'_>) -> candle_core::Result<Tensor> {
        let xs = before(xs, around)?;
        let mut ys = self.forward(&xs)?;
        if let Some(bias) = around.image_bias {
            let (b, channels) = bias.dims2()?;
            ys = ys.broadcast_add(&bias.to_dtype(ys.dtype())?.reshape((b, 1, 1, channels))?)?;
        }
        match around.residual {
            Some(residual) => add(&ys, &cast(residual, ys.dtype())?),
            None => Ok(ys),
        }
    }

    /// The output with the changes by the adapters, which see the input.
    fn adapted(&self, mut ys: Tensor, xs: &Tensor) -> candle_core::Result<Tensor> {
        for adapter in &self.adapters {
            ys = add(&ys, &cast(&adapter.conv2d(xs, self.config)?, ys.dtype())?)?;
        }
        Ok(ys)
    }
}

impl Module for Conv2d {
    /// # Shapes
    /// - xs: `(b, h, w, in_channels)`
    /// - returns: `(b, h', w', out_channels)`
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let ys = match &self.weight {
            Weight::Packed(weight) => {
                self.frozen(weight).forward(&cast(xs, weight.compute_dtype())?)?
            }
            Weight::Plain { weight, bias } => {
                conv2d_channels_last(xs, weight, bias.as_ref(), self.config)?
            }
        };
        self.adapted(ys, xs)
    }
}

/// What comes before a convolution, as steps of its own.
fn before(xs: &Tensor, around: Around<'_>) -> candle_core::Result<Tensor> {
    let xs = match (around.norm, around.activation) {
        (Some(norm), activation) => norm.forward_then(xs, activation)?,
        (None, Some(activation)) => activation.forward(xs)?,
        (None, None) => xs.clone(),
    };
    match around.resize {
        Some((height, width)) => resize_nearest(&xs, height, width),
        None => Ok(xs),
    }
}

/// A convolution with a plain weight of channels-last pictures, in their dtype.
pub(crate) fn conv2d_channels_last(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: Conv2dConfig,
) -> candle_core::Result<Tensor> {
    let Conv2dConfig { stride, padding, padding_behind, kernel_size } = config;
    if on_kernels(xs) {
        let (dtype, padding) = (xs.dtype(), (padding, padding_behind));
        let xs = cast(xs, candle_core::DType::F32)?;
        return cast(&kernels::conv2d(&xs, weight, bias, stride, padding)?, dtype);
    }
    let mut xs = xs.permute((0, 3, 1, 2))?; // (b, c, h, w)
    if padding_behind > padding {
        for dim in [2, 3] {
            xs = xs.pad_with_zeros(dim, 0, padding_behind - padding)?;
        }
    }
    // candle takes the width's remainder of the stride from the height when it goes backward: a line of zeros that no
    // output sees makes them equal.
    let remainder = |side: usize| (side + 2 * padding).saturating_sub(kernel_size) % stride;
    let remainders = [xs.dim(2)?, xs.dim(3)?].map(remainder);
    if stride == 2 && remainders[0] != remainders[1] {
        xs = xs.pad_with_zeros(if remainders[0] == 0 { 2 } else { 3 }, 0, 1)?;
    }
    let weight = weight.to_dtype(xs.dtype())?;
    let mut ys = xs.contiguous()?.conv2d(&weight, padding, stride, 1, 1)?;
    if let Some(bias) = bias {
        ys = ys.broadcast_add(&bias.to_dtype(xs.dtype())?.reshape((1, (), 1, 1))?)?;
    }
    ys.permute((0, 2, 3, 1))?.contiguous() // (b, h', w', c)
}
