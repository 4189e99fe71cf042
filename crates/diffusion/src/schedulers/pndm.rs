//! Pseudo numerical methods (Liu et al. 2022). Follows diffusers' `PNDMScheduler`.
//!
//! With `skip_prk_steps` (Stable Diffusion) this is PLMS: the second timestep is evaluated twice. Else the first
//! three steps are Runge-Kutta's, four evaluations each. A run that begins in the middle, with a strength below 1,
//! counts its evaluations from there, as in diffusers: the second one repeats the first step, so that
//! one noise level is skipped.

use candle_core::Tensor;

use super::alphas::{Alphas, prediction_type};
use super::betas::BetaDefaults;
use super::timesteps::{Spacing, TimestepSpacing, as_f64};
use super::walk::{Sampler, combine};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;

pub(super) struct Pndm {
    alphas: Alphas,
    /// Those of the Runge-Kutta evaluations come first.
    timesteps: Vec<i64>,
    timesteps_f64: Vec<f64>,
    prk_evaluations: usize,
    /// From a timestep to the previous one.
    ratio: i64,
    prediction: PredictionType,
    run: Run,
}

/// What a run remembers.
#[derive(Default)]
struct Run {
    /// Evaluations so far.
    counter: usize,
    /// The latest model outputs, the last one newest.
    ets: Vec<Tensor>,
    /// Where the step began that is being repeated.
    cur_sample: Option<Tensor>,
    /// The weighted sum of a Runge-Kutta step's outputs so far.
    cur_model_output: Option<Tensor>,
}

impl Pndm {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        let spacing = Spacing::new(config, TimestepSpacing::Leading, num_inference_steps)?;
        let alpha_to_one = config.set_alpha_to_one.unwrap_or(false);
        let alphas = Alphas::new(config, BetaDefaults::DDPM, false, alpha_to_one)?;
        let prediction = prediction_type(config)?;
        if prediction == PredictionType::Sample {
            let expected = "epsilon or v_prediction for PNDM";
            return Err(DiffusionError::argument("prediction_type", expected, "sample"));
        }
        let mut ascending = spacing.whole();
        ascending.reverse();
        let (timesteps, prk_evaluations) = if config.skip_prk_steps.unwrap_or(false) {
            (plms_timesteps(&ascending), 0)
        } else {
            prk_timesteps(&ascending, spacing.ratio())?
        };
        alphas.check(&timesteps, prediction)?;
        Ok(Self {
            alphas,
            timesteps_f64: as_f64(&timesteps),
            timesteps,
            prk_evaluations,
            ratio: spacing.ratio(),
            prediction,
            run: Run::default(),
        })
    }

    /// One evaluation of a Runge-Kutta step, from where the step began.
    fn step_prk(
        &mut self,
        model_output: &Tensor,
        timestep: i64,
        sample: &Tensor,
    ) -> Result<Tensor> {
        let run = &mut self.run;
        let half = if run.counter % 2 == 1 { 0 } else { self.ratio / 2 };
        let prev_timestep = timestep - half;
        let began_at = self.timesteps[run.counter / 4 * 4];
        let (sixth, third) = (1.0 / 6.0, 1.0 / 3.0);
        let add = |sum: &Option<Tensor>, weight: f32| match sum {
            None => combine(&[(weight, model_output)]),
            Some(sum) => combine(&[(1.0, sum), (weight, model_output)]),
        };
        let output = match run.counter % 4 {
            0 => {
                run.cur_model_output = Some(add(&run.cur_model_output, sixth)?);
                run.ets.push(model_output.clone());
                run.cur_sample = Some(sample.clone());
                model_output.clone()
            }
            1 | 2 => {
                run.cur_model_output = Some(add(&run.cur_model_output, third)?);
                model_output.clone()
            }
            _ => add(&run.cur_model_output.take(), sixth)?,
        };
        let from = run.cur_sample.clone().unwrap_or_else(|| sample.clone());
        self.previous(&from, began_at, prev_timestep, &output)
    }

    /// One evaluation of the linear multi-step method.
    fn step_plms(
        &mut self,
        model_output: &Tensor,
        timestep: i64,
        sample: &Tensor,
    ) -> Result<Tensor> {
        let run = &mut self.run;
        let (mut timestep, mut prev_timestep) = (timestep, timestep - self.ratio);
        let mut from = sample.clone();
        if run.counter == 1 {
            (timestep, prev_timestep) = (timestep + self.ratio, timestep);
        } else {
            run.ets.drain(..run.ets.len().saturating_sub(3));
            run.ets.push(model_output.clone());
        }
        let output = match (run.ets.as_slice(), run.counter) {
            ([e1], 1) => {
                if let Some(began) = run.cur_sample.take() {
                    from = began;
                }
                combine(&[(0.5, model_output), (0.5, e1)])?
            }
            ([_], _) => {
                run.cur_sample = Some(sample.clone());
                model_output.clone()
            }
            ([e2, e1], _) => combine(&[(3.0 / 2.0, e1), (-1.0 / 2.0, e2)])?,
            ([e3, e2, e1], _) => {
                combine(&[(23.0 / 12.0, e1), (-16.0 / 12.0, e2), (5.0 / 12.0, e3)])?
            }
            ([e4, e3, e2, e1], _) => combine(&[
                (55.0 / 24.0, e1),
                (-59.0 / 24.0, e2),
                (37.0 / 24.0, e3),
                (-9.0 / 24.0, e4),
            ])?,
            // A first step is never the second evaluation, and never more than four are kept.
            _ => model_output.clone(),
        };
        self.previous(&from, timestep, prev_timestep, &output)
    }

    /// Formula (9).
    fn previous(
        &self,
        sample: &Tensor,
        timestep: i64,
        prev_timestep: i64,
        model_output: &Tensor,
    ) -> Result<Tensor> {
        let (alpha_prod_t, alpha_prod_t_prev) =
            (self.alphas.at(timestep), self.alphas.at(prev_timestep));
        let (beta_prod_t, beta_prod_t_prev) = (1.0 - alpha_prod_t, 1.0 - alpha_prod_t_prev);
        let (alpha_t, sigma_t) = (alpha_prod_t.sqrt(), beta_prod_t.sqrt());
        let epsilon = self.prediction.epsilon(sample, model_output, alpha_t, sigma_t)?;
        let sample_coeff = (alpha_prod_t_prev / alpha_prod_t).sqrt();
        let denominator = alpha_prod_t * beta_prod_t_prev.sqrt()
            + (alpha_prod_t * beta_prod_t * alpha_prod_t_prev).sqrt();
        let output_coeff = (alpha_prod_t_prev - alpha_prod_t) / denominator;
        combine(&[(sample_coeff, sample), (-output_coeff, &epsilon)])
    }
}

