//! `photomend model convert` and `merge`: checkpoints and LoRAs, written anew.

use std::path::Path;
use std::sync::Arc;

use diffusion::Device;
use diffusion::checkpoint::{
    Checkpoint, Component, ModelKind, OpenOptions, SaveOptions, inspect, save_folder,
    save_single_file,
};
use diffusion::lora::{LoraFile, LoraFormat, MergedSource, WriteOptions};

use super::{fit, watched};
use crate::args::{FormArg, ModelConvertArgs, ModelMergeArgs, ModelStoreArgs};
use crate::context::Context;
use crate::engine::{open_options, path_of};
use crate::exit::{self, Outcome};
use crate::outputs;

pub(super) fn convert(args: &ModelConvertArgs, context: &Context) -> anyhow::Result<Outcome> {
    let options = open_options(args.store.variant.as_deref());
    let path = path_of(&args.model, args.store.variant.as_deref(), context)?;
    check_output(&path, &args.output, args.store.force)?;
    let to = args.to;
    if is_lora(&path, &options) {
        let format = match to {
            Some(FormArg::Peft) => LoraFormat::Peft,
            Some(FormArg::Diffusers) => LoraFormat::Diffusers,
            Some(FormArg::Kohya) => LoraFormat::Kohya,
            _ => {
                let path = path.display();
                return Err(exit::usage(format!(
                    "{path} is a LoRA: expected --to peft, diffusers or kohya"
                )));
            }
        };
        let mut lora = LoraFile::open(&path)?;
        if let Some(dtype) = args.store.dtype {
            lora = lora.to_dtype(dtype.into())?;
        }
        let write = WriteOptions { format, force: args.store.force, ..WriteOptions::default() };
        outputs::make_parent(&args.output)?;
        lora.write(&args.output, &write)?;
        return Ok(Outcome::Done);
    }
    let checkpoint = Checkpoint::open(&path, &options)?;
    let single_file = match to {
        Some(FormArg::Folder | FormArg::Diffusers) => false,
        Some(FormArg::SingleFile) => true,
        None => is_single_file(&args.output),
        Some(FormArg::Peft | FormArg::Kohya) => {
            let path = path.display();
            return Err(exit::usage(format!(
                "{path} is a checkpoint: expected --to folder or single-file"
            )));
        }
    };
    save(checkpoint, &args.output, single_file, &args.store, context)
}

pub(super) fn merge(args: &ModelMergeArgs, context: &Context) -> anyhow::Result<Outcome> {
    let options = open_options(args.store.variant.as_deref());
    let path = path_of(&args.model, args.store.variant.as_deref(), context)?;
    check_output(&path, &args.output, args.store.force)?;
    let mut checkpoint = Checkpoint::open(&path, &options)?;
    let fitted = fit(&args.lora, &checkpoint, &Device::Cpu, context)?;
    let present = checkpoint.components();
    for (component, adapters) in
        [(Component::Unet, fitted.unet), (Component::TextEncoder, fitted.text_encoder)]
    {
        if present.contains(&component) {
            let source = MergedSource::new(checkpoint.weights(component)?, adapters);
            checkpoint = checkpoint.with_weights(component, Arc::new(source));
        }
    }
    save(checkpoint, &args.output, is_single_file(&args.output), &args.store, context)
}

fn save(
    checkpoint: Checkpoint,
    output: &Path,
    single_file: bool,
    store: &ModelStoreArgs,
    context: &Context,
) -> anyhow::Result<Outcome> {
    let options = SaveOptions { dtype: store.dtype.map(Into::into), force: store.force };
    let checkpoint = watched::watched(checkpoint, context.cancel())?;
    outputs::make_parent(output)?;
    if single_file {
        save_single_file(&checkpoint, output, &options)?;
    } else {
        save_folder(&checkpoint, output, &options)?;
    }
    Ok(Outcome::Done)
}

/// Refuses an output that is the input, or that exists and may not be replaced, before anything is read.
fn check_output(input: &Path, output: &Path, force: bool) -> anyhow::Result<()> {
    // A folder may be there as long as it is empty.
    let force = force || output.is_dir();
    outputs::check([(input, output)].into_iter(), [input].into_iter(), force)
}

/// True if the name asks for one file.
fn is_single_file(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "safetensors")
}

/// True for a LoRA: a file of its keys, or a folder as PEFT and diffusers save them.
fn is_lora(path: &Path, options: &OpenOptions) -> bool {
    if path.is_dir() {
        let files =
            ["adapter_config.json", "pytorch_lora_weights.safetensors", "unet/adapter_config.json"];
        return files.iter().any(|file| path.join(file).is_file());
    }
    // What cannot be inspected is reported when it is opened as a checkpoint.
    inspect(path, options).is_ok_and(|info| info.kind == ModelKind::Lora)
}
