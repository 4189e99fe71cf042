//! The forward process, as training uses it: diffusers' `DDPMScheduler.add_noise` and `get_velocity`, and the
//! signal-to-noise ratio of min-SNR weighting (Hang et al. 2023; diffusers' `compute_snr`).

use candle_core::Tensor;

use super::PredictionType;
use super::walk::check_shape;
use crate::error::{DiffusionError, Result};

/// `alphas_cumprod`, looked up at the timesteps of a batch.
#[derive(Clone, Debug)]
pub struct TrainSchedule {
    alphas_cumprod: Vec<f32>,
    prediction_type: PredictionType,
}

impl TrainSchedule {
    pub(super) const fn new(alphas_cumprod: Vec<f32>, prediction_type: PredictionType) -> Self {
        Self { alphas_cumprod, prediction_type }
    }

    /// How many training timesteps there are.
    #[must_use]
    pub const fn num_train_timesteps(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// What the model is trained to predict.
    #[must_use]
    pub const fn prediction_type(&self) -> PredictionType {
        self.prediction_type
    }

    /// `sqrt(ᾱ) · original + sqrt(1 − ᾱ) · noise`, each item of the batch at its own timestep.
    ///
    /// # Shapes
    /// - original, noise: `(b, ..)`; timesteps: b
    /// - returns: `(b, ..)`
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] if shapes differ, [`DiffusionError::Argument`] if a timestep is out of
    /// range or their number is not b.
    pub fn add_noise(
        &self,
        original: &Tensor,
        noise: &Tensor,
        timesteps: &[usize],
    ) -> Result<Tensor> {
        check_shape("noise", original, noise)?;
        let (signal, noise_level) = self.levels(timesteps, original)?;
        Ok((original.broadcast_mul(&signal)? + noise.broadcast_mul(&noise_level)?)?)
    }

    /// `sqrt(ᾱ) · noise − sqrt(1 − ᾱ) · original`, each item of the batch at its own timestep.
    ///
    /// # Shapes
    /// - original, noise: `(b, ..)`; timesteps: b
    /// - returns: `(b, ..)`
    ///
    /// # Errors
    /// Those of [`TrainSchedule::add_noise`].
    pub fn velocity(
        &self,
        original: &Tensor,
        noise: &Tensor,
        timesteps: &[usize],
    ) -> Result<Tensor> {
        check_shape("noise", original, noise)?;
        let (signal, noise_level) = self.levels(timesteps, original)?;
        Ok((noise.broadcast_mul(&signal)? - original.broadcast_mul(&noise_level)?)?)
    }

    /// What the model should have given for the sample of [`TrainSchedule::add_noise`].
    ///
    /// # Errors
    /// Those of [`TrainSchedule::add_noise`].
    pub fn target(&self, original: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        match self.prediction_type {
            PredictionType::Epsilon => Ok(noise.clone()),
            PredictionType::Sample => Ok(original.clone()),
            PredictionType::VPrediction => self.velocity(original, noise, timesteps),
        }
    }

    /// The signal-to-noise ratio `ᾱ / (1 − ᾱ)` at each timestep; 0 where no signal is left.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if a timestep is out of range.
    pub fn snr(&self, timesteps: &[usize]) -> Result<Vec<f32>> {
        timesteps
            .iter()
            .map(|&t| {
                let alpha_prod_t = self.at(t)?;
                let ratio = alpha_prod_t.sqrt() / (1.0 - alpha_prod_t).sqrt();
                Ok(ratio * ratio)
            })
            .collect()
    }

    fn at(&self, timestep: usize) -> Result<f32> {
        self.alphas_cumprod.get(timestep).copied().ok_or_else(|| {
            let expected = format!("below {}", self.alphas_cumprod.len());
            DiffusionError::argument("timestep", expected, timestep)
        })
    }

    /// The factors of signal and noise, of the rank and the dtype of `like`.
    fn levels(&self, timesteps: &[usize], like: &Tensor) -> Result<(Tensor, Tensor)> {
        if like.dims().first() != Some(&timesteps.len()) {
            let expected = format!("({}, ..), one item a timestep", timesteps.len());
            return Err(DiffusionError::shape("sample", expected, like.dims()));
        }
        let mut shape = vec![1; like.rank()];
        shape[0] = timesteps.len();
        let alphas = timesteps.iter().map(|&t| self.at(t)).collect::<Result<Vec<f32>>>()?;
        let column = |values: Vec<f32>| -> Result<Tensor> {
            let values = Tensor::from_vec(values, shape.as_slice(), &candle_core::Device::Cpu)?;
            Ok(values.to_dtype(like.dtype())?.to_device(like.device())?) // (b, 1, ..)
        };
        let noise = alphas.iter().map(|alpha| (1.0 - alpha).sqrt()).collect();
        Ok((column(alphas.iter().map(|alpha| alpha.sqrt()).collect())?, column(noise)?))
    }
}
