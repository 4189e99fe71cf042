//! Euler's method in the noise level (algorithm 2 of Karras et al. 2022, without churn). Follows diffusers'
//! `EulerDiscreteScheduler`.

use candle_core::Tensor;

use super::alphas::prediction_type;
use super::betas::linspace_f32;
use super::choice::{Choice, choose};
use super::sigmas::{
    FinalSigmas, SigmaSpread, TrainingSigmas, exponential, final_sigmas, karras, range,
};
use super::timesteps::{Spacing, TimestepSpacing};
use super::walk::{Sampler, combine, divide};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::Result;
use crate::noise::NoiseSource;

/// Between training timesteps (`interpolation_type`).
#[derive(Clone, Copy, Debug)]
enum Interpolation {
    Linear,
    LogLinear,
}

impl Choice for Interpolation {
    const NAMES: &'static [(&'static str, Self)] =
        &[("linear", Self::Linear), ("log_linear", Self::LogLinear)];
}

/// What the model is told about the noise level (`timestep_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimestepType {
    Discrete,
    Continuous,
}

impl Choice for TimestepType {
    const NAMES: &'static [(&'static str, Self)] =
        &[("discrete", Self::Discrete), ("continuous", Self::Continuous)];
}

pub(super) struct Euler {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f32>,
    init_noise_sigma: f32,
    prediction: PredictionType,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        // 1. levels at the timesteps
        let spacing = Spacing::new(config, TimestepSpacing::Linspace, num_inference_steps)?;
        let training = TrainingSigmas::new(config)?;
        let prediction = prediction_type(config)?;
        let mut timesteps = as_f32(spacing.fractional());
        let interpolation = config.interpolation_type.as_deref();
        let mut sigmas = match choose("interpolation_type", interpolation, Interpolation::Linear)? {
            Interpolation::Linear => timesteps.iter().map(|&t| training.at(t)).collect(),
            Interpolation::LogLinear => {
                let (max, min) = (training.largest().ln(), training.smallest().ln());
                let logs = linspace_f32(max, min, num_inference_steps + 1);
                logs.into_iter().map(|log| f64::from(log.exp())).collect::<Vec<_>>()
            }
        };

        // 2. spread anew between the first and the last, if asked
        let spread = SigmaSpread::new(config)?;
        if spread != SigmaSpread::Timesteps {
            let (max, min) = range(config, sigmas[0], sigmas[sigmas.len() - 1])?;
            sigmas = if spread == SigmaSpread::Karras {
                karras(max, min, num_inference_steps)
            } else {
                exponential(max, min, num_inference_steps)
            };
            timesteps = as_f32(sigmas.iter().map(|&sigma| training.timestep(sigma)).collect());
        }

        // 3. the last level, and what the model is told
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        let kind =
            choose("timestep_type", config.timestep_type.as_deref(), TimestepType::Discrete)?;
        if kind == TimestepType::Continuous && prediction == PredictionType::VPrediction {
            timesteps = sigmas.iter().map(|sigma| f64::from(0.25 * sigma.ln())).collect();
        }
        sigmas.push(match final_sigmas(config)? {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => training.smallest(),
        });
        let init_noise_sigma = init_noise_sigma(&sigmas, spacing.kind);
        Ok(Self { timesteps, sigmas, init_noise_sigma, prediction })
    }
}

/// Timesteps as diffusers keeps them for Euler's methods.
pub(super) fn as_f32(timesteps: Vec<f64>) -> Vec<f64> {
    timesteps.into_iter().map(|t| f64::from(t as f32)).collect()
}

/// The deviation of the first sample. With leading spacing the first level is not the largest one that
/// the model was trained on, and the data's own variance counts.
pub(super) fn init_noise_sigma(sigmas: &[f32], spacing: TimestepSpacing) -> f32 {
    let max = sigmas.iter().copied().fold(0.0, f32::max);
    if spacing == TimestepSpacing::Leading { (max * max + 1.0).sqrt() } else { max }
}

/// `sqrt(sigma² + 1)`: the deviation of a sample whose clean part has variance 1.
pub(super) fn deviation(sigma: f32) -> f32 {
    (sigma * sigma + 1.0).sqrt()
}

/// The clean sample, where `sample = clean + sigma · noise`.
pub(super) fn original(
    prediction: PredictionType,
    sample: &Tensor,
    model_output: &Tensor,
    sigma: f32,
) -> Result<Tensor> {
    match prediction {
        PredictionType::Epsilon => combine(&[(1.0, sample), (-sigma, model_output)]),
        PredictionType::Sample => Ok(model_output.clone()),
        PredictionType::VPrediction => {
            let output = (model_output * f64::from(-sigma / deviation(sigma)))?;
            Ok((output + divide(sample, sigma * sigma + 1.0)?)?)
        }
    }
}

impl Sampler for Euler {
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
        _noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        let (sigma, sigma_next) = (self.sigmas[index], self.sigmas[index + 1]);
        let original = original(self.prediction, sample, model_output, sigma)?;
        let derivative = divide(&(sample - &original)?, sigma)?;
        let prev_sample = combine(&[(1.0, sample), (sigma_next - sigma, &derivative)])?;
        Ok(StepOutput { prev_sample, pred_original_sample: Some(original) })
    }
}
