//! `photomend model`: one file for each of its own verbs.

mod convert;
mod info;
mod new;
mod pull;
mod run;
mod watched;

use anyhow::Context as _;
use diffusion::Device;
use diffusion::checkpoint::{Checkpoint, Component};
use diffusion::lora::{AdapterMode, LoraAdapters, LoraSet, LoraSpec, LoraTargets, ModuleNames};

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
    let set = LoraSet::open(specs)?;
    let present = checkpoint.components();
    let names = |component: Component| -> anyhow::Result<ModuleNames> {
        if !present.contains(&component) {
            return Ok(ModuleNames::from_paths(Vec::<String>::new()));
        }
        let weights = checkpoint.weights(component)?;
        Ok(ModuleNames::from_source(weights.as_ref()))
    };
    let (unet, text_encoder) = (names(Component::Unet)?, names(Component::TextEncoder)?);
    let targets = LoraTargets { unet: &unet, text_encoder: &text_encoder };
    let fitted = set
        .adapters(targets, AdapterMode::Merged, device)
        .with_context(|| checkpoint.path().display().to_string())?;
    for report in &fitted.reports {
        note_leftovers(report, context);
    }
    Ok(fitted)
}
