//! DPM-Solver++ (Lu et al. 2022), multi-step, deterministic or as an SDE. Follows diffusers'
//! `DPMSolverMultistepScheduler`.
//!
//! The older solvers of the noise prediction (`dpmsolver`, `sde-dpmsolver`), which diffusers has deprecated, are
//! errors.

use std::collections::VecDeque;

use candle_core::{DType, Tensor};

use super::alphas::{prediction_type, reject_thresholding};
use super::betas::{BetaDefaults, BetaSchedule, beta_schedule};
use super::choice::{Choice, choose};
use super::sigmas::{
    FinalSigmas, Level, SigmaSpread, TrainingSigmas, check_descending, exponential, final_sigmas,
    karras, range,
};
use super::timesteps::{Spacing, TimestepSpacing, linspace};
use super::walk::{Sampler, combine};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Ode,
    Sde,
}

impl Choice for Algorithm {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("dpmsolver++", Self::Ode),
        ("sde-dpmsolver++", Self::Sde),
        // What diffusers makes of DEIS's configurations.
        ("deis", Self::Ode),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SolverType {
    Midpoint,
    Heun,
}

impl Choice for SolverType {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("midpoint", Self::Midpoint),
        ("heun", Self::Heun),
        // What diffusers makes of DEIS's and UniPC's configurations.
        ("logrho", Self::Midpoint),
        ("bh1", Self::Midpoint),
        ("bh2", Self::Midpoint),
    ];
}

pub(super) struct DpmSolver {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f32>,
    prediction: PredictionType,
    algorithm: Algorithm,
    solver_type: SolverType,
    solver_order: usize,
    lower_order_final: bool,
    /// The last step is of first order.
    euler_at_final: bool,
    /// The latest predictions of the clean sample, newest first.
    originals: VecDeque<Tensor>,
}

impl DpmSolver {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        reject_thresholding(config)?;
        if let Some(variance @ ("learned" | "learned_range")) = config.variance_type.as_deref() {
            return Err(DiffusionError::argument("variance_type", "a fixed variance", variance));
        }
        let solver_order = solver_order(config)?;
        let algorithm = choose("algorithm_type", config.algorithm_type.as_deref(), Algorithm::Ode)?;
        let solver_type =
            choose("solver_type", config.solver_type.as_deref(), SolverType::Midpoint)?;
        let final_sigmas = final_sigmas(config)?;
        let lower_order_final = config.lower_order_final.unwrap_or(true);
        let euler_at_final = config.euler_at_final.unwrap_or(false)
            || (lower_order_final && num_inference_steps < 15)
            || final_sigmas == FinalSigmas::Zero;

        let training = TrainingSigmas::new(config)?;
        let (timesteps, mut sigmas) = schedule(config, &training, num_inference_steps)?;
        sigmas.push(match final_sigmas {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => training.smallest(),
        });
        // The last level may repeat (Karras levels end at the smallest): a step of first order stays where it is.
        let checked = if euler_at_final { sigmas.len() - 1 } else { sigmas.len() };
        check_descending(&sigmas[..checked])?;
        Ok(Self {
            timesteps,
            sigmas,
            prediction: prediction_type(config)?,
            algorithm,
            solver_type,
            solver_order,
            lower_order_final,
            euler_at_final,
            originals: VecDeque::with_capacity(solver_order),
        })
    }

    /// The order of the step at `index`: what the history allows, and less at the end.
    fn order(&self, index: usize) -> usize {
        let steps = self.timesteps.len();
        let order = self.solver_order.min(self.originals.len());
        if index + 1 == steps && self.euler_at_final {
            1
        } else if index + 2 == steps && self.lower_order_final && steps < 15 {
            order.min(2)
        } else {
            order
        }
    }
}

/// `solver_order`, 1 to 3; 2 where a configuration says nothing.
pub(super) fn solver_order(config: &SchedulerConfig) -> Result<usize> {
    let order = config.solver_order.unwrap_or(2);
    if (1..=3).contains(&order) {
        return Ok(order);
    }
    Err(DiffusionError::argument("solver_order", "1 to 3", order))
}

