//! Euler's method with ancestral noise (k-diffusion's `sample_euler_ancestral`). Follows diffusers'
//! `EulerAncestralDiscreteScheduler`, which draws at the last step too, where the noise has no weight.

use candle_core::{DType, Tensor};

use super::alphas::prediction_type;
use super::euler::{as_f32, deviation, init_noise_sigma, original};
use super::sigmas::TrainingSigmas;
use super::timesteps::{Spacing, TimestepSpacing};
use super::walk::{Sampler, combine, divide};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;

pub(super) struct EulerAncestral {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f32>,
    init_noise_sigma: f32,
    prediction: PredictionType,
}

impl EulerAncestral {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        let spacing = Spacing::new(config, TimestepSpacing::Linspace, num_inference_steps)?;
        let training = TrainingSigmas::new(config)?;
        let prediction = prediction_type(config)?;
        if prediction == PredictionType::Sample {
            let expected = "epsilon or v_prediction for ancestral sampling";
            return Err(DiffusionError::argument("prediction_type", expected, "sample"));
        }
        let timesteps = as_f32(spacing.fractional());
        let mut sigmas: Vec<f32> = timesteps.iter().map(|&t| training.at(t) as f32).collect();
        sigmas.push(0.0);
        let init_noise_sigma = init_noise_sigma(&sigmas, spacing.kind);
        Ok(Self { timesteps, sigmas, init_noise_sigma, prediction })
    }
}

impl Sampler for EulerAncestral {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    fn input_divisor(&self, index: usize) -> Option<f32> {
        Some(deviation(self.sigmas[index]))
    }

    fn levels(&self, index: usize) -> (f32, f32) {
        (1.0, self.sigmas[index])
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        // 1. down to a lower level than the next, so that noise can make up the difference
        let (from, to) = (self.sigmas[index], self.sigmas[index + 1]);
        let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - up * up).sqrt();

        // 2. Euler's step
        let original = original(self.prediction, sample, model_output, from)?;
        let derivative = divide(&(sample - &original)?, from)?;
        let prev_sample = combine(&[(1.0, sample), (down - from, &derivative)])?;

        // 3. noise
        let z = noise.randn(sample.shape(), DType::F32, sample.device())?;
        let prev_sample = combine(&[(1.0, &prev_sample), (up, &z)])?;
        Ok(StepOutput { prev_sample, pred_original_sample: Some(original) })
    }
}
