//! The autoencoder whose decoder sees the kept pixels (Zhu et al. 2023, "Designing a Better Asymmetric VQGAN for
//! StableDiffusion"), as diffusers' `AsymmetricAutoencoderKL`.

use candle_core::{DType, Module, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::autoencoder_kl::{check_image, check_latents};
use super::config::{self, MAX_CHANNELS, MAX_LAYERS, OneOrMany, OtherSettings};
use super::vae::{Decoder, DiagonalGaussian, Encoder, VaeConfig};
use crate::error::{DiffusionError, Result};
use crate::nn::{
    Activation, Conv2d, Conv2dConfig, Params, channels_first, channels_last, compute_dtype,
    resize_nearest,
};

const CLASS: &str = "AsymmetricAutoencoderKL";

/// `config.json` of the autoencoder; absent keys have diffusers' defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AsymmetricAutoencoderKlConfig {
    /// Channels of the image that is encoded.
    pub in_channels: usize,
    /// Channels of the image that is decoded.
    pub out_channels: usize,
    /// One a width of the encoder; only "`DownEncoderBlock2D`".
    pub down_block_types: Vec<String>,
    /// Width of each resolution of the encoder, the image's first.
    pub down_block_out_channels: Vec<usize>,
    /// Resnets of each resolution in the encoder.
    pub layers_per_down_block: usize,
    /// One a width of the decoder; only "`UpDecoderBlock2D`".
    pub up_block_types: Vec<String>,
    /// Width of each resolution of the decoder, the image's first.
    pub up_block_out_channels: Vec<usize>,
    /// Resnets of each resolution in the decoder, less one.
    pub layers_per_up_block: usize,
    /// The non-linearity.
    pub act_fn: String,
    /// Channels of the latent.
    pub latent_channels: usize,
    /// Groups of the norms.
    pub norm_num_groups: usize,
    /// The side that it was trained on, in pixels.
    pub sample_size: OneOrMany<usize>,
    /// Latents are multiplied by it for the UNet.
    pub scaling_factor: f64,
    /// What else the file says.
    #[serde(flatten)]
    pub other: OtherSettings,
}

impl Default for AsymmetricAutoencoderKlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".to_owned()],
            down_block_out_channels: vec![64],
            layers_per_down_block: 1,
            up_block_types: vec!["UpDecoderBlock2D".to_owned()],
            up_block_out_channels: vec![64],
            layers_per_up_block: 1,
            act_fn: "silu".to_owned(),
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: OneOrMany::One(32),
            scaling_factor: 0.18215,
            other: OtherSettings::new(),
        }
    }
}

impl AsymmetricAutoencoderKlConfig {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key that does not fit.
    pub fn from_json(json: &Value) -> Result<Self> {
        config::from_json(CLASS, json)
    }

    /// Pixels to a latent pixel, along one side: 8 in Stable Diffusion.
    #[must_use]
    pub fn down_factor(&self) -> usize {
        1 << self.down_block_out_channels.len().clamp(1, 16).saturating_sub(1)
    }

    /// Checks that a network can be built from it.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let check = |key, value, max| config::check_count(CLASS, key, value, max);
        let (down, up) = (&self.down_block_out_channels, &self.up_block_out_channels);
        config::check_widths(CLASS, "down_block_out_channels", down, self.norm_num_groups)?;
        config::check_widths(CLASS, "up_block_out_channels", up, self.norm_num_groups)?;
        let types = |key, types, blocks, supported| {
            config::check_block_types(CLASS, key, types, blocks, &[supported])
        };
        types("down_block_types", &self.down_block_types, down.len(), "DownEncoderBlock2D")?;
        types("up_block_types", &self.up_block_types, up.len(), "UpDecoderBlock2D")?;
        if down.len() != up.len() {
            let name = format!("{CLASS}: up_block_out_channels");
            let expected = format!("{} widths, as in down_block_out_channels", down.len());
            return Err(DiffusionError::argument(name, expected, up.len()));
        }
        check("in_channels", self.in_channels, MAX_CHANNELS)?;
        check("out_channels", self.out_channels, MAX_CHANNELS)?;
        check("latent_channels", self.latent_channels, MAX_CHANNELS)?;
        check("layers_per_down_block", self.layers_per_down_block, MAX_LAYERS)?;
        check("layers_per_up_block", self.layers_per_up_block, MAX_LAYERS)?;
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            let name = format!("{CLASS}: scaling_factor");
            return Err(DiffusionError::argument(name, "more than 0", self.scaling_factor));
        }
        self.activation().map(drop)
    }

    fn activation(&self) -> Result<Activation> {
        Activation::from_name("AsymmetricAutoencoderKL: act_fn", &self.act_fn)
    }
}

/// Features of the kept pixels at each resolution of the decoder.
#[derive(Clone, Debug)]
struct MaskConditionEncoder {
    layers: Vec<Conv2d>,
    /// For each layer, channels and the factor by which its output is smaller than the image.
    outputs: Vec<(usize, usize)>,
}

