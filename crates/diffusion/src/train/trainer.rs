//! A run from the pictures to the finished file: epochs, logs, checkpoints, validation.
//!
//! Nothing is remembered between steps but what a checkpoint holds: the order of the pictures, their damage and crops, noise,
//! timesteps and dropout all follow from the seed and the number of the step. So a run that was interrupted anywhere goes
//! on from its last checkpoint to the weights that it would have had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use imaging::{Observer, Repainter};
use serde::Serialize;

use super::cache::Cache;
use super::data::{DataOptions, TrainingSet, TripletPaths};
use super::encode::{Latents, Prompts};
use super::journal::Journal;
use super::learner::Learner;
use super::log::LogEntry;
use super::objective::Objective;
use super::options::NetworkOptions;
use super::parameters::{LoraNetwork, Parameter, TrainableSource};
use super::plan::Plan;
use super::session::Session;
use super::settings::TrainOptions;
use super::state::{Identity, States};
use super::validation::Validator;
use super::{outputs, plots};
use crate::checkpoint::{Checkpoint, Component};
use crate::components::{LoadOptions, check_channels};
use crate::error::{DiffusionError, Result};
use crate::lora::{DropoutSeed, LoraComponent, ModuleNames};
use crate::models::{UNet2DConditionConfig, UNet2DConditionModel};
use crate::nn::Params;
use crate::random::sub_seed;
use crate::schedulers::SchedulerConfig;

/// What a run tells while it goes on, beside what an [`Observer`] hears. Called from one thread.
pub trait TrainObserver: Observer {
    /// A step is done, the last of them being number `total`.
    fn step(&self, entry: &LogEntry, total: u64) {
        let _ = (entry, total);
    }

    /// Held-out pictures have been restored.
    fn validated(&self, entry: &LogEntry) {
        let _ = entry;
    }

    /// Something that a person should know.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

impl TrainObserver for imaging::Silent {}

/// A run to be done.
#[derive(Clone, Debug)]
pub struct TrainJob<'a> {
    /// The model that is trained on top of.
    pub checkpoint: &'a Checkpoint,
    /// Every setting.
    pub options: &'a TrainOptions,
    /// The folder for everything that the run writes; made if it is not there.
    pub output: &'a Path,
    /// Go on from the newest checkpoint in the folder, if there is one.
    pub resume: bool,
    /// Replace a run that is in the folder.
    pub force: bool,
    /// Where to compute.
    pub device: Device,
    /// What fills damage before it is repainted: where held-out pictures are restored, and where the network is shown the fill.
    pub fill: Arc<dyn Repainter>,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// Optimizer steps done, those before an interruption included.
    pub steps: u64,
    /// Steps that the whole run has.
    pub total_steps: u64,
    /// False if the observer asked to stop before the last one.
    pub finished: bool,
    /// The step that this session went on from.
    pub resumed_at: u64,
    /// Pictures that were trained on.
    pub images: usize,
    /// Layers with a LoRA; 0 if every weight was trained.
    pub modules: usize,
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
    /// The finished files.
    pub files: Vec<PathBuf>,
}

/// What is trained, however it is trained.
pub(super) enum Trained {
    Lora(LoraNetwork),
    Full(Arc<TrainableSource>),
}

impl Trained {
    fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Lora(network) => network.parameters().to_vec(),
            Self::Full(source) => source.parameters(),
        }
    }

    fn dropout(&self) -> DropoutSeed {
        match self {
            Self::Lora(network) => network.dropout_seed().clone(),
            Self::Full(_) => DropoutSeed::default(),
        }
    }
}

