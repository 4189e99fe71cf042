//! Restoration: Stable Diffusion inpainting that knows about thin damage.
//!
//! Where diffusers shrinks the whole picture to the network's size, this looks at the damage through windows that
//! enlarge it, keeps thin cracks when the mask becomes latents, starts from a fill where that is already
//! nearly right, paints only what the network changed of that, undoes what it did to kept pixels, and pastes inside the mask only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imaging::detect::DetectionStats;
use imaging::fill::{FillOptions, FillReport};
use imaging::restore::{FoundMask, MaskSource, find_mask};
use imaging::windows::{self, WindowOptions};
use imaging::{Image, ImagingError, Mask, Observer, Repainter};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::denoise::first_step;
use super::inpaint::{InpaintOptions, inpaint};
use super::painter::{Painter, Progress, batches};
pub use crate::components::DEFAULT_PROMPT;
use crate::components::{Components, PromptEmbeds, Shown};
use crate::error::{DiffusionError, Result};
use crate::noise::TorchNoise;
use crate::pixels::{blend_in, decoded_planes, image_tensor, mask_tensor, paste_all};
use crate::schedulers::SchedulerKind;

/// What to lead away from when the caller has no wish of his own.
pub const DEFAULT_NEGATIVE_PROMPT: &str =
    "cracks, scratches, folds, tears, stains, dust, missing paint, text, watermark, blurry";

/// How much of the fill is painted over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Strength {
    /// By the width of the damage as the network sees it: [`THIN_STRENGTH`] up to one latent, 1 (from pure noise)
    /// from [`WIDE_LATENTS`] on.
    #[default]
    Auto,
    /// The same everywhere, `0 < strength ≤ 1`.
    Fixed(f64),
}

/// The strength for damage that is no wider than a latent: the fill is nearly right, texture is missing.
pub const THIN_STRENGTH: f64 = 0.4;

/// The width in latents from which damage is painted from pure noise.
pub const WIDE_LATENTS: f64 = 8.0;

/// How the picture is shown to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pipeline {
    /// Through windows around the damage, as this module describes.
    #[default]
    Windows,
    /// As diffusers' inpainting pipeline shows it: the whole picture resized to the window size, the mask shrunk by
    /// its corners, no fill, no colour match. The result is still pasted inside the mask only.
    Diffusers,
}

/// How a picture is restored.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// How the picture is shown to the network.
    pub pipeline: Pipeline,
    /// Steps at strength 1. Default: 30.
    pub num_inference_steps: usize,
    /// Classifier-free guidance; off at 1 or below. Default: 4, as the kept pixels say most of what is wanted.
    pub guidance_scale: f64,
    /// How much of the fill is painted over.
    pub strength: Strength,
    /// The sampler; `None` for the checkpoint's own.
    pub scheduler: Option<SchedulerKind>,
    /// The seed of all noise. Default: 0.
    pub seed: u64,
    /// How windows are laid out.
    pub windows: WindowOptions,
    /// How often each window is painted, `1 ..= 64`, with other noise each time; the mean of the latents is decoded. The more, the
    /// nearer to the truth on average, and the smoother. [`Pipeline::Diffusers`] paints once. Default: 1.
    pub draws: usize,
    /// Windows that go through the network together, at least 1. The result does not depend on it. Default: 1.
    pub batch_size: usize,
    /// What the network is shown where the picture is to be repainted; [`Pipeline::Diffusers`] shows grey.
    pub shown: Shown,
    /// What fills the damage before, for it to start from.
    pub prefill: Arc<dyn Repainter>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            pipeline: Pipeline::default(),
            num_inference_steps: 30,
            guidance_scale: 4.0,
            strength: Strength::Auto,
            scheduler: None,
            seed: 0,
            windows: WindowOptions::default(),
            draws: 1,
            batch_size: 1,
            shown: Shown::default(),
            prefill: Arc::new(FillOptions::default()),
        }
    }
}

impl RestoreOptions {
    /// How the [carried](crate::carried) checkpoint is used best; `docs/models.md` has the table that decided it.
    #[must_use]
    pub fn compact() -> Self {
        Self {
            num_inference_steps: 2,
            guidance_scale: 1.0,
            strength: Strength::Fixed(0.5),
            windows: WindowOptions { size: 256, max_zoom: 1.0, ..WindowOptions::default() },
            draws: 4,
            shown: Shown::Filled,
            ..Self::default()
        }
    }
}

