//! Noise schedules and samplers, one a file, with diffusers' names, configurations and numbers.
//!
//! A [`SchedulerConfig`] is a `scheduler_config.json` as it is; [`SchedulerConfig::build`] turns it into a
//! [`Scheduler`] of its own class, or of another with `from_config` semantics. [`TrainSchedule`] is the
//! forward process for training.
//!
//! Schedules (betas, `alphas_cumprod`, sigmas) are f32 tables with diffusers' own roundings. Single-step samplers
//! compute their coefficients in f32 as well and agree with it within 1e-5 of max(1, |reference|) over whole
//! trajectories. DPM-Solver++ and UniPC compute theirs in f64: they divide differences of logarithms that are
//! nearly equal, where f32 loses digits. diffusers in f32 is up to 2e-5 away from itself in f64 there, and so
//! is this. With a zero terminal SNR, Euler's samples begin at 4096 times the noise, of which f32 resolves
//! no more than 5e-4. Samples in half precision are stepped in f32 and cast back, which diffusers does for
//! some classes only.

mod alphas;
mod betas;
mod choice;
mod config;
mod ddim;
mod ddpm;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod kind;
mod lcm;
mod pndm;
mod prediction;
mod sigmas;
mod timesteps;
mod train;
mod unipc;
mod walk;

use candle_core::Tensor;

pub use self::config::SchedulerConfig;
pub use self::kind::SchedulerKind;
pub use self::prediction::PredictionType;
pub use self::train::TrainSchedule;
use crate::error::Result;
use crate::noise::NoiseSource;

/// What one step gives.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The sample at the next (less noisy) timestep.
    pub prev_sample: Tensor,
    /// The scheduler's estimate of the clean sample (LCM: after its boundary conditions); `None` where
    /// diffusers gives none.
    pub pred_original_sample: Option<Tensor>,
}

/// Walks a sample from noise to data over a fixed number of inference steps.
///
/// Built by [`SchedulerConfig::build`] with its timesteps set. `index` counts evaluations of the model: it
/// points into [`Scheduler::timesteps`]. A run may begin at any index (image-to-image strength below 1) and goes up
/// by one from there; a step at any other index begins a new run, and multi-step samplers forget their
/// history. So one scheduler serves many runs, one after the other.
pub trait Scheduler: Send {
    /// The timesteps in the order of use; PNDM visits one twice, Karras sigmas give fractions.
    fn timesteps(&self) -> &[f64];

    /// The standard deviation that pure noise is multiplied by before the first step.
    fn init_noise_sigma(&self) -> f64;

    /// The model's input for the sample at `index`.
    ///
    /// # Errors
    /// [`crate::DiffusionError::Argument`] if there is no such index, and those of the tensor operations.
    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Result<Tensor>;

    /// `original` noised to the level of `index`.
    ///
    /// # Errors
    /// [`crate::DiffusionError::Argument`] if there is no such index, [`crate::DiffusionError::Shape`] if
    /// the shapes differ, and those of the tensor operations.
    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Result<Tensor>;

    /// One step from `index` to `index + 1`. Draws from `noise` only in stochastic samplers, as diffusers does.
    ///
    /// # Errors
    /// [`crate::DiffusionError::Argument`] if there is no such index, [`crate::DiffusionError::Shape`] if
    /// the shapes differ, those of `noise` and of the tensor operations.
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput>;
}
