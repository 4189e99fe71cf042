//! Pages as files, for programs that train the same networks elsewhere, on a GPU for example.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};
use imaging::{Image, Samples};
use rayon::prelude::*;

use super::pages::{Page, Pages};
use super::photographs::Photographs;
use super::trainer::PixelTrainJob;
use crate::checkpoint::save_tensors;
use crate::error::{DiffusionError, Result};
use crate::train::outputs;
use crate::train::state::States;
use crate::train::trainer::TrainObserver;

/// Writes the first pages of a run in place of training on them, and returns how many are there now: fewer than `count` if it
/// was asked to stop. With [`PixelTrainJob::resume`] those that are there already stay, with
/// [`PixelTrainJob::force`] they are replaced.
///
/// `OUTPUT/pages/NUMBER.safetensors` has, all of them u8,
/// - `clean`: `(h, w, 3)`, the picture
/// - `shown`: `(h, w, 3)`, what the network is shown of it: damaged for a detector, filled for a refiner
/// - `mask`: `(h, w)`, 1 where it is damaged
///
/// # Errors
/// [`DiffusionError::Argument`] for settings outside their range, [`DiffusionError::Io`] if there are pages already; those of
/// reading the photographs and of writing.
pub fn export_pages(
    job: PixelTrainJob<'_>,
    count: u64,
    observer: &dyn TrainObserver,
) -> Result<u64> {
    let PixelTrainJob { options, output, resume, force, .. } = job;
    options.validate()?;
    let photographs = Photographs::open(&options.pages, options.seed)?;
    outputs::check_folder(output, &States::new(output), resume || force)?;
    let folder = output.join("pages");
    if folder.is_dir() && !resume {
        if !force {
            return Err(outputs::is_there(&folder));
        }
        // Those of other settings must not stay among the new ones.
        std::fs::remove_dir_all(&folder)
            .map_err(|source| DiffusionError::io(&folder, "delete", source))?;
    }
    outputs::make_folder(&folder)?;
    outputs::write_text(&output.join("run.toml"), &options.to_toml()?)?;

    let pages = Pages::new(&photographs, options);
    let done = AtomicU64::new(0);
    (0..count).into_par_iter().try_for_each(|number| {
        if observer.cancelled() {
            return Ok(());
        }
        let path = folder.join(format!("{number:06}.safetensors"));
        if !(resume && path.is_file()) {
            write(&path, &pages.make(number)?)?;
        }
        observer.progress("pages", done.fetch_add(1, Ordering::Relaxed) + 1, count);
        Ok::<_, DiffusionError>(())
    })?;
    Ok(done.into_inner())
}

fn write(path: &Path, page: &Page) -> Result<()> {
    let (width, height) = page.clean.size();
    let damaged = page.mask.mask().plane().data().iter().map(|&weight| u8::from(weight > 0));
    let mask = Tensor::from_vec(damaged.collect(), (height, width), &Device::Cpu)?;
    let tensors = HashMap::from([
        ("clean".to_owned(), pixels(&page.clean)?),
        ("shown".to_owned(), pixels(&page.shown)?),
        ("mask".to_owned(), mask),
    ]);
    save_tensors(path, true, &tensors, &BTreeMap::new())
}

/// An 8-bit RGB picture, `(h, w, 3)`.
fn pixels(image: &Image) -> Result<Tensor> {
    let Samples::U8(samples) = image.samples() else {
        return Err(DiffusionError::argument("page", "8 bits a channel", "16"));
    };
    Ok(Tensor::from_slice(samples, (image.height(), image.width(), 3), &Device::Cpu)?)
}
