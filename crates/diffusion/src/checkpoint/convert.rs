//! Saves a checkpoint in another layout: a diffusers folder, or a single file as the original code has it.
//!
//! One tensor is in memory at a time. What is written appears whole or not at all. The names in a folder are those that
//! every version of diffusers and transformers reads; a single file also carries its configurations in the metadata, which
//! other programs do not look at and [`Checkpoint::open`] reads back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::json::string;
use super::ldm_keys::{CLIP, Naming, VAE, pairs};
use super::single_file::config_key;
use super::weights::Change;
use super::{Checkpoint, Component, TensorSource, TensorSpec, check_tensor, write_safetensors};
use crate::error::{DiffusionError, Result};
use crate::tokenizer::{write_clip_tokenizer, write_small_tokenizer};

/// How to save.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaveOptions {
    /// The dtype to store: f32, f16 or bf16; as it was if not given.
    pub dtype: Option<DType>,
    /// Whether a single file may replace an existing one.
    pub force: bool,
}

/// The version of diffusers whose layout is written; it refuses folders that name none.
pub(super) const DIFFUSERS_VERSION: &str = "0.42.1";

/// Saves a checkpoint as a diffusers folder: `model_index.json`, and per component a configuration and a
/// `.safetensors` file. A checkpoint without a tokenizer gets CLIP's.
///
/// # Errors
/// [`DiffusionError::Io`] if `out` exists and is not empty, or cannot be written; those of reading the checkpoint.
pub fn save_folder(checkpoint: &Checkpoint, out: &Path, options: &SaveOptions) -> Result<()> {
    // 1. everything that can be known before the work is done
    let mut parts = Vec::new();
    for component in checkpoint.components() {
        let (config, source) = (checkpoint.config(component)?, checkpoint.weights(component)?);
        let expected = checkpoint.expected_tensors(component)?;
        for (name, shape) in &expected {
            check_tensor(&source.origin(), name, shape, source.info(name).as_ref())?;
        }
        parts.push((component, config, source));
    }

    // 2. a folder beside it, removed when dropped
    let temporary = folder_beside(out)?;
    let folder = temporary.path();
    for (component, config, source) in &parts {
        let weights = match component {
            Component::TextEncoder => "model.safetensors",
            _ => "diffusion_pytorch_model.safetensors",
        };
        let path = folder.join(component.name());
        create(&path)?;
        write_json(&path.join("config.json"), config)?;
        save_weights(source.as_ref(), &path.join(weights), options)?;
    }
    write_json(&folder.join("model_index.json"), &model_index(checkpoint)?)?;
    // A lone component has no scheduler.
    if let Ok(config) = checkpoint.scheduler_config() {
        create(&folder.join("scheduler"))?;
        write_json(&folder.join("scheduler/scheduler_config.json"), &config)?;
    }
    if checkpoint.components().contains(&Component::TextEncoder) {
        save_tokenizer(checkpoint, &folder.join("tokenizer"))?;
    }

    // 3. the name
    into_place(temporary, out)
}

/// Gives a finished folder its name.
///
/// # Errors
/// [`DiffusionError::Io`] if that cannot be; the folder is then removed.
pub(super) fn into_place(finished: tempfile::TempDir, out: &Path) -> Result<()> {
    let kept = finished.keep();
    std::fs::rename(&kept, out).map_err(|source| {
        let _ = std::fs::remove_dir_all(&kept);
        DiffusionError::io(out, "create the folder", source)
    })
}

