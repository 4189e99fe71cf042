//! A run of a [`PixelUnet`] from photographs to the finished file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use kernels::Recording;
use serde::Serialize;

use super::crops::CropBatch;
use super::judge::Judge;
use super::loss::loss;
use super::options::{PixelTask, PixelTrainOptions};
use super::pages::Pages;
use super::photographs::Photographs;
use crate::checkpoint::{SafetensorsFile, TensorSource};
use crate::error::{DiffusionError, Result};
use crate::models::{InitialWeights, PixelUnet, save_pixel_unet};
use crate::nn::Params;
use crate::random::{SplitMix64, sub_seed};
use crate::train::gradients::Gradients;
use crate::train::log::{self, Log, LogEntry};
use crate::train::optimizer::{Optimizer, StepReport};
use crate::train::parameters::TrainableSource;
use crate::train::state::{Identity, States};
use crate::train::tensorboard::EventWriter;
use crate::train::trainer::TrainObserver;
use crate::train::{outputs, plots};

/// The share of crops that are cut around damage.
const NEAR: f64 = 0.6;

/// A run to be done.
#[derive(Clone, Copy, Debug)]
pub struct PixelTrainJob<'a> {
    /// Every setting.
    pub options: &'a PixelTrainOptions,
    /// The folder for everything that the run writes; made if it is not there.
    pub output: &'a Path,
    /// Go on from the newest checkpoint in the folder, if there is one.
    pub resume: bool,
    /// Replace a run that is in the folder.
    pub force: bool,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct PixelTrainReport {
    /// Optimizer steps done, those before an interruption included.
    pub steps: u64,
    /// Steps that the whole run has.
    pub total_steps: u64,
    /// False if the observer asked to stop before the last one.
    pub finished: bool,
    /// The step that this session went on from.
    pub resumed_at: u64,
    /// Photographs that were trained on.
    pub images: usize,
    /// Numbers that were trained.
    pub parameters: usize,
    /// The mean loss of the first tenth of the steps.
    pub first_loss: Option<f64>,
    /// The mean loss of the last tenth of the steps.
    pub last_loss: Option<f64>,
    /// The median of the seconds that this session's steps took.
    pub step_s: Option<f64>,
    /// The last validation.
    pub validation: Option<LogEntry>,
    /// The finished network, or as it is so far if the run is not finished.
    pub file: PathBuf,
}

/// Trains a detector or a refiner, on the CPU, and writes everything that belongs to the run into its folder.
///
/// # Errors
/// [`DiffusionError::Argument`] for settings outside their range or a resumed run with other settings; those of reading the
/// photographs, of writing, and of the tensor operations. Being asked to stop is no error: what is done is kept.
pub fn train_pixelwise(
    job: PixelTrainJob<'_>,
    observer: &dyn TrainObserver,
) -> Result<PixelTrainReport> {
    let PixelTrainJob { options, output, .. } = job;
    let PixelTrainOptions { task, seed, steps: total_steps, .. } = *options;

    // 1. what the run is made of
    options.validate()?;
    let states = States::new(output);
    outputs::check_folder(output, &states, job.resume || job.force)?;
    let photographs = Photographs::open(&options.pages, seed)?;
    let source = Arc::new(TrainableSource::new(initial(options)?, task.name()));
    let params = Params::new(Arc::<TrainableSource>::clone(&source), DType::F32, &Device::Cpu);
    let unet = PixelUnet::load(&options.network, &params)?;
    let mut optimizer = Optimizer::new(options.optimizer, source.parameters(), total_steps)?;
    let identity = Identity { settings: options.identity(), data: photographs.fingerprint() };
    if job.resume {
        states.resume(&mut optimizer, &identity)?;
    }
    let resumed_at = optimizer.step;
    let judge = Judge::new(&photographs, options)?;

    // 2. from here on the folder is this run's
    outputs::make_folder(output)?;
    if job.force && !job.resume {
        states.clear()?;
    }
    outputs::write_text(&output.join("run.toml"), &options.to_toml()?)?;
    let mut run = Run {
        job,
        observer,
        log: Log::open(output.join("log.jsonl"), resumed_at)?,
        events: EventWriter::create(
            &output.join("tensorboard"),
            resumed_at + 1,
            outputs::wall_time(),
        )?,
        seconds: Vec::new(),
    };

    // 3. the steps
    let mut pages = Pages::new(&photographs, task, &options.pages, sub_seed(seed, "pages"));
    let mut saved_at = None;
    while optimizer.step < total_steps && !observer.cancelled() {
        let started = Instant::now();
        let step = optimizer.step;
        pages.turn_to(step)?;
        let batch = draw(&pages, options, step)?;
        let report = learn(&unet, &mut optimizer, task, &batch)?;
        let epoch = step / options.pages.steps_per_page / photographs.len().max(1) as u64;
        run.stepped(&report, epoch, batch.count, started.elapsed().as_secs_f64())?;
        let every = |interval: u64| interval > 0 && report.step.is_multiple_of(interval);
        if every(options.validate_every) && report.step < total_steps {
            run.judged(optimizer.with_final_weights(|| judge.judge(&unet, report.step))?)?;
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
    let judged = outputs::last_validation(&log::read(&output.join("log.jsonl"))?);
    if finished && judged.as_ref().map(LogEntry::step) != Some(steps) && !observer.cancelled() {
        run.judged(optimizer.with_final_weights(|| judge.judge(&unet, steps))?)?;
    }
    run.events.flush()?;
    let file = write_network(&optimizer, options, output)?;
    let history = log::read(&output.join("log.jsonl"))?;
    let subtitle = format!("{}, {} px, seed {seed}", task.name(), options.pages.crop);
    plots::write(&history, subtitle, output)?;
    let count = |one: &crate::train::Parameter| one.var.elem_count();
    Ok(PixelTrainReport {
        steps,
        total_steps,
        finished,
        resumed_at,
        images: photographs.len(),
        parameters: optimizer.parameters().iter().map(count).sum(),
        first_loss: outputs::mean_loss(&history, false),
        last_loss: outputs::mean_loss(&history, true),
        step_s: outputs::median(&run.seconds),
        validation: outputs::last_validation(&history),
        file,
    })
}

/// What is beside the steps.
struct Run<'a> {
    job: PixelTrainJob<'a>,
    observer: &'a dyn TrainObserver,
    log: Log,
    events: EventWriter,
    seconds: Vec<f64>,
}

impl Run<'_> {
    fn stepped(
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
        self.events.scalar(step, now, "train/loss", loss as f32)?;
        self.events.scalar(step, now, "train/learning_rate", learning_rate as f32)?;
        self.observer.step(&entry, self.job.options.steps);
        Ok(())
    }

    fn judged(&mut self, entry: Option<LogEntry>) -> Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        self.log.write(&entry)?;
        let now = outputs::wall_time();
        for (tag, value) in entry.scores() {
            self.events.scalar(entry.step(), now, &format!("validation/{tag}"), value as f32)?;
        }
        self.events.flush()?;
        self.observer.validated(&entry);
        Ok(())
    }
}

