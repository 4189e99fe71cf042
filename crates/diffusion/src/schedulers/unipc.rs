//! UniPC (Zhao et al. 2023): a predictor and a corrector that costs no evaluation. Follows diffusers'
//! `UniPCMultistepScheduler`.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::alphas::{prediction_type, reject_thresholding};
use super::choice::{Choice, choose};
use super::dpm_solver::solver_order;
use super::sigmas::{
    FinalSigmas, Level, SigmaSpread, TrainingSigmas, check_descending, exponential, final_sigmas,
    karras, range,
};
use super::timesteps::{Spacing, TimestepSpacing};
use super::walk::{Sampler, combine};
use super::{PredictionType, SchedulerConfig, StepOutput};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;

/// The function B(h) of the paper (`solver_type`).
#[derive(Clone, Copy, Debug)]
enum SolverType {
    /// h
    Bh1,
    /// eʰ − 1
    Bh2,
}

impl Choice for SolverType {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("bh1", Self::Bh1),
        ("bh2", Self::Bh2),
        // What diffusers makes of DPM-Solver's and DEIS's configurations.
        ("midpoint", Self::Bh2),
        ("heun", Self::Bh2),
        ("logrho", Self::Bh2),
    ];
}

pub(super) struct UniPc {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f32>,
    prediction: PredictionType,
    /// Solves for the clean sample; else for the noise.
    predict_x0: bool,
    solver_type: SolverType,
    solver_order: usize,
    lower_order_final: bool,
    /// Steps after which the sample is not corrected.
    disable_corrector: Vec<usize>,
    run: Run,
}

/// What a run remembers.
#[derive(Default)]
struct Run {
    /// The latest converted model outputs, newest first.
    outputs: VecDeque<Tensor>,
    /// The sample that the last step began with, and the order of that step.
    last: Option<(Tensor, usize)>,
}

impl UniPc {
    pub(super) fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self> {
        reject_thresholding(config)?;
        if config.solver_p.as_ref().is_some_and(|solver| !solver.is_null()) {
            return Err(DiffusionError::argument("solver_p", "null", "another scheduler"));
        }
        let solver_order = solver_order(config)?;
        let lower_order_final = config.lower_order_final.unwrap_or(true);
        let final_sigmas = final_sigmas(config)?;
        if !lower_order_final && solver_order > 1 && final_sigmas == FinalSigmas::Zero {
            let expected = "true, since a last sigma of zero leaves a step of first order only";
            return Err(DiffusionError::argument("lower_order_final", expected, false));
        }
        let training = TrainingSigmas::new(config)?;
        let (timesteps, sigmas) = schedule(config, &training, final_sigmas, num_inference_steps)?;
        Ok(Self {
            timesteps,
            sigmas,
            prediction: prediction_type(config)?,
            predict_x0: config.predict_x0.unwrap_or(true),
            solver_type: choose("solver_type", config.solver_type.as_deref(), SolverType::Bh2)?,
            solver_order,
            lower_order_final,
            disable_corrector: config.disable_corrector.clone().unwrap_or_default(),
            run: Run::default(),
        })
    }

    /// The sample at level `t` from `from` at the level `s0`, with the outputs at `s0` and the levels before.
    ///
    /// `corrector` is the output at `t` itself, once it is known.
    fn update(
        &self,
        from: &Tensor,
        t_index: usize,
        order: usize,
        corrector: Option<&Tensor>,
    ) -> Result<Tensor> {
        // 1. where the outputs lie, in units of the step
        let [t, s0] = [t_index, t_index - 1].map(|i| Level::new(self.sigmas[i]));
        let h = t.lambda - s0.lambda;
        let outputs = &self.run.outputs;
        let m0 = outputs.front().expect("an output is remembered before each update");
        let mut rks = Vec::with_capacity(order);
        let mut differences = Vec::with_capacity(order);
        for (i, output) in outputs.iter().enumerate().take(order).skip(1) {
            let rk = (Level::new(self.sigmas[t_index - 1 - i]).lambda - s0.lambda) / h;
            differences.push(((output - m0)? / rk)?);
            rks.push(rk);
        }
        rks.push(1.0);

        // 2. the weights of the differences
        let hh = if self.predict_x0 { -h } else { h };
        let h_phi_1 = hh.exp_m1();
        let b_h = match self.solver_type {
            SolverType::Bh1 => hh,
            SolverType::Bh2 => h_phi_1,
        };
        let b = right_hand_side(hh, h_phi_1, b_h, order);
        let rhos = match (corrector, order) {
            (Some(_), 1) | (None, 2) => vec![0.5],
            (Some(_), _) => solve(powers(&rks, order), b),
            (None, 1) => Vec::new(),
            (None, _) => solve(powers(&rks[..order - 1], order - 1), b[..order - 1].to_vec()),
        };
        if let Some(output) = corrector {
            differences.push((output - m0)?);
        }

        // 3. the update
        let (from_coeff, scale) = if self.predict_x0 {
            (t.sigma / s0.sigma, t.alpha)
        } else {
            (t.alpha / s0.alpha, t.sigma)
        };
        let base = combine(&[(from_coeff as f32, from), (-(scale * h_phi_1) as f32, m0)])?;
        if differences.is_empty() {
            // diffusers multiplies B(h) by zero here, which at a last sigma of zero with bh1 is not a number.
            return Ok(base);
        }
        let weighted: Vec<_> = rhos.iter().map(|&rho| rho as f32).zip(&differences).collect();
        combine(&[(1.0, &base), (-(scale * b_h) as f32, &combine(&weighted)?)])
    }
}

