//! The networks of a checkpoint, loaded and ready for a pipeline.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::{Checkpoint, Component};
use crate::error::{DiffusionError, Result};
use crate::lora::Adapters;
use crate::models::{
    AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig, AutoencoderKl, AutoencoderKlConfig,
    ClipTextConfig, ClipTextModel, DiagonalGaussian, UNet2DConditionConfig, UNet2DConditionModel,
};
use crate::nn::Params;
use crate::schedulers::SchedulerConfig;
use crate::tokenizer::ClipTokenizer;

/// How a checkpoint is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The dtype that weights are stored in: f32, bf16 or f16.
    pub dtype: DType,
    /// Where to compute.
    pub device: Device,
    /// What LoRAs change in the UNet.
    pub unet_adapters: Arc<Adapters>,
    /// What LoRAs change in the text encoder.
    pub text_encoder_adapters: Arc<Adapters>,
}

impl Default for LoadOptions {
    /// f32 on the CPU, no LoRA.
    fn default() -> Self {
        Self {
            dtype: DType::F32,
            device: Device::Cpu,
            unet_adapters: Arc::default(),
            text_encoder_adapters: Arc::default(),
        }
    }
}

impl LoadOptions {
    /// The dtype of activations: f32 on the CPU, else that of the weights.
    #[must_use]
    pub fn compute_dtype(&self) -> DType {
        if self.device.is_cpu() { DType::F32 } else { self.dtype }
    }

    fn params(&self, checkpoint: &Checkpoint, component: Component) -> Result<Params> {
        Ok(Params::new(checkpoint.weights(component)?, self.dtype, &self.device))
    }
}

/// What a prompt becomes: the text encoder's output.
#[derive(Clone, Debug)]
pub struct PromptEmbeds {
    /// Of the prompt, `(1, 77, d)`.
    pub positive: Tensor,
    /// Of the negative prompt, `(1, 77, d)`; what guidance leads away from.
    pub negative: Tensor,
    /// The parts of the prompts past what the encoder reads, if any.
    pub truncated: Vec<String>,
}

/// Encodes the prompts with the checkpoint's text encoder, which is dropped again.
///
/// # Errors
/// Those of reading the checkpoint and of the tensor operations.
pub fn encode_prompts(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    prompt: &str,
    negative_prompt: &str,
) -> Result<PromptEmbeds> {
    let tokenizer = tokenizer(checkpoint)?;
    let config = ClipTextConfig::from_json(&checkpoint.config(Component::TextEncoder)?)?;
    let params = options
        .params(checkpoint, Component::TextEncoder)?
        .with_adapters(Arc::clone(&options.text_encoder_adapters));
    let model = ClipTextModel::load(&config, &params)?;

    let mut truncated = Vec::new();
    let mut encode = |text: &str| -> Result<Tensor> {
        let tokens = tokenizer.encode(text)?;
        truncated.extend(tokens.truncated);
        let input_ids = Tensor::new(tokens.ids.as_slice(), &options.device)?.unsqueeze(0)?; // (1, 77)
        Ok(model.forward(&input_ids)?.to_dtype(options.compute_dtype())?)
    };
    let (positive, negative) = (encode(prompt)?, encode(negative_prompt)?);
    Ok(PromptEmbeds { positive, negative, truncated })
}

/// The networks that repaint: autoencoder and UNet, with the scheduler's configuration.
#[derive(Debug)]
pub struct Components {
    /// Between pixels and latents.
    pub vae: Autoencoder,
    /// What predicts the noise.
    pub unet: UNet2DConditionModel,
    /// The sampler that the checkpoint comes with.
    pub scheduler: SchedulerConfig,
    pub(super) device: Device,
    pub(super) dtype: DType,
}