/// Trains, and writes everything that belongs to the run into its folder.
///
/// # Errors
/// [`DiffusionError::Argument`] for settings outside their range or that do not fit the model, or for a resumed run with
/// other settings; those of the data set, of the checkpoint, of writing, and of the tensor operations. Being asked to stop
/// while training is no error: what is done is kept, and the report says that the run is not finished.
pub fn train(
    job: &TrainJob<'_>,
    validator: Option<&dyn Validator>,
    observer: &dyn TrainObserver,
) -> Result<TrainReport> {
    let TrainJob { checkpoint, options, output, .. } = *job;

    // 1. what needs no weights: settings, pictures, the folder
    options.validate()?;
    let scheduler = SchedulerConfig::from_value(checkpoint.scheduler_config()?, checkpoint.path())?
        .amended_for_stable_diffusion();
    let states = States::new(output);
    outputs::check_folder(output, &states, job.resume || job.force)?;
    let set = TrainingSet::open(&options.data, observer)?.with_fill(Arc::clone(&job.fill));
    let (set, held_out) = held_out(set, options, observer)?;
    let mut plan = Plan::new(&set, options);
    let total_steps = plan.total_steps;

    // 2. the networks, with what is trained in them
    let mut load = LoadOptions {
        dtype: options.base.dtype.dtype(),
        device: job.device.clone(),
        ..LoadOptions::default()
    };
    let (unet, trained) = load_unet(checkpoint, options, &mut load)?;
    let cache_folder = options
        .run
        .cache
        .then(|| options.run.cache_folder.clone().unwrap_or_else(|| output.join("cache")));
    let latents = Latents::load(checkpoint, &load, Cache::new(cache_folder.clone()))?;
    check_channels(checkpoint, unet.config().in_channels, latents.vae().latent_channels())?;
    let trains_text = !options.network.text_encoder_target_modules.is_empty();
    let mut prompts = Prompts::new(checkpoint, load.clone(), trains_text, Cache::new(cache_folder));

    // 3. where to begin
    let parameters = trained.parameters();
    let objective = Objective::new(options.objective, scheduler.train_schedule()?);
    let timesteps = objective.schedule().num_train_timesteps();
    let count = parameters.iter().map(|parameter| parameter.var.elem_count()).sum();
    let mut learner = Learner::new(unet, objective, options.optimizer, parameters, total_steps)?;
    let identity = Identity { settings: options.identity(), data: set.fingerprint() };
    if job.resume {
        states.resume(&mut learner.optimizer, &identity)?;
    }
    let resumed_at = learner.steps_done();

    // 4. from here on the folder is this run's: everything that could be wrong with the call has been found
    outputs::make_folder(output)?;
    states.prune(if job.resume { options.run.keep } else { 0 })?;
    outputs::write_text(&output.join("run.toml"), &options.to_toml()?)?;
    let mut session = Session {
        job,
        observer,
        validator: validator.filter(|_| !held_out.is_empty()),
        held_out,
        journal: Journal::open(output, resumed_at, total_steps, observer)?,
    };

    // 5. the steps
    let dropout = trained.dropout();
    if resumed_at == 0 {
        session.settings()?;
        session.validate(&learner, latents.vae(), &mut prompts, &scheduler)?;
    }
    let mut saved_at = None;
    while learner.steps_done() < total_steps && !observer.cancelled() {
        let started = Instant::now();
        let number = learner.steps_done();
        let (epoch, batches) = plan.step(&set, number);
        let mut images = 0;
        let seed = options.run.seed;
        let given = batches.iter().enumerate().map(|(micro, indices)| {
            let name = format!("step {number} batch {micro}");
            let samples = indices
                .iter()
                .map(|&index| set.sample(index, epoch, sub_seed(seed, "data")))
                .collect::<Result<Vec<_>>>()?;
            images += samples.len();
            dropout.set(sub_seed(seed, &format!("{name} dropout")));
            let options = &options.objective;
            latents.batch(&samples, &mut prompts, options, timesteps, (seed, &name))
        });
        let report = learner.step(given);
        dropout.clear();
        let report = report?;
        for lost in prompts.take_truncated() {
            observer
                .note(&format!("a prompt is too long for the model, which does not see {lost:?}"));
        }
        session.journal.stepped(&report, epoch, images, started.elapsed().as_secs_f64())?;
        let done = report.step;
        let every = |interval: u64| interval > 0 && done.is_multiple_of(interval);
        // The checkpoint comes last: a run that goes on from it has the validation in its log already.
        if every(options.validation.every) && done < total_steps {
            session.validate(&learner, latents.vae(), &mut prompts, &scheduler)?;
        }
        if every(options.run.save_every) {
            states.save(&learner.optimizer, &identity, options.run.keep)?;
            saved_at = Some(done);
        }
    }

    // 6. what is kept
    let steps = learner.steps_done();
    // A run may be resumed with fewer steps than it has done.
    let finished = steps >= total_steps;
    if saved_at != Some(steps) && steps > resumed_at {
        states.save(&learner.optimizer, &identity, options.run.keep)?;
    }
    let judged_at = outputs::last_validation(&session.journal.history()?).map(|entry| entry.step());
    if finished && judged_at != Some(steps) && !observer.cancelled() {
        session.validate(&learner, latents.vae(), &mut prompts, &scheduler)?;
    }
    session.journal.events.flush()?;
    let history = session.journal.history()?;
    let mut report = TrainReport {
        steps,
        total_steps,
        finished,
        resumed_at,
        images: set.len(),
        modules: if let Trained::Lora(network) = &trained { network.len() } else { 0 },
        parameters: count,
        first_loss: outputs::mean_loss(&history, false),
        last_loss: outputs::mean_loss(&history, true),
        step_s: session.journal.step_s(),
        validation: outputs::last_validation(&history),
        files: Vec::new(),
    };
    let what = match options.network {
        NetworkOptions { full: true, .. } => "every weight of the UNet".to_owned(),
        NetworkOptions { rank, .. } => format!("LoRA of rank {rank}"),
    };
    let subtitle = format!("{what}, {} px, seed {}", options.data.resolution, options.run.seed);
    plots::write(&history, subtitle, output)?;
    if finished {
        report.files = outputs::write_models(&trained, &learner, job)?;
        outputs::write_card(job, &report, &history)?;
    }
    Ok(report)
}

