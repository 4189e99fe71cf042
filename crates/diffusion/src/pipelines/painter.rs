//! Windows through the network, in batches, onto the canvas.

use std::time::Instant;

use candle_core::Tensor;
use imaging::composite::composite;
use imaging::windows::Window;
use imaging::{Image, Mask, Observer, Rect, Step};

use super::denoise::{Conditioning, Kept, denoise, first_step};
use super::inpaint::repeat;
use super::restore::{RepaintReport, Restorer};
use super::seams;
use crate::components::{Components, MaskShrink, Shown, latent_mask};
use crate::error::Result;
use crate::noise::{NoiseSource, TorchNoise};
use crate::pixels::{crop, decoded_planes, image_tensor, mask_tensor};

/// A window, and what the network does with it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    window: Window,
    /// Its position in the plan: what its noise is seeded by.
    number: u64,
    /// Width and height that the network sees.
    size: (usize, usize),
    /// The first evaluation in the schedule.
    first: usize,
    /// Evaluations that it takes.
    steps: usize,
    /// True to start from pure noise.
    from_noise: bool,
}

impl Job {
    /// What jobs of one batch have in common.
    const fn kind(&self) -> ((usize, usize), usize, bool) {
        (self.size, self.first, self.from_noise)
    }
}

/// Jobs that can share a batch, at most `most` in each. Their order does not depend on `most`.
pub(super) fn batches(mut jobs: Vec<Job>, most: usize) -> Vec<Vec<Job>> {
    jobs.sort_by_key(Job::kind);
    let alike = jobs.chunk_by(|a, b| a.kind() == b.kind());
    alike.flat_map(|jobs| jobs.chunks(most)).map(<[Job]>::to_vec).collect()
}

/// Progress over windows and steps: encoding, each step and decoding count one for each window.
pub(super) struct Progress<'a> {
    observer: &'a dyn Observer,
    done: u64,
    total: u64,
    at: Step,
}

impl<'a> Progress<'a> {
    pub(super) fn new(jobs: &[Job], draws: usize, observer: &'a dyn Observer) -> Self {
        let total = jobs.iter().map(|job| (job.steps * draws) as u64 + 2).sum();
        observer.progress("repaint", 0, total);
        let at = Step { windows: jobs.len(), ..Step::default() };
        Self { observer, done: 0, total, at }
    }

    /// The next windows, which take `steps` steps.
    fn begin(&mut self, windows: usize, steps: usize) {
        self.at = Step { window: self.at.window + windows, step: 0, steps, ..self.at };
        self.observer.window_step(self.at);
    }

    /// One more step of these windows is done.
    fn step(&mut self, windows: usize) -> Result<()> {
        self.at.step += 1;
        self.observer.window_step(self.at);
        self.add(windows)
    }

    fn add(&mut self, units: usize) -> Result<()> {
        self.done += units as u64;
        self.observer.progress("repaint", self.done, self.total);
        Ok(self.observer.check()?)
    }
}

/// The picture being repainted.
pub(super) struct Painter<'a> {
    pub(super) restorer: Restorer<'a>,
    pub(super) original: &'a Image,
    /// The hard mask.
    pub(super) damage: &'a Mask,
    /// The original with its damage filled: what each window starts from, whatever was painted before.
    pub(super) filled: Image,
    /// The same, painted over window by window.
    pub(super) canvas: Image,
    pub(super) report: RepaintReport,
}

