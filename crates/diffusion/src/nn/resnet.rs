//! diffusers' `ResnetBlock2D`.

use candle_core::{Module, Tensor};

use super::{Activation, Around, Conv2d, Conv2dConfig, GroupNorm, Linear, Params};
use crate::error::{DiffusionError, Result};

/// How the time embedding enters a block; `resnet_time_scale_shift` in configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeScaleShift {
    /// Added before the second norm.
    Default,
    /// Scales and shifts what the second norm gives.
    ScaleShift,
}

impl TimeScaleShift {
    /// From the value of `resnet_time_scale_shift`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if it is neither.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "default" => Ok(Self::Default),
            "scale_shift" => Ok(Self::ScaleShift),
            _ => Err(DiffusionError::argument(
                "resnet_time_scale_shift",
                "default or scale_shift",
                name,
            )),
        }
    }
}

/// The parts of a [`ResnetBlock2D`].
#[derive(Clone, Copy, Debug)]
pub struct ResnetConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out; a 1×1 convolution carries the input over if they differ.
    pub out_channels: usize,
    /// Features of the time embedding; `None` in autoencoders.
    pub temb_channels: Option<usize>,
    /// Groups of both norms.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// The non-linearity.
    pub activation: Activation,
    /// How the time embedding enters.
    pub time_scale_shift: TimeScaleShift,
    /// The sum of input and change is divided by it.
    pub output_scale_factor: f64,
}

/// Norm, activation, 3×3 convolution, twice, with the time embedding between and the input added at the end.
#[derive(Clone, Debug)]
pub struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    config: ResnetConfig,
}

impl ResnetBlock2D {
    /// Loads `norm1`, `conv1`, `time_emb_proj`, `norm2`, `conv2` and `conv_shortcut`.
    ///
    /// # Errors
    /// Those of [`GroupNorm::load`] and [`Params::get`].
    pub fn load(config: ResnetConfig, params: &Params) -> Result<Self> {
        let ResnetConfig { in_channels, out_channels, groups, eps, .. } = config;
        let same = Conv2dConfig::SAME_3X3;
        let projected = match config.time_scale_shift {
            TimeScaleShift::Default => out_channels,
            TimeScaleShift::ScaleShift => 2 * out_channels,
        };
        let time_emb_proj = config
            .temb_channels
            .map(|temb| Linear::load_in_f32(temb, projected, true, &params.pp("time_emb_proj")))
            .transpose()?;
        let conv_shortcut = (in_channels != out_channels)
            .then(|| {
                let params = params.pp("conv_shortcut");
                Conv2d::load(in_channels, out_channels, Conv2dConfig::POINTWISE, &params)
            })
            .transpose()?;
        Ok(Self {
            norm1: GroupNorm::load(groups, in_channels, eps, &params.pp("norm1"))?,
            conv1: Conv2d::load(in_channels, out_channels, same, &params.pp("conv1"))?,
            time_emb_proj,
            norm2: GroupNorm::load(groups, out_channels, eps, &params.pp("norm2"))?,
            conv2: Conv2d::load(out_channels, out_channels, same, &params.pp("conv2"))?,
            conv_shortcut,
            config,
        })
    }

    /// # Shapes
    /// - xs: `(b, h, w, in_channels)`
    /// - temb: `(b, temb_channels)`
    /// - returns: `(b, h, w, out_channels)`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(&self, xs: &Tensor, temb: Option<&Tensor>) -> Result<Tensor> {
        let activation = Some(self.config.activation);
        let temb = match (&self.time_emb_proj, temb) {
            (Some(proj), Some(temb)) => {
                Some(proj.forward(&self.config.activation.forward(temb)?)?) // (b, c or 2 c)
            }
            _ => None,
        };
        let scale_shift = self.config.time_scale_shift == TimeScaleShift::ScaleShift;
        let (image_bias, scale_shift) = if scale_shift { (None, temb) } else { (temb, None) };

        let bent = Around { activation, ..Around::default() };
        let (norm, image_bias) = (Some(&self.norm1), image_bias.as_ref());
        let hidden = self.conv1.forward_around(xs, Around { norm, image_bias, ..bent })?;
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.forward(xs)?,
            None => xs.clone(),
        };
        let residual = Some(&shortcut);
        let out = match scale_shift {
            None => {
                let norm = Some(&self.norm2);
                self.conv2.forward_around(&hidden, Around { norm, residual, ..bent })?
            }
            Some(temb) => {
                let (b, c) = (temb.dim(0)?, self.config.out_channels);
                let half = |at| temb.narrow(1, at, c)?.reshape((b, 1, 1, c));
                let (scale, shift) = (half(0)?, half(c)?);
                let hidden = self.norm2.forward(&hidden)?;
                let dtype = hidden.dtype();
                let hidden = hidden.broadcast_mul(&(scale + 1.0)?.to_dtype(dtype)?)?;
                let hidden = hidden.broadcast_add(&shift.to_dtype(dtype)?)?;
                self.conv2.forward_around(&hidden, Around { residual, ..bent })?
            }
        };
        let factor = self.config.output_scale_factor;
        Ok(if factor == 1.0 { out } else { (out / factor)? })
    }
}
