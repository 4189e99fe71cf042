//! Noise levels relative to the signal, `sqrt((1 − ᾱ) / ᾱ)`: what Euler, DPM-Solver++ and UniPC step through.

use super::SchedulerConfig;
use super::betas::{BetaDefaults, alphas_cumprod};
use super::choice::{Choice, choose};
use super::timesteps::linspace;
use crate::error::{DiffusionError, Result};

/// The level after the last step (`final_sigmas_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalSigmas {
    Zero,
    SigmaMin,
}

impl Choice for FinalSigmas {
    const NAMES: &'static [(&'static str, Self)] =
        &[("zero", Self::Zero), ("sigma_min", Self::SigmaMin)];
}

/// How levels are spread between the largest and the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigmaSpread {
    /// As the timesteps are.
    Timesteps,
    /// Evenly in the seventh root (Karras et al. 2022).
    Karras,
    /// Evenly in the logarithm.
    Exponential,
}

impl SigmaSpread {
    pub(super) fn new(config: &SchedulerConfig) -> Result<Self> {
        let on = |flag: Option<bool>| flag.unwrap_or(false);
        if on(config.use_beta_sigmas) {
            return Err(unsupported("use_beta_sigmas"));
        }
        if on(config.use_flow_sigmas) {
            return Err(unsupported("use_flow_sigmas"));
        }
        match (on(config.use_karras_sigmas), on(config.use_exponential_sigmas)) {
            (true, true) => Err(DiffusionError::argument(
                "use_exponential_sigmas",
                "false, since use_karras_sigmas is true",
                true,
            )),
            (true, false) => Ok(Self::Karras),
            (false, true) => Ok(Self::Exponential),
            (false, false) => Ok(Self::Timesteps),
        }
    }
}

fn unsupported(key: &str) -> DiffusionError {
    DiffusionError::argument(key, "false, which alone is supported", true)
}

/// The levels of all training timesteps, ascending.
pub(super) struct TrainingSigmas {
    pub(super) alphas_cumprod: Vec<f32>,
    pub(super) sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
}

impl TrainingSigmas {
    pub(super) fn new(config: &SchedulerConfig) -> Result<Self> {
        let rescale = config.rescale_betas_zero_snr.unwrap_or(false);
        let mut alphas_cumprod = alphas_cumprod(config, BetaDefaults::DDPM, rescale)?;
        if rescale {
            // Half precision's smallest number in place of 0, so that the first sigma is finite.
            let last = alphas_cumprod.len() - 1;
            alphas_cumprod[last] = 2.0_f32.powi(-24);
        }
        let sigmas: Vec<f32> = alphas_cumprod.iter().map(|&a| ((1.0 - a) / a).sqrt()).collect();
        let log_sigmas = sigmas.iter().map(|sigma| sigma.ln()).collect();
        Ok(Self { alphas_cumprod, sigmas, log_sigmas })
    }

    pub(super) fn smallest(&self) -> f32 {
        self.sigmas[0]
    }

    pub(super) fn largest(&self) -> f32 {
        self.sigmas[self.sigmas.len() - 1]
    }

    /// `numpy.interp` at a timestep; the ends hold beyond the ends.
    pub(super) fn at(&self, t: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        if t <= 0.0 {
            return f64::from(self.sigmas[0]);
        }
        if t >= last as f64 {
            return f64::from(self.sigmas[last]);
        }
        let below = t.floor() as usize;
        let (low, high) = (f64::from(self.sigmas[below]), f64::from(self.sigmas[below + 1]));
        (high - low) * (t - below as f64) + low
    }

    /// The timestep whose level is `sigma`, interpolated in the logarithm.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        let low = self
            .log_sigmas
            .iter()
            .rposition(|&level| log_sigma - f64::from(level) >= 0.0)
            .unwrap_or(0)
            .min(self.log_sigmas.len() - 2);
        let (below, above) = (f64::from(self.log_sigmas[low]), f64::from(self.log_sigmas[low + 1]));
        let weight = ((below - log_sigma) / (below - above)).clamp(0.0, 1.0);
        (1.0 - weight) * low as f64 + weight * (low + 1) as f64
    }
}

/// `largest` and `smallest`, or what the configuration says instead (`sigma_max`, `sigma_min`).
pub(super) fn range(config: &SchedulerConfig, largest: f64, smallest: f64) -> Result<(f64, f64)> {
    let (max, min) = (config.sigma_max.unwrap_or(largest), config.sigma_min.unwrap_or(smallest));
    if min > 0.0 && max >= min && max.is_finite() {
        return Ok((max, min));
    }
    let expected = "above 0, and below sigma_max";
    Err(DiffusionError::argument("sigma_min", expected, format!("{min} and {max}")))
}

/// `n` levels from `max` down to `min` (Karras et al. 2022, ρ = 7).
pub(super) fn karras(max: f64, min: f64, n: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (max_root, min_root) = (max.powf(1.0 / RHO), min.powf(1.0 / RHO));
    linspace(0.0, 1.0, n)
        .into_iter()
        .map(|ramp| (max_root + ramp * (min_root - max_root)).powf(RHO))
        .collect()
}

/// `n` levels from `max` down to `min`, evenly in the logarithm.
pub(super) fn exponential(max: f64, min: f64, n: usize) -> Vec<f64> {
    linspace(max.ln(), min.ln(), n).into_iter().map(f64::exp).collect()
}

/// `final_sigmas_type`; zero where a configuration says nothing.
pub(super) fn final_sigmas(config: &SchedulerConfig) -> Result<FinalSigmas> {
    choose("final_sigmas_type", config.final_sigmas_type.as_deref(), FinalSigmas::Zero)
}

/// `Ok` if each level is below the one before, which solvers divide by.
pub(super) fn check_descending(sigmas: &[f32]) -> Result<()> {
    match sigmas.windows(2).position(|pair| pair[1] >= pair[0]) {
        None => Ok(()),
        Some(step) => Err(DiffusionError::argument(
            "steps",
            format!("fewer, since the noise level does not change at step {}", step + 1),
            sigmas.len() - 1,
        )),
    }
}

/// `alpha_t`, `sigma_t` and `lambda_t` of a level: a sample is `alpha_t · clean + sigma_t · noise`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) alpha: f64,
    pub(super) sigma: f64,
    pub(super) lambda: f64,
}

impl Level {
    pub(super) fn new(sigma: f32) -> Self {
        let sigma = f64::from(sigma);
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let sigma = sigma * alpha;
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }
}
