//! The autoencoder of Stable Diffusion (Rombach et al. 2022), as diffusers' `AutoencoderKL`.

use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{self, MAX_CHANNELS, MAX_LAYERS, OneOrMany, OtherSettings};
use super::vae::{Decoder, DiagonalGaussian, Encoder, VaeConfig};
use crate::error::{DiffusionError, Result};
use crate::nn::{Activation, Conv2d, Conv2dConfig, Params, channels_first, channels_last};

const CLASS: &str = "AutoencoderKL";

/// `config.json` of the autoencoder; absent keys have diffusers' defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoencoderKlConfig {
    /// Channels of the image that is encoded.
    pub in_channels: usize,
    /// Channels of the image that is decoded.
    pub out_channels: usize,
    /// One a width; only "`DownEncoderBlock2D`".
    pub down_block_types: Vec<String>,
    /// One a width; only "`UpDecoderBlock2D`".
    pub up_block_types: Vec<String>,
    /// Width of each resolution, the image's first.
    pub block_out_channels: Vec<usize>,
    /// Resnets of each resolution in the encoder; the decoder has one more.
    pub layers_per_block: usize,
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
    /// Subtracted from latents before that; none in SD 1 and 2.
    pub shift_factor: Option<f64>,
    /// Run in f32 whatever the pipeline's dtype.
    pub force_upcast: bool,
    /// A 1×1 convolution after the encoder.
    pub use_quant_conv: bool,
    /// A 1×1 convolution before the decoder.
    pub use_post_quant_conv: bool,
    /// Attention at the lowest resolution.
    pub mid_block_add_attention: bool,
    /// What else the file says.
    #[serde(flatten)]
    pub other: OtherSettings,
}

impl Default for AutoencoderKlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".to_owned()],
            up_block_types: vec!["UpDecoderBlock2D".to_owned()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".to_owned(),
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: OneOrMany::One(32),
            scaling_factor: 0.18215,
            shift_factor: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            other: OtherSettings::new(),
        }
    }
}

impl AutoencoderKlConfig {
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
        1 << self.block_out_channels.len().clamp(1, 16).saturating_sub(1)
    }

    /// Checks that a network can be built from it.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let check = |key, value, max| config::check_count(CLASS, key, value, max);
        let widths = &self.block_out_channels;
        config::check_widths(CLASS, "block_out_channels", widths, self.norm_num_groups)?;
        let types = |key, types, supported| {
            config::check_block_types(CLASS, key, types, widths.len(), &[supported])
        };
        types("down_block_types", &self.down_block_types, "DownEncoderBlock2D")?;
        types("up_block_types", &self.up_block_types, "UpDecoderBlock2D")?;
        check("in_channels", self.in_channels, MAX_CHANNELS)?;
        check("out_channels", self.out_channels, MAX_CHANNELS)?;
        check("latent_channels", self.latent_channels, MAX_CHANNELS)?;
        check("layers_per_block", self.layers_per_block, MAX_LAYERS)?;
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            let name = format!("{CLASS}: scaling_factor");
            return Err(DiffusionError::argument(name, "more than 0", self.scaling_factor));
        }
        config::refuse_unsupported(
            CLASS,
            &self.other,
            &[
                ("latents_mean", Value::Null),
                ("latents_std", Value::Null),
                ("double_z", json!(true)),
            ],
        )?;
        self.activation().map(drop)
    }

    fn activation(&self) -> Result<Activation> {
        Activation::from_name("AutoencoderKL: act_fn", &self.act_fn)
    }
}

/// Images to latents an eighth as wide and high, and back.
#[derive(Clone, Debug)]
pub struct AutoencoderKl {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    config: AutoencoderKlConfig,
}

