//! Latent consistency sampling (Luo et al. 2023). Follows diffusers' `LCMScheduler`.
//!
//! [`StepOutput::pred_original_sample`] is diffusers' `denoised`: the clean sample after the boundary conditions.

use candle_core::{DType, Tensor};

use super::alphas::{Alphas, Clip, prediction_type};
use super::betas::{BetaDefaults, num_train_timesteps};
use super::timesteps::as_f64;
use super::walk::{Sampler, combine};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;

/// The standard deviation of the data that the boundary conditions assume.
const SIGMA_DATA: f32 = 0.5;

pub(super) struct Lcm {
    alphas: Alphas,
    timesteps: Vec<i64>,
    timesteps_f64: Vec<f64>,
    prediction: PredictionType,
    timestep_scaling: f32,
    clip: Clip,
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        // 1. the steps of the distillation
        let train = num_train_timesteps(config)?;
        let original_steps = config.original_inference_steps.unwrap_or(50);
        if !(1..=train).contains(&original_steps) {
            let expected = format!("1 to {train}, the training timesteps");
            return Err(DiffusionError::argument(
                "original_inference_steps",
                expected,
                original_steps,
            ));
        }
        if !(1..=original_steps).contains(&num_inference_steps) {
            let expected = format!("1 to {original_steps}, the steps of the distillation");
            return Err(DiffusionError::argument("steps", expected, num_inference_steps));
        }

        // 2. evenly spaced ones among them, the noisiest first
        let skip = train / original_steps;
        let stride = original_steps as f64 / num_inference_steps as f64;
        let timesteps: Vec<i64> = (0..num_inference_steps)
            .map(|i| (i as f64 * stride).floor() as usize)
            .map(|from_last| ((original_steps - from_last) * skip) as i64 - 1)
            .collect();

        let rescale = config.rescale_betas_zero_snr.unwrap_or(false);
        let alpha_to_one = config.set_alpha_to_one.unwrap_or(true);
        let alphas = Alphas::new(config, BetaDefaults::LCM, rescale, alpha_to_one)?;
        let prediction = prediction_type(config)?;
        alphas.check(&timesteps, prediction)?;
        Ok(Self {
            alphas,
            timesteps_f64: as_f64(&timesteps),
            timesteps,
            prediction,
            timestep_scaling: config.timestep_scaling.unwrap_or(10.0) as f32,
            clip: Clip::new(config, false)?,
        })
    }
}

impl Sampler for Lcm {
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
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        // 1. the clean sample
        let timestep = self.timesteps[index];
        let (alpha_t, sigma_t) = self.alphas.levels(timestep);
        let original = self.prediction.original(sample, model_output, alpha_t, sigma_t)?;
        let original = self.clip.apply(original)?;

        // 2. the boundary conditions
        let scaled = timestep as f32 * self.timestep_scaling;
        let variance = SIGMA_DATA * SIGMA_DATA;
        let c_skip = variance / (scaled * scaled + variance);
        let c_out = scaled / (scaled * scaled + variance).sqrt();
        let denoised = combine(&[(c_out, &original), (c_skip, sample)])?;

        // 3. noise for the next step; none after the last
        let prev_sample = match self.timesteps.get(index + 1) {
            None => denoised.clone(),
            Some(&previous) => {
                let (alpha_prev, sigma_prev) = self.alphas.levels(previous);
                let z = noise.randn(sample.shape(), DType::F32, sample.device())?;
                combine(&[(alpha_prev, &denoised), (sigma_prev, &z)])?
            }
        };
        Ok(StepOutput { prev_sample, pred_original_sample: Some(denoised) })
    }
}