/// Timesteps and levels, with the last level.
fn schedule(
    config: &SchedulerConfig,
    training: &TrainingSigmas,
    final_sigmas: FinalSigmas,
    steps: usize,
) -> Result<(Vec<f64>, Vec<f32>)> {
    let spacing = Spacing::new(config, TimestepSpacing::Linspace, steps)?;
    let spread = SigmaSpread::new(config)?;
    let (timesteps, mut sigmas): (Vec<f64>, Vec<f32>) = if spread == SigmaSpread::Timesteps {
        let timesteps = spacing.whole_of_one_more(spacing.num_train_timesteps);
        timesteps.into_iter().map(|t| (t as f64, training.at(t as f64) as f32)).unzip()
    } else {
        let (max, min) = (f64::from(training.largest()), f64::from(training.smallest()));
        let (max, min) = range(config, max, min)?;
        let karras_spread = spread == SigmaSpread::Karras;
        let sigmas =
            if karras_spread { karras(max, min, steps) } else { exponential(max, min, steps) };
        let timestep = |sigma: f64| {
            let t = training.timestep(sigma);
            if karras_spread { t.round_ties_even() } else { t.trunc() }
        };
        sigmas.into_iter().map(|sigma| (timestep(sigma), sigma as f32)).unzip()
    };
    check_descending(&sigmas)?;
    sigmas.push(match (final_sigmas, spread) {
        (FinalSigmas::Zero, _) => 0.0,
        (FinalSigmas::SigmaMin, SigmaSpread::Timesteps) => training.smallest(),
        (FinalSigmas::SigmaMin, _) => sigmas[sigmas.len() - 1],
    });
    Ok((timesteps, sigmas))
}

/// The vector b of the paper: `k! · h φ_{k+1}(h) / B(h)` for k from 1.
fn right_hand_side(hh: f64, h_phi_1: f64, b_h: f64, order: usize) -> Vec<f64> {
    let mut h_phi_k = h_phi_1 / hh - 1.0;
    let mut factorial = 1.0;
    (1..=order)
        .map(|i| {
            let value = h_phi_k * factorial / b_h;
            factorial *= (i + 1) as f64;
            h_phi_k = h_phi_k / hh - 1.0 / factorial;
            value
        })
        .collect()
}

/// Rows of the powers 0, 1, … of `rks`.
fn powers(rks: &[f64], rows: usize) -> Vec<Vec<f64>> {
    (0..rows).map(|power| rks.iter().map(|rk| rk.powi(power as i32)).collect()).collect()
}

/// The solution of a small linear system, by elimination with row pivots.
fn solve(mut matrix: Vec<Vec<f64>>, mut values: Vec<f64>) -> Vec<f64> {
    let n = values.len();
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))
            .unwrap_or(column);
        matrix.swap(column, pivot);
        values.swap(column, pivot);
        for row in column + 1..n {
            let factor = matrix[row][column] / matrix[column][column];
            let (above, below) = matrix.split_at_mut(row);
            for (value, pivot) in below[0].iter_mut().zip(&above[column]).skip(column) {
                *value -= factor * pivot;
            }
            values[row] -= factor * values[column];
        }
    }
    for row in (0..n).rev() {
        for k in row + 1..n {
            values[row] -= matrix[row][k] * values[k];
        }
        values[row] /= matrix[row][row];
    }
    values
}

impl Sampler for UniPc {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn levels(&self, index: usize) -> (f32, f32) {
        let level = Level::new(self.sigmas[index]);
        (level.alpha as f32, level.sigma as f32)
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
        // 1. the clean sample, or the noise
        let level = Level::new(self.sigmas[index]);
        let output = if self.predict_x0 {
            self.prediction.original(
                sample,
                model_output,
                level.alpha as f32,
                level.sigma as f32,
            )?
        } else {
            self.prediction.epsilon(sample, model_output, level.alpha as f32, level.sigma as f32)?
        };

        // 2. correct the sample with it
        let disabled = index.checked_sub(1).is_none_or(|i| self.disable_corrector.contains(&i));
        let sample = match &self.run.last {
            Some((last_sample, order)) if !disabled => {
                self.update(last_sample, index, *order, Some(&output))?
            }
            _ => sample.clone(),
        };

        // 3. predict the next
        let warmed_up = self.run.outputs.len() + 1;
        self.run.outputs.truncate(self.solver_order - 1);
        self.run.outputs.push_front(output);
        let left = self.timesteps.len() - index;
        let order =
            if self.lower_order_final { self.solver_order.min(left) } else { self.solver_order };
        let order = order.min(warmed_up);
        let prev_sample = self.update(&sample, index + 1, order, None)?;
        self.run.last = Some((sample, order));
        Ok(StepOutput { prev_sample, pred_original_sample: None })
    }
}
