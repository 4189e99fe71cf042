//! What the autoencoders share: encoder, decoder, and the Gaussian between them (diffusers' `vae.py`).

use candle_core::{DType, Module, Tensor};

use crate::error::Result;
use crate::nn::{
    Activation, Around, Attention, AttentionConfig, Conv2d, Conv2dConfig, Downsample2D, GroupNorm,
    Params, ResnetBlock2D, ResnetConfig, TimeScaleShift, Upsample2D, compute_dtype, on_kernels,
};
use crate::noise::NoiseSource;

/// Added to the variance in every norm of an autoencoder.
pub(super) const NORM_EPS: f64 = 1e-6;

/// A Gaussian with a variance for each element: what an image is encoded to, before `scaling_factor`.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    /// `(b, latent_channels, h, w)`.
    pub mean: Tensor,
    /// The logarithm of the variance, in [-30, 20]; same shape.
    pub logvar: Tensor,
}

impl DiagonalGaussian {
    /// From the moments that an encoder gives.
    ///
    /// # Shapes
    /// - moments: `(b, 2 · latent_channels, h, w)`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn new(moments: &Tensor) -> Result<Self> {
        let channels = moments.dim(1)? / 2;
        let mean = moments.narrow(1, 0, channels)?.contiguous()?;
        let logvar = moments.narrow(1, channels, channels)?.clamp(-30f64, 20f64)?;
        Ok(Self { mean, logvar })
    }

    /// `mean + exp(logvar / 2) · noise`, drawing once.
    ///
    /// # Errors
    /// Those of drawing and of the tensor operations.
    pub fn sample(&self, noise: &mut dyn NoiseSource) -> Result<Tensor> {
        let noise = noise.randn(self.mean.shape(), self.mean.dtype(), self.mean.device())?;
        let std = self.logvar.affine(0.5, 0.0)?.exp()?;
        Ok((&self.mean + (std * noise)?)?)
    }

    /// The most likely value: the mean.
    #[must_use]
    pub fn mode(&self) -> Tensor {
        self.mean.clone()
    }
}

/// The parts that encoder and decoder have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct VaeConfig<'a> {
    pub(super) image_channels: usize,
    pub(super) latent_channels: usize,
    pub(super) block_out_channels: &'a [usize],
    /// Blocks of each resolution in the encoder; the decoder has one more.
    pub(super) layers_per_block: usize,
    pub(super) groups: usize,
    pub(super) activation: Activation,
    pub(super) mid_block_add_attention: bool,
}

impl VaeConfig<'_> {
    fn resnet(&self, in_channels: usize, out_channels: usize) -> ResnetConfig {
        ResnetConfig {
            in_channels,
            out_channels,
            temb_channels: None,
            groups: self.groups,
            eps: NORM_EPS,
            activation: self.activation,
            time_scale_shift: TimeScaleShift::Default,
            output_scale_factor: 1.0,
        }
    }

    /// Width of the lowest resolution.
    fn deepest(&self) -> usize {
        self.block_out_channels.last().copied().unwrap_or_default()
    }
}

/// Self-attention with one head over all pixels, behind a group norm, added to the image.
#[derive(Clone, Debug)]
struct AttentionBlock {
    group_norm: GroupNorm,
    attention: Attention,
}

impl AttentionBlock {
    fn load(channels: usize, groups: usize, params: &Params) -> Result<Self> {
        let config = AttentionConfig {
            query_dim: channels,
            context_dim: channels,
            heads: 1,
            dim_head: channels,
            is_self: true,
            bias: true,
            upcast: false,
        };
        Ok(Self {
            group_norm: GroupNorm::load(groups, channels, NORM_EPS, &params.pp("group_norm"))?,
            attention: Attention::load(config, params)?,
        })
    }

    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let normed = self.group_norm.forward(xs)?;
        if on_kernels(xs) {
            return self.attention.forward_add(&normed, &normed, xs);
        }
        let (b, h, w, c) = xs.dims4()?;
        let tokens = |xs: &Tensor| xs.reshape((b, h * w, c));
        let (normed, residual) = (tokens(&normed)?, tokens(xs)?);
        self.attention.forward_add(&normed, &normed, &residual)?.reshape((b, h, w, c))
    }
}

/// `UNetMidBlock2D`: a resnet, attention if asked for, a resnet.
#[derive(Clone, Debug)]
pub(super) struct MidBlock {
    resnets: [ResnetBlock2D; 2],
    attention: Option<AttentionBlock>,
}

impl MidBlock {
    pub(super) fn load(config: VaeConfig<'_>, params: &Params) -> Result<Self> {
        let c = config.deepest();
        let resnets = params.pp("resnets");
        let resnet = |i| ResnetBlock2D::load(config.resnet(c, c), &resnets.pp(i));
        let attention = config
            .mid_block_add_attention
            .then(|| AttentionBlock::load(c, config.groups, &params.pp("attentions.0")))
            .transpose()?;
        Ok(Self { resnets: [resnet(0)?, resnet(1)?], attention })
    }

    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = self.resnets[0].forward(xs, None)?;
        if let Some(attention) = &self.attention {
            xs = attention.forward(&xs)?;
        }
        self.resnets[1].forward(&xs, None)
    }
}

/// `DownEncoderBlock2D`.
#[derive(Clone, Debug)]
struct DownBlock {
    resnets: Vec<ResnetBlock2D>,
    downsampler: Option<Downsample2D>,
}