/// Descending, with the second one twice.
fn plms_timesteps(ascending: &[i64]) -> Vec<i64> {
    let mut timesteps: Vec<i64> = ascending.iter().rev().copied().collect();
    if let Some(&second) = timesteps.get(1) {
        timesteps.insert(1, second);
    }
    timesteps
}

/// The evaluations of three Runge-Kutta steps, then the rest; and how many the former are.
fn prk_timesteps(ascending: &[i64], ratio: i64) -> Result<(Vec<i64>, usize)> {
    let n = ascending.len();
    if n < 4 {
        let expected = "at least 4 for PNDM with Runge-Kutta steps (skip_prk_steps is false)";
        return Err(DiffusionError::argument("steps", expected, n));
    }
    // Each step is evaluated at its begin, twice in the middle and at its end, where the next one begins.
    let mut nodes: Vec<i64> = ascending[n - 4..].iter().flat_map(|&t| [t, t + ratio / 2]).collect();
    nodes.pop();
    let mut timesteps: Vec<i64> = nodes.iter().flat_map(|&t| [t, t]).rev().collect();
    timesteps.pop();
    timesteps.remove(0);
    let prk_evaluations = timesteps.len();
    timesteps.extend(ascending[..n - 3].iter().rev());
    Ok((timesteps, prk_evaluations))
}

impl Sampler for Pndm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps_f64
    }

    fn levels(&self, index: usize) -> (f32, f32) {
        self.alphas.levels(self.timesteps[index])
    }

    fn restart(&mut self) {
        self.run = Run::default();
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        _noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        let timestep = self.timesteps[index];
        let prev_sample = if self.run.counter < self.prk_evaluations {
            self.step_prk(model_output, timestep, sample)?
        } else {
            self.step_plms(model_output, timestep, sample)?
        };
        self.run.counter += 1;
        Ok(StepOutput { prev_sample, pred_original_sample: None })
    }
}
