//! A run from photographs to the finished file.

use std::path::Path;
use std::time::Instant;

use super::crops::CropBatch;
use super::judge::Judge;
use super::options::{PixelTask, PixelTrainOptions};
use super::pages::Pages;
use super::photographs::Photographs;
use super::student::enrol;
use crate::checkpoint::Checkpoint;
use crate::error::{DiffusionError, Result};
use crate::random::SplitMix64;
use crate::train::gradients::Gradients;
use crate::train::journal::Journal;
use crate::train::optimizer::Optimizer;
use crate::train::run_file::refused;
use crate::train::state::{Identity, States};
use crate::train::trainer::{TrainObserver, TrainReport};
use crate::train::{outputs, plots};

/// The share of crops that are cut around damage.
const NEAR: f64 = 0.6;

/// A run to be done.
#[derive(Clone, Copy, Debug)]
pub struct PixelTrainJob<'a> {
    /// Every setting.
    pub options: &'a PixelTrainOptions,
    /// The checkpoint whose autoencoder is trained; for [`PixelTask::Autoencoder`] only.
    pub checkpoint: Option<&'a Checkpoint>,
    /// The folder for everything that the run writes; made if it is not there.
    pub output: &'a Path,
    /// Go on from the newest checkpoint in the folder, if there is one.
    pub resume: bool,
    /// Replace a run that is in the folder.
    pub force: bool,
}

/// Trains a detector, a refiner or an autoencoder, on the CPU, and writes everything that belongs to the run into its folder.
///
/// # Errors
/// [`DiffusionError::Argument`] for settings outside their range or a resumed run with other settings; those of reading the
/// photographs, of writing, and of the tensor operations. Being asked to stop is no error: what is done is kept.
pub fn train_pixelwise(
    job: PixelTrainJob<'_>,
    observer: &dyn TrainObserver,
) -> Result<TrainReport> {
    let PixelTrainJob { options, output, .. } = job;
    let PixelTrainOptions { task, seed, steps: total_steps, .. } = *options;

    // 1. what the run is made of
    options.validate()?;
    let states = States::new(output);
    outputs::check_folder(output, &states, job.resume || job.force)?;
    let photographs = Photographs::open(&options.pages, seed)?;
    let (student, parameters) = enrol(options, job.checkpoint)?;
    let mut optimizer = Optimizer::new(options.optimizer, parameters, total_steps)?;
    let identity = Identity { settings: options.identity(), data: photographs.fingerprint() };
    if job.resume {
        states.resume(&mut optimizer, &identity)?;
    }
    let resumed_at = optimizer.step;
    let judge = Judge::new(&photographs, options)?;

    // 2. from here on the folder is this run's
    outputs::make_folder(output)?;
    states.prune(if job.resume { options.keep } else { 0 })?;
    outputs::write_text(&output.join("run.toml"), &options.to_toml()?)?;
    let mut journal = Journal::open(output, resumed_at, total_steps, observer)?;

    // 3. the steps
    let mut pages = Pages::new(&photographs, options);
    let mut saved_at = None;
    while optimizer.step < total_steps && !observer.cancelled() {
        let started = Instant::now();
        let step = optimizer.step;
        pages.turn_to(step)?;
        let batch = draw(&pages, options, step)?;
        let mut gradients = Gradients::new(optimizer.parameters());
        let loss = student.learn(&batch, step, &mut gradients)?;
        let report = optimizer.step(&gradients, loss)?;
        let epoch = step / options.pages.steps_per_page / photographs.len().max(1) as u64;
        journal.stepped(
            &report,
            epoch,
            options.optimizer.batch_size,
            started.elapsed().as_secs_f64(),
        )?;
        let every = |interval: u64| interval > 0 && report.step.is_multiple_of(interval);
        if every(options.validate_every) && report.step < total_steps {
            judge.judge(student.as_ref(), &optimizer, &mut journal)?;
        }
        if every(options.save_every) {
            states.save(&optimizer, &identity, options.keep)?;
            saved_at = Some(report.step);
        }
    }

    // 4. what is kept
    let steps = optimizer.step;
    let finished = steps >= total_steps;
    if saved_at != Some(steps) && steps > resumed_at {
        states.save(&optimizer, &identity, options.keep)?;
    }
    let judged_at = outputs::last_validation(&journal.history()?).map(|entry| entry.step());
    if finished && judged_at != Some(steps) && !observer.cancelled() {
        judge.judge(student.as_ref(), &optimizer, &mut journal)?;
    }
    journal.events.flush()?;
    let file = student.write(&optimizer, output, judge.pages())?;
    let history = journal.history()?;
    let subtitle = format!("{}, {} px, seed {seed}", task.name(), options.pages.crop);
    plots::write(&history, subtitle, output)?;
    let count = |one: &crate::train::Parameter| one.var.elem_count();
    Ok(TrainReport {
        steps,
        total_steps,
        finished,
        resumed_at,
        images: photographs.len(),
        modules: 0,
        parameters: optimizer.parameters().iter().map(count).sum(),
        first_loss: outputs::mean_loss(&history, false),
        last_loss: outputs::mean_loss(&history, true),
        step_s: journal.step_s(),
        validation: outputs::last_validation(&history),
        files: vec![file],
    })
}

/// A step's crops.
fn draw(pages: &Pages<'_>, options: &PixelTrainOptions, step: u64) -> Result<CropBatch> {
    let mut random = SplitMix64::named(options.seed, &format!("crops of step {step}"));
    let near = match options.task {
        PixelTask::Detector => NEAR,
        PixelTask::Refiner => 1.0,
        PixelTask::Autoencoder => 0.0,
    };
    let crops: Vec<_> = (0..options.optimizer.batch_size)
        .filter_map(|_| {
            let page = pages.any(&mut random)?;
            Some((page, page.place(options.pages.crop, near, &mut random)))
        })
        .collect();
    // An autoencoder's crops are made into what it sees by itself.
    let channels = options.network.as_ref().map_or(3, |network| network.in_channels);
    CropBatch::new(options.task, channels, &crops)
}

impl PixelTrainOptions {
    /// `run.toml`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| DiffusionError::argument("settings", "values that TOML has", error))
    }

    /// Reads a `run.toml`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming what does not fit.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| refused(&error))
    }
}
