//! The networks of a checkpoint, loaded and ready: what pipelines and training have in common.

mod autoencoder;
mod latent_mask;
mod prompts;
mod shown;

use std::sync::Arc;

use candle_core::{DType, Device};

use crate::checkpoint::{Checkpoint, Component};
use crate::error::{DiffusionError, Result};
use crate::lora::Adapters;
use crate::models::{UNet2DConditionConfig, UNet2DConditionModel};
use crate::nn::Params;
use crate::schedulers::SchedulerConfig;

pub use self::autoencoder::Autoencoder;
pub use self::latent_mask::{MaskShrink, latent_mask};
pub use self::prompts::{DEFAULT_PROMPT, PromptEmbeds, TextEncoder, encode_prompts};
pub use self::shown::Shown;

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
    /// The dtype of what goes into a network and comes out of it: f32 on the CPU, else that of the weights.
    #[must_use]
    pub fn compute_dtype(&self) -> DType {
        if self.device.is_cpu() { DType::F32 } else { self.dtype }
    }

    fn params(&self, checkpoint: &Checkpoint, component: Component) -> Result<Params> {
        Ok(Params::new(checkpoint.weights(component)?, self.dtype, &self.device))
    }
}

/// An error unless a UNet that takes so many channels is for repainting latents of so many.
pub(crate) fn check_channels(checkpoint: &Checkpoint, takes: usize, latents: usize) -> Result<()> {
    let inpainting = 2 * latents + 1;
    if takes == latents || takes == inpainting {
        return Ok(());
    }
    let problem = format!(
        "expected a UNet with {inpainting} (inpainting) or {latents} input channels, found {takes}"
    );
    Err(DiffusionError::checkpoint(checkpoint.path(), problem))
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
    pub(crate) device: Device,
    pub(crate) dtype: DType,
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
        check_channels(checkpoint, unet_config.in_channels, vae.latent_channels())?;
        let params = options
            .params(checkpoint, Component::Unet)?
            .with_adapters(Arc::clone(&options.unet_adapters));
        let unet = UNet2DConditionModel::load(&unet_config, &params)?;
        let (device, dtype) = (options.device.clone(), options.compute_dtype());
        Ok(Self { vae, unet, scheduler, device, dtype })
    }

    /// Components that exist already, for instance in training; activations are in `dtype`.
    #[must_use]
    pub const fn from_parts(
        vae: Autoencoder,
        unet: UNet2DConditionModel,
        scheduler: SchedulerConfig,
        device: Device,
        dtype: DType,
    ) -> Self {
        Self { vae, unet, scheduler, device, dtype }
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
