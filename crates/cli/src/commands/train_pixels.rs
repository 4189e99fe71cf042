//! `photomend train-detector` and `photomend train-refiner`.

use anyhow::Context as _;
use diffusion::train::TrainReport;
use diffusion::train::pixelwise::{PixelTask, PixelTrainJob, PixelTrainOptions, train_pixelwise};

use super::train::{Watcher, read_text};
use crate::args::TrainPixelsArgs;
use crate::context::Context;
use crate::exit::Outcome;

pub(crate) fn run(
    task: PixelTask,
    args: &TrainPixelsArgs,
    context: &Context,
) -> anyhow::Result<Outcome> {
    let options = settings(task, args)?;
    let job = PixelTrainJob {
        options: &options,
        output: &args.output,
        resume: args.run.resume,
        force: args.run.force,
    };
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

fn settings(task: PixelTask, args: &TrainPixelsArgs) -> anyhow::Result<PixelTrainOptions> {
    let own = args.output.join("run.toml");
    let file = args.run.run.clone().or_else(|| (args.run.resume && own.is_file()).then_some(own));
    let mut options = match file {
        None => PixelTrainOptions::new(task),
        Some(file) => {
            let text = read_text(&file)?;
            PixelTrainOptions::from_toml(&text).with_context(|| file.display().to_string())?
        }
    };
    if options.task != task {
        anyhow::bail!(
            "expected the run of a {}, found that of a {}",
            task.name(),
            options.task.name()
        );
    }
    args.apply(&mut options);
    options.validate()?;
    Ok(options)
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