impl Painter<'_> {
    pub(super) fn jobs(&self, windows: Vec<Window>) -> Result<Vec<Job>> {
        let steps = self.restorer.options.num_inference_steps;
        let total = self
            .restorer
            .components
            .scheduler
            .build(self.restorer.options.scheduler, steps)?
            .timesteps()
            .len();
        let multiple = self.restorer.components.multiple();
        let factor = self.restorer.components.vae.factor() as f64;
        let size = self.restorer.options.windows.size;
        windows
            .into_iter()
            .zip(0..)
            .map(|(window, number)| {
                let zoom = window.zoom(size);
                let strength =
                    self.restorer.options.strength_for(window.damage_width * zoom / factor);
                // At least one step, however few there are in all.
                let first = first_step(steps, strength.max(1.0 / steps as f64))?;
                let side = |pixels: usize| {
                    let side = (pixels as f64 * zoom / multiple as f64).round() as usize;
                    side.max(1) * multiple
                };
                let size = (side(window.rect.width), side(window.rect.height));
                let from_noise = first == 0 && strength >= 1.0;
                Ok(Job { window, number, size, first, steps: total - first, from_noise })
            })
            .collect()
    }

    pub(super) fn paint(&mut self, batch: &[Job], progress: &mut Progress<'_>) -> Result<()> {
        let Components { vae, device, dtype, .. } = self.restorer.components;
        let Some(kind @ Job { steps, .. }) = batch.first() else { return Ok(()) };
        progress.begin(batch.len(), steps * self.restorer.options.draws);

        // 1. the windows as tensors
        let started = Instant::now();
        let mut images = Vec::with_capacity(batch.len());
        let mut masks = Vec::with_capacity(batch.len());
        for job in batch {
            images.push(image_tensor(&self.filled, job.window.rect, job.size)?);
            masks.push(mask_tensor(self.damage, job.window.rect, job.size)?);
        }
        let image = Tensor::cat(&images, 0)?.to_device(device)?.to_dtype(*dtype)?;
        let mask = Tensor::cat(&masks, 0)?.to_device(device)?.to_dtype(*dtype)?;
        drop((images, masks));

        // 2. encode the fill, and what is shown of the picture
        let scaled = |image: &Tensor| -> Result<Tensor> {
            Ok((vae.encode(image)?.mode() * vae.scaling_factor())?)
        };
        let image_latents = scaled(&image)?;
        let masked_image_latents = match self.restorer.options.shown {
            Shown::Grey => scaled(&image.broadcast_mul(&(1.0 - &mask)?)?)?,
            Shown::Filled => image_latents.clone(),
            Shown::Damage => {
                let seen = |job: &Job| image_tensor(self.original, job.window.rect, job.size);
                let seen = Tensor::cat(&batch.iter().map(seen).collect::<Result<Vec<_>>>()?, 0)?;
                scaled(&seen.to_device(device)?.to_dtype(*dtype)?)?
            }
        };
        self.report.encode_time += started.elapsed();
        progress.add(batch.len())?;

        // 3. paint the latents, and take the mean of all times
        let started = Instant::now();
        let conditioning = Conditioning {
            mask: latent_mask(&mask, vae.factor(), MaskShrink::Max)?,
            masked_image_latents,
            prompt_embeds: repeat(&self.restorer.prompts.positive, batch.len())?,
            negative_prompt_embeds: repeat(&self.restorer.prompts.negative, batch.len())?,
            guidance_scale: self.restorer.options.guidance_scale,
            kept: None,
        };
        let draws = self.restorer.options.draws;
        let mut draw = |number: usize| {
            let mut noise = WindowNoise::new(self.restorer.options.seed, number, batch);
            self.draw(kind, &mut noise, &image_latents, &conditioning, &mut || {
                progress.step(batch.len())
            })
        };
        let mut latents = draw(0)?;
        for number in 1..draws {
            latents = (latents + draw(number)?)?;
        }
        let latents = (latents / draws as f64)?;
        self.report.unet_evaluations += steps * draws * batch.len();
        self.report.denoise_time += started.elapsed();

        // 4. decode and paste
        let started = Instant::now();
        let mut decoded = vae.decode(&latents, &image, &mask)?;
        if self.restorer.options.shown != Shown::Damage {
            // What the autoencoder alone loses of the fill is added again, so that only what the UNet changed is painted.
            let lost = (&image - vae.decode(&image_latents, &image, &mask)?)?;
            decoded = (decoded + lost)?;
        }
        for (at, job) in batch.iter().enumerate() {
            self.paste(job, &decoded.narrow(0, at, 1)?)?;
        }
        self.report.decode_time += started.elapsed();
        progress.observer.painted(&self.canvas);
        progress.add(batch.len())
    }

    /// Latents that are drawn once: from the noised fill, or from noise, to the end of the schedule.
    fn draw(
        &self,
        kind: &Job,
        noise: &mut WindowNoise,
        image_latents: &Tensor,
        conditioning: &Conditioning,
        after: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Tensor> {
        let Restorer { components, options, .. } = self.restorer;
        let Components { vae, device, dtype, .. } = components;
        let Job { size: (width, height), first, from_noise, .. } = kind;
        let mut scheduler =
            components.scheduler.build(options.scheduler, options.num_inference_steps)?;
        let shape =
            (noise.0.len(), vae.latent_channels(), height / vae.factor(), width / vae.factor());
        let initial = noise.randn(&shape.into(), *dtype, device)?;
        let latents = if *from_noise {
            (&initial * scheduler.init_noise_sigma())?
        } else {
            scheduler.add_noise(image_latents, &initial, *first)?
        };
        let image_latents = image_latents.clone();
        let kept = (!components.sees_mask()).then_some(Kept { image_latents, noise: initial });
        let conditioning = Conditioning { kept, ..conditioning.clone() };
        denoise(components, scheduler.as_mut(), *first, latents, &conditioning, noise, after)
    }

    /// Paints the damage that the window answers for; beyond its core the paint thins out, so that neighbours meet
    /// without an edge.
    fn paste(&mut self, job: &Job, decoded: &Tensor) -> Result<()> {
        let Window { rect, core, .. } = job.window;
        // 1. to the picture's pixels
        let mut planes = decoded_planes(decoded, rect, self.original.color())?;
        let original = self.original.color_planes(rect);

        // 2. in the colours of what surrounds it
        let damage = crop(self.damage, rect);
        seams::undo(&mut planes, &original, &damage)?;

        // 3. onto the canvas
        let fade = ((rect.width.max(rect.height) as f64 * self.restorer.options.windows.margin)
            / 2.0)
            .max(1.0);
        let mut ramp = Mask::empty(self.damage.width(), self.damage.height());
        for y in 0..rect.height {
            for x in 0..rect.width {
                if damage.plane().get(x, y) > 0 {
                    let beyond = distance((rect.x + x, rect.y + y), core);
                    let weight = (1.0 - beyond / fade).max(0.0) * 255.0;
                    ramp.plane_mut().set(rect.x + x, rect.y + y, weight.round() as u8);
                }
            }
        }
        Ok(composite(&mut self.canvas, rect, &planes, &ramp)?)
    }
}

