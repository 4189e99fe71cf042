//! How a network in training does on photographs that it does not train on.

use std::time::Instant;

use imaging::Mask;
use imaging::metrics::detection_score;
use rayon::prelude::*;

use super::crops::CropBatch;
use super::loss::visibility;
use super::options::{PixelTask, PixelTrainOptions};
use super::pages::Page;
use super::photographs::Photographs;
use super::student::Student;
use crate::error::Result;
use crate::models::PixelUnet;
use crate::random::sub_seed;
use crate::train::journal::Journal;
use crate::train::log::LogEntry;
use crate::train::optimizer::Optimizer;

/// How far a found pixel may lie from a true one, in pixels.
const TOLERANCE: f64 = 2.0;

/// Pages of the photographs that are held back, the same at every validation.
pub(super) struct Judge {
    pages: Vec<Page>,
}

impl Judge {
    pub(super) fn new(photographs: &Photographs, options: &PixelTrainOptions) -> Result<Self> {
        let seed = sub_seed(options.seed, "judge");
        let pages = photographs
            .held_out()
            .par_iter()
            .enumerate()
            .map(|(at, path)| {
                let seed = sub_seed(seed, &format!("page {at}"));
                Page::make(path, options.task, &options.pages, seed)
            })
            .collect::<Result<_>>()?;
        Ok(Self { pages })
    }

    pub(super) fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Writes what the student scores into the journal, of the weights as they would be saved; nothing if there are no pages.
    pub(super) fn judge(
        &self,
        student: &dyn Student,
        optimizer: &Optimizer,
        journal: &mut Journal<'_>,
    ) -> Result<()> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let judged = || student.judge(&self.pages, optimizer.step);
        journal.validated(&optimizer.with_final_weights(judged)?)
    }
}

/// How a detector does on pages.
pub(super) fn detection(unet: &PixelUnet, pages: &[Page], step: u64) -> Result<LogEntry> {
    let started = Instant::now();
    let [precision, recall, f1, flagged] = means(pages, |page| detected(unet, page))?;
    let (images, seconds) = (pages.len(), started.elapsed().as_secs_f64());
    Ok(LogEntry::Detection { step, images, precision, recall, f1, flagged, seconds })
}

/// How a refiner does on pages.
pub(super) fn refinement(unet: &PixelUnet, pages: &[Page], step: u64) -> Result<LogEntry> {
    let started = Instant::now();
    let [masked_psnr, filled_masked_psnr] = means(pages, |page| refined(unet, page))?;
    let (images, seconds) = (pages.len(), started.elapsed().as_secs_f64());
    Ok(LogEntry::Refinement { step, images, masked_psnr, filled_masked_psnr, seconds })
}

fn means<const N: usize>(
    pages: &[Page],
    score: impl Fn(&Page) -> Result<[f64; N]>,
) -> Result<[f64; N]> {
    let mut sums = [0.0; N];
    for page in pages {
        sums.iter_mut().zip(score(page)?).for_each(|(sum, score)| *sum += score);
    }
    Ok(sums.map(|sum| sum / pages.len().max(1) as f64))
}

/// What the network says of a whole page.
fn output(unet: &PixelUnet, task: PixelTask, page: &Page) -> Result<(Vec<f32>, CropBatch)> {
    let batch = CropBatch::new(task, unet.config().in_channels, &[(page, page.clean.bounds())])?;
    let output = unet.forward(&batch.input)?.detach();
    Ok((output.flatten_all()?.to_vec1()?, batch))
}

/// Precision, recall, F1, and the share of the page that was found.
fn detected(unet: &PixelUnet, page: &Page) -> Result<[f64; 4]> {
    let (logits, batch) = output(unet, PixelTask::Detector, page)?;
    let (width, height) = page.clean.size();
    let found = Mask::from_fn(width, height, |x, y| logits[y * width + x] > 0.0);
    let visibility = visibility(&batch);
    let is_seen = |at: usize| batch.mask[at] > 0.0 && visibility[at] > 0.5;
    let seen = Mask::from_fn(width, height, |x, y| is_seen(y * width + x));
    // Nothing that is damaged is wrong to find, and only what can be seen has to be found.
    let precision = detection_score(&found, page.mask.mask(), TOLERANCE)?.precision;
    let recall = detection_score(&found, &seen, TOLERANCE)?.recall;
    let f1 = 2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE);
    Ok([precision, recall, f1, found.coverage()])
}

/// The PSNR over masked pixels with the network and without.
fn refined(unet: &PixelUnet, page: &Page) -> Result<[f64; 2]> {
    let (residual, batch) = output(unet, PixelTask::Refiner, page)?;
    let psnr = |added: &dyn Fn(usize) -> f32| {
        let (mut sum, mut count) = (0.0, 0);
        for (i, (&clean, &shown)) in batch.clean.iter().zip(&batch.shown).enumerate() {
            if batch.mask[i / 3] > 0.0 {
                sum += f64::from(0.5 * ((shown + added(i)).clamp(-1.0, 1.0) - clean)).powi(2);
                count += 1;
            }
        }
        -10.0 * (sum / f64::from(count.max(1)) + 1e-8).log10()
    };
    Ok([psnr(&|i| residual[i]), psnr(&|_| 0.0)])
}