impl AutoencoderKl {
    /// Loads `encoder`, `decoder`, `quant_conv` and `post_quant_conv`.
    ///
    /// # Errors
    /// Those of [`AutoencoderKlConfig::validate`] and [`Params::get`].
    pub fn load(config: &AutoencoderKlConfig, params: &Params) -> Result<Self> {
        config.validate()?;
        let shared = VaeConfig {
            image_channels: config.in_channels,
            latent_channels: config.latent_channels,
            block_out_channels: &config.block_out_channels,
            layers_per_block: config.layers_per_block,
            groups: config.norm_num_groups,
            activation: config.activation()?,
            mid_block_add_attention: config.mid_block_add_attention,
        };
        let pointwise = |wanted: bool, channels, name| {
            let load = || {
                Conv2d::load_in_f32(channels, channels, Conv2dConfig::POINTWISE, &params.pp(name))
            };
            wanted.then(load).transpose()
        };
        let latent = config.latent_channels;
        let decoder = VaeConfig { image_channels: config.out_channels, ..shared };
        Ok(Self {
            encoder: Encoder::load(shared, &params.pp("encoder"))?,
            decoder: Decoder::load(decoder, &params.pp("decoder"))?,
            quant_conv: pointwise(config.use_quant_conv, 2 * latent, "quant_conv")?,
            post_quant_conv: pointwise(config.use_post_quant_conv, latent, "post_quant_conv")?,
            config: config.clone(),
        })
    }

    /// What the model was built from.
    #[must_use]
    pub const fn config(&self) -> &AutoencoderKlConfig {
        &self.config
    }

    /// The distribution of an image's latents, before `scaling_factor`.
    ///
    /// # Shapes
    /// - image: `(b, 3, h, w)`, sRGB in [-1, 1], `h` and `w` multiples of the down factor (8)
    /// - returns: `(b, 4, h/8, w/8)`
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn encode(&self, image: &Tensor) -> Result<DiagonalGaussian> {
        check_image(image, self.config.in_channels, self.config.down_factor())?;
        let moments = self.encode_pixels(&channels_last(image, image.dtype())?)?;
        DiagonalGaussian::new(&channels_first(&moments)?)
    }

    /// Means and logarithms of variances, channels last: `(b, h, w, 3)` to `(b, h/8, w/8, 2 · 4)`.
    pub(crate) fn encode_pixels(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut moments = self.encoder.forward(pixels)?;
        if let Some(conv) = &self.quant_conv {
            moments = conv.forward(&moments)?;
        }
        Ok(moments)
    }

    /// The image of latents, which the caller has divided by `scaling_factor`.
    ///
    /// # Shapes
    /// - latents: `(b, 4, h, w)`
    /// - returns: `(b, 3, 8 h, 8 w)`, sRGB, about [-1, 1], not clamped
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        check_latents(latents, self.config.latent_channels)?;
        let latents = channels_last(latents, latents.dtype())?;
        Ok(channels_first(&self.decode_pixels(&latents)?)?)
    }

    /// [`AutoencoderKl::decode`], channels last: `(b, h, w, 4)` to `(b, 8 h, 8 w, 3)`.
    pub(crate) fn decode_pixels(&self, latents: &Tensor) -> Result<Tensor> {
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(latents)?),
            None => self.decoder.forward(latents),
        }
    }
}

/// An error unless `image` is `(b, channels, h, w)` with sides that `factor` divides.
pub(super) fn check_image(image: &Tensor, channels: usize, factor: usize) -> Result<()> {
    let fits = |side: usize| side > 0 && side.is_multiple_of(factor);
    if matches!(*image.dims(), [b, c, h, w] if b > 0 && c == channels && fits(h) && fits(w)) {
        return Ok(());
    }
    let expected = format!("(b, {channels}, h, w) with h and w multiples of {factor}");
    Err(DiffusionError::shape("image", expected, image.dims()))
}

/// An error unless `latents` is `(b, channels, h, w)`.
pub(super) fn check_latents(latents: &Tensor, channels: usize) -> Result<()> {
    if matches!(*latents.dims(), [b, c, h, w] if b > 0 && c == channels && h > 0 && w > 0) {
        return Ok(());
    }
    Err(DiffusionError::shape("latents", format!("(b, {channels}, h, w)"), latents.dims()))
}
