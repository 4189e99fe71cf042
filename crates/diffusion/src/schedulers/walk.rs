//! What every sampler shares: checked arguments, f32 arithmetic, and histories that begin with a run.

use candle_core::{DType, Tensor};

use super::{Scheduler, StepOutput};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;

/// The part of a scheduler that is its own. Indices are valid, shapes equal and tensors f32 when it is called.
pub(super) trait Sampler: Send {
    /// See [`Scheduler::timesteps`].
    fn timesteps(&self) -> &[f64];

    /// See [`Scheduler::init_noise_sigma`].
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// What the sample at `index` is divided by before it goes into the model.
    fn input_divisor(&self, _index: usize) -> Option<f32> {
        None
    }

    /// The factors of signal and noise in a sample at `index`.
    fn levels(&self, index: usize) -> (f32, f32);

    /// Forgets the history: the next step begins a run.
    fn restart(&mut self) {}

    /// See [`Scheduler::step`].
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput>;
}

/// A [`Scheduler`] over a [`Sampler`].
pub(super) struct Walk<S> {
    sampler: S,
    /// The index that continues the run; any other begins a new one.
    next: Option<usize>,
}

impl<S: Sampler> Walk<S> {
    pub(super) const fn new(sampler: S) -> Self {
        Self { sampler, next: None }
    }

    fn check_index(&self, index: usize) -> Result<()> {
        let steps = self.sampler.timesteps().len();
        if index < steps {
            return Ok(());
        }
        Err(DiffusionError::argument("index", format!("below {steps}, the timesteps"), index))
    }
}

impl<S: Sampler> Scheduler for Walk<S> {
    fn timesteps(&self) -> &[f64] {
        self.sampler.timesteps()
    }

    fn init_noise_sigma(&self) -> f64 {
        f64::from(self.sampler.init_noise_sigma())
    }

    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Result<Tensor> {
        self.check_index(index)?;
        match self.sampler.input_divisor(index) {
            None => Ok(sample.clone()),
            Some(divisor) => {
                Ok(divide(&sample.to_dtype(DType::F32)?, divisor)?.to_dtype(sample.dtype())?)
            }
        }
    }

    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Result<Tensor> {
        self.check_index(index)?;
        check_shape("noise", original, noise)?;
        let (signal_level, noise_level) = self.sampler.levels(index);
        let (x, z) = (original.to_dtype(DType::F32)?, noise.to_dtype(DType::F32)?);
        Ok(combine(&[(signal_level, &x), (noise_level, &z)])?.to_dtype(original.dtype())?)
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput> {
        self.check_index(index)?;
        check_shape("model output", sample, model_output)?;
        if self.next != Some(index) {
            self.sampler.restart();
        }
        // A step that fails ends the run.
        self.next = None;
        let dtype = sample.dtype();
        let (model_output, sample) =
            (model_output.to_dtype(DType::F32)?, sample.to_dtype(DType::F32)?);
        let output = self.sampler.step(&model_output, index, &sample, noise)?;
        self.next = Some(index + 1);
        let pred_original_sample =
            output.pred_original_sample.map(|x| x.to_dtype(dtype)).transpose()?;
        Ok(StepOutput { prev_sample: output.prev_sample.to_dtype(dtype)?, pred_original_sample })
    }
}

pub(super) fn check_shape(what: &'static str, like: &Tensor, found: &Tensor) -> Result<()> {
    if like.dims() == found.dims() {
        return Ok(());
    }
    Err(DiffusionError::shape(what, format!("{:?}, the sample's shape", like.dims()), found.dims()))
}

/// `Σ factor · tensor`, left to right.
pub(super) fn combine(terms: &[(f32, &Tensor)]) -> Result<Tensor> {
    let mut terms = terms.iter().map(|&(factor, tensor)| tensor * f64::from(factor));
    let first = terms.next().expect("every caller gives at least one term")?;
    terms.try_fold(first, |sum, term| Ok((sum + term?)?))
}

/// `tensor / divisor`. candle's own operator multiplies by the reciprocal, which rounds twice.
pub(super) fn divide(tensor: &Tensor, divisor: f32) -> Result<Tensor> {
    Ok(tensor.broadcast_div(&Tensor::new(divisor, tensor.device())?)?)
}