/// What was repainted and how long each stage took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RepaintReport {
    /// Windows that were looked at.
    pub windows: usize,
    /// Evaluations of the UNet, one for each window and step (guidance doubles each).
    pub unet_evaluations: usize,
    /// The fill.
    pub prefill: FillReport,
    /// Seconds for the fill.
    #[serde(serialize_with = "seconds", rename = "prefill_s")]
    pub prefill_time: Duration,
    /// Seconds for encoding windows.
    #[serde(serialize_with = "seconds", rename = "encode_s")]
    pub encode_time: Duration,
    /// Seconds for denoising.
    #[serde(serialize_with = "seconds", rename = "denoise_s")]
    pub denoise_time: Duration,
    /// Seconds for decoding and pasting.
    #[serde(serialize_with = "seconds", rename = "decode_s")]
    pub decode_time: Duration,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// What a restoration did and how long each stage took.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreReport {
    /// What the detector found; `None` when a mask was given.
    pub detection: Option<DetectionStats>,
    /// Share of the pixels that may have changed, in `0 ..= 1`.
    pub coverage: f64,
    /// Seconds for finding the damage.
    #[serde(serialize_with = "seconds", rename = "detect_s")]
    pub detect_time: Duration,
    /// What was repainted.
    #[serde(flatten)]
    pub repaint: RepaintReport,
}

/// A restored picture, the blend weights that were used, and the report.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The picture; bit-identical to the input wherever `mask` is 0.
    pub image: Image,
    /// The blend weights.
    pub mask: Mask,
    /// What was done.
    pub report: RestoreReport,
}

/// A model with its prompts and options: everything that is the same for all pictures of a run.
#[derive(Clone, Copy, Debug)]
pub struct Restorer<'a> {
    /// The networks.
    pub components: &'a Components,
    /// What to paint.
    pub prompts: &'a PromptEmbeds,
    /// How.
    pub options: &'a RestoreOptions,
}

impl Restorer<'_> {
    /// Restores one picture: finds the damage or takes a mask, repaints it, leaves the rest as it was.
    ///
    /// # Errors
    /// Those of [`find_mask`] and of [`Restorer::repaint`].
    pub fn restore(
        &self,
        mut image: Image,
        source: MaskSource,
        observer: &dyn Observer,
    ) -> Result<Restored> {
        let FoundMask { mask, detection, time } = find_mask(&image, source, observer)?;
        let repaint = self.repaint(&mut image, &mask, observer)?;
        let report =
            RestoreReport { detection, coverage: mask.coverage(), detect_time: time, repaint };
        Ok(Restored { image, mask, report })
    }

    /// Repaints `image` where `weights` is above 0, blended by the weight; every other sample keeps its bits.
    ///
    /// On an error or a stop the picture is as it was.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for options out of range, [`ImagingError::Size`] if the mask has another size, those
    /// of the tensor operations, and `Cancelled`.
    pub fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> Result<RepaintReport> {
        // 1. check, and lay out the windows
        ImagingError::check_size("mask", image.size(), weights.size())?;
        self.options.check(self.components)?;
        let damage = weights.binarized(1);
        if self.options.pipeline == Pipeline::Diffusers {
            return self.repaint_whole(image, weights, &damage, observer);
        }
        let windows = windows::plan(&damage, &self.options.windows)?;
        let mut report = RepaintReport { windows: windows.len(), ..RepaintReport::default() };
        if windows.is_empty() {
            return Ok(report);
        }

        // 2. the fill of all damage, which the windows then paint over
        let started = Instant::now();
        let mut filled = image.clone();
        // Nothing is kept of a picture that is damaged everywhere: where the network sees the damage, it needs no fill either.
        let is_everywhere = damage.coverage() == 1.0;
        if !(is_everywhere && self.options.shown == Shown::Damage) {
            report.prefill = self.options.prefill.repaint(&mut filled, &damage, observer)?;
        }
        report.prefill_time = started.elapsed();

        // 3. the windows, in batches that share a shape and a first step
        let canvas = filled.clone();
        let mut painter =
            Painter { restorer: *self, original: image, damage: &damage, filled, canvas, report };
        let jobs = painter.jobs(windows)?;
        let mut progress = Progress::new(&jobs, self.options.draws, observer);
        for batch in batches(jobs, self.options.batch_size) {
            painter.paint(&batch, &mut progress)?;
        }

        // 4. into the picture, inside the mask only
        let Painter { canvas, report, .. } = painter;
        blend_in(image, &canvas, weights)?;
        Ok(report)
    }

    /// diffusers' pipeline on the whole picture, pasted inside the mask.
    fn repaint_whole(
        &self,
        image: &mut Image,
        weights: &Mask,
        damage: &Mask,
        observer: &dyn Observer,
    ) -> Result<RepaintReport> {
        if damage.is_empty() {
            return Ok(RepaintReport::default());
        }
        let Self { components, options, .. } = self;
        let size = (options.windows.size, options.windows.size);
        let strength = match options.strength {
            Strength::Auto => 1.0,
            Strength::Fixed(strength) => strength,
        };
        let inpaint_options = InpaintOptions {
            num_inference_steps: options.num_inference_steps,
            guidance_scale: options.guidance_scale,
            strength,
            scheduler: options.scheduler,
        };

        // 1. through the network
        let started = Instant::now();
        let bounds = image.bounds();
        let tensor = image_tensor(image, bounds, size)?.to_device(&components.device)?;
        let mask = mask_tensor(damage, bounds, size)?.to_device(&components.device)?;
        let mut noise = TorchNoise::new(options.seed);
        let decoded = inpaint(
            components,
            &tensor,
            &mask,
            self.prompts,
            &inpaint_options,
            &mut noise,
            observer,
        )?;
        let denoise_time = started.elapsed();

        // 2. into the picture, inside the mask only
        let started = Instant::now();
        let planes = decoded_planes(&decoded, bounds, image.color())?;
        let mut canvas = image.clone();
        paste_all(&mut canvas, &planes, damage)?;
        blend_in(image, &canvas, weights)?;
        let steps =
            options.num_inference_steps - first_step(options.num_inference_steps, strength)?;
        Ok(RepaintReport {
            windows: 1,
            unet_evaluations: steps,
            denoise_time,
            decode_time: started.elapsed(),
            ..RepaintReport::default()
        })
    }
}

