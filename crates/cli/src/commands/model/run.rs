//! `photomend model run`: one network on given tensors.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use diffusion::DType;
use diffusion::checkpoint::{Component, SafetensorsFile, save_tensors};
use diffusion::models::{self, RunOptions, Stage};

use super::{fit, watched};
use crate::args::{ModelRunArgs, StageArg};
use crate::context::Context;
use crate::engine::open_checkpoint;
use crate::exit::Outcome;
use crate::outputs;

pub(super) fn run(args: &ModelRunArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. what can be refused before any weights are read
    let read = [args.inputs.as_path()];
    outputs::check([(read[0], args.output.as_path())].into_iter(), read.into_iter(), args.force)?;
    let (device, dtype) = args.engine.open()?;
    let inputs = SafetensorsFile::open(&args.inputs)?.read_all(&diffusion::Device::Cpu)?;
    let checkpoint = open_checkpoint(&args.model, args.variant.as_deref(), context)?;
    let stage = Stage::from(args.component);

    // 2. the network
    let mut options = RunOptions { dtype, device, adapters: std::sync::Arc::default() };
    if !args.lora.is_empty() {
        let fitted = fit(&args.lora, &checkpoint, &options.device, context)?;
        options.adapters = match stage.component() {
            Component::TextEncoder => fitted.text_encoder,
            Component::Unet => fitted.unet,
            // A LoRA changes no autoencoder.
            Component::Vae => options.adapters,
        };
    }
    let checkpoint = watched::watched(checkpoint, context.cancel())?;
    let outputs = models::run(stage, &checkpoint, &options, &inputs)?;

    // 3. its outputs, in f32 whatever it computes in
    let outputs: HashMap<_, _> = outputs
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
        .collect::<diffusion::Result<_>>()
        .context("cannot convert the outputs")?;
    outputs::make_parent(&args.output)?;
    save_tensors(&args.output, args.force, &outputs, &BTreeMap::new())?;
    Ok(Outcome::Done)
}

impl From<StageArg> for Stage {
    fn from(stage: StageArg) -> Self {
        match stage {
            StageArg::TextEncoder => Self::TextEncoder,
            StageArg::VaeEncode => Self::VaeEncode,
            StageArg::VaeDecode => Self::VaeDecode,
            StageArg::Unet => Self::Unet,
        }
    }
}
