//! The variances of the forward process, and their cumulative products, as diffusers computes them in f32.

use super::SchedulerConfig;
use super::choice::{Choice, choose};
use crate::error::{DiffusionError, Result};

/// No schedule in use has more; a file that asks for more is damaged.
const MAX_TRAIN_TIMESTEPS: usize = 100_000;

/// How the betas run from `beta_start` to `beta_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BetaSchedule {
    Linear,
    /// Linear in the square root: latent diffusion's own.
    ScaledLinear,
    /// The cosine schedule (Nichol and Dhariwal 2021).
    SquaredCosCapV2,
}

impl Choice for BetaSchedule {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("linear", Self::Linear),
        ("scaled_linear", Self::ScaledLinear),
        ("squaredcos_cap_v2", Self::SquaredCosCapV2),
    ];
}

/// What a class assumes where the configuration says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct BetaDefaults {
    start: f64,
    end: f64,
    schedule: BetaSchedule,
}

impl BetaDefaults {
    /// Those of every class but LCM.
    pub(super) const DDPM: Self = Self { start: 1e-4, end: 0.02, schedule: BetaSchedule::Linear };
    pub(super) const LCM: Self =
        Self { start: 0.00085, end: 0.012, schedule: BetaSchedule::ScaledLinear };
}

/// `num_train_timesteps`, checked.
pub(super) fn num_train_timesteps(config: &SchedulerConfig) -> Result<usize> {
    let steps = config.num_train_timesteps.unwrap_or(1000);
    if !(2..=MAX_TRAIN_TIMESTEPS).contains(&steps) {
        let expected = format!("2 to {MAX_TRAIN_TIMESTEPS}");
        return Err(DiffusionError::argument("num_train_timesteps", expected, steps));
    }
    Ok(steps)
}

/// The betas' schedule that a configuration names.
pub(super) fn beta_schedule(
    config: &SchedulerConfig,
    defaults: BetaDefaults,
) -> Result<BetaSchedule> {
    choose("beta_schedule", config.beta_schedule.as_deref(), defaults.schedule)
}

/// `alphas_cumprod`: how much of the clean sample's variance is left at each training timestep.
///
/// With `rescale` (`rescale_betas_zero_snr`) nothing is left at the last.
pub(super) fn alphas_cumprod(
    config: &SchedulerConfig,
    defaults: BetaDefaults,
    rescale: bool,
) -> Result<Vec<f32>> {
    let betas = betas(config, defaults)?;
    Ok(cumulative(if rescale { rescale_zero_terminal_snr(&betas) } else { betas }))
}

fn betas(config: &SchedulerConfig, defaults: BetaDefaults) -> Result<Vec<f32>> {
    let steps = num_train_timesteps(config)?;
    if let Some(betas) = &config.trained_betas {
        if betas.len() != steps {
            let expected = format!("{steps} values, one a training timestep");
            return Err(DiffusionError::argument("trained_betas", expected, betas.len()));
        }
        return betas.iter().map(|&beta| check_beta("trained_betas", beta)).collect();
    }
    let schedule = beta_schedule(config, defaults)?;
    if schedule == BetaSchedule::SquaredCosCapV2 {
        return Ok(cosine_betas(steps));
    }
    let start = config.beta_start.unwrap_or(defaults.start);
    let end = config.beta_end.unwrap_or(defaults.end);
    check_beta("beta_start", start)?;
    check_beta("beta_end", end)?;
    Ok(match schedule {
        BetaSchedule::Linear => linspace_f32(start as f32, end as f32, steps),
        _ => {
            let roots = linspace_f32(start.sqrt() as f32, end.sqrt() as f32, steps);
            roots.into_iter().map(|root| root * root).collect()
        }
    })
}

fn check_beta(key: &str, beta: f64) -> Result<f32> {
    let value = beta as f32;
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(DiffusionError::argument(key, "values between 0 and 1, both excluded", beta))
}

fn cosine_betas(steps: usize) -> Vec<f32> {
    let alpha_bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    let n = steps as f64;
    (0..steps)
        .map(|i| (1.0 - alpha_bar((i + 1) as f64 / n) / alpha_bar(i as f64 / n)).min(0.999) as f32)
        .collect()
}

/// `torch.linspace` in f32: fused steps up from the start, and from the middle on down from the end.
pub(super) fn linspace_f32(start: f32, end: f32, n: usize) -> Vec<f32> {
    let step = (end - start) / (n.max(2) - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((n - 1 - i) as f32, end)
            }
        })
        .collect()
}

/// Cumulative products of `1 − beta`, accumulated in f64 and rounded, as `torch.cumprod` does on the CPU.
fn cumulative(betas: impl IntoIterator<Item = f32>) -> Vec<f32> {
    betas
        .into_iter()
        .scan(1.0_f64, |product, beta| {
            *product *= f64::from(1.0 - beta);
            Some(*product as f32)
        })
        .collect()
}

/// Algorithm 1 of "Common Diffusion Noise Schedules and Sample Steps are Flawed" (Lin et al. 2023).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative(betas.iter().copied()).into_iter().map(f32::sqrt).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = first / (first - last);
    let alphas_bar: Vec<f32> = roots
        .into_iter()
        .map(|root| {
            let shifted = (root - last) * scale;
            shifted * shifted
        })
        .collect();
    let mut betas = vec![1.0 - alphas_bar[0]];
    betas.extend(alphas_bar.windows(2).map(|pair| 1.0 - pair[1] / pair[0]));
    betas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_terminal_snr_leaves_the_first_beta_and_no_signal() {
        let config = SchedulerConfig::default();
        let plain = alphas_cumprod(&config, BetaDefaults::DDPM, false).expect("defaults");
        let rescaled = alphas_cumprod(&config, BetaDefaults::DDPM, true).expect("defaults");
        assert!((plain[0] - rescaled[0]).abs() < 1e-6);
        assert_eq!(rescaled[999], 0.0);
    }

    #[test]
    fn betas_outside_their_range_are_named() {
        let cases = [
            (SchedulerConfig { beta_start: Some(0.0), ..Default::default() }, "beta_start"),
            (SchedulerConfig { beta_end: Some(f64::NAN), ..Default::default() }, "beta_end"),
            (SchedulerConfig { trained_betas: Some(vec![0.5]), ..Default::default() }, "trained"),
            (SchedulerConfig { num_train_timesteps: Some(1), ..Default::default() }, "num_train"),
        ];
        for (config, name) in cases {
            let error = alphas_cumprod(&config, BetaDefaults::DDPM, false).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
