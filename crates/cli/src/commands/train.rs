//! `photomend train`: settings from options and run files, one run or several, progress on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use diffusion::DeviceKind;
use diffusion::pipelines::pixelwise::Refiner;
use diffusion::train::{
    LogEntry, NamedRun, TrainJob, TrainObserver, TrainOptions, TrainReport, train,
};
use diffusion::validate::RestoreValidator;
use imaging::{Observer, Repainter};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::TrainArgs;
use crate::context::Context;
use crate::engine;
use crate::exit::{self, Outcome};

/// A run file is a page of text.
const MOST_BYTES: u64 = 1 << 20;

pub(crate) fn run(args: &TrainArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. the settings of every run, checked before any work
    let runs = settings(args)?;
    for NamedRun { name, options } in &runs {
        let checked = check(options);
        match name {
            Some(name) => checked.with_context(|| format!("run {name}"))?,
            None => checked?,
        }
    }
    let device = DeviceKind::from(args.device).open()?;
    let fill: Arc<dyn Repainter> = Arc::new(Refiner::carried()?);

    // 2. one after the other
    let mut reports = Vec::new();
    let mut finished = true;
    for NamedRun { name, options } in runs {
        let output =
            name.as_ref().map_or_else(|| args.output.clone(), |name| args.output.join(name));
        if let Some(name) = &name {
            context.status(&format!("run {name}"));
        }
        let base = &options.base;
        let checkpoint = engine::open_checkpoint(&base.model, base.variant.as_deref(), context)?;
        let job = TrainJob {
            checkpoint: &checkpoint,
            options: &options,
            output: &output,
            resume: args.run.resume,
            force: args.run.force,
            device: device.clone(),
            fill: Arc::clone(&fill),
        };
        let watcher = Watcher::new(context);
        let validator = options.validation.is_on().then_some(&RestoreValidator);
        let report = train(&job, validator.map(|one| one as _), &watcher)?;
        watcher.finish();
        tell(&report, &output, context);
        finished &= report.finished;
        reports.push(RunReport { name, output, report });
        if !finished {
            break;
        }
    }

    // 3. report
    if args.json.json {
        match &reports[..] {
            [one] if one.name.is_none() => context.print_json(one)?,
            several => context.print_json(&several)?,
        }
    }
    if finished {
        return Ok(Outcome::Done);
    }
    if let Some(RunReport { report, .. }) = reports.last() {
        let (steps, total) = (report.steps, report.total_steps);
        context.error(&format!("interrupted: {steps} of {total} steps are done; --resume goes on"));
    }
    Ok(Outcome::Interrupted)
}

#[derive(Serialize)]
struct RunReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    output: PathBuf,
    #[serde(flatten)]
    report: TrainReport,
}

fn settings(args: &TrainArgs) -> anyhow::Result<Vec<NamedRun>> {
    let own = args.output.join("run.toml");
    let says_what = args.model.is_some() || args.data.is_some() || args.pictures.clean.is_some();
    let file = match &args.run.run {
        Some(file) => Some(file.clone()),
        None if args.run.resume && !says_what && own.is_file() => Some(own),
        None => None,
    };
    let start = args.recipe();
    let mut runs = match file {
        None => vec![NamedRun { name: None, options: start }],
        Some(file) => {
            let text = read_text(&file)?;
            start.read_runs(&text).with_context(|| file.display().to_string())?
        }
    };
    runs.iter_mut().for_each(|run| args.apply(&mut run.options));
    Ok(runs)
}

pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    let what = || format!("{}: cannot read", path.display());
    let length = std::fs::metadata(path).with_context(what)?.len();
    if length > MOST_BYTES {
        anyhow::bail!(
            "{}: expected at most {MOST_BYTES} bytes of TOML, found {length}",
            path.display()
        );
    }
    std::fs::read_to_string(path).with_context(what)
}

fn check(options: &TrainOptions) -> anyhow::Result<()> {
    if options.base.model.is_empty() {
        return Err(exit::usage("expected a checkpoint to train on top of: --model PATH|ID"));
    }
    if options.data.triplets.is_none() && options.data.clean.is_none() {
        return Err(exit::usage("expected pictures: a folder of triplets, or --clean DIR"));
    }
    Ok(options.validate()?)
}

fn tell(report: &TrainReport, output: &Path, context: &Context) {
    let mut text = format!("{} of {} steps", report.steps, report.total_steps);
    if let (Some(first), Some(last)) = (report.first_loss, report.last_loss) {
        text += &format!(", loss {first:.4} → {last:.4}");
    }
    if let Some(LogEntry::Validation { masked_psnr, damaged_masked_psnr, .. }) = &report.validation
    {
        text += &format!(", damaged pixels {damaged_masked_psnr:.2} → {masked_psnr:.2} dB");
    }
    context.status(&format!("{text} → {}", output.display()));
}

/// Shows one bar over the steps, with the loss; what goes on in between has the usual stage line.
pub(super) struct Watcher<'a> {
    context: &'a Context,
    bar: std::sync::OnceLock<ProgressBar>,
}

impl<'a> Watcher<'a> {
    pub(super) const fn new(context: &'a Context) -> Self {
        Self { context, bar: std::sync::OnceLock::new() }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        Observer::progress(self.context, stage, done, total);
    }

    fn cancelled(&self) -> bool {
        Observer::cancelled(self.context)
    }
}

impl TrainObserver for Watcher<'_> {
    fn step(&self, entry: &LogEntry, total: u64) {
        let LogEntry::Step { step, epoch, loss, learning_rate, images, seconds, .. } = *entry
        else {
            return;
        };
        let bar = self.bar.get_or_init(|| self.context.progress().steps(total, step - 1));
        let rate = images as f64 / seconds.max(1e-9);
        bar.set_message(format!(
            "epoch {epoch} · loss {loss:.4} · lr {learning_rate:.1e} · {rate:.2} images/s"
        ));
        bar.set_position(step);
    }

    fn validated(&self, entry: &LogEntry) {
        let step = entry.step();
        let scores = match *entry {
            LogEntry::Step { .. } => return,
            LogEntry::Validation { psnr, masked_psnr, ssim, .. } => {
                format!("{psnr:.2} dB, damaged pixels {masked_psnr:.2} dB, SSIM {ssim:.4}")
            }
            LogEntry::Detection { precision, recall, f1, .. } => {
                format!("F1 {f1:.3} at 2 px (precision {precision:.3}, recall {recall:.3})")
            }
            LogEntry::Refinement { masked_psnr, filled_masked_psnr, .. } => {
                format!("repainted pixels {filled_masked_psnr:.2} → {masked_psnr:.2} dB")
            }
            LogEntry::Reconstruction { psnr, latent_std, .. } => {
                format!("{psnr:.2} dB after encoding (latents of ±{latent_std:.2})")
            }
        };
        self.context.status(&format!("step {step}: held-out pictures {scores}"));
    }

    fn note(&self, text: &str) {
        self.context.note(text);
    }
}
