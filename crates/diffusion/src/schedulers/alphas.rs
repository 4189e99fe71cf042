//! What the samplers that look up `alphas_cumprod` at whole timesteps share: DDIM, DDPM, PNDM and LCM.

use candle_core::Tensor;

use super::betas::{BetaDefaults, alphas_cumprod};
use super::choice::choose;
use super::{PredictionType, SchedulerConfig};
use crate::error::{DiffusionError, Result};

/// `alphas_cumprod`, and its value before the first timestep.
#[derive(Clone, Debug)]
pub(super) struct Alphas {
    cumprod: Vec<f32>,
    final_alpha_cumprod: f32,
}

impl Alphas {
    /// The table of a configuration; before timestep 0 it is 1 with `alpha_to_one`, else as at 0.
    pub(super) fn new(
        config: &SchedulerConfig,
        defaults: BetaDefaults,
        rescale: bool,
        alpha_to_one: bool,
    ) -> Result<Self> {
        let cumprod = alphas_cumprod(config, defaults, rescale)?;
        let final_alpha_cumprod = if alpha_to_one { 1.0 } else { cumprod[0] };
        Ok(Self { cumprod, final_alpha_cumprod })
    }

    /// `alpha_prod_t`, also before the first timestep.
    pub(super) fn at(&self, t: i64) -> f32 {
        let last = self.cumprod.len() - 1;
        usize::try_from(t).map_or(self.final_alpha_cumprod, |t| self.cumprod[t.min(last)])
    }

    /// `Ok` if each timestep is in the table and has something left to divide by.
    pub(super) fn check(&self, timesteps: &[i64], prediction: PredictionType) -> Result<()> {
        let last = self.cumprod.len() - 1;
        for &t in timesteps {
            if t as usize > last {
                let expected = format!("timesteps up to {last}: fewer steps or a smaller offset");
                return Err(DiffusionError::argument(
                    "steps_offset",
                    expected,
                    format!("timestep {t}"),
                ));
            }
            if prediction == PredictionType::Epsilon && self.at(t) == 0.0 {
                return Err(DiffusionError::argument(
                    "prediction_type",
                    format!("v_prediction or sample, since no signal is left at timestep {t}"),
                    "epsilon",
                ));
            }
        }
        Ok(())
    }

    /// The factors of signal and noise at `t`.
    pub(super) fn levels(&self, t: i64) -> (f32, f32) {
        let alpha_prod_t = self.at(t);
        (alpha_prod_t.sqrt(), (1.0 - alpha_prod_t).sqrt())
    }
}

/// What is done to the predicted clean sample (`clip_sample`, `clip_sample_range`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Clip(Option<f64>);

impl Clip {
    pub(super) fn new(config: &SchedulerConfig, default: bool) -> Result<Self> {
        reject_thresholding(config)?;
        if !config.clip_sample.unwrap_or(default) {
            return Ok(Self(None));
        }
        let range = config.clip_sample_range.unwrap_or(1.0);
        if !(range.is_finite() && range > 0.0) {
            return Err(DiffusionError::argument("clip_sample_range", "a number above 0", range));
        }
        Ok(Self(Some(range)))
    }

    pub(super) fn apply(self, sample: Tensor) -> Result<Tensor> {
        match self.0 {
            None => Ok(sample),
            Some(range) => Ok(sample.clamp(-range, range)?),
        }
    }
}

/// Dynamic thresholding is for pixels, not for latents: no Stable Diffusion checkpoint asks for it.
pub(super) fn reject_thresholding(config: &SchedulerConfig) -> Result<()> {
    if config.thresholding.unwrap_or(false) {
        let expected = "false, since dynamic thresholding does not suit latents";
        return Err(DiffusionError::argument("thresholding", expected, true));
    }
    Ok(())
}

/// `prediction_type`; epsilon where a configuration says nothing.
pub(super) fn prediction_type(config: &SchedulerConfig) -> Result<PredictionType> {
    choose("prediction_type", config.prediction_type.as_deref(), PredictionType::Epsilon)
}
