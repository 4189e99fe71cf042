//! The blocks of the UNet: `DownBlock2D`, `CrossAttnDownBlock2D`, `UNetMidBlock2D`, `UNetMidBlock2DCrossAttn`,
//! `UpBlock2D` and `CrossAttnUpBlock2D` of diffusers. Blocks with and without attention differ in nothing else, and
//! are one type here.

use candle_core::Tensor;

use super::unet_2d_condition_config::{Resolution, UNet2DConditionConfig};
use crate::error::Result;
use crate::nn::{
    Activation, Downsample2D, DualTransformer2D, Params, ResnetBlock2D, ResnetConfig,
    TimeScaleShift, Transformer2D, Transformer2DConfig, Upsample2D, concat_channels,
};

/// What all blocks are built from.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockConfig {
    activation: Activation,
    time_scale_shift: TimeScaleShift,
    temb_channels: usize,
    groups: usize,
    eps: f64,
    downsample_padding: usize,
    mid_block_scale_factor: f64,
    dual_cross_attention: bool,
    use_linear_projection: bool,
    upcast_attention: bool,
}

impl BlockConfig {
    pub(super) fn new(config: &UNet2DConditionConfig) -> Result<Self> {
        Ok(Self {
            activation: config.activation()?,
            time_scale_shift: config.time_scale_shift()?,
            temb_channels: config.time_embed_dim(),
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            downsample_padding: config.downsample_padding,
            mid_block_scale_factor: config.mid_block_scale_factor,
            dual_cross_attention: config.dual_cross_attention,
            use_linear_projection: config.use_linear_projection,
            upcast_attention: config.upcast_attention,
        })
    }

    fn resnet(
        &self,
        in_channels: usize,
        out_channels: usize,
        output_scale_factor: f64,
        params: &Params,
    ) -> Result<ResnetBlock2D> {
        let config = ResnetConfig {
            in_channels,
            out_channels,
            temb_channels: Some(self.temb_channels),
            groups: self.groups,
            eps: self.eps,
            activation: self.activation,
            time_scale_shift: self.time_scale_shift,
            output_scale_factor,
        };
        ResnetBlock2D::load(config, params)
    }

    fn transformer(&self, resolution: Resolution, params: &Params) -> Result<Transformer> {
        let config = Transformer2DConfig {
            in_channels: resolution.width,
            num_attention_heads: resolution.heads,
            num_layers: resolution.transformer_layers,
            cross_attention_dim: resolution.cross_attention_dim,
            norm_num_groups: self.groups,
            use_linear_projection: self.use_linear_projection,
            only_cross_attention: resolution.only_cross_attention,
            upcast_attention: self.upcast_attention,
        };
        Ok(if self.dual_cross_attention {
            Transformer::Dual(Box::new(DualTransformer2D::load(config, params)?))
        } else {
            Transformer::Single(Transformer2D::load(config, params)?)
        })
    }
}

/// What follows a resnet in blocks with attention.
#[derive(Clone, Debug)]
enum Transformer {
    Single(Transformer2D),
    Dual(Box<DualTransformer2D>),
}

impl Transformer {
    fn forward(&self, xs: &Tensor, context: &Tensor) -> Result<Tensor> {
        match self {
            Self::Single(transformer) => Ok(transformer.forward(xs, context)?),
            Self::Dual(transformer) => transformer.forward(xs, context),
        }
    }
}

/// A resnet and, in blocks with attention, a transformer.
#[derive(Clone, Debug)]
struct Layer {
    resnet: ResnetBlock2D,
    attention: Option<Transformer>,
}

impl Layer {
    fn forward(&self, xs: &Tensor, temb: &Tensor, context: &Tensor) -> Result<Tensor> {
        let xs = self.resnet.forward(xs, Some(temb))?;
        match &self.attention {
            Some(attention) => attention.forward(&xs, context),
            None => Ok(xs),
        }
    }
}

/// One resolution on the way down.
#[derive(Clone, Debug)]
pub(super) struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Downsample2D>,
}

impl DownBlock {
    pub(super) fn load(
        block_type: &str,
        config: &BlockConfig,
        in_channels: usize,
        resolution: Resolution,
        is_final: bool,
        params: &Params,
    ) -> Result<Self> {
        let width = resolution.width;
        let has_attention = block_type.starts_with("CrossAttn");
        let layers = (0..resolution.layers)
            .map(|i| {
                let from = if i == 0 { in_channels } else { width };
                let attention = has_attention
                    .then(|| config.transformer(resolution, &params.pp("attentions").pp(i)))
                    .transpose()?;
                let resnet = config.resnet(from, width, 1.0, &params.pp("resnets").pp(i))?;
                Ok(Layer { resnet, attention })
            })
            .collect::<Result<_>>()?;
        let downsampler = (!is_final)
            .then(|| {
                Downsample2D::load(width, config.downsample_padding, &params.pp("downsamplers.0"))
            })
            .transpose()?;
        Ok(Self { layers, downsampler })
    }