/// How far a pixel lies outside of `rect`, in pixels, along the axis where it lies further.
fn distance((x, y): (usize, usize), rect: Rect) -> f64 {
    let beyond = |at: usize, start: usize, end: usize| {
        start.saturating_sub(at).max((at + 1).saturating_sub(end))
    };
    beyond(x, rect.x, rect.right()).max(beyond(y, rect.y, rect.bottom())) as f64
}

/// Each window's own noise: the result does not depend on which windows share a batch.
struct WindowNoise(Vec<TorchNoise>);

impl WindowNoise {
    fn new(seed: u64, draw: usize, batch: &[Job]) -> Self {
        // Draws are far apart within the 32 bits of a seed that count (an odd part of 2³², the golden section's).
        let seed = seed.wrapping_add(draw as u64 * 0x9E37_79B1);
        Self(batch.iter().map(|job| TorchNoise::new(seed.wrapping_add(job.number))).collect())
    }
}

impl NoiseSource for WindowNoise {
    fn randn(
        &mut self,
        shape: &candle_core::Shape,
        dtype: candle_core::DType,
        device: &candle_core::Device,
    ) -> Result<Tensor> {
        let mut one = shape.dims().to_vec();
        one[0] = 1;
        let parts = self
            .0
            .iter_mut()
            .map(|source| source.randn(&one.clone().into(), dtype, device))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_beyond_the_core_are_counted_along_the_longer_way() {
        let core = Rect::new(10, 20, 5, 6);
        assert_eq!(distance((10, 20), core), 0.0);
        assert_eq!(distance((14, 25), core), 0.0);
        assert_eq!(distance((15, 27), core), 2.0);
        assert_eq!(distance((7, 19), core), 3.0);
    }
}