/// A temporary folder beside `out`, to get its name in the end; it is removed when dropped.
///
/// # Errors
/// [`DiffusionError::Io`] if `out` exists and is not an empty folder, or nothing can be made there.
pub(super) fn folder_beside(out: &Path) -> Result<tempfile::TempDir> {
    let exists = || {
        let reason = "the folder exists already and is not empty";
        let error = std::io::Error::new(std::io::ErrorKind::AlreadyExists, reason);
        DiffusionError::io(out, "create the folder", error)
    };
    if out.is_dir() {
        let mut entries =
            out.read_dir().map_err(|source| DiffusionError::io(out, "list", source))?;
        if entries.next().is_some() {
            return Err(exists());
        }
    } else if out.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let parent = out.parent().filter(|path| !path.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".photomend-").suffix(".tmp");
    #[cfg(unix)]
    {
        // The usual mode of a new folder, less the umask; a temporary one would be private.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777));
    }
    builder
        .tempdir_in(parent.unwrap_or(Path::new(".")))
        .map_err(|source| DiffusionError::io(out, "create the folder", source))
}

/// Saves a checkpoint as one `.safetensors` file in the layout of the original code.
///
/// The text encoder is written as SD 2 has it (OpenCLIP) if its activation is not `quick_gelu`, else as SD 1 has it.
///
/// # Errors
/// [`DiffusionError::Checkpoint`] if a component has no place in that layout (an asymmetric autoencoder) or
/// [`DiffusionError::Argument`] if a tensor has none; those of reading the checkpoint and of [`write_safetensors`].
pub fn save_single_file(checkpoint: &Checkpoint, out: &Path, options: &SaveOptions) -> Result<()> {
    let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut specs = Vec::new();
    // For each name in the file: the tensors that it is made of.
    let mut parts: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    let sources: BTreeMap<Component, _> = checkpoint
        .components()
        .into_iter()
        .map(|component| Ok((component, checkpoint.weights(component)?)))
        .collect::<Result<_>>()?;
    for (&component, source) in &sources {
        let config = checkpoint.config(component)?;
        let naming = match component {
            Component::TextEncoder if string(&config, "hidden_act") == Some("quick_gelu") => {
                Naming::Clip { prefix: CLIP[0] }
            }
            Component::TextEncoder => Naming::OpenClip,
            Component::Unet => Naming::Unet,
            Component::Vae if string(&config, "_class_name") == Some("AsymmetricAutoencoderKL") => {
                return Err(DiffusionError::checkpoint(
                    checkpoint.path(),
                    "an AsymmetricAutoencoderKL has no place in a single file: save a folder",
                ));
            }
            Component::Vae => Naming::Vae { prefix: VAE[0] },
        };
        metadata.insert(config_key(component.name()), config.to_string());
        let mut left: BTreeSet<String> = source.names().into_iter().collect();
        for (name, shape, stored) in pairs(naming, &config)? {
            let info = source.info(&name);
            check_tensor(&source.origin(), &name, &shape, info.as_ref())?;
            left.remove(&name);
            let whole = match stored.change {
                Change::None => shape.clone(),
                Change::Flatten => [&shape[..], &[1, 1]].concat(),
                Change::Third(_) => [&[3 * shape[0]], &shape[1..]].concat(),
            };
            let place = parts.entry(stored.name.clone()).or_default();
            if place.is_empty() {
                let dtype = dtype(info.map(|info| info.dtype), options);
                specs.push(TensorSpec { name: stored.name, dtype, shape: whole });
            }
            place.push(Part { component, name, shape, change: stored.change });
        }
        if let Some(name) = left.first() {
            let expected = "tensors that the original layout has a name for";
            return Err(DiffusionError::argument(component.name(), expected, name));
        }
    }
    if let Ok(config) = checkpoint.scheduler_config() {
        metadata.insert(config_key("scheduler"), config.to_string());
    }
    write_safetensors(out, options.force, &specs, &metadata, |spec| {
        let mut tensors = Vec::new();
        let mut parts: Vec<_> = parts[&spec.name].iter().collect();
        parts.sort_by_key(|part| match part.change {
            Change::Third(third) => third,
            _ => 0,
        });
        for part in parts {
            let source = &sources[&part.component];
            tensors.push(source.read(&part.name, &part.shape, spec.dtype, &Device::Cpu)?);
        }
        Ok(Tensor::cat(&tensors, 0)?.reshape(spec.shape.as_slice())?)
    })
}

