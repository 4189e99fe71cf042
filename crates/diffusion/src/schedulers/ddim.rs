//! DDIM (Song, Meng and Ermon 2020), without added noise (η = 0). Follows diffusers' `DDIMScheduler`.

use candle_core::Tensor;

use super::alphas::{Alphas, Clip, prediction_type};
use super::betas::BetaDefaults;
use super::timesteps::{Spacing, TimestepSpacing, as_f64};
use super::walk::{Sampler, combine};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::Result;
use crate::noise::NoiseSource;

pub(super) struct Ddim {
    alphas: Alphas,
    timesteps: Vec<i64>,
    timesteps_f64: Vec<f64>,
    /// From a timestep to the previous one.
    ratio: i64,
    prediction: PredictionType,
    clip: Clip,
}

impl Ddim {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        let spacing = Spacing::new(config, TimestepSpacing::Leading, num_inference_steps)?;
        let rescale = config.rescale_betas_zero_snr.unwrap_or(false);
        let alpha_to_one = config.set_alpha_to_one.unwrap_or(true);
        let alphas = Alphas::new(config, BetaDefaults::DDPM, rescale, alpha_to_one)?;
        let prediction = prediction_type(config)?;
        let timesteps = spacing.whole();
        alphas.check(&timesteps, prediction)?;
        Ok(Self {
            alphas,
            timesteps_f64: as_f64(&timesteps),
            timesteps,
            ratio: spacing.ratio(),
            prediction,
            clip: Clip::new(config, true)?,
        })
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps_f64
    }

    fn levels(&self, index: usize) -> (f32, f32) {
        self.alphas.levels(self.timesteps[index])
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        _noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        // 1. the noise levels here and at the previous timestep
        let timestep = self.timesteps[index];
        let (alpha_t, sigma_t) = self.alphas.levels(timestep);
        let (alpha_prev, sigma_prev) = self.alphas.levels(timestep - self.ratio);

        // 2. the clean sample and the noise; the noise is not derived again from a clipped sample
        let original = self.prediction.original(sample, model_output, alpha_t, sigma_t)?;
        let epsilon = self.prediction.epsilon(sample, model_output, alpha_t, sigma_t)?;
        let original = self.clip.apply(original)?;

        // 3. formula (12) with σ = 0
        let prev_sample = combine(&[(alpha_prev, &original), (sigma_prev, &epsilon)])?;
        Ok(StepOutput { prev_sample, pred_original_sample: Some(original) })
    }
}