impl Repainter for Restorer<'_> {
    fn name(&self) -> &'static str {
        "model"
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> imaging::Result<FillReport> {
        Ok(Restorer::repaint(self, image, weights, observer)?.prefill)
    }

    fn is_heavy(&self) -> bool {
        true
    }

    fn parameters(&self) -> Value {
        let options = self.options;
        let strength = match options.strength {
            Strength::Auto => Value::from("auto"),
            Strength::Fixed(strength) => Value::from(strength),
        };
        serde_json::json!({
            "steps": options.num_inference_steps,
            "draws": options.draws,
            "guidance": options.guidance_scale,
            "strength": strength,
            "scheduler": options.scheduler.map(|scheduler| scheduler.to_string()),
            "show": options.shown.to_string(),
            "window_size": options.windows.size,
            "max_zoom": options.windows.max_zoom,
            "seed": options.seed,
        })
    }
}

impl RestoreOptions {
    /// `Ok` if the options are in range and fit the model: what [`Restorer::repaint`] checks first.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] that names the option.
    pub fn check(&self, components: &Components) -> Result<()> {
        if self.batch_size == 0 {
            return Err(DiffusionError::argument("batch size", "at least 1", 0));
        }
        if !(1..=64).contains(&self.draws) {
            return Err(DiffusionError::argument("draws", "1 to 64", self.draws));
        }
        if !(0.0..=100.0).contains(&self.guidance_scale) {
            return Err(DiffusionError::argument(
                "guidance scale",
                "0 to 100",
                self.guidance_scale,
            ));
        }
        if let Strength::Fixed(strength) = self.strength {
            first_step(self.num_inference_steps, strength)?;
        }
        let (size, multiple) = (self.windows.size, components.multiple());
        if !size.is_multiple_of(multiple) {
            let expected = format!("a multiple of {multiple} for this model");
            return Err(DiffusionError::argument("window size", expected, size));
        }
        Ok(())
    }

    /// The strength for damage that is `latents` wide as the network sees it.
    pub(super) fn strength_for(&self, latents: f64) -> f64 {
        match self.strength {
            Strength::Fixed(strength) => strength,
            Strength::Auto => {
                let share = latents.max(1.0).ln() / WIDE_LATENTS.ln();
                THIN_STRENGTH + (1.0 - THIN_STRENGTH) * share.min(1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_grows_with_the_width_of_the_damage() {
        let options = RestoreOptions::default();
        assert_eq!(options.strength_for(0.2), THIN_STRENGTH);
        assert_eq!(options.strength_for(1.0), THIN_STRENGTH);
        // ln 4 / ln 8 = 2/3; 0.4 + 0.6 · 2/3 = 0.8
        assert!((options.strength_for(4.0) - 0.8).abs() < 1e-12);
        assert_eq!(options.strength_for(20.0), 1.0);
        let fixed = RestoreOptions { strength: Strength::Fixed(0.3), ..options };
        assert_eq!(fixed.strength_for(20.0), 0.3);
    }
}
