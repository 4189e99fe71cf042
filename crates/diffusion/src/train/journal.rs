//! What a run tells of its steps and validations: to its log, to TensorBoard, and to whoever watches.

use std::path::Path;

use super::log::{self, Log, LogEntry};
use super::optimizer::StepReport;
use super::outputs;
use super::tensorboard::EventWriter;
use super::trainer::TrainObserver;
use crate::error::Result;

/// The open log and events of a run.
pub(super) struct Journal<'a> {
    observer: &'a dyn TrainObserver,
    total_steps: u64,
    folder: &'a Path,
    log: Log,
    pub(super) events: EventWriter,
    /// Seconds of the steps of this session.
    seconds: Vec<f64>,
}

impl<'a> Journal<'a> {
    /// Opens the journal in the folder of a run that has done `resumed_at` of its steps.
    pub(super) fn open(
        folder: &'a Path,
        resumed_at: u64,
        total_steps: u64,
        observer: &'a dyn TrainObserver,
    ) -> Result<Self> {
        let tensorboard = folder.join("tensorboard");
        Ok(Self {
            observer,
            total_steps,
            folder,
            log: Log::open(folder.join("log.jsonl"), resumed_at)?,
            events: EventWriter::create(&tensorboard, resumed_at + 1, outputs::wall_time())?,
            seconds: Vec::new(),
        })
    }

    /// A step is done.
    pub(super) fn stepped(
        &mut self,
        report: &StepReport,
        epoch: u64,
        images: usize,
        seconds: f64,
    ) -> Result<()> {
        let StepReport { step, loss, grad_norm, learning_rate } = *report;
        let entry = LogEntry::Step { step, epoch, loss, learning_rate, grad_norm, images, seconds };
        self.log.write(&entry)?;
        self.seconds.push(seconds);
        let now = outputs::wall_time();
        for (tag, value) in [
            ("train/loss", loss),
            ("train/learning_rate", learning_rate),
            ("train/grad_norm", grad_norm),
            ("train/images_per_second", images as f64 / seconds.max(1e-9)),
        ] {
            self.events.scalar(step, now, tag, value as f32)?;
        }
        self.observer.step(&entry, self.total_steps);
        Ok(())
    }

    /// Held-out pictures were judged.
    pub(super) fn validated(&mut self, entry: &LogEntry) -> Result<()> {
        self.log.write(entry)?;
        let now = outputs::wall_time();
        for (tag, value) in entry.scores() {
            let tag = format!("validation/{tag}");
            self.events.scalar(entry.step(), now, &tag, value as f32)?;
        }
        self.events.flush()?;
        self.observer.validated(entry);
        Ok(())
    }

    /// All that the log says, earlier sessions included.
    pub(super) fn history(&self) -> Result<Vec<LogEntry>> {
        log::read(&self.folder.join("log.jsonl"))
    }

    /// The median of the seconds that this session's steps took.
    pub(super) fn step_s(&self) -> Option<f64> {
        outputs::median(&self.seconds)
    }
}