/// The weights to start from.
fn initial(options: &PixelTrainOptions) -> Result<Arc<dyn TensorSource>> {
    Ok(match &options.start_from {
        Some(path) => Arc::new(SafetensorsFile::open(path)?),
        None => Arc::new(InitialWeights::new(sub_seed(options.seed, "network"))),
    })
}

/// A step's crops.
fn draw(pages: &Pages<'_>, options: &PixelTrainOptions, step: u64) -> Result<CropBatch> {
    let mut random = SplitMix64::named(options.seed, &format!("crops of step {step}"));
    let near = match options.task {
        PixelTask::Detector => NEAR,
        PixelTask::Refiner => 1.0,
    };
    let crops: Vec<_> = (0..options.optimizer.batch_size)
        .filter_map(|_| {
            let page = pages.any(&mut random)?;
            Some((page, page.place(options.pages.crop, near, &mut random)))
        })
        .collect();
    CropBatch::new(options.task, &crops)
}

fn learn(
    unet: &PixelUnet,
    optimizer: &mut Optimizer,
    task: PixelTask,
    batch: &CropBatch,
) -> Result<StepReport> {
    let (prediction, recording) = Recording::of(|| unet.forward(&batch.input))?;
    let found = loss(task, &prediction.flatten_all()?.to_vec1::<f32>()?, batch);
    let gradient = Tensor::from_vec(found.gradient, prediction.shape(), &Device::Cpu)?;
    let store = recording.backward(&prediction, &gradient)?;
    let mut gradients = Gradients::new(optimizer.parameters());
    gradients.take(&store)?;
    optimizer.step(&gradients, found.value)
}

/// The network as it would be used now.
fn write_network(
    optimizer: &Optimizer,
    options: &PixelTrainOptions,
    output: &Path,
) -> Result<PathBuf> {
    let task = options.task.name();
    let prefix = format!("{task}.");
    let tensors = optimizer.with_final_weights(|| {
        let copy = |parameter: &crate::train::Parameter| {
            let name = parameter.name.strip_prefix(&prefix).unwrap_or(&parameter.name).to_owned();
            Ok((name, parameter.var.as_tensor().copy()?.detach()))
        };
        optimizer.parameters().iter().map(copy).collect::<Result<_>>()
    })?;
    let path = output.join(format!("{task}.safetensors"));
    save_pixel_unet(&path, task, &options.network, tensors)?;
    Ok(path)
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
        toml::from_str(text).map_err(|error| {
            let text = error.to_string();
            let lines: Vec<_> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            DiffusionError::argument("run file", "the settings of a run in TOML", lines.join("; "))
        })
    }
}
