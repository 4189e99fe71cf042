//! `photomend model`: one file for each of its own verbs.

mod convert;
mod info;
mod new;
mod pull;
mod run;
mod watched;

use anyhow::Context as _;
use diffusion::Device;
use diffusion::checkpoint::Checkpoint;
use diffusion::lora::{AdapterMode, LoraAdapters, LoraSet, LoraSpec};

use crate::args::{ModelArgs, ModelCommand};
use crate::context::Context;
use crate::engine::note_leftovers;
use crate::exit::Outcome;

pub(super) fn run(args: &ModelArgs, context: &Context) -> anyhow::Result<Outcome> {
    match &args.command {
        ModelCommand::Info(args) => info::run(args, context),
        ModelCommand::New(args) => new::run(args, context),
        ModelCommand::Pull(args) => pull::run(args, context),
        ModelCommand::Convert(args) => convert::convert(args, context),
        ModelCommand::Merge(args) => convert::merge(args, context),
        ModelCommand::Run(args) => run::run(args, context),
    }
}

/// LoRAs fitted to a checkpoint; what they hold and it does not is noted.
fn fit(
    specs: &[LoraSpec],
    checkpoint: &Checkpoint,
    device: &Device,
    context: &Context,
) -> anyhow::Result<LoraAdapters> {
    let fitted = LoraSet::open(specs)?
        .fit(checkpoint, AdapterMode::Merged, device)
        .with_context(|| checkpoint.path().display().to_string())?;
    for report in &fitted.reports {
        note_leftovers(report, context);
    }
    Ok(fitted)
}