/// The UNet with what is trained in it; the adapters of the text encoder go to `load`.
fn load_unet(
    checkpoint: &Checkpoint,
    options: &TrainOptions,
    load: &mut LoadOptions,
) -> Result<(UNet2DConditionModel, Trained)> {
    let config = UNet2DConditionConfig::from_json(&checkpoint.config(Component::Unet)?)?;
    let source = checkpoint.weights(Component::Unet)?;
    if options.network.full {
        let source = Arc::new(TrainableSource::new(source, LoraComponent::Unet.to_string()));
        let params = Params::new(Arc::<TrainableSource>::clone(&source), load.dtype, &load.device);
        let unet = UNet2DConditionModel::load(&config, &params)?;
        return Ok((unet, Trained::Full(source)));
    }
    let names = ModuleNames::from_source(source.as_ref());
    let text_names = if options.network.text_encoder_target_modules.is_empty() {
        ModuleNames::default()
    } else {
        ModuleNames::from_source(checkpoint.weights(Component::TextEncoder)?.as_ref())
    };
    let seed = sub_seed(options.run.seed, "network");
    let network = LoraNetwork::new(&options.network, &names, &text_names, seed, &load.device)?;
    load.unet_adapters = network.unet_adapters();
    load.text_encoder_adapters = network.text_encoder_adapters();
    let params =
        Params::new(source, load.dtype, &load.device).with_adapters(network.unet_adapters());
    Ok((UNet2DConditionModel::load(&config, &params)?, Trained::Lora(network)))
}

/// The pictures to train on, and those to judge by.
fn held_out(
    set: TrainingSet,
    options: &TrainOptions,
    observer: &dyn Observer,
) -> Result<(TrainingSet, Vec<TripletPaths>)> {
    let validation = &options.validation;
    if let Some(folder) = &validation.triplets {
        let data = DataOptions { triplets: Some(folder.clone()), ..DataOptions::default() };
        let judged = TrainingSet::open(&data, observer)?;
        return Ok((set, triplets(&judged)));
    }
    match validation.held_out {
        0 => Ok((set, Vec::new())),
        n if n >= set.len() || options.data.triplets.is_none() => Err(DiffusionError::argument(
            "held_out",
            "fewer pictures than there are, and a folder of triplets",
            format!("{n} of {}", set.len()),
        )),
        n => {
            let (rest, judged) = set.with_held_out(n, options.run.seed)?;
            let files = triplets(&judged);
            Ok((rest, files))
        }
    }
}

/// The files of every triplet of a set.
fn triplets(set: &TrainingSet) -> Vec<TripletPaths> {
    (0..set.len()).filter_map(|index| set.triplet(index).cloned()).collect()
}
