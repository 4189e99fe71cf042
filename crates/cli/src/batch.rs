//! Works through many pictures: goes on after a failure, reports all failures at the end, stops on Ctrl-C.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use imaging::Observer;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Outcome, flatten, is_cancelled};
use crate::inputs;
use crate::panics;
use crate::progress::ItemObserver;

/// Pictures are worked on side by side while they have fewer pixels than this together; a larger one is
/// alone and has all threads for itself. 40 million pixels at 16-bit RGB with working planes take about 1.5 GB.
const PIXELS_AT_ONCE: u64 = 40_000_000;

/// More pictures side by side than this only wait for the disk.
const ITEMS_AT_ONCE: usize = 16;

/// One picture of a batch, as the batch sees it.
pub(crate) trait Job: Sync {
    /// What the report says about it when all went well.
    type Report: Serialize + Send;

    /// The file that it is named after.
    fn input(&self) -> &Path;

    /// Its size in pixels, from the file's header; 0 if that cannot be read.
    fn pixels(&self) -> u64 {
        inputs::pixels(self.input())
    }

    /// Does the work.
    fn run(&self, context: &Context, observer: &dyn Observer) -> anyhow::Result<Self::Report>;
}

/// What came of a batch; serialises as `{"images": [...], "totals": {...}}`.
#[derive(Serialize)]
pub(crate) struct BatchReport<'a, R> {
    images: Vec<ItemReport<'a, R>>,
    totals: Totals,
}

#[derive(Serialize)]
struct ItemReport<'a, R> {
    input: &'a Path,
    #[serde(flatten)]
    report: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How a batch went, in figures.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Totals {
    /// Pictures in the batch.
    pub(crate) images: usize,
    /// Pictures done.
    pub(crate) done: usize,
    /// Pictures that failed.
    pub(crate) failed: usize,
    /// Pictures that were not reached, or dropped half-way, when the user asked to stop.
    pub(crate) skipped: usize,
    /// Wall-clock seconds for all.
    pub(crate) seconds: f64,
}

impl<R> BatchReport<'_, R> {
    /// Writes the failures to stderr, and says how the verb ended.
    pub(crate) fn finish(&self, context: &Context) -> Outcome {
        for item in &self.images {
            if let Some(error) = &item.error {
                context.error(error);
            }
        }
        let Totals { images, done, failed, skipped, .. } = self.totals;
        if failed > 0 && images > 1 {
            context.error(&format!("{failed} of {images} images failed"));
        }
        if skipped > 0 {
            context.error(&format!("interrupted: {done} of {images} images are done"));
            return Outcome::Interrupted;
        }
        if failed > 0 { Outcome::Failed } else { Outcome::Done }
    }
}

/// Runs all jobs. The report is in their order, whatever order they end in.
pub(crate) fn run<'a, J: Job>(context: &Context, jobs: &'a [J]) -> BatchReport<'a, J::Report> {
    let started = Instant::now();
    let workers = rayon::current_num_threads().min(jobs.len()).clamp(1, ITEMS_AT_ONCE);
    let count = (jobs.len() > 1).then(|| context.progress().count("images", jobs.len()));
    let queue = Mutex::new(jobs.iter().enumerate());
    let budget = PixelBudget::default();
    let finished = Mutex::new(BTreeMap::new());

    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, job)) = next else { break };
            let _share = budget.take(job.pixels());
            if context.cancelled() {
                break;
            }
            let result = run_one(context, job);
            finished.lock().unwrap_or_else(PoisonError::into_inner).insert(index, result);
            if let Some(bar) = &count {
                bar.inc(1);
            }
        }
    };
    if workers == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
    }
    if let Some(bar) = count {
        bar.finish_and_clear();
    }

    let mut totals = Totals { images: jobs.len(), ..Totals::default() };
    let mut images = Vec::with_capacity(jobs.len());
    for (index, result) in finished.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let input = jobs[index].input();
        match result {
            Ok(report) => {
                totals.done += 1;
                images.push(ItemReport { input, report: Some(report), error: None });
            }
            Err(error) if is_cancelled(&error) => {}
            Err(error) => {
                totals.failed += 1;
                images.push(ItemReport { input, report: None, error: Some(name(input, &error)) });
            }
        }
    }
    totals.skipped = totals.images - totals.done - totals.failed;
    totals.seconds = started.elapsed().as_secs_f64();
    BatchReport { images, totals }
}

/// A panic in one picture (a defect, here or in a decoder) must not take the others with it.
fn run_one<J: Job>(context: &Context, job: &J) -> anyhow::Result<J::Report> {
    let name = job.input().file_name().unwrap_or_default().to_string_lossy();
    let line = context.progress().stage_line(&format!("{name}: "));
    let observer = ItemObserver { cancel: context.cancel(), line };
    panics::caught(|| job.run(context, &observer))
}

/// The error as a line that names the picture, once.
fn name(input: &Path, error: &anyhow::Error) -> String {
    let (input, line) = (input.display().to_string(), flatten(error));
    if line.contains(&input) { line } else { format!("{input}: {line}") }
}

/// Shares out [`PIXELS_AT_ONCE`].
#[derive(Default)]
struct PixelBudget {
    taken: Mutex<u64>,
    returned: Condvar,
}

impl PixelBudget {
    /// Waits until `pixels` fit; more than the whole budget waits until nothing else is taken.
    fn take(&self, pixels: u64) -> Share<'_> {
        let pixels = pixels.min(PIXELS_AT_ONCE);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self
            .returned
            .wait_while(taken, |taken| *taken + pixels > PIXELS_AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += pixels;
        Share { budget: self, pixels }
    }
}

/// Pixels that are given back when dropped.
struct Share<'a> {
    budget: &'a PixelBudget,
    pixels: u64,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.pixels;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_waits_until_its_pixels_fit() {
        let budget = PixelBudget::default();
        let order = Mutex::new(Vec::new());
        let log = |what| order.lock().expect("no panic").push(what);
        let large = budget.take(PIXELS_AT_ONCE * 3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _small = budget.take(1);
                log("small");
            });
            std::thread::sleep(std::time::Duration::from_millis(30));
            log("large");
            drop(large);
        });
        assert_eq!(*order.lock().expect("no panic"), ["large", "small"]);
        assert_eq!(*budget.taken.lock().expect("no panic"), 0);
    }

    #[test]
    fn an_error_names_its_picture_once() {
        let input = Path::new("a.png");
        assert_eq!(name(input, &anyhow::anyhow!("no mask")), "a.png: no mask");
        assert_eq!(name(input, &anyhow::anyhow!("a.png: broken")), "a.png: broken");
    }
}
