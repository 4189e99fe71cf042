//! Listens to a running restoration: progress, previews, and the reasons to stop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use imaging::{Image, Observer, Step};

use super::{Job, Progress};
use crate::views::{ViewSize, write_view};

/// Between two previews; drawing one takes a tenth of that.
const BETWEEN_PREVIEWS: Duration = Duration::from_secs(1);

/// The [`Observer`] of one job.
pub(super) struct JobObserver<'a> {
    job: &'a Job,
    stopping: &'a AtomicBool,
    started: Instant,
    limit: Duration,
    preview: PathBuf,
    times: Mutex<Times>,
}

struct Times {
    stage: Instant,
    preview: Option<Instant>,
}

impl<'a> JobObserver<'a> {
    pub(super) fn new(
        job: &'a Job,
        stopping: &'a AtomicBool,
        limit: Duration,
        preview: PathBuf,
    ) -> Self {
        let now = Instant::now();
        let times = Mutex::new(Times { stage: now, preview: None });
        Self { job, stopping, started: now, limit, preview, times }
    }

    /// How long it runs.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// True if it takes longer than it may.
    pub(super) fn is_late(&self) -> bool {
        self.elapsed() > self.limit
    }
}

impl Observer for JobObserver<'_> {
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        self.job.update(|status| {
            let progress = status.progress.get_or_insert_with(Progress::default);
            if progress.stage != stage {
                times.stage = Instant::now();
                *progress = Progress { stage, preview: progress.preview, ..Progress::default() };
            }
            (progress.done, progress.total) = (done, total);
            let spent = times.stage.elapsed().as_secs_f64();
            progress.eta_s =
                (done > 0).then(|| spent * total.saturating_sub(done) as f64 / done as f64);
            status.elapsed_s = self.elapsed().as_secs_f64();
        });
    }

    fn window_step(&self, at: Step) {
        self.job.update(|status| {
            let progress = status.progress.get_or_insert_with(Progress::default);
            let Step { window, windows, step, steps } = at;
            (progress.window, progress.windows) = (window, windows);
            (progress.step, progress.steps) = (step, steps);
        });
    }

    fn painted(&self, image: &Image) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.preview.is_some_and(|last| last.elapsed() < BETWEEN_PREVIEWS) {
            return;
        }
        // A preview that cannot be written is one less to see.
        if write_view(&self.preview, image, ViewSize::Screen).is_ok() {
            times.preview = Some(Instant::now());
            self.job.update(|status| {
                status.progress.get_or_insert_with(Progress::default).preview += 1;
            });
        }
    }

    fn cancelled(&self) -> bool {
        self.job.is_cancelled() || self.stopping.load(Ordering::Relaxed) || self.is_late()
    }
}
