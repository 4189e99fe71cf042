//! `scheduler_config.json`, as it is.

use std::path::Path;

use serde::Deserialize;

use super::alphas::prediction_type;
use super::betas::{BetaDefaults, alphas_cumprod};
use super::ddim::Ddim;
use super::ddpm::Ddpm;
use super::dpm_solver::DpmSolver;
use super::euler::Euler;
use super::euler_ancestral::EulerAncestral;
use super::lcm::Lcm;
use super::pndm::Pndm;
use super::unipc::UniPc;
use super::walk::Walk;
use super::{Scheduler, SchedulerKind, TrainSchedule};
use crate::error::{DiffusionError, Result};

/// The settings of a noise schedule and a sampler: the union of what the classes read, by diffusers' names.
///
/// A key that is absent (or null) has the default of the class that is built, as with diffusers'
/// `from_config`. Each class reads the keys it knows and ignores the others; a value that it cannot honour
/// is an error. Keys that no class reads are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// diffusers' class.
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,

    /// Steps of the forward process. Default 1000.
    pub num_train_timesteps: Option<usize>,
    /// The first beta. Default 0.0001; LCM 0.00085.
    pub beta_start: Option<f64>,
    /// The last beta. Default 0.02; LCM 0.012.
    pub beta_end: Option<f64>,
    /// `linear`, `scaled_linear` or `squaredcos_cap_v2`. Default `linear`; LCM `scaled_linear`.
    pub beta_schedule: Option<String>,
    /// The betas themselves, in place of the three settings above.
    pub trained_betas: Option<Vec<f64>>,
    /// Rescales the betas so that no signal is left at the last timestep. Not read by PNDM.
    pub rescale_betas_zero_snr: Option<bool>,

    /// What the model predicts: `epsilon` (default), `sample` or `v_prediction`.
    pub prediction_type: Option<String>,
    /// `leading` (default of DDIM, DDPM, PNDM), `linspace` (default of the others) or `trailing`.
    pub timestep_spacing: Option<String>,
    /// Added to the timesteps with leading spacing. Default 0.
    pub steps_offset: Option<usize>,
    /// Clips the predicted clean sample: DDIM, DDPM (default true), LCM (default false).
    pub clip_sample: Option<bool>,
    /// The largest magnitude after clipping. Default 1.
    pub clip_sample_range: Option<f64>,
    /// Dynamic thresholding; not supported.
    pub thresholding: Option<bool>,
    /// No noise is left before timestep 0, rather than as much as at 0: DDIM, LCM (default true), PNDM (false).
    pub set_alpha_to_one: Option<bool>,

    /// PNDM: no Runge-Kutta steps. Default false.
    pub skip_prk_steps: Option<bool>,
    /// DDPM: `fixed_small` (default), `fixed_small_log` or `fixed_large`.
    pub variance_type: Option<String>,

    /// Euler: `linear` (default) or `log_linear`.
    pub interpolation_type: Option<String>,
    /// Euler: `discrete` (default) or `continuous`.
    pub timestep_type: Option<String>,
    /// Euler, DPM-Solver++, UniPC: noise levels of Karras et al. Default false.
    pub use_karras_sigmas: Option<bool>,
    /// Euler, DPM-Solver++, UniPC: noise levels evenly in the logarithm. Default false.
    pub use_exponential_sigmas: Option<bool>,
    /// Noise levels of a beta distribution; not supported.
    pub use_beta_sigmas: Option<bool>,
    /// Flow matching; not supported.
    pub use_flow_sigmas: Option<bool>,
    /// DPM-Solver++: noise levels evenly in the log-SNR, with whole timesteps. Default false.
    pub use_lu_lambdas: Option<bool>,
    /// The smallest level of Karras's or exponential levels; by default that of the schedule.
    pub sigma_min: Option<f64>,
    /// The largest level, likewise.
    pub sigma_max: Option<f64>,
    /// Euler, DPM-Solver++, UniPC: the level after the last step, `zero` (default) or `sigma_min`.
    pub final_sigmas_type: Option<String>,

    /// DPM-Solver++, UniPC: 1 to 3. Default 2.
    pub solver_order: Option<usize>,
    /// DPM-Solver++: `midpoint` (default) or `heun`. UniPC: `bh1` or `bh2` (default).
    pub solver_type: Option<String>,
    /// DPM-Solver++: `dpmsolver++` (default) or `sde-dpmsolver++`.
    pub algorithm_type: Option<String>,
    /// DPM-Solver++ (below 15 steps), UniPC: lower orders at the end. Default true.
    pub lower_order_final: Option<bool>,
    /// DPM-Solver++: the last step is Euler's. Default false.
    pub euler_at_final: Option<bool>,
    /// DPM-Solver++: log-SNRs below are not visited. By default all are.
    pub lambda_min_clipped: Option<f64>,
    /// UniPC: solves for the clean sample rather than the noise. Default true.
    pub predict_x0: Option<bool>,
    /// UniPC: steps after which the sample is not corrected.
    pub disable_corrector: Option<Vec<usize>>,
    /// UniPC: another predictor; not supported.
    pub solver_p: Option<serde_json::Value>,

    /// LCM: steps of the distillation. Default 50.
    pub original_inference_steps: Option<usize>,
    /// LCM: the timesteps' factor in the boundary conditions. Default 10.
    pub timestep_scaling: Option<f64>,
}

