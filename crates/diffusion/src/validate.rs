//! Judges a model in training by restoring pictures with it, as `photomend restore` would.

use std::sync::Arc;

use candle_core::DType;
use imaging::io::{ReadOptions, read_image, read_mask};
use imaging::metrics::{SsimWindow, masked_psnr, psnr, ssim};
use imaging::report::sheet::{SheetOptions, comparison, worst_damage};
use imaging::restore::MaskSource;
use imaging::windows::WindowOptions;
use imaging::{Image, ImagingError, Mask, Observer, Quiet};

use crate::components::Components;
use crate::error::Result;
use crate::pipelines::restore::{RestoreOptions, Restorer};
use crate::train::data::TripletPaths;
use crate::train::{MeanScores, Subject, Validation, Validator};

/// Windows are no smaller than this, whatever the resolution of the training.
const SMALLEST_WINDOW: usize = 64;

/// Restores every held-out picture under its given mask, and compares with the clean one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreValidator;

impl Validator for RestoreValidator {
    fn validate(&self, subject: &Subject<'_>, observer: &dyn Observer) -> Result<Validation> {
        let settings = &subject.options.validation;
        // As in `LoadOptions::compute_dtype`; GPUs keep what the base is stored in.
        let dtype = match subject.options.base.dtype.dtype() {
            stored if !subject.device.is_cpu() => stored,
            _ => DType::F32,
        };
        let components = Components::from_parts(
            subject.vae.clone(),
            subject.unet.clone(),
            subject.scheduler.clone(),
            subject.device.clone(),
            dtype,
        );
        let size = settings.window_size.unwrap_or(subject.options.data.resolution);
        let options = RestoreOptions {
            num_inference_steps: settings.steps,
            guidance_scale: settings.guidance,
            windows: WindowOptions {
                // Windows are of whole latents at every resolution of the UNet.
                size: size.max(SMALLEST_WINDOW).next_multiple_of(components.multiple()),
                ..WindowOptions::default()
            },
            seed: subject.options.run.seed,
            shown: subject.options.data.masked_image.shown(),
            prefill: Arc::clone(subject.fill),
            ..RestoreOptions::default()
        };
        let restorer =
            Restorer { components: &components, prompts: subject.prompts, options: &options };
        let read = ReadOptions::default();
        let mut sums = [MeanScores::default(); 2];
        let mut sheets = Vec::new();
        let total = subject.triplets.len();
        for (at, TripletPaths { clean, damaged, mask }) in subject.triplets.iter().enumerate() {
            observer.progress("validate", at as u64, total as u64);
            observer.check()?;
            let (clean, before) = (read_image(clean, &read)?, read_image(damaged, &read)?);
            let mask = read_mask(mask, &read)?;
            let source = MaskSource::Given { mask: mask.binarized(128), dilate: 0, feather: 0.0 };
            let after = restorer.restore(before.clone(), source, &Quiet(observer))?.image;
            for (sum, image) in sums.iter_mut().zip([&after, &before]) {
                sum.psnr += psnr(&clean, image)? / total as f64;
                let masked = masked_psnr(&clean, image, &mask)?;
                sum.masked_psnr += masked.unwrap_or(f64::NAN) / total as f64;
                sum.ssim += ssim(&clean, image, SsimWindow::default())? / total as f64;
            }
            if sheets.len() < settings.images {
                let name = damaged.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                sheets.push((name, sheet(&before, &mask, &after, &clean)?));
            }
        }
        observer.progress("validate", total as u64, total as u64);
        Ok(Validation { scores: sums[0], before: sums[1], sheets })
    }
}

/// Damaged → Mask → Restored → Clean, and below the part with the most damage enlarged.
fn sheet(before: &Image, mask: &Mask, after: &Image, clean: &Image) -> Result<Image, ImagingError> {
    let mask_image = mask.to_image()?;
    let options = SheetOptions { focus: worst_damage(mask), ..SheetOptions::default() };
    let panels =
        [("Damaged", before), ("Mask", &mask_image), ("Restored", after), ("Clean", clean)];
    comparison(&panels, &options)
}
