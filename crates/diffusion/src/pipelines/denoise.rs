//! The denoising loop that both pipelines share.

use candle_core::Tensor;

use crate::components::Components;
use crate::error::{DiffusionError, Result};
use crate::nn::guidance_scale_embedding;
use crate::noise::NoiseSource;
use crate::schedulers::Scheduler;

/// What the UNet is told beside the latents.
#[derive(Clone, Debug)]
pub(super) struct Conditioning {
    /// At the resolution of the latents, `(b, 1, h/8, w/8)`, 1 = repaint.
    pub(super) mask: Tensor,
    /// Scaled latents of the picture without its damage, `(b, 4, h/8, w/8)`.
    pub(super) masked_image_latents: Tensor,
    /// `(b, 77, d)`.
    pub(super) prompt_embeds: Tensor,
    /// `(b, 77, d)`.
    pub(super) negative_prompt_embeds: Tensor,
    /// Classifier-free guidance (Ho and Salimans 2022); at 1 or below the negative prompt is not looked at.
    pub(super) guidance_scale: f64,
    /// For a UNet that only sees latents.
    pub(super) kept: Option<Kept>,
}

/// What a UNet that does not see the mask is held to at each step.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Scaled latents of the picture, `(b, 4, h/8, w/8)`.
    pub(super) image_latents: Tensor,
    /// The noise that they are blended with, N(0, 1).
    pub(super) noise: Tensor,
}

/// The first evaluation of a run at `strength`: the last `min(int(N · strength), N)` of N steps are made.
///
/// # Errors
/// [`DiffusionError::Argument`] if the strength is out of range or leaves no step.
pub(super) fn first_step(num_inference_steps: usize, strength: f64) -> Result<usize> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(DiffusionError::argument("strength", "0 to 1", strength));
    }
    let steps = (num_inference_steps as f64 * strength) as usize;
    if steps == 0 {
        let expected =
            format!("a strength that leaves at least one of {num_inference_steps} steps");
        return Err(DiffusionError::argument("strength", expected, strength));
    }
    Ok(num_inference_steps - steps.min(num_inference_steps))
}

/// Walks `latents` from the noise level of `first` to the end of the schedule.
///
/// `after` is called after each evaluation of the UNet, and can stop the walk.
///
/// # Errors
/// Those of the tensor operations and of `after`.
pub(super) fn denoise(
    components: &Components,
    scheduler: &mut dyn Scheduler,
    first: usize,
    mut latents: Tensor,
    conditioning: &Conditioning,
    noise: &mut dyn NoiseSource,
    after: &mut dyn FnMut() -> Result<()>,
) -> Result<Tensor> {
    let unet = &components.unet;
    // A model distilled with its guidance takes the scale as an input instead.
    let guided = conditioning.guidance_scale > 1.0 && unet.config().time_cond_proj_dim.is_none();
    let twice = |tensor: &Tensor| {
        if guided { Tensor::cat(&[tensor, tensor], 0) } else { Ok(tensor.clone()) }
    };
    let mask = twice(&conditioning.mask)?;
    let masked_image_latents = twice(&conditioning.masked_image_latents)?;
    let encoder_hidden_states = if guided {
        Tensor::cat(&[&conditioning.negative_prompt_embeds, &conditioning.prompt_embeds], 0)?
    } else {
        conditioning.prompt_embeds.clone()
    };
    let timestep_cond = match unet.config().time_cond_proj_dim {
        Some(dim) => {
            let scales = vec![(conditioning.guidance_scale - 1.0) as f32; latents.dim(0)?];
            Some(guidance_scale_embedding(&scales, dim, latents.device())?)
        }
        None => None,
    };

    for index in first..scheduler.timesteps().len() {
        // 1. what the UNet sees
        let timestep = scheduler.timesteps()[index];
        let mut input = scheduler.scale_model_input(&twice(&latents)?, index)?;
        if components.sees_mask() {
            input = Tensor::cat(&[&input, &mask, &masked_image_latents], 1)?;
        }
        let batch = input.dim(0)?;
        let timesteps = Tensor::full(timestep as f32, batch, input.device())?;

        // 2. the prediction, guided
        let mut noise_pred = unet.forward_conditioned(
            &input,
            &timesteps,
            &encoder_hidden_states,
            timestep_cond.as_ref(),
        )?;
        if guided {
            let (uncond, text) =
                (noise_pred.narrow(0, 0, batch / 2)?, noise_pred.narrow(0, batch / 2, batch / 2)?);
            noise_pred = (&uncond + ((text - &uncond)? * conditioning.guidance_scale)?)?;
        }

        // 3. the step
        latents = scheduler.step(&noise_pred, index, &latents, noise)?.prev_sample;

        // 4. a UNet that does not see the mask is shown the kept part, as noisy as the rest will be
        if let Some(kept) = &conditioning.kept {
            let proper = if index + 1 < scheduler.timesteps().len() {
                scheduler.add_noise(&kept.image_latents, &kept.noise, index + 1)?
            } else {
                kept.image_latents.clone()
            };
            latents = (&proper + conditioning.mask.broadcast_mul(&(latents - &proper)?)?)?;
        }
        after()?;
    }
    Ok(latents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_counts_steps_as_diffusers_does() {
        // int(20 · 0.6) = 12 of 20; int(10 · 0.55) = 5 of 10; all of 7
        assert_eq!(first_step(20, 0.6).ok(), Some(8));
        assert_eq!(first_step(10, 0.55).ok(), Some(5));
        assert_eq!(first_step(7, 1.0).ok(), Some(0));
        for strength in [0.0, 0.04, -1.0, 1.01, f64::NAN] {
            assert!(first_step(20, strength).is_err(), "{strength}");
        }
    }
}
