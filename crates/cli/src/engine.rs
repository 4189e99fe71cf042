//! A loaded model: everything that is the same for all pictures of a run.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use diffusion::checkpoint::hub::{self, HubOptions};
use diffusion::checkpoint::{Checkpoint, OpenOptions};
use diffusion::lora::{AdapterMode, LoraReport, LoraSet};

use diffusion::components::{Components, LoadOptions, PromptEmbeds, Shown, encode_prompts};
use diffusion::pipelines::restore::{RestoreOptions, Restorer};
use imaging::fill::FillReport;
use imaging::{Image, Mask, Observer, Repainter};
use serde_json::Value;

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
        self.restorer_with(&self.options)
    }

    /// What the network is shown.
    pub(crate) const fn shown(&self) -> Shown {
        self.options.shown
    }

    /// The same with other options than it was loaded with.
    pub(crate) const fn restorer_with<'a>(&'a self, options: &'a RestoreOptions) -> Restorer<'a> {
        Restorer { components: &self.components, prompts: &self.prompts, options }
    }
}

/// A model as one of several ways to repaint.
pub(crate) struct ModelRepainter {
    name: &'static str,
    engine: Engine,
}

impl ModelRepainter {
    /// Loads the model that the arguments name, which name one.
    pub(crate) fn load(
        name: &'static str,
        args: &DiffusionArgs,
        prefill: &Arc<dyn Repainter>,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let engine = load(args, prefill, context)?;
        Ok(Self { name, engine: engine.context("expected a model")? })
    }
}

impl std::fmt::Debug for ModelRepainter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ModelRepainter").field(&self.name).finish()
    }
}

impl Repainter for ModelRepainter {
    fn name(&self) -> &str {
        self.name
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> imaging::Result<FillReport> {
        Ok(self.engine.restorer().repaint(image, weights, observer)?.prefill)
    }

    fn is_heavy(&self) -> bool {
        self.engine.restorer().is_heavy()
    }

    fn parameters(&self) -> Value {
        self.engine.restorer().parameters()
    }
}

/// Loads the model that the arguments name, if they name one; it starts from `prefill`.
pub(crate) fn load(
    args: &DiffusionArgs,
    prefill: &Arc<dyn Repainter>,
    context: &Context,
) -> anyhow::Result<Option<Engine>> {
    let Some(model) = &args.model else { return Ok(None) };

    // 1. what needs no weights: options, device, LoRA files, the checkpoint's layout
    let (device, dtype) = args.engine.open()?;
    let loras = LoraSet::open(&args.lora)?;
    let options = args.options(prefill, args.shown(&loras)?);
    let checkpoint = open_checkpoint(model, args.variant.as_deref(), context)?;

    // 2. the LoRAs, fitted to the model
    let mut load = LoadOptions { dtype, device, ..LoadOptions::default() };
    if !loras.is_empty() {
        let fitted = loras.fit(&checkpoint, AdapterMode::Merged, &load.device)?;
        fitted.reports.iter().for_each(|report| note_leftovers(report, context));
        (load.unet_adapters, load.text_encoder_adapters) = (fitted.unet, fitted.text_encoder);
    }

    // 3. prompts, then networks: the text encoder is gone before the UNet comes
    let prompts = encode_prompts(&checkpoint, &load, &args.prompt, &args.negative_prompt)?;
    for lost in &prompts.truncated {
        context.note(&format!("the prompt is too long for the model, which does not see {lost:?}"));
    }
    let components = Components::load(&checkpoint, &load)
        .with_context(|| format!("cannot load {}", checkpoint.path().display()))?;
    options.check(&components)?;
    Ok(Some(Engine { components, prompts, options }))
}

/// The file or folder that the user means; a hub's model is fetched.
pub(crate) fn path_of(
    model: &str,
    variant: Option<&str>,
    context: &Context,
) -> anyhow::Result<PathBuf> {
    let hub = HubOptions { variant: variant.map(str::to_owned), ..HubOptions::from_env() };
    Ok(hub::resolve(model, &hub, context)?)
}

/// How a checkpoint is opened whose files of this variant are wanted.
pub(crate) fn open_options(variant: Option<&str>) -> OpenOptions {
    OpenOptions { variant: variant.map(str::to_owned), ..OpenOptions::default() }
}

/// Opens the checkpoint that the user means.
pub(crate) fn open_checkpoint(
    model: &str,
    variant: Option<&str>,
    context: &Context,
) -> anyhow::Result<Checkpoint> {
    let path = path_of(model, variant, context)?;
    Ok(Checkpoint::open(&path, &open_options(variant))?)
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
