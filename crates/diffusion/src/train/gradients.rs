//! The gradient of the loss, with all activations in memory or with those of one stage at a time.
//!
//! Gradient checkpointing (Chen et al. 2016): the forward pass keeps what goes into each stage of the UNet and lets go of
//! what it computed inside; the backward pass takes the stages from the last to the first, computes each again, and
//! differentiates it alone. A stage here is a resnet with its transformer. Both ways compute the same numbers.

use std::collections::HashMap;

use candle_core::{Tensor, TensorId, Var};
use kernels::Recording;

use super::parameters::Parameter;
use crate::error::Result;
use crate::models::{UNet2DConditionModel, UnetStage};
use crate::nn::add;

/// What goes into the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    /// `(b, in_channels, h, w)`
    pub(super) sample: &'a Tensor,
    /// `(b)`
    pub(super) timestep: &'a Tensor,
    /// `(b, n, d)`
    pub(super) context: &'a Tensor,
}

/// Gradients by parameter, summed over calls.
#[derive(Debug)]
pub(super) struct Gradients {
    sums: HashMap<TensorId, Option<Tensor>>,
}

impl Gradients {
    /// None yet of any of the parameters.
    pub(super) fn new(parameters: &[Parameter]) -> Self {
        Self { sums: parameters.iter().map(|parameter| (parameter.var.id(), None)).collect() }
    }

    /// The gradient of a parameter, if the loss depends on it.
    pub(super) fn get(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.sums.get(&parameter.var.id())?.as_ref()
    }

    /// Adds to the gradient of one of the parameters.
    pub(super) fn add_to(&mut self, parameter: &Parameter, gradient: Tensor) -> Result<()> {
        if let Some(sum) = self.sums.get_mut(&parameter.var.id()) {
            add_to(sum, Some(gradient))?;
        }
        Ok(())
    }

    /// Adds what a backward pass found; the rest of the store is let go of.
    pub(super) fn take(&mut self, store: &kernels::Gradients) -> Result<()> {
        for (id, sum) in &mut self.sums {
            add_to(sum, store.get(*id).cloned())?;
        }
        Ok(())
    }

    /// Adds the gradients of the loss of a prediction, and returns the loss.
    pub(super) fn add(
        &mut self,
        unet: &UNet2DConditionModel,
        inputs: Inputs<'_>,
        loss: impl Fn(&Tensor) -> Result<Tensor>,
        checkpointing: bool,
    ) -> Result<f32> {
        if checkpointing {
            return self.add_by_stage(unet, inputs, loss);
        }
        let Inputs { sample, timestep, context } = inputs;
        let context_leaf = cut(context)?;
        let (output, recording) = Recording::of(|| unet.forward(sample, timestep, &context_leaf))?;
        let (loss, gradient) = loss_gradient(&output, loss)?;
        let mut store = recording.backward(&output, &gradient)?;
        self.take(&store)?;
        if let Some(gradient) = store.take(&context_leaf).filter(|_| context.track_op()) {
            self.take(&pull_back(context, &gradient)?)?;
        }
        Ok(loss)
    }

