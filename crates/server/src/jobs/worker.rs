//! The one thread that restores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use imaging::io::ReadOptions;

use super::observer::JobObserver;
use super::restore::{Place, restore};
use super::{Job, Progress, Queue, State};
use crate::config::Limits;
use crate::engine::Engine;
use crate::error::{Result, ServerError};
use crate::problem::Problem;
use crate::store::Store;
use crate::views::ViewSize;

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    thread: JoinHandle<()>,
    queue: Arc<Queue>,
    stopping: Arc<AtomicBool>,
}

struct Shop {
    engine: Arc<dyn Engine>,
    store: Arc<Store>,
    queue: Arc<Queue>,
    limits: Limits,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    /// Starts working on what is in the queue.
    ///
    /// # Errors
    /// [`ServerError::System`] if there is no thread.
    pub(crate) fn start(
        engine: Arc<dyn Engine>,
        store: Arc<Store>,
        queue: Arc<Queue>,
        limits: Limits,
    ) -> Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let shop = Shop {
            engine,
            store,
            limits,
            queue: Arc::clone(&queue),
            stopping: Arc::clone(&stopping),
        };
        let thread = std::thread::Builder::new().name("restore".to_owned());
        let thread = thread.spawn(move || {
            while let Some(job) = shop.queue.next() {
                shop.work(&job);
                shop.queue.ended();
            }
        });
        let thread = thread.map_err(|error| ServerError::System {
            what: "a thread to restore on",
            reason: error.to_string(),
        })?;
        Ok(Self { thread, queue, stopping })
    }

    /// Stops the running job, which waits again at the next start, and returns when it has stopped.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.queue.close();
        // A panic has been told as the job's failure.
        let _ = self.thread.join();
    }
}

impl Shop {
    fn work(&self, job: &Job) {
        let Ok(record) = self.store.picture(&job.picture) else { return };
        let place = Place {
            record: &record,
            picture: self.store.picture_files(&job.picture),
            files: self.store.job_files(&job.picture, &job.id),
        };
        if job.is_cancelled() {
            self.end(job, &place, State::Cancelled, |_| {});
            return;
        }

        // 1. it runs
        job.update(|status| {
            status.state = State::Running;
            status.position = None;
            status.progress = Some(Progress { stage: "read", ..Progress::default() });
        });
        let observer = JobObserver::new(
            job,
            &self.stopping,
            self.limits.job_time,
            place.files.view(ViewSize::Screen.name()),
        );
        let options = ReadOptions { max_pixels: self.limits.pixels };
        let done = job.record().write(&place.files).and_then(|()| {
            let work = || restore(self.engine.as_ref(), job, &place, &options, &observer);
            catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(Problem::internal("internal error, please report it")))
        });
        let elapsed_s = observer.elapsed().as_secs_f64();

        // 2. it has ended
        match done {
            Ok(coverage) => self.end(job, &place, State::Done, |status| {
                (status.coverage, status.elapsed_s) = (Some(coverage), elapsed_s);
            }),
            Err(_) if job.is_cancelled() => self.end(job, &place, State::Cancelled, |_| {}),
            Err(_) if self.stopping.load(Ordering::Relaxed) => {
                self.end(job, &place, State::Queued, |_| {});
            }
            Err(_) if observer.is_late() => {
                let limit = self.limits.job_time.as_secs();
                let message = format!("it took longer than the limit of {limit} s");
                self.end(job, &place, State::Failed, |status| status.message = Some(message));
            }
            Err(problem) => {
                let message = problem.message().to_owned();
                self.end(job, &place, State::Failed, |status| status.message = Some(message));
            }
        }
    }

    /// Writes how it ended, then tells it.
    fn end(
        &self,
        job: &Job,
        place: &Place<'_>,
        state: State,
        change: impl FnOnce(&mut super::Status),
    ) {
        let mut status = job.status();
        status.state = state;
        (status.position, status.progress) = (None, None);
        change(&mut status);
        let mut record = job.record();
        record.state = state;
        record.elapsed_s = status.elapsed_s;
        record.coverage = status.coverage;
        record.message.clone_from(&status.message);
        if !self.store.has_job(&job.id) {
            self.store.sweep_job(job);
        } else if let Err(problem) = record.write(&place.files)
            && state == State::Done
        {
            // A result that a restart would not find again is none.
            status.state = State::Failed;
            status.message = Some(problem.message().to_owned());
        }
        job.update(|shown| *shown = status);
        // It may have taken longer than unused pictures are kept.
        let _ = self.store.picture(&job.picture);
    }
}