impl MaskConditionEncoder {
    /// The stride of diffusers' class, whatever the depth of the decoder.
    const STRIDE: usize = 16;

    fn load(in_channels: usize, widths: &[usize], params: &Params) -> Result<Self> {
        let outputs = Self::outputs(widths);
        let layers = params.pp("layers");
        let mut from = in_channels;
        let mut loaded = Vec::with_capacity(outputs.len());
        for (i, (to, _)) in outputs.iter().copied().enumerate() {
            // The first two keep the size, the others halve it.
            let config = if i < 2 { Conv2dConfig::SAME_3X3 } else { Conv2dConfig::new(4, 2, 1) };
            loaded.push(Conv2d::load(from, to, config, &layers.pp(i))?);
            from = to;
        }
        Ok(Self { layers: loaded, outputs })
    }

    /// Channels double from the decoder's first width until its last, one layer for each halving of the stride, and
    /// one more of the last width.
    fn outputs(widths: &[usize]) -> Vec<(usize, usize)> {
        let (first, deepest) = (widths[0], widths[widths.len() - 1]);
        let mut channels = Vec::new();
        let mut width = first;
        let mut stride = Self::STRIDE;
        while stride > 1 {
            stride /= 2;
            width = width.min(deepest);
            channels.push(width);
            width *= 2;
        }
        channels.push(deepest);
        let factor = |i: usize| 1 << i.saturating_sub(1);
        channels.into_iter().enumerate().map(|(i, c)| (c, factor(i))).collect()
    }

    /// The layer with `channels` at `factor`: the last one where there are two, as upstream keeps it.
    fn layer(&self, channels: usize, factor: usize) -> Option<usize> {
        self.outputs.iter().rposition(|output| *output == (channels, factor))
    }

    /// The output of each layer, before the ReLU between them.
    fn forward(&self, masked_image: &Tensor) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(self.layers.len());
        let mut xs = masked_image.clone();
        for layer in &self.layers {
            let output = layer.forward(&xs)?;
            xs = output.relu()?;
            outputs.push(output);
        }
        Ok(outputs)
    }
}

/// An autoencoder with a larger decoder that copies what it needs of the kept pixels.
#[derive(Clone, Debug)]
pub struct AsymmetricAutoencoderKl {
    encoder: Encoder,
    decoder: Decoder,
    condition_encoder: MaskConditionEncoder,
    /// The layer of the condition encoder before each up block, and the one after the last.
    conditions: Vec<usize>,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    config: AsymmetricAutoencoderKlConfig,
    /// Of activations.
    dtype: DType,
}

impl AsymmetricAutoencoderKl {
    /// Loads `encoder`, `decoder` with its `condition_encoder`, `quant_conv` and `post_quant_conv`.
    ///
    /// # Errors
    /// Those of [`AsymmetricAutoencoderKlConfig::validate`] and [`Params::get`];
    /// [`DiffusionError::Argument`] if the condition encoder has no features of a width of the decoder.
    pub fn load(config: &AsymmetricAutoencoderKlConfig, params: &Params) -> Result<Self> {
        config.validate()?;
        let (latent, up) = (config.latent_channels, &config.up_block_out_channels);
        let shared = VaeConfig {
            image_channels: config.in_channels,
            latent_channels: latent,
            block_out_channels: &config.down_block_out_channels,
            layers_per_block: config.layers_per_down_block,
            groups: config.norm_num_groups,
            activation: config.activation()?,
            mid_block_add_attention: true,
        };
        let upper = VaeConfig {
            image_channels: config.out_channels,
            block_out_channels: up,
            layers_per_block: config.layers_per_up_block,
            ..shared
        };
        let decoder = params.pp("decoder");
        let condition_encoder =
            MaskConditionEncoder::load(config.out_channels, up, &decoder.pp("condition_encoder"))?;
        let conditions = conditioned_widths(up)
            .into_iter()
            .map(|(channels, factor)| {
                condition_encoder.layer(channels, factor).ok_or_else(|| {
                    let name = format!("{CLASS}: up_block_out_channels");
                    let expected = format!("widths that double, up to {}", up[up.len() - 1]);
                    DiffusionError::argument(name, expected, format!("{up:?}"))
                })
            })
            .collect::<Result<_>>()?;
        let pointwise = |channels, name| {
            Conv2d::load_in_f32(channels, channels, Conv2dConfig::POINTWISE, &params.pp(name))
        };
        Ok(Self {
            encoder: Encoder::load(shared, &params.pp("encoder"))?,
            decoder: Decoder::load(upper, &decoder)?,
            condition_encoder,
            conditions,
            quant_conv: pointwise(2 * latent, "quant_conv")?,
            post_quant_conv: pointwise(latent, "post_quant_conv")?,
            config: config.clone(),
            dtype: compute_dtype(params),
        })
    }