impl Components {
    /// Loads the autoencoder and the UNet.
    ///
    /// # Errors
    /// Those of reading the checkpoint; [`DiffusionError::Argument`] if the UNet is for another task.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let scheduler =
            SchedulerConfig::from_value(checkpoint.scheduler_config()?, checkpoint.path())?
                .amended_for_stable_diffusion();
        let unet_config = UNet2DConditionConfig::from_json(&checkpoint.config(Component::Unet)?)?;
        let vae = Autoencoder::load(checkpoint, options)?;
        let latents = vae.latent_channels();
        let takes = unet_config.in_channels;
        if takes != latents && takes != 2 * latents + 1 {
            let problem = format!(
                "expected a UNet with {} (inpainting) or {latents} input channels, found {takes}",
                2 * latents + 1
            );
            return Err(DiffusionError::checkpoint(checkpoint.path(), problem));
        }
        let params = options
            .params(checkpoint, Component::Unet)?
            .with_adapters(Arc::clone(&options.unet_adapters));
        let unet = UNet2DConditionModel::load(&unet_config, &params)?;
        let (device, dtype) = (options.device.clone(), options.compute_dtype());
        Ok(Self { vae, unet, scheduler, device, dtype })
    }

    /// The sides of what the networks take are multiples of this many pixels.
    #[must_use]
    pub fn multiple(&self) -> usize {
        self.vae.factor() << (self.unet.config().block_out_channels.len() - 1)
    }

    /// True if the UNet sees mask and masked image (9 channels), false if it only sees latents (4).
    #[must_use]
    pub fn sees_mask(&self) -> bool {
        self.unet.config().in_channels != self.vae.latent_channels()
    }
}

/// The checkpoint's tokenizer; single files have none, but the vocabulary is always CLIP's.
fn tokenizer(checkpoint: &Checkpoint) -> Result<ClipTokenizer> {
    let files = checkpoint.tokenizer_files();
    let folder = files.tokenizer.as_deref().or(files.vocab.as_deref()).and_then(Path::parent);
    match folder {
        Some(folder) => ClipTokenizer::open(folder),
        None if files.open_clip => ClipTokenizer::built_in_sd2(),
        None => ClipTokenizer::built_in(),
    }
}

/// Either kind of autoencoder.
#[derive(Debug)]
pub enum Autoencoder {
    /// AutoencoderKL.
    Kl(AutoencoderKl),
    /// AsymmetricAutoencoderKL, whose decoder also sees the kept pixels.
    Asymmetric(AsymmetricAutoencoderKl),
}

impl Autoencoder {
    /// Loads the class that the configuration names.
    ///
    /// # Errors
    /// Those of reading the checkpoint.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let json = checkpoint.config(Component::Vae)?;
        let params = options.params(checkpoint, Component::Vae)?;
        if checkpoint.vae_is_asymmetric()? {
            let config = AsymmetricAutoencoderKlConfig::from_json(&json)?;
            return Ok(Self::Asymmetric(AsymmetricAutoencoderKl::load(&config, &params)?));
        }
        let config = AutoencoderKlConfig::from_json(&json)?;
        Ok(Self::Kl(AutoencoderKl::load(&config, &params)?))
    }

    /// Encodes `(b, 3, h, w)` in `[-1, 1]` to the distribution of its (unscaled) latents.
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] and those of the tensor operations.
    pub fn encode(&self, image: &Tensor) -> Result<DiagonalGaussian> {
        match self {
            Self::Kl(vae) => vae.encode(image),
            Self::Asymmetric(vae) => vae.encode(image),
        }
    }

    /// Decodes scaled latents; `image` in `[-1, 1]` and `mask` (1 = repainted) are what the asymmetric decoder keeps.
    ///
    /// # Shapes
    /// - latents: `(b, 4, h/8, w/8)`; image: `(b, 3, h, w)`; mask: `(b, 1, h, w)`
    /// - returns: `(b, 3, h, w)`
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] and those of the tensor operations.
    pub fn decode(&self, latents: &Tensor, image: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let latents = (latents / self.scaling_factor())?;
        match self {
            Self::Kl(vae) => vae.decode(&latents),
            Self::Asymmetric(vae) => vae.decode(&latents, image, mask),
        }
    }

    /// What latents are multiplied by for the UNet.
    #[must_use]
    pub fn scaling_factor(&self) -> f64 {
        match self {
            Self::Kl(vae) => vae.config().scaling_factor,
            Self::Asymmetric(vae) => vae.config().scaling_factor,
        }
    }

    /// Pixels to a latent, across and down.
    #[must_use]
    pub fn factor(&self) -> usize {
        match self {
            Self::Kl(vae) => vae.config().down_factor(),
            Self::Asymmetric(vae) => vae.config().down_factor(),
        }
    }

    /// Channels of the latents.
    #[must_use]
    pub fn latent_channels(&self) -> usize {
        match self {
            Self::Kl(vae) => vae.config().latent_channels,
            Self::Asymmetric(vae) => vae.config().latent_channels,
        }
    }
}
