//! One optimizer step after another on batches that are given: no files, no pictures, nothing random.

use candle_core::Tensor;

use super::gradients::{Gradients, Inputs};
use super::objective::{Batch, Objective};
use super::optimizer::{Optimizer, StepReport};
use super::options::OptimizerOptions;
use super::parameters::Parameter;
use crate::error::Result;
use crate::models::UNet2DConditionModel;

/// A model in training.
#[derive(Debug)]
pub struct Learner {
    unet: UNet2DConditionModel,
    objective: Objective,
    pub(super) optimizer: Optimizer,
    last_gradients: Option<Gradients>,
}

impl Learner {
    /// Trains `parameters`, which `unet` and whatever encodes the prompts were built with, for `total_steps`.
    ///
    /// # Errors
    /// [`crate::DiffusionError::Argument`] for settings outside their range or nothing to train, and those of reading the
    /// weights.
    pub fn new(
        unet: UNet2DConditionModel,
        objective: Objective,
        options: OptimizerOptions,
        parameters: Vec<Parameter>,
        total_steps: u64,
    ) -> Result<Self> {
        let optimizer = Optimizer::new(options, parameters, total_steps)?;
        Ok(Self { unet, objective, optimizer, last_gradients: None })
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
        self.optimizer.options.gradient_checkpointing = on;
    }

    /// What is trained.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        self.optimizer.parameters()
    }

    /// Steps done.
    #[must_use]
    pub const fn steps_done(&self) -> u64 {
        self.optimizer.step
    }

    /// The averaged weights, a vector for each parameter, if an average is kept.
    #[must_use]
    pub fn ema_weights(&self) -> Option<&[Vec<f32>]> {
        self.optimizer.ema_weights()
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
        self.optimizer.with_final_weights(|| show(&self.unet))
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
    /// Whatever a batch is an error with, those of the tensor operations, and [`crate::DiffusionError::Argument`] if the
    /// loss is no number; the weights stay as they were then.
    pub fn step(
        &mut self,
        batches: impl ExactSizeIterator<Item = Result<Batch>>,
    ) -> Result<StepReport> {
        self.last_gradients = None;
        let count = batches.len().max(1);
        let mut gradients = Gradients::new(self.optimizer.parameters());
        let mut loss_sum = 0.0;
        for batch in batches {
            let batch = batch?;
            let (sample, timestep) = self.inputs(&batch)?;
            let context = &batch.encoder_hidden_states;
            let inputs = Inputs { sample: &sample, timestep: &timestep, context };
            let loss = |prediction: &Tensor| -> Result<Tensor> {
                Ok((self.objective.loss(&batch, prediction)? / count as f64)?)
            };
            let checkpointing = self.optimizer.options.gradient_checkpointing;
            loss_sum += f64::from(gradients.add(&self.unet, inputs, loss, checkpointing)?);
        }

        let report = self.optimizer.step(&gradients, loss_sum)?;
        self.last_gradients = Some(gradients);
        Ok(report)
    }

    /// The network's input and the timesteps as it takes them.
    fn inputs(&self, batch: &Batch) -> Result<(Tensor, Tensor)> {
        let sample = self.objective.model_input(batch, self.unet.config().in_channels)?;
        let timesteps: Vec<f32> = batch.timesteps.iter().map(|&t| t as f32).collect();
        let timestep = Tensor::from_vec(timesteps, batch.timesteps.len(), sample.device())?;
        Ok((sample, timestep))
    }
}
