//! Weights that are trained, with everything an optimizer remembers of them.

use std::collections::HashMap;

use candle_core::Tensor;

use super::adamw::Moments;
use super::ema::Ema;
use super::gradients::Gradients;
use super::options::OptimizerOptions;
use super::parameters::{Parameter, flat, set, values};
use crate::error::{DiffusionError, Result};

/// The parameters of a model in training, their moments and averages, and how many steps they have seen.
#[derive(Debug)]
pub(super) struct Optimizer {
    pub(super) options: OptimizerOptions,
    parameters: Vec<Parameter>,
    pub(super) moments: Vec<Moments>,
    pub(super) ema: Option<Ema>,
    pub(super) step: u64,
    total_steps: u64,
}

/// What came of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step's number, from 1.
    pub step: u64,
    /// The mean loss of its batches.
    pub loss: f64,
    /// The norm of all gradients together, before it was limited.
    pub grad_norm: f64,
    /// The learning rate that was used.
    pub learning_rate: f64,
}

impl Optimizer {
    /// For `parameters`, which a model was built with, and `total_steps`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for settings outside their range or nothing to train, and those of reading the weights.
    pub(super) fn new(
        options: OptimizerOptions,
        parameters: Vec<Parameter>,
        total_steps: u64,
    ) -> Result<Self> {
        options.validate()?;
        if parameters.is_empty() {
            return Err(DiffusionError::argument("parameters", "at least one to train", "none"));
        }
        let count = |parameter: &Parameter| parameter.var.elem_count();
        let moments = parameters.iter().map(|one| Moments::zeros(count(one))).collect();
        let ema = match options.ema_decay {
            0.0 => None,
            decay => {
                let weights = parameters.iter().map(values).collect::<Result<_>>()?;
                Some(Ema::new(decay, weights))
            }
        };
        Ok(Self { options, parameters, moments, ema, step: 0, total_steps })
    }

    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The averaged weights, a vector for each parameter, if an average is kept.
    pub(super) fn ema_weights(&self) -> Option<&[Vec<f32>]> {
        self.ema.as_ref().map(|ema| ema.shadows.as_slice())
    }

    /// Runs `show` while the parameters hold the weights as they would be saved, which are the averaged ones if an
    /// average is kept.
    ///
    /// # Errors
    /// Those of `show` and of the tensor operations.
    pub(super) fn with_final_weights<T>(&self, show: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(averages) = self.ema_weights() else { return show() };
        let own: Vec<_> = self.parameters.iter().map(values).collect::<Result<_>>()?;
        let give = |all: &[Vec<f32>]| {
            self.parameters.iter().zip(all).try_for_each(|(one, weights)| set(one, weights))
        };
        give(averages)?;
        let shown = show();
        give(&own)?;
        shown
    }

    /// Copies of the weights as they would be saved, by their names without `PREFIX.`.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub(super) fn final_tensors(&self, prefix: &str) -> Result<HashMap<String, Tensor>> {
        let prefix = format!("{prefix}.");
        self.with_final_weights(|| {
            let copy = |parameter: &Parameter| {
                let name = parameter.name.strip_prefix(&prefix).unwrap_or(&parameter.name);
                Ok((name.to_owned(), parameter.var.as_tensor().copy()?.detach()))
            };
            self.parameters.iter().map(copy).collect()
        })
    }

    /// One step against the gradients of a loss.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if the loss or a gradient is no number, and those of the tensor operations; the weights
    /// stay as they were then.
    pub(super) fn step(&mut self, gradients: &Gradients, loss: f64) -> Result<StepReport> {
        // 1. the gradients' norm, as `clip_grad_norm_` takes it: of each tensor, then of the norms
        let mut values_of = Vec::with_capacity(self.parameters.len());
        let mut sum = 0.0_f64;
        for parameter in &self.parameters {
            let gradient = gradients.get(parameter).map(flat).transpose()?;
            if let Some(gradient) = &gradient {
                sum += gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
            }
            values_of.push(gradient);
        }
        let grad_norm = sum.sqrt();
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(DiffusionError::argument(
                format!("the loss in step {}", self.step + 1),
                "a finite number (a lower learning rate may help)",
                format!("{loss}, with gradients of norm {grad_norm}"),
            ));
        }
        let clip = match self.options.max_grad_norm {
            0.0 => 1.0,
            limit => (limit / (grad_norm + 1e-6)).min(1.0) as f32,
        };

        // 2. the step
        let OptimizerOptions { learning_rate, lr_scheduler, warmup_steps, .. } = self.options;
        let learning_rate =
            learning_rate * lr_scheduler.factor(self.step, warmup_steps, self.total_steps);
        let adamw = self.options.adamw();
        self.step += 1;
        let mut updated = Vec::with_capacity(self.parameters.len());
        for ((parameter, gradient), moments) in
            self.parameters.iter().zip(values_of).zip(&mut self.moments)
        {
            let mut weights = values(parameter)?;
            if let Some(mut gradient) = gradient {
                if clip < 1.0 {
                    gradient.iter_mut().for_each(|g| *g *= clip);
                }
                moments.step(&adamw, learning_rate, self.step, &mut weights, &gradient);
                set(parameter, &weights)?;
            }
            if self.ema.is_some() {
                updated.push(weights);
            }
        }
        if let Some(ema) = &mut self.ema {
            ema.update(self.step, updated.iter().map(Vec::as_slice));
        }
        Ok(StepReport { step: self.step, loss, grad_norm, learning_rate })
    }
}
