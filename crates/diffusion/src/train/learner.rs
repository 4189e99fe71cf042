//! One optimizer step after another on batches that are given: no files, no pictures, nothing random.

use candle_core::{DType, Device, Tensor};

use super::adamw::Moments;
use super::ema::Ema;
use super::gradients::{Gradients, Inputs};
use super::objective::{Batch, Objective};
use super::options::OptimizerOptions;
use super::parameters::Parameter;
use crate::error::{DiffusionError, Result};
use crate::models::UNet2DConditionModel;

/// A model in training.
#[derive(Debug)]
pub struct Learner {
    unet: UNet2DConditionModel,
    objective: Objective,
    options: OptimizerOptions,
    parameters: Vec<Parameter>,
    pub(super) moments: Vec<Moments>,
    pub(super) ema: Option<Ema>,
    pub(super) step: u64,
    total_steps: u64,
    last_gradients: Option<Gradients>,
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

impl Learner {
    /// Trains `parameters`, which `unet` and whatever encodes the prompts were built with, for `total_steps`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for settings outside their range or nothing to train, and those of reading the weights.
    pub fn new(
        unet: UNet2DConditionModel,
        objective: Objective,
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
        Ok(Self {
            unet,
            objective,
            options,
            parameters,
            moments,
            ema,
            step: 0,
            total_steps,
            last_gradients: None,
        })
    }

    /// The model, which changes as it is trained; a clone sees the changes too.
    #[must_use]
    pub const fn unet(&self) -> &UNet2DConditionModel {
        &self.unet
    }

    /// The objective.
    #[must_use]
    pub const fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Computes activations again in the backward pass from now on, or keeps them: the same numbers either way.
    pub(super) const fn set_gradient_checkpointing(&mut self, on: bool) {
        self.options.gradient_checkpointing = on;
    }

    /// What is trained.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Steps done.
    #[must_use]
    pub const fn steps_done(&self) -> u64 {
        self.step
    }

    /// The averaged weights, a vector for each parameter, if an average is kept.
    #[must_use]
    pub fn ema_weights(&self) -> Option<&[Vec<f32>]> {
        self.ema.as_ref().map(|ema| ema.shadows.as_slice())
    }

    /// The gradient of a parameter in the last step, before its norm was limited.
    #[must_use]
    pub fn gradient(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.last_gradients.as_ref()?.get(parameter)
    }

    /// Shows the model with the weights as they would be saved, which are the averaged ones if an average is kept.
    ///
    /// # Errors
    /// Those of `show` and of the tensor operations.
    pub fn with_final_weights<T>(
        &self,
        show: impl FnOnce(&UNet2DConditionModel) -> Result<T>,
    ) -> Result<T> {
        let Some(averages) = self.ema_weights() else { return show(&self.unet) };
        let own: Vec<_> = self.parameters.iter().map(values).collect::<Result<_>>()?;
        let give = |all: &[Vec<f32>]| {
            self.parameters.iter().zip(all).try_for_each(|(one, weights)| set(one, weights))
        };
        give(averages)?;
        let shown = show(&self.unet);
        give(&own)?;
        shown
    }

    /// The loss on a batch, without a gradient.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn loss(&self, batch: &Batch) -> Result<f64> {
        let (sample, timestep) = self.inputs(batch)?;
        let context = batch.encoder_hidden_states.detach();
        let prediction = self.unet.forward(&sample, &timestep, &context)?.detach();
        Ok(f64::from(self.objective.loss(batch, &prediction)?.to_scalar::<f32>()?))
    }

    /// One optimizer step on the mean loss of `batches`, which are asked for one at a time.
    ///
    /// # Errors
    /// Whatever a batch is an error with, those of the tensor operations, and [`DiffusionError::Argument`] if the loss is
    /// no number; the weights stay as they were then.
    pub fn step(
        &mut self,
        batches: impl ExactSizeIterator<Item = Result<Batch>>,
    ) -> Result<StepReport> {
        // 1. gradients, summed over the batches
        self.last_gradients = None;
        let count = batches.len().max(1);
        let mut gradients = Gradients::new(&self.parameters);
        let mut loss_sum = 0.0;
        for batch in batches {
            let batch = batch?;
            let (sample, timestep) = self.inputs(&batch)?;
            let context = &batch.encoder_hidden_states;
            let inputs = Inputs { sample: &sample, timestep: &timestep, context };
            let loss = |prediction: &Tensor| -> Result<Tensor> {
                Ok((self.objective.loss(&batch, prediction)? / count as f64)?)
            };
            let checkpointing = self.options.gradient_checkpointing;
            loss_sum += f64::from(gradients.add(&self.unet, inputs, loss, checkpointing)?);
        }

        // 2. their norm, as `clip_grad_norm_` takes it: of each tensor, then of the norms
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
        if !loss_sum.is_finite() || !grad_norm.is_finite() {
            return Err(DiffusionError::argument(
                format!("the loss in step {}", self.step + 1),
                "a finite number (a lower learning rate may help)",
                format!("{loss_sum}, with gradients of norm {grad_norm}"),
            ));
        }
        let clip = match self.options.max_grad_norm {
            0.0 => 1.0,
            limit => (limit / (grad_norm + 1e-6)).min(1.0) as f32,
        };

        // 3. the step
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
        self.last_gradients = Some(gradients);
        Ok(StepReport { step: self.step, loss: loss_sum, grad_norm, learning_rate })
    }

    /// The network's input and the timesteps as it takes them.
    fn inputs(&self, batch: &Batch) -> Result<(Tensor, Tensor)> {
        let sample = self.objective.model_input(batch, self.unet.config().in_channels)?;
        let timesteps: Vec<f32> = batch.timesteps.iter().map(|&t| t as f32).collect();
        let timestep = Tensor::from_vec(timesteps, batch.timesteps.len(), sample.device())?;
        Ok((sample, timestep))
    }
}

/// A parameter's numbers.
pub(super) fn values(parameter: &Parameter) -> Result<Vec<f32>> {
    flat(parameter.var.as_tensor())
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Gives a parameter, and with it the model, other numbers.
pub(super) fn set(parameter: &Parameter, weights: &[f32]) -> Result<()> {
    let var = &parameter.var;
    let tensor = Tensor::from_slice(weights, var.shape(), &Device::Cpu)?;
    Ok(var.set(&tensor.to_device(var.device())?)?)
}