    /// How many layers there are.
    pub(super) const fn len(&self) -> usize {
        self.layers.len()
    }

    pub(super) const fn has_downsampler(&self) -> bool {
        self.downsampler.is_some()
    }

    pub(super) fn layer(
        &self,
        layer: usize,
        xs: &Tensor,
        temb: &Tensor,
        context: &Tensor,
    ) -> Result<Tensor> {
        self.layers[layer].forward(xs, temb, context)
    }

    /// Half the resolution; `xs` itself in the block that keeps it.
    pub(super) fn downsample(&self, xs: &Tensor) -> Result<Tensor> {
        match &self.downsampler {
            Some(downsampler) => downsampler.forward(xs),
            None => Ok(xs.clone()),
        }
    }
}

/// The lowest resolution: a resnet and, in the block with attention, a transformer and a second resnet.
#[derive(Clone, Debug)]
pub(super) struct MidBlock {
    first: ResnetBlock2D,
    rest: Option<(Transformer, ResnetBlock2D)>,
}

impl MidBlock {
    pub(super) fn load(
        block_type: &str,
        config: &BlockConfig,
        resolution: Resolution,
        params: &Params,
    ) -> Result<Self> {
        // Upstream does not pass only_cross_attention on to the middle.
        let resolution = Resolution { only_cross_attention: false, ..resolution };
        let c = resolution.width;
        let resnet =
            |i| config.resnet(c, c, config.mid_block_scale_factor, &params.pp("resnets").pp(i));
        let rest = (block_type == "UNetMidBlock2DCrossAttn")
            .then(|| {
                let attention = config.transformer(resolution, &params.pp("attentions.0"))?;
                Ok::<_, crate::DiffusionError>((attention, resnet(1)?))
            })
            .transpose()?;
        Ok(Self { first: resnet(0)?, rest })
    }

    pub(super) fn forward(&self, xs: &Tensor, temb: &Tensor, context: &Tensor) -> Result<Tensor> {
        let xs = self.first.forward(xs, Some(temb))?;
        match &self.rest {
            Some((attention, resnet)) => {
                resnet.forward(&attention.forward(&xs, context)?, Some(temb))
            }
            None => Ok(xs),
        }
    }
}

/// One resolution on the way up.
#[derive(Clone, Debug)]
pub(super) struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Upsample2D>,
}

/// Widths around an [`UpBlock`].
#[derive(Clone, Copy, Debug)]
pub(super) struct UpWidths {
    /// Of what comes from below.
    pub(super) previous: usize,
    /// Of the last residual: the next larger resolution's.
    pub(super) next: usize,
}

impl UpBlock {
    pub(super) fn load(
        block_type: &str,
        config: &BlockConfig,
        widths: UpWidths,
        resolution: Resolution,
        is_final: bool,
        params: &Params,
    ) -> Result<Self> {
        let width = resolution.width;
        let has_attention = block_type.starts_with("CrossAttn");
        let layers = (0..=resolution.layers)
            .map(|i| {
                let below = if i == 0 { widths.previous } else { width };
                let residual = if i == resolution.layers { widths.next } else { width };
                let attention = has_attention
                    .then(|| config.transformer(resolution, &params.pp("attentions").pp(i)))
                    .transpose()?;
                let params = params.pp("resnets").pp(i);
                let resnet = config.resnet(below + residual, width, 1.0, &params)?;
                Ok(Layer { resnet, attention })
            })
            .collect::<Result<_>>()?;
        let upsampler =
            (!is_final).then(|| Upsample2D::load(width, &params.pp("upsamplers.0"))).transpose()?;
        Ok(Self { layers, upsampler })
    }

    /// How many layers there are.
    pub(super) const fn len(&self) -> usize {
        self.layers.len()
    }

    pub(super) const fn has_upsampler(&self) -> bool {
        self.upsampler.is_some()
    }

    pub(super) fn layer(
        &self,
        layer: usize,
        xs: &Tensor,
        residual: &Tensor,
        temb: &Tensor,
        context: &Tensor,
    ) -> Result<Tensor> {
        self.layers[layer].forward(&concat_channels(xs, residual)?, temb, context)
    }

    /// Twice the resolution, or `size`; `xs` itself in the block that keeps it.
    pub(super) fn upsample(&self, xs: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        match &self.upsampler {
            Some(upsampler) => upsampler.forward(xs, size),
            None => Ok(xs.clone()),
        }
    }
}
