//! Either kind of autoencoder behind one interface.

use candle_core::Tensor;

use super::LoadOptions;
use crate::checkpoint::{Checkpoint, Component};
use crate::error::Result;
use crate::models::{
    AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig, AutoencoderKl, AutoencoderKlConfig,
    DiagonalGaussian,
};

/// Either kind of autoencoder.
#[derive(Clone, Debug)]
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
    /// [`DiffusionError::Shape`](crate::DiffusionError::Shape) and those of the tensor operations.
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
    /// [`DiffusionError::Shape`](crate::DiffusionError::Shape) and those of the tensor operations.
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
