//! Noise schedules and samplers, one a file, with diffusers' names, configurations and numbers.

use candle_core::Tensor;

use crate::error::Result;
use crate::noise::NoiseSource;

/// What one step gives.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The sample at the next (less noisy) timestep.
    pub prev_sample: Tensor,
    /// The scheduler's estimate of the clean sample; `None` where diffusers gives none.
    pub pred_original_sample: Option<Tensor>,
}

/// Walks a sample from noise to data over a fixed number of inference steps.
///
/// Built by `SchedulerConfig::build` with its timesteps set. `index` counts evaluations of the model: it
/// points into [`Scheduler::timesteps`]. A run may begin at any index (image-to-image strength below 1) and goes up
/// by one from there; multi-step samplers start their history at the first call.
pub trait Scheduler: Send {
    /// The timesteps in the order of use; PNDM visits one twice, Karras sigmas give fractions.
    fn timesteps(&self) -> &[f64];

    /// The standard deviation that pure noise is multiplied by before the first step.
    fn init_noise_sigma(&self) -> f64;

    /// The model's input for the sample at `index`.
    ///
    /// # Errors
    /// Those of the tensor operations.
    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Result<Tensor>;

    /// `original` noised to the level of `index`.
    ///
    /// # Errors
    /// Those of the tensor operations.
    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Result<Tensor>;

    /// One step from `index` to `index + 1`. Draws from `noise` only in stochastic samplers, as diffusers does.
    ///
    /// # Errors
    /// Those of the tensor operations.
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput>;
}