/// Timesteps and levels, without the last level.
fn schedule(
    config: &SchedulerConfig,
    training: &TrainingSigmas,
    steps: usize,
) -> Result<(Vec<f64>, Vec<f32>)> {
    // 1. evenly in the timesteps, up to the largest noise level that is not clipped
    let spacing = Spacing::new(config, TimestepSpacing::Linspace, steps)?;
    let spread = SigmaSpread::new(config)?;
    let lu = config.use_lu_lambdas.unwrap_or(false);
    if spread == SigmaSpread::Timesteps && !lu {
        let clip = config.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY) as f32;
        let lambda = |alpha_prod: &&f32| alpha_prod.sqrt().ln() - (1.0 - **alpha_prod).sqrt().ln();
        let clipped = training.alphas_cumprod.iter().filter(|a| lambda(a) < clip).count();
        let last_timestep = spacing.num_train_timesteps - clipped;
        if last_timestep <= steps {
            let expected = format!("below {last_timestep}, the timesteps that are not clipped");
            return Err(DiffusionError::argument("steps", expected, steps));
        }
        let timesteps = spacing.whole_of_one_more(last_timestep);
        return Ok(timesteps.into_iter().map(|t| (t as f64, training.at(t as f64) as f32)).unzip());
    }

    // 2. or evenly in some function of the level
    let (max, min) = (f64::from(training.largest()), f64::from(training.smallest()));
    let sigmas = match spread {
        SigmaSpread::Karras => {
            let (max, min) = range(config, max, min)?;
            karras(max, min, steps)
        }
        // In the logarithm of the signal-to-noise ratio: the same as exponential, but for rounded timesteps.
        SigmaSpread::Timesteps => {
            let (max, min) =
                (f64::from(training.largest().ln()), f64::from(training.smallest().ln()));
            linspace(max, min, steps).into_iter().map(f64::exp).collect()
        }
        SigmaSpread::Exponential => {
            let (max, min) = range(config, max, min)?;
            exponential(max, min, steps)
        }
    };
    let cosine = beta_schedule(config, BetaDefaults::DDPM)? == BetaSchedule::SquaredCosCapV2;
    let round = !cosine && (spread == SigmaSpread::Karras || lu);
    let timesteps = sigmas.iter().map(|&sigma| {
        let t = training.timestep(sigma);
        if round { t.round_ties_even() } else { t.trunc() }
    });
    Ok((timesteps.collect(), sigmas.iter().map(|&sigma| sigma as f32).collect()))
}

impl Sampler for DpmSolver {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn levels(&self, index: usize) -> (f32, f32) {
        let level = Level::new(self.sigmas[index]);
        (level.alpha as f32, level.sigma as f32)
    }

    fn restart(&mut self) {
        self.originals.clear();
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        // 1. the clean sample
        let [t, s0] = [index + 1, index].map(|i| Level::new(self.sigmas[i]));
        let original =
            self.prediction.original(sample, model_output, s0.alpha as f32, s0.sigma as f32)?;
        self.originals.truncate(self.solver_order - 1);
        self.originals.push_front(original);
        let order = self.order(index);
        let originals: Vec<&Tensor> = self.originals.iter().take(order).collect();

        // 2. its derivatives in lambda, from the history
        let h = t.lambda - s0.lambda;
        let (d1, d2) = match originals[..] {
            [m0, m1, m2] => {
                let [s1, s2] = [index - 1, index - 2].map(|i| Level::new(self.sigmas[i]));
                let (h_0, h_1) = (s0.lambda - s1.lambda, s1.lambda - s2.lambda);
                let (r0, r1) = (h_0 / h, h_1 / h);
                let d1_0 = ((m0 - m1)? * (1.0 / r0))?;
                let d1_1 = ((m1 - m2)? * (1.0 / r1))?;
                let change = (&d1_0 - d1_1)?;
                let d1 = combine(&[(1.0, &d1_0), ((r0 / (r0 + r1)) as f32, &change)])?;
                (Some(d1), Some((change * (1.0 / (r0 + r1)))?))
            }
            [m0, m1] => {
                let s1 = Level::new(self.sigmas[index - 1]);
                let r0 = (s0.lambda - s1.lambda) / h;
                (Some(((m0 - m1)? * (1.0 / r0))?), None)
            }
            _ => (None, None),
        };

        // 3. the exact solution for a clean sample that is a polynomial in lambda; the SDE is an ODE of twice the step
        let (k, shrink) = match self.algorithm {
            Algorithm::Ode => (h, 1.0),
            Algorithm::Sde => (2.0 * h, (-h).exp()),
        };
        let decay = (-k).exp() - 1.0;
        let m0 = originals[0];
        let mut terms =
            vec![((t.sigma / s0.sigma * shrink) as f32, sample), (-(t.alpha * decay) as f32, m0)];
        let curved = self.solver_type == SolverType::Heun || d2.is_some();
        if let Some(d1) = &d1 {
            let weight = match (self.algorithm, curved) {
                (_, false) => -0.5 * (t.alpha * decay),
                (Algorithm::Ode, true) => t.alpha * (decay / h + 1.0),
                // diffusers divides by −2h here.
                (Algorithm::Sde, true) => t.alpha * (-decay / -k + 1.0),
            };
            terms.push((weight as f32, d1));
        }
        if let Some(d2) = &d2 {
            let weight = match self.algorithm {
                Algorithm::Ode => -(t.alpha * ((decay + h) / (h * h) - 0.5)),
                Algorithm::Sde => t.alpha * ((-decay - k) / (k * k) - 0.5),
            };
            terms.push((weight as f32, d2));
        }
        let z;
        if self.algorithm == Algorithm::Sde {
            z = noise.randn(sample.shape(), DType::F32, sample.device())?;
            terms.push(((t.sigma * (-decay).sqrt()) as f32, &z));
        }
        let prev_sample = combine(&terms)?;
        Ok(StepOutput { prev_sample, pred_original_sample: None })
    }
}
