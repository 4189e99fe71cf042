//! diffusers' `StableDiffusionInpaintPipeline`, number for number, given the noise.
//!
//! The random draws come in its order: for a strength below 1, and for UNets with 4 channels, the sample of the
//! image's latents; the initial noise; the sample of the masked image's latents; then what the sampler draws.

use candle_core::Tensor;
use imaging::Observer;

use super::denoise::{Conditioning, Kept, denoise, first_step};
use crate::components::{Components, MaskShrink, PromptEmbeds, latent_mask};
use crate::error::{DiffusionError, Result};
use crate::noise::NoiseSource;
use crate::schedulers::SchedulerKind;

/// The arguments of the pipeline, with diffusers' names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct InpaintOptions {
    /// Steps at strength 1. Default: 50.
    pub num_inference_steps: usize,
    /// Classifier-free guidance; off at 1 or below. Default: 7.5.
    pub guidance_scale: f64,
    /// The share of the steps that is made, `0 < strength ≤ 1`; at 1 the picture starts as noise. Default: 1.
    pub strength: f64,
    /// The sampler; `None` for the checkpoint's own.
    pub scheduler: Option<SchedulerKind>,
}

impl Default for InpaintOptions {
    fn default() -> Self {
        Self { num_inference_steps: 50, guidance_scale: 7.5, strength: 1.0, scheduler: None }
    }
}

/// Repaints `image` where `mask` is 1.
///
/// # Shapes
/// - image: `(b, 3, h, w)`, sRGB in `[-1, 1]`; sides multiples of [`Components::multiple`]
/// - mask: `(b, 1, h, w)`, 0 = keep, 1 = repaint; values are cut at 0.5
/// - returns: `(b, 3, h, w)`, about `[-1, 1]`: the decoder's output, kept pixels included
///
/// # Errors
/// [`DiffusionError::Shape`] or [`DiffusionError::Argument`] for inputs that do not fit, those of the tensor
/// operations, and `Cancelled`.
pub fn inpaint(
    components: &Components,
    image: &Tensor,
    mask: &Tensor,
    prompts: &PromptEmbeds,
    options: &InpaintOptions,
    noise: &mut dyn NoiseSource,
    observer: &dyn Observer,
) -> Result<Tensor> {
    // 1. check the inputs
    let (b, height, width) = check_inputs(components, image, mask)?;
    let vae = &components.vae;
    let image = &image.to_dtype(components.dtype)?;
    let mask = &mask.ge(0.5)?.to_dtype(components.dtype)?;

    // 2. set timesteps
    let mut scheduler =
        components.scheduler.build(options.scheduler, options.num_inference_steps)?;
    let first = first_step(options.num_inference_steps, options.strength)?;
    let from_noise = options.strength == 1.0;

    // 3. prepare the latents
    let needs_image = !from_noise || !components.sees_mask();
    let image_latents = if needs_image { Some(encode(components, image, noise)?) } else { None };
    let shape = (b, vae.latent_channels(), height / vae.factor(), width / vae.factor());
    let initial = noise.randn(&shape.into(), components.dtype, &components.device)?;
    let latents = match &image_latents {
        Some(image_latents) if !from_noise => {
            scheduler.add_noise(image_latents, &initial, first)?
        }
        _ => (&initial * scheduler.init_noise_sigma())?,
    };

    // 4. prepare mask and masked image
    let masked_image = image.broadcast_mul(&(1.0 - mask)?)?;
    let conditioning = Conditioning {
        mask: latent_mask(mask, vae.factor(), MaskShrink::Nearest)?,
        masked_image_latents: encode(components, &masked_image, noise)?,
        prompt_embeds: repeat(&prompts.positive, b)?,
        negative_prompt_embeds: repeat(&prompts.negative, b)?,
        guidance_scale: options.guidance_scale,
        kept: image_latents
            .filter(|_| !components.sees_mask())
            .map(|image_latents| Kept { image_latents, noise: initial }),
    };

    // 5. denoise
    let total = (scheduler.timesteps().len() - first) as u64;
    let mut done = 0;
    let mut after = || {
        done += 1;
        observer.progress("repaint", done, total);
        Ok(observer.check()?)
    };
    let latents =
        denoise(components, scheduler.as_mut(), first, latents, &conditioning, noise, &mut after)?;

    // 6. decode
    vae.decode(&latents, image, mask)
}

/// The decoder's output as bytes: `round(255 · clamp(x / 2 + 0.5, 0, 1))`, halves to even, as diffusers rounds.
///
/// # Shapes
/// - image: `(b, 3, h, w)`
/// - returns: the same, u8
///
/// # Errors
/// Those of the tensor operations.
pub fn to_u8(image: &Tensor) -> Result<Tensor> {
    let levels = image.affine(0.5, 0.5)?.clamp(0.0, 1.0)?.affine(255.0, 0.0)?;
    let levels: Vec<f32> = levels.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
    let bytes: Vec<u8> = levels.into_iter().map(|value| value.round_ties_even() as u8).collect();
    Ok(Tensor::from_vec(bytes, image.shape(), &candle_core::Device::Cpu)?)
}

/// The batch, height and width of a picture and its mask.
fn check_inputs(
    components: &Components,
    image: &Tensor,
    mask: &Tensor,
) -> Result<(usize, usize, usize)> {
    let multiple = components.multiple();
    let (b, channels, height, width) =
        image.dims4().map_err(|_| DiffusionError::shape("image", "(b, 3, h, w)", image.dims()))?;
    if channels != 3 || height % multiple != 0 || width % multiple != 0 || height * width == 0 {
        let expected = format!("(b, 3, h, w) with h and w multiples of {multiple}");
        return Err(DiffusionError::shape("image", expected, image.dims()));
    }
    if mask.dims() != [b, 1, height, width] {
        return Err(DiffusionError::shape(
            "mask",
            format!("({b}, 1, {height}, {width})"),
            mask.dims(),
        ));
    }
    Ok((b, height, width))
}

/// A sample of the image's latents, scaled.
fn encode(components: &Components, image: &Tensor, noise: &mut dyn NoiseSource) -> Result<Tensor> {
    let latents = components.vae.encode(image)?.sample(noise)?;
    Ok((latents * components.vae.scaling_factor())?)
}

/// `(1, n, d)` or `(b, n, d)` as `(b, n, d)`.
pub(super) fn repeat(embeds: &Tensor, b: usize) -> Result<Tensor> {
    let (found, n, d) = embeds.dims3()?;
    if found == b {
        return Ok(embeds.clone());
    }
    if found != 1 {
        let expected = format!("(1 or {b}, {n}, {d})");
        return Err(DiffusionError::shape("prompt embeddings", expected, embeds.dims()));
    }
    Ok(embeds.expand((b, n, d))?.contiguous()?)
}
