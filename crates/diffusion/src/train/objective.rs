//! What is minimised: the error of the predicted noise, weighted by the damage.
//!
//! With the weights `w = clamp(mask, unmasked_weight, 1)` of a sample, at the resolution of the latents, its loss is
//! `Σ w · (prediction − target)² / Σ w`, both sums over all channels (OneTrainer's masked training with its normalisation), or,
//! without normalisation, divided by the number of elements (kohya's). With min-SNR weighting (Hang et al. 2023) it is
//! multiplied by `min(snr, γ) / snr`, or `min(snr, γ) / (snr + 1)` for velocity predictions. The loss of a batch is the mean.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::options::check_range;
use crate::components::MaskShrink;
use crate::error::{DiffusionError, Result};
use crate::schedulers::{PredictionType, TrainSchedule};

/// How the loss is taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveOptions {
    /// The weight of kept latents, 0 to 1; repainted ones have 1. Default: 0.1.
    pub unmasked_weight: f64,
    /// Divide a sample's loss by its mean weight, so that a thin crack counts as much as a large loss. Default: true.
    pub normalize: bool,
    /// γ of min-SNR weighting; 0 for none. Default: 5.
    pub snr_gamma: f64,
    /// How much noise that is the same over a whole channel is added to the noise; 0 for none. Default: 0.
    pub noise_offset: f64,
    /// The share of samples that are trained without their prompt, 0 to 1. Default: 0.1.
    pub prompt_dropout: f64,
    /// How masks become those of latents. Default: by their largest value, so that thin cracks stay.
    pub mask_shrink: MaskShrink,
}

impl Default for ObjectiveOptions {
    fn default() -> Self {
        Self {
            unmasked_weight: 0.1,
            normalize: true,
            snr_gamma: 5.0,
            noise_offset: 0.0,
            prompt_dropout: 0.1,
            mask_shrink: MaskShrink::Max,
        }
    }
}

impl ObjectiveOptions {
    /// # Errors
    /// [`DiffusionError::Argument`] for a number outside its range.
    pub fn validate(&self) -> Result<()> {
        check_range("unmasked_weight", self.unmasked_weight, 0.0, 1.0)?;
        check_range("snr_gamma", self.snr_gamma, 0.0, 1e6)?;
        check_range("noise_offset", self.noise_offset, 0.0, 10.0)?;
        check_range("prompt_dropout", self.prompt_dropout, 0.0, 1.0)
    }
}

/// Samples for one pass through the network, everything random in them already drawn.
///
/// # Shapes
/// - latents, `masked_image_latents`, noise: `(b, 4, h, w)`, the first two times `scaling_factor`
/// - mask: `(b, 1, h, w)`, 1 = repaint
/// - timesteps: b, each below the number of training timesteps
/// - `encoder_hidden_states`: `(b, n, d)`; if it has a gradient, that is passed on
#[derive(Clone, Debug)]
pub struct Batch {
    /// Of the clean picture.
    pub latents: Tensor,
    /// What is damaged.
    pub mask: Tensor,
    /// Of what is seen of the picture.
    pub masked_image_latents: Tensor,
    /// What the network is to find, any offset included.
    pub noise: Tensor,
    /// How strong the noise is.
    pub timesteps: Vec<usize>,
    /// The prompts.
    pub encoder_hidden_states: Tensor,
}

/// The objective on one model.
#[derive(Clone, Debug)]
pub struct Objective {
    options: ObjectiveOptions,
    schedule: TrainSchedule,
}

impl Objective {
    /// The objective for a model that was trained with `schedule`.
    #[must_use]
    pub const fn new(options: ObjectiveOptions, schedule: TrainSchedule) -> Self {
        Self { options, schedule }
    }

    /// The forward process.
    #[must_use]
    pub const fn schedule(&self) -> &TrainSchedule {
        &self.schedule
    }

    /// What the network is given: noised latents, and for inpainting models the mask and the masked image's latents.
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] and those of the tensor operations.
    pub fn model_input(&self, batch: &Batch, in_channels: usize) -> Result<Tensor> {
        let noisy = self.schedule.add_noise(&batch.latents, &batch.noise, &batch.timesteps)?;
        if in_channels == noisy.dim(1)? {
            return Ok(noisy);
        }
        Ok(Tensor::cat(&[&noisy, &batch.mask, &batch.masked_image_latents], 1)?)
    }

    /// The loss of a prediction, a scalar in f32.
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] and those of the tensor operations.
    pub fn loss(&self, batch: &Batch, prediction: &Tensor) -> Result<Tensor> {
        let ObjectiveOptions { unmasked_weight, normalize, snr_gamma, .. } = self.options;
        let target = self.schedule.target(&batch.latents, &batch.noise, &batch.timesteps)?;
        if prediction.dims() != target.dims() {
            let expected = format!("{:?}", target.dims());
            return Err(DiffusionError::shape("prediction", expected, prediction.dims()));
        }
        let (b, channels, h, w) = target.dims4()?;
        let error = (prediction.to_dtype(DType::F32)? - target.to_dtype(DType::F32)?)?.sqr()?;
        let weights = batch.mask.to_dtype(DType::F32)?.clamp(unmasked_weight, 1.0)?; // (b, 1, h, w)
        let sums = error.broadcast_mul(&weights)?.sum((1, 2, 3))?; // (b)
        let counts: Vec<f32> = if normalize {
            let totals: Vec<f32> = weights.sum((1, 2, 3))?.to_vec1()?;
            // Nothing to weigh by: a sample without damage, and weight 0 elsewhere, has no loss.
            totals.iter().map(|total| (channels as f32 * total).max(f32::MIN_POSITIVE)).collect()
        } else {
            vec![(channels * h * w) as f32; b]
        };
        let factors = self.snr_factors(&batch.timesteps, snr_gamma)?;
        let factors: Vec<f32> = factors.iter().zip(&counts).map(|(f, c)| f / c).collect();
        let factors = Tensor::from_vec(factors, b, sums.device())?;
        Ok((sums * factors)?.mean_all()?)
    }

    /// What min-SNR weighting multiplies each sample's loss by.
    fn snr_factors(&self, timesteps: &[usize], gamma: f64) -> Result<Vec<f32>> {
        if gamma == 0.0 {
            return Ok(vec![1.0; timesteps.len()]);
        }
        let velocity = self.schedule.prediction_type() == PredictionType::VPrediction;
        let factor = |snr: f32| {
            let divisor = if velocity { snr + 1.0 } else { snr };
            // At zero terminal SNR the limit of min(snr, γ) / snr is 1.
            if divisor > 0.0 { snr.min(gamma as f32) / divisor } else { 1.0 }
        };
        Ok(self.schedule.snr(timesteps)?.into_iter().map(factor).collect())
    }
}