    fn add_by_stage(
        &mut self,
        unet: &UNet2DConditionModel,
        inputs: Inputs<'_>,
        loss: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<f32> {
        // 1. forward: the output of every stage, cut off from how it was made
        let temb = unet.time_embedding(inputs.timestep, None, inputs.sample)?;
        let shared = [&temb, inputs.context];
        let leaves = [cut(&temb)?, cut(inputs.context)?];
        let mut kept: Vec<Kept> = Vec::new();
        let mut open = Vec::new();
        let mut xs = inputs.sample.clone();
        let mut xs_trains = false;
        for stage in unet.stages() {
            let residual = if stage.takes_residual() { open.pop() } else { open.last().copied() };
            let mut residuals: Vec<Tensor> =
                residual.map(|at: usize| kept[at].output.clone()).into_iter().collect();
            let output = unet.run_stage(stage, &xs, &mut residuals, &leaves[0], &leaves[1])?;
            let from_residual =
                stage.takes_residual() && residual.is_some_and(|at| kept[at].trains);
            let trains = output.track_op() || xs_trains || from_residual;
            if stage.leaves_residual() {
                open.push(kept.len());
            }
            let output = output.detach();
            kept.push(Kept { stage, input: xs, residual, output: output.clone(), trains });
            (xs, xs_trains) = (output, trains);
        }

        // 2. the loss
        let (loss, gradient) = loss_gradient(&xs, loss)?;
        drop(xs);
        let mut flowing: Vec<Option<Tensor>> = vec![None; kept.len()];
        if let Some(last) = flowing.last_mut() {
            *last = Some(gradient);
        }

        // 3. backward, a stage at a time
        let mut shared_gradients = [None, None];
        for at in (0..kept.len()).rev() {
            let trains_before = at > 0 && kept[at - 1].trains;
            let Some(Kept { stage, input, residual, trains, .. }) = kept.pop() else { break };
            let Some(gradient) = flowing[at].take().filter(|_| trains) else { continue };
            let xs = leaf(&input, trains_before)?;
            let residual = residual
                .map(|from| {
                    let tracked = stage.takes_residual() && kept[from].trains;
                    Ok::<_, crate::DiffusionError>((from, leaf(&kept[from].output, tracked)?))
                })
                .transpose()?;
            let mut residuals: Vec<Tensor> = residual.iter().map(|(_, xs)| xs.clone()).collect();
            let (output, recording) = Recording::of(|| {
                unet.run_stage(stage, &xs, &mut residuals, &leaves[0], &leaves[1])
            })?;
            let mut store = recording.backward(&output, &gradient)?;
            self.take(&store)?;
            if at > 0 {
                add_to(&mut flowing[at - 1], store.take(&xs))?;
            }
            if let Some((from, residual)) = residual {
                add_to(&mut flowing[from], store.take(&residual))?;
            }
            for (sum, leaf) in shared_gradients.iter_mut().zip(&leaves) {
                add_to(sum, store.take(leaf))?;
            }
        }

        // 4. what all stages share: the time embedding, and the text encoder behind the prompts
        for (output, gradient) in shared.into_iter().zip(shared_gradients) {
            if let Some(gradient) = gradient.filter(|_| output.track_op()) {
                self.take(&pull_back(output, &gradient)?)?;
            }
        }
        Ok(loss)
    }
}

/// What is remembered of a stage.
struct Kept {
    stage: UnetStage,
    input: Tensor,
    /// The stage whose output it also takes, or takes its size from.
    residual: Option<usize>,
    output: Tensor,
    /// True if the output depends on anything that is trained.
    trains: bool,
}

/// A tensor's values without its history, tracked anew if `tracked`.
fn leaf(xs: &Tensor, tracked: bool) -> candle_core::Result<Tensor> {
    Ok(if tracked { Var::from_tensor(&xs.detach())?.into_inner() } else { xs.detach() })
}

/// [`leaf`], tracked if the tensor was.
fn cut(xs: &Tensor) -> candle_core::Result<Tensor> {
    leaf(xs, xs.track_op())
}

/// The loss of a prediction, and the gradient by that.
fn loss_gradient(
    prediction: &Tensor,
    loss: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<(f32, Tensor)> {
    let prediction = leaf(prediction, true)?;
    let loss = loss(&prediction)?;
    let gradient = match loss.backward()?.remove(&prediction) {
        Some(gradient) => gradient,
        None => prediction.zeros_like()?,
    };
    Ok((loss.to_scalar()?, gradient))
}

/// The gradients of what candle made `output` from.
fn pull_back(output: &Tensor, gradient: &Tensor) -> candle_core::Result<kernels::Gradients> {
    let ((), nothing) = Recording::of(|| Ok::<_, candle_core::Error>(()))?;
    nothing.backward(output, gradient)
}

fn add_to(sum: &mut Option<Tensor>, gradient: Option<Tensor>) -> candle_core::Result<()> {
    if let Some(gradient) = gradient {
        *sum = Some(match sum.take() {
            Some(sum) => add(&sum, &gradient)?,
            None => gradient,
        });
    }
    Ok(())
}
