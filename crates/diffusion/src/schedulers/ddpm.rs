//! Ancestral sampling (Ho, Jain and Abbeel 2020). Follows diffusers' `DDPMScheduler`.
//!
//! The variance is fixed; models that predict it (`learned`, `learned_range`) are not latent diffusion models, and
//! `fixed_large_log` takes the root of a negative number in diffusers: these are errors here.

use candle_core::{DType, Tensor};

use super::alphas::{Alphas, Clip, prediction_type};
use super::betas::BetaDefaults;
use super::choice::{Choice, choose};
use super::timesteps::{Spacing, TimestepSpacing, as_f64};
use super::walk::{Sampler, combine};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::Result;
use crate::noise::NoiseSource;

#[derive(Clone, Copy, Debug)]
enum VarianceType {
    /// The posterior's variance for data without any.
    Small,
    /// The same number, by way of its logarithm.
    SmallLog,
    /// The forward process's variance.
    Large,
}

impl Choice for VarianceType {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("fixed_small", Self::Small),
        ("fixed_small_log", Self::SmallLog),
        ("fixed_large", Self::Large),
    ];
}

pub(super) struct Ddpm {
    alphas: Alphas,
    timesteps: Vec<i64>,
    timesteps_f64: Vec<f64>,
    prediction: PredictionType,
    variance: VarianceType,
    clip: Clip,
}

impl Ddpm {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        let spacing = Spacing::new(config, TimestepSpacing::Leading, num_inference_steps)?;
        let rescale = config.rescale_betas_zero_snr.unwrap_or(false);
        let alphas = Alphas::new(config, BetaDefaults::DDPM, rescale, true)?;
        let prediction = prediction_type(config)?;
        let timesteps = spacing.whole();
        alphas.check(&timesteps, prediction)?;
        let variance = config.variance_type.as_deref();
        Ok(Self {
            alphas,
            timesteps_f64: as_f64(&timesteps),
            timesteps,
            prediction,
            variance: choose("variance_type", variance, VarianceType::Small)?,
            clip: Clip::new(config, true)?,
        })
    }
}

impl Sampler for Ddpm {
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
        // 1. alphas and betas
        let t = self.timesteps[index];
        let prev_t = self.timesteps.get(index + 1).copied().unwrap_or(-1);
        let (alpha_prod_t, alpha_prod_t_prev) = (self.alphas.at(t), self.alphas.at(prev_t));
        let (beta_prod_t, beta_prod_t_prev) = (1.0 - alpha_prod_t, 1.0 - alpha_prod_t_prev);
        let current_alpha_t = alpha_prod_t / alpha_prod_t_prev;
        let current_beta_t = 1.0 - current_alpha_t;

        // 2. the clean sample
        let (alpha_t, sigma_t) = (alpha_prod_t.sqrt(), beta_prod_t.sqrt());
        let original = self.prediction.original(sample, model_output, alpha_t, sigma_t)?;
        let original = self.clip.apply(original)?;

        // 3. the mean of the previous sample: formula (7)
        let original_coeff = alpha_prod_t_prev.sqrt() * current_beta_t / beta_prod_t;
        let sample_coeff = current_alpha_t.sqrt() * beta_prod_t_prev / beta_prod_t;
        let mut prev_sample = combine(&[(original_coeff, &original), (sample_coeff, sample)])?;

        // 4. noise of the posterior's variance
        if t > 0 {
            let small = (beta_prod_t_prev / beta_prod_t * current_beta_t).max(1e-20);
            let deviation = match self.variance {
                VarianceType::Small => small.sqrt(),
                VarianceType::SmallLog => (0.5 * small.ln()).exp(),
                VarianceType::Large => current_beta_t.sqrt(),
            };
            let z = noise.randn(sample.shape(), DType::F32, sample.device())?;
            prev_sample = combine(&[(1.0, &prev_sample), (deviation, &z)])?;
        }
        Ok(StepOutput { prev_sample, pred_original_sample: Some(original) })
    }
}