/// An image to the moments of its latent.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    activation: Activation,
    /// Of activations inside.
    dtype: DType,
}

impl Encoder {
    pub(super) fn load(config: VaeConfig<'_>, params: &Params) -> Result<Self> {
        let same = Conv2dConfig::SAME_3X3;
        let widths = config.block_out_channels;
        let (first, deepest) = (widths[0], config.deepest());
        let mut down_blocks = Vec::with_capacity(widths.len());
        let mut in_channels = first;
        for (i, width) in widths.iter().copied().enumerate() {
            let params = params.pp("down_blocks").pp(i);
            let resnets = (0..config.layers_per_block)
                .map(|j| {
                    let from = if j == 0 { in_channels } else { width };
                    ResnetBlock2D::load(config.resnet(from, width), &params.pp("resnets").pp(j))
                })
                .collect::<Result<_>>()?;
            let downsampler = (i + 1 < widths.len())
                .then(|| Downsample2D::load(width, 0, &params.pp("downsamplers.0")))
                .transpose()?;
            down_blocks.push(DownBlock { resnets, downsampler });
            in_channels = width;
        }
        let norm_out = params.pp("conv_norm_out");
        let moments = 2 * config.latent_channels;
        Ok(Self {
            // In f32, like all that stands between the network and the latents: their rounding would be seen.
            conv_in: Conv2d::load_in_f32(
                config.image_channels,
                first,
                same,
                &params.pp("conv_in"),
            )?,
            down_blocks,
            mid_block: MidBlock::load(config, &params.pp("mid_block"))?,
            conv_norm_out: GroupNorm::load(config.groups, deepest, NORM_EPS, &norm_out)?,
            conv_out: Conv2d::load_in_f32(deepest, moments, same, &params.pp("conv_out"))?,
            // Upstream has SiLU here whatever act_fn says.
            activation: Activation::Silu,
            dtype: compute_dtype(params),
        })
    }

    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = self.conv_in.forward(xs)?.to_dtype(self.dtype)?;
        for block in &self.down_blocks {
            for resnet in &block.resnets {
                xs = resnet.forward(&xs, None)?;
            }
            if let Some(downsampler) = &block.downsampler {
                xs = downsampler.forward(&xs)?;
            }
        }
        let xs = self.mid_block.forward(&xs)?;
        let (norm, activation) = (Some(&self.conv_norm_out), Some(self.activation));
        Ok(self.conv_out.forward_around(&xs, Around { norm, activation, ..Around::default() })?)
    }
}

/// `UpDecoderBlock2D`.
#[derive(Clone, Debug)]
pub(super) struct UpBlock {
    resnets: Vec<ResnetBlock2D>,
    upsampler: Option<Upsample2D>,
}

impl UpBlock {
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = xs.clone();
        for resnet in &self.resnets {
            xs = resnet.forward(&xs, None)?;
        }
        match &self.upsampler {
            Some(upsampler) => upsampler.forward(&xs, None),
            None => Ok(xs),
        }
    }
}

/// A latent to an image.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    pub(super) mid_block: MidBlock,
    pub(super) up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    /// Of activations inside.
    dtype: DType,
}

impl Decoder {
    pub(super) fn load(config: VaeConfig<'_>, params: &Params) -> Result<Self> {
        let same = Conv2dConfig::SAME_3X3;
        let widths = config.block_out_channels;
        let (first, deepest) = (widths[0], config.deepest());
        let mut up_blocks = Vec::with_capacity(widths.len());
        let mut in_channels = deepest;
        for (i, width) in widths.iter().rev().copied().enumerate() {
            let params = params.pp("up_blocks").pp(i);
            let resnets = (0..=config.layers_per_block)
                .map(|j| {
                    let from = if j == 0 { in_channels } else { width };
                    ResnetBlock2D::load(config.resnet(from, width), &params.pp("resnets").pp(j))
                })
                .collect::<Result<_>>()?;
            let upsampler = (i + 1 < widths.len())
                .then(|| Upsample2D::load(width, &params.pp("upsamplers.0")))
                .transpose()?;
            up_blocks.push(UpBlock { resnets, upsampler });
            in_channels = width;
        }
        let norm_out = params.pp("conv_norm_out");
        let (latent, image) = (config.latent_channels, config.image_channels);
        Ok(Self {
            conv_in: Conv2d::load_in_f32(latent, deepest, same, &params.pp("conv_in"))?,
            mid_block: MidBlock::load(config, &params.pp("mid_block"))?,
            up_blocks,
            conv_norm_out: GroupNorm::load(config.groups, first, NORM_EPS, &norm_out)?,
            conv_out: Conv2d::load(first, image, same, &params.pp("conv_out"))?,
            dtype: compute_dtype(params),
        })
    }

    /// The first convolution and the middle.
    pub(super) fn enter(&self, latents: &Tensor) -> Result<Tensor> {
        self.mid_block.forward(&self.conv_in.forward(latents)?.to_dtype(self.dtype)?)
    }

    pub(super) fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let mut xs = self.enter(latents)?;
        for block in &self.up_blocks {
            xs = block.forward(&xs)?;
        }
        self.finish(&xs)
    }

    /// The last norm, SiLU and convolution.
    pub(super) fn finish(&self, xs: &Tensor) -> Result<Tensor> {
        let (norm, activation) = (Some(&self.conv_norm_out), Some(Activation::Silu));
        Ok(self.conv_out.forward_around(xs, Around { norm, activation, ..Around::default() })?)
    }
}
