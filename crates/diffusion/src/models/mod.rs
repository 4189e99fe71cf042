//! The networks of Stable Diffusion, driven by the configurations of their checkpoints.
//!
//! Every model loads its weights through [`crate::nn::Params`] under diffusers' names, takes and gives tensors only,
//! and can be differentiated with respect to its inputs, its weights and the adapters on its layers.
//!
//! ```no_run
//! use candle_core::{DType, Device, Tensor};
//! use diffusion::checkpoint::{Checkpoint, Component, OpenOptions};
//! use diffusion::models::{UNet2DConditionConfig, UNet2DConditionModel};
//! use diffusion::nn::Params;
//!
//! # fn main() -> diffusion::Result<()> {
//! let checkpoint = Checkpoint::open("stable-diffusion-inpainting".as_ref(), &OpenOptions::default())?;
//! let config = UNet2DConditionConfig::from_json(&checkpoint.config(Component::Unet)?)?;
//! // Stored in bf16; the activations below are f32, and so is the arithmetic.
//! let params = Params::new(checkpoint.weights(Component::Unet)?, DType::BF16, &Device::Cpu);
//! let unet = UNet2DConditionModel::load(&config, &params)?;
//!
//! let sample = Tensor::zeros((1, config.in_channels, 64, 64), DType::F32, &Device::Cpu)?;
//! let text = Tensor::zeros((1, 77, config.context_dim()), DType::F32, &Device::Cpu)?;
//! let timestep = Tensor::new(&[981f32], &Device::Cpu)?;
//! let noise_pred = unet.forward(&sample, &timestep, &text)?;
//! assert_eq!(noise_pred.dims(), [1, 4, 64, 64]);
//! # Ok(())
//! # }
//! ```

mod asymmetric_autoencoder_kl;
mod autoencoder_kl;
mod clip_text;
mod config;
mod pixel_unet;
mod run;
mod unet_2d_blocks;
mod unet_2d_condition;
mod unet_2d_condition_config;
mod vae;

pub use asymmetric_autoencoder_kl::{AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig};
pub use autoencoder_kl::{AutoencoderKl, AutoencoderKlConfig};
pub use clip_text::{ClipTextConfig, ClipTextModel};
pub use config::OneOrMany;
pub use pixel_unet::{InitialWeights, PixelUnet, PixelUnetConfig};
pub(crate) use pixel_unet::{ScaledWeights, save as save_pixel_unet};
pub use run::{RunOptions, Stage, run};
pub use unet_2d_condition::UNet2DConditionModel;
pub(crate) use unet_2d_condition::UnetStage;
pub use unet_2d_condition_config::UNet2DConditionConfig;
pub use vae::DiagonalGaussian;