/// A tensor of a component, on its way into a single file.
struct Part {
    component: Component,
    name: String,
    shape: Vec<usize>,
    change: Change,
}

/// Saves every tensor of a source under its own name.
///
/// # Errors
/// Those of reading, and of [`write_safetensors`].
pub fn save_weights(source: &dyn TensorSource, out: &Path, options: &SaveOptions) -> Result<()> {
    let specs: Vec<_> = source
        .names()
        .into_iter()
        .filter_map(|name| {
            let info = source.info(&name)?;
            Some(TensorSpec { name, dtype: dtype(Some(info.dtype), options), shape: info.shape })
        })
        .collect();
    // transformers refuses files that do not say which framework wrote them.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(out, options.force, &specs, &metadata, |spec| {
        source.read(&spec.name, &spec.shape, spec.dtype, &Device::Cpu)
    })
}

fn dtype(stored: Option<DType>, options: &SaveOptions) -> DType {
    options.dtype.unwrap_or(match stored {
        Some(dtype @ (DType::F16 | DType::BF16 | DType::F64)) => dtype,
        Some(DType::F8E4M3) => DType::F16,
        _ => DType::F32,
    })
}

fn model_index(checkpoint: &Checkpoint) -> Result<Value> {
    let components = checkpoint.components();
    let mut index = serde_json::Map::new();
    let mut class = checkpoint.pipeline_class().unwrap_or("StableDiffusionPipeline").to_owned();
    if components.contains(&Component::Unet) {
        let config = checkpoint.config(Component::Unet)?;
        if config["in_channels"] == json!(9) {
            "StableDiffusionInpaintPipeline".clone_into(&mut class);
        }
        index.insert("unet".into(), json!(["diffusers", "UNet2DConditionModel"]));
    }
    if components.contains(&Component::Vae) {
        let config = checkpoint.config(Component::Vae)?;
        let class = string(&config, "_class_name").unwrap_or("AutoencoderKL");
        index.insert("vae".into(), json!(["diffusers", class]));
    }
    if components.contains(&Component::TextEncoder) {
        index.insert("text_encoder".into(), json!(["transformers", "CLIPTextModel"]));
        index.insert("tokenizer".into(), json!(["transformers", "CLIPTokenizer"]));
    }
    if let Ok(config) = checkpoint.scheduler_config() {
        let class = string(&config, "_class_name").unwrap_or("PNDMScheduler");
        index.insert("scheduler".into(), json!(["diffusers", class]));
    }
    index.insert("_class_name".into(), json!(class));
    index.insert("_diffusers_version".into(), json!(DIFFUSERS_VERSION));
    index.insert("safety_checker".into(), json!([null, null]));
    index.insert("feature_extractor".into(), json!([null, null]));
    index.insert("requires_safety_checker".into(), json!(false));
    Ok(Value::Object(index))
}

/// Copies the tokenizer's files, or writes CLIP's.
fn save_tokenizer(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    let files = checkpoint.tokenizer_files();
    create(folder)?;
    let Some(from) = files.folder else {
        return match files.first_merges {
            Some(merges) => write_small_tokenizer(folder, merges),
            None => write_clip_tokenizer(folder, files.open_clip),
        };
    };
    for name in [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ] {
        let path = from.join(name);
        if path.is_file() {
            std::fs::copy(&path, folder.join(name))
                .map_err(|source| DiffusionError::io(&path, "copy", source))?;
        }
    }
    Ok(())
}

pub(super) fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder)
        .map_err(|source| DiffusionError::io(folder, "create the folder", source))
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| DiffusionError::checkpoint(path, error.to_string()))?;
    text.push('\n');
    std::fs::write(path, text).map_err(|source| DiffusionError::io(path, "write", source))
}
