//! A loaded model: everything that is the same for all pictures of a run.

use anyhow::Context as _;
use diffusion::checkpoint::hub::{self, HubOptions};
use diffusion::checkpoint::{Checkpoint, Component, OpenOptions};
use diffusion::lora::{AdapterMode, LoraReport, LoraSet, LoraTargets, ModuleNames};

use diffusion::components::{Components, LoadOptions, PromptEmbeds, encode_prompts};
use diffusion::pipelines::restore::{RestoreOptions, Restorer};
use imaging::fill::FillOptions;

use crate::args::DiffusionArgs;
use crate::context::Context;

/// The networks, the encoded prompts and the options.
pub(crate) struct Engine {
    components: Components,
    prompts: PromptEmbeds,
    options: RestoreOptions,
}

impl Engine {
    /// What restores pictures with this model.
    pub(crate) const fn restorer(&self) -> Restorer<'_> {
        Restorer { components: &self.components, prompts: &self.prompts, options: &self.options }
    }
}

/// Loads the model that the arguments name, if they name one; `prefill` is the classical fill under it.
pub(crate) fn load(
    args: &DiffusionArgs,
    prefill: FillOptions,
    context: &Context,
) -> anyhow::Result<Option<Engine>> {
    let Some(model) = &args.model else { return Ok(None) };

    // 1. what needs no weights: options, device, LoRA files, the checkpoint's layout
    let options = args.options(prefill);
    let (device, dtype) = args.engine.open()?;
    let loras = LoraSet::open(&args.lora)?;
    let hub_options = HubOptions { variant: args.variant.clone(), ..HubOptions::from_env() };
    let path = hub::resolve(model, &hub_options, context)?;
    let open = OpenOptions { variant: args.variant.clone(), ..OpenOptions::default() };
    let checkpoint = Checkpoint::open(&path, &open)?;

    // 2. the LoRAs, fitted to the model
    let mut load = LoadOptions { dtype, device, ..LoadOptions::default() };
    if !loras.is_empty() {
        let unet = ModuleNames::from_source(checkpoint.weights(Component::Unet)?.as_ref());
        let text_encoder =
            ModuleNames::from_source(checkpoint.weights(Component::TextEncoder)?.as_ref());
        let targets = LoraTargets { unet: &unet, text_encoder: &text_encoder };
        let fitted = loras.adapters(targets, AdapterMode::Merged, &load.device)?;
        fitted.reports.iter().for_each(|report| note_leftovers(report, context));
        (load.unet_adapters, load.text_encoder_adapters) = (fitted.unet, fitted.text_encoder);
    }

    // 3. prompts, then networks: the text encoder is gone before the UNet comes
    let prompts = encode_prompts(&checkpoint, &load, &args.prompt, &args.negative_prompt)?;
    for lost in &prompts.truncated {
        context.note(&format!("the prompt is too long for the model, which does not see {lost:?}"));
    }
    let components = Components::load(&checkpoint, &load)
        .with_context(|| format!("cannot load {}", path.display()))?;
    options.check(&components)?;
    Ok(Some(Engine { components, prompts, options }))
}

/// Names what a LoRA file holds that had no effect.
pub(crate) fn note_leftovers(report: &LoraReport, context: &Context) {
    let path = report.path.display();
    for (what, names) in [
        ("layers that the model does not have", &report.unused),
        ("unknown tensors", &report.unknown),
    ] {
        if !names.is_empty() {
            let (count, names) = (names.len(), abridged(names));
            context.note(&format!("{path}: {count} {what}: {names}"));
        }
    }
}

/// The first few names.
pub(crate) fn abridged(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ") + more
}