impl SchedulerConfig {
    /// Reads the value of a `scheduler_config.json`; `path` names the file in messages.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if a key has a value of another type.
    pub fn from_value(value: serde_json::Value, path: &Path) -> Result<Self> {
        serde_json::from_value(value)
            .map_err(|error| DiffusionError::checkpoint(path, format!("scheduler: {error}")))
    }

    /// The configuration as the Stable Diffusion pipelines amend it when they load it: `steps_offset` 1, and
    /// PNDM without Runge-Kutta steps. Checkpoints of the first days lack these settings.
    #[must_use]
    pub fn amended_for_stable_diffusion(mut self) -> Self {
        let is = |kind: SchedulerKind| self.class_name.as_deref() == Some(kind.class_name());
        if is(SchedulerKind::Pndm) {
            self.skip_prk_steps = Some(true);
        }
        self.steps_offset = Some(1);
        self
    }

    /// The kind of the configuration's own class.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if there is no class, or one that is not supported.
    pub fn kind(&self) -> Result<SchedulerKind> {
        let expected = || {
            let classes: Vec<_> = SchedulerKind::ALL
                .into_iter()
                .filter(|&kind| kind != SchedulerKind::DpmSolverKarras)
                .map(SchedulerKind::class_name)
                .collect();
            format!("one of {} (or choose another scheduler)", classes.join(", "))
        };
        let class = self.class_name.as_deref().unwrap_or("nothing");
        let kind = SchedulerKind::ALL.into_iter().find(|kind| kind.class_name() == class);
        kind.ok_or_else(|| DiffusionError::argument("_class_name", expected(), class))
    }

    /// A scheduler of `kind`, or of the configuration's own class, for a number of inference steps.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if the class or a setting is not supported or out of range, or if there
    /// are more steps than the schedule has.
    pub fn build(
        &self,
        kind: Option<SchedulerKind>,
        num_inference_steps: usize,
    ) -> Result<Box<dyn Scheduler>> {
        let steps = num_inference_steps;
        Ok(match kind.map_or_else(|| self.kind(), Ok)? {
            SchedulerKind::Ddim => Box::new(Walk::new(Ddim::new(self, steps)?)),
            SchedulerKind::Ddpm => Box::new(Walk::new(Ddpm::new(self, steps)?)),
            SchedulerKind::Pndm => Box::new(Walk::new(Pndm::new(self, steps)?)),
            SchedulerKind::Euler => Box::new(Walk::new(Euler::new(self, steps)?)),
            SchedulerKind::EulerAncestral => Box::new(Walk::new(EulerAncestral::new(self, steps)?)),
            SchedulerKind::DpmSolver => Box::new(Walk::new(DpmSolver::new(self, steps)?)),
            SchedulerKind::DpmSolverKarras => {
                let config = Self {
                    use_karras_sigmas: Some(true),
                    use_exponential_sigmas: None,
                    use_beta_sigmas: None,
                    use_lu_lambdas: None,
                    ..self.clone()
                };
                Box::new(Walk::new(DpmSolver::new(&config, steps)?))
            }
            SchedulerKind::UniPc => Box::new(Walk::new(UniPc::new(self, steps)?)),
            SchedulerKind::Lcm => Box::new(Walk::new(Lcm::new(self, steps)?)),
        })
    }

    /// How much of the clean sample's variance is left at each training timestep.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if a setting of the betas is out of range.
    pub fn alphas_cumprod(&self) -> Result<Vec<f32>> {
        let lcm = self.class_name.as_deref() == Some(SchedulerKind::Lcm.class_name());
        let defaults = if lcm { BetaDefaults::LCM } else { BetaDefaults::DDPM };
        alphas_cumprod(self, defaults, self.rescale_betas_zero_snr.unwrap_or(false))
    }

    /// The forward process, for training.
    ///
    /// # Errors
    /// Those of [`SchedulerConfig::alphas_cumprod`], and [`DiffusionError::Argument`] for an unknown
    /// `prediction_type`.
    pub fn train_schedule(&self) -> Result<TrainSchedule> {
        Ok(TrainSchedule::new(self.alphas_cumprod()?, prediction_type(self)?))
    }
}
