//! The networks of Stable Diffusion, driven by the configurations of their checkpoints.
//!
//! Every model loads its weights through [`crate::nn::Params`] under diffusers' names, takes and gives tensors only,
//! and can be differentiated with respect to its inputs, its weights and the adapters on its layers.

mod asymmetric_autoencoder_kl;
mod autoencoder_kl;
mod clip_text;
mod config;
mod unet_2d_blocks;
mod unet_2d_condition;
mod unet_2d_condition_config;
mod vae;

pub use asymmetric_autoencoder_kl::{AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig};
pub use autoencoder_kl::{AutoencoderKl, AutoencoderKlConfig};
pub use clip_text::{ClipTextConfig, ClipTextModel};
pub use config::OneOrMany;
pub use unet_2d_condition::UNet2DConditionModel;
pub use unet_2d_condition_config::UNet2DConditionConfig;
pub use vae::DiagonalGaussian;
