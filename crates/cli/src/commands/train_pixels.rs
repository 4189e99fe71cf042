//! `photomend train-detector`, `train-refiner` and `train-autoencoder`.

use anyhow::Context as _;
use diffusion::checkpoint::Checkpoint;
use diffusion::train::TrainReport;
use diffusion::train::pixelwise::{
    PixelTask, PixelTrainJob, PixelTrainOptions, export_pages, train_pixelwise,
};

use super::train::{Watcher, read_text};
use crate::args::{PixelCommonArgs, TrainAutoencoderArgs, TrainPixelsArgs};
use crate::context::Context;
use crate::engine;
use crate::exit::Outcome;

pub(crate) fn run(
    task: PixelTask,
    args: &TrainPixelsArgs,
    context: &Context,
) -> anyhow::Result<Outcome> {
    let mut options = start(task, &args.common)?;
    args.apply(&mut options);
    train(&options, None, &args.common, context)
}

pub(crate) fn run_autoencoder(
    args: &TrainAutoencoderArgs,
    context: &Context,
) -> anyhow::Result<Outcome> {
    let mut options = start(PixelTask::Autoencoder, &args.common)?;
    args.apply(&mut options);
    options.validate()?;
    let model = options.model.as_deref().context("the run names no model: expected --model")?;
    let checkpoint = engine::open_checkpoint(model, None, context)?;
    train(&options, Some(&checkpoint), &args.common, context)
}

/// What the options of the command line come on top of.
fn start(task: PixelTask, args: &PixelCommonArgs) -> anyhow::Result<PixelTrainOptions> {
    let own = args.output.join("run.toml");
    let file = args.run.run.clone().or_else(|| (args.run.resume && own.is_file()).then_some(own));
    let Some(file) = file else { return Ok(PixelTrainOptions::new(task)) };
    let text = read_text(&file)?;
    let options =
        PixelTrainOptions::from_toml(&text).with_context(|| file.display().to_string())?;
    if options.task != task {
        let found = options.task.name();
        anyhow::bail!(
            "{}: expected the run of a {}, found that of a {found}",
            file.display(),
            task.name()
        );
    }
    Ok(options)
}

fn train(
    options: &PixelTrainOptions,
    checkpoint: Option<&Checkpoint>,
    args: &PixelCommonArgs,
    context: &Context,
) -> anyhow::Result<Outcome> {
    options.validate()?;
    let (output, resume, force) = (&args.output, args.run.resume, args.run.force);
    let job = PixelTrainJob { options, checkpoint, output, resume, force };
    if let Some(count) = args.run.pages_only {
        return write_pages(job, count, context);
    }
    let watcher = Watcher::new(context);
    let report = train_pixelwise(job, &watcher)?;
    watcher.finish();
    tell(&report, context);
    if args.json.json {
        context.print_json(&report)?;
    }
    if report.finished {
        return Ok(Outcome::Done);
    }
    let TrainReport { steps, total_steps, .. } = report;
    context
        .error(&format!("interrupted: {steps} of {total_steps} steps are done; --resume goes on"));
    Ok(Outcome::Interrupted)
}

fn write_pages(job: PixelTrainJob<'_>, count: u64, context: &Context) -> anyhow::Result<Outcome> {
    let watcher = Watcher::new(context);
    let done = export_pages(job, count, &watcher)?;
    watcher.finish();
    let folder = job.output.join("pages");
    if done == count {
        context.status(&format!("{count} pages → {}", folder.display()));
        return Ok(Outcome::Done);
    }
    context.error(&format!("interrupted: {done} of {count} pages are done; --resume goes on"));
    Ok(Outcome::Interrupted)
}

fn tell(report: &TrainReport, context: &Context) {
    let mut text = format!("{} of {} steps", report.steps, report.total_steps);
    if let Some((name, score)) =
        report.validation.as_ref().and_then(|entry| entry.scores().into_iter().next())
    {
        text += &format!(", {name} {score:.3}");
    }
    let files: Vec<_> = report.files.iter().map(|file| file.display().to_string()).collect();
    context.status(&format!("{text} → {}", files.join(" ")));
}
