//! `torch.nn.Conv2d`, with LoRA beside it.

use candle_core::{Module, Tensor};

use super::{Params, on_kernels};
use crate::error::Result;
use crate::lora::LoraLayer;

/// Kernel, stride and padding, square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Kernel side.
    pub kernel_size: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
}

impl Conv2dConfig {
    /// 3×3, stride 1, same size.
    pub const SAME_3X3: Self = Self { kernel_size: 3, stride: 1, padding: 1 };
    /// 1×1.
    pub const POINTWISE: Self = Self { kernel_size: 1, stride: 1, padding: 0 };
}

/// A convolution with bias, plus `scale · up(down(x))` of each live adapter.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
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
        let k = config.kernel_size;
        let weight = params.weight([out_channels, in_channels, k, k])?;
        let bias = Some(params.get([out_channels], "bias")?);
        Ok(Self { weight, bias, config, adapters: params.live_adapters() })
    }
}

impl Module for Conv2d {
    /// # Shapes
    /// - xs: `(b, in_channels, h, w)`
    /// - returns: `(b, out_channels, h', w')`
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let Conv2dConfig { stride, padding, .. } = self.config;
        let mut ys = if on_kernels(xs) {
            kernels::conv2d(xs, &self.weight, self.bias.as_ref(), stride, padding)?
        } else {
            let weight = self.weight.to_dtype(xs.dtype())?;
            let ys = xs.conv2d(&weight, padding, stride, 1, 1)?;
            match &self.bias {
                Some(bias) => {
                    ys.broadcast_add(&bias.to_dtype(xs.dtype())?.reshape((1, (), 1, 1))?)?
                }
                None => ys,
            }
        };
        for adapter in &self.adapters {
            ys = (ys + adapter.conv2d(xs, self.config)?)?;
        }
        Ok(ys)
    }
}