    /// What the model was built from.
    #[must_use]
    pub const fn config(&self) -> &AsymmetricAutoencoderKlConfig {
        &self.config
    }

    /// The distribution of an image's latents, before `scaling_factor`; shapes as in
    /// [`AutoencoderKl::encode`](super::AutoencoderKl::encode).
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn encode(&self, image: &Tensor) -> Result<DiagonalGaussian> {
        check_image(image, self.config.in_channels, self.config.down_factor())?;
        let image = channels_last(image, image.dtype())?;
        let moments = self.quant_conv.forward(&self.encoder.forward(&image)?)?;
        DiagonalGaussian::new(&channels_first(&moments)?)
    }

    /// The image of latents, which the caller has divided by `scaling_factor`, with the kept pixels to go by.
    ///
    /// # Shapes
    /// - latents: `(b, 4, h, w)`
    /// - image: `(b, 3, 8 h, 8 w)`, sRGB in [-1, 1]; what it has under the mask is not looked at
    /// - mask: `(b, 1, 8 h, 8 w)`, 1 where the picture is repainted, 0 where it is kept
    /// - returns: `(b, 3, 8 h, 8 w)`, sRGB, about [-1, 1], not clamped
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn decode(&self, latents: &Tensor, image: &Tensor, mask: &Tensor) -> Result<Tensor> {
        check_latents(latents, self.config.latent_channels)?;
        let (b, _, h, w) = latents.dims4()?;
        let factor = self.config.down_factor();
        let check = |what, tensor: &Tensor, channels| {
            let expected = [b, channels, h * factor, w * factor];
            if tensor.dims() == expected {
                return Ok(());
            }
            Err(DiffusionError::shape(what, format!("{expected:?}"), tensor.dims()))
        };
        check("image", image, self.config.out_channels)?;
        check("mask", mask, 1)?;

        let (image, mask) = (channels_last(image, self.dtype)?, channels_last(mask, self.dtype)?);
        let keep = mask.affine(-1.0, 1.0)?;
        let conditions = self.condition_encoder.forward(&image.broadcast_mul(&keep)?)?;
        let mix = |xs: &Tensor, layer: usize| -> Result<Tensor> {
            let (_, h, w, _) = xs.dims4()?;
            let mask = resize_nearest(&mask, h, w)?;
            let kept = conditions[layer].broadcast_mul(&mask.affine(-1.0, 1.0)?)?;
            Ok((xs.broadcast_mul(&mask)? + kept)?)
        };
        let mut xs = self.enter(latents)?;
        for (block, layer) in self.decoder.up_blocks.iter().zip(&self.conditions) {
            xs = block.forward(&mix(&xs, *layer)?)?;
        }
        let last = self.conditions[self.conditions.len() - 1];
        Ok(channels_first(&self.decoder.finish(&mix(&xs, last)?)?)?)
    }

    /// The image of latents alone, as diffusers decodes when it is given no image and mask.
    ///
    /// # Shapes
    /// As [`AsymmetricAutoencoderKl::decode`].
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn decode_unconditioned(&self, latents: &Tensor) -> Result<Tensor> {
        check_latents(latents, self.config.latent_channels)?;
        let latents = self.post_quant_conv.forward(&channels_last(latents, latents.dtype())?)?;
        Ok(channels_first(&self.decoder.forward(&latents)?)?)
    }

    /// Everything before the up blocks.
    fn enter(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.post_quant_conv.forward(&channels_last(latents, latents.dtype())?)?;
        self.decoder.enter(&latents)
    }
}

/// Channels, and the factor to the image's size, of the features that are mixed with the condition: before each up
/// block and after the last.
fn conditioned_widths(widths: &[usize]) -> Vec<(usize, usize)> {
    let blocks = widths.len();
    let deepest = widths[blocks - 1];
    let mut factor = 1 << (blocks - 1);
    let mut out = vec![(deepest, factor)];
    for width in widths.iter().rev() {
        // Every block doubles the size but the last, which is there already.
        factor = (factor / 2).max(1);
        out.push((*width, factor));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_widths_meet_their_conditions() {
        // The "x2" decoder of the paper. Layers: 192 and 384 at full size, then 768 at 1/2, 1/4, 1/8.
        let widths = [192, 384, 768, 768];
        let outputs = MaskConditionEncoder::outputs(&widths);
        assert_eq!(outputs, [(192, 1), (384, 1), (768, 2), (768, 4), (768, 8)]);
        // Before blocks of 768, 768, 384, 192 and after the last.
        let expected = [(768, 8), (768, 4), (768, 2), (384, 1), (192, 1)];
        assert_eq!(conditioned_widths(&widths), expected);
    }

    #[test]
    fn one_width_is_mixed_twice() {
        assert_eq!(conditioned_widths(&[64]), [(64, 1), (64, 1)]);
    }
}
