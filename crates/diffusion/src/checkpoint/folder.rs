//! Folders in diffusers' layout: `model_index.json`, a subfolder a component, or one component alone.
//!
//! File names and their order of preference are those of diffusers 0.42 and transformers 5.23, with two additions:
//! without an exact match, the only variant that a component has is taken; and a folder without `model_index.json`
//! is a pipeline if it has the subfolders of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::json::{read_config, string};
use super::weights::{Change, Renamed, Shards, Stored, open_weights};
use super::{Component, TensorFile, TensorSource};
use crate::error::{DiffusionError, Result};

/// The stems of weight files: diffusers', then transformers' two.
pub(super) const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];

/// Variants to fall back to, in this order.
pub(super) const VARIANTS: [&str; 3] = ["fp16", "bf16", "non_ema"];

/// A folder of components.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    variant: Option<String>,
    components: BTreeMap<Component, PathBuf>,
    /// `model_index.json`, if there is one.
    index: Option<Value>,
}

impl Folder {
    /// Looks at what the folder holds; no weights are opened.
    pub(super) fn open(path: &Path, variant: Option<&str>) -> Result<Self> {
        let index_path = path.join("model_index.json");
        let index = index_path.is_file().then(|| read_config(&index_path)).transpose()?;
        if let Some(index) = &index {
            check_family(&index_path, index)?;
        }
        let mut components: BTreeMap<_, _> = Component::ALL
            .into_iter()
            .map(|component| (component, path.join(component.name())))
            .filter(|(_, folder)| folder.is_dir())
            .collect();
        let config = path.join("config.json");
        if components.is_empty() && index.is_none() && config.is_file() {
            components.insert(component_of(&config, &read_config(&config)?)?, path.to_path_buf());
        }
        if components.is_empty() {
            return Err(DiffusionError::checkpoint(
                path,
                "expected a diffusers folder (model_index.json and the subfolders text_encoder, unet and vae), or one \
                 component with its config.json, found neither",
            ));
        }
        let variant = variant.map(str::to_owned);
        Ok(Self { path: path.to_path_buf(), variant, components, index })
    }

    pub(super) fn components(&self) -> Vec<Component> {
        self.components.keys().copied().collect()
    }

    /// True if the folder is one component and no pipeline.
    pub(super) fn is_component(&self) -> bool {
        self.components.values().any(|folder| *folder == self.path)
    }

    /// The pipeline's class as `model_index.json` has it.
    pub(super) fn class(&self) -> Option<&str> {
        string(self.index.as_ref()?, "_class_name")
    }

    fn folder(&self, component: Component) -> Result<&Path> {
        self.components.get(&component).map(PathBuf::as_path).ok_or_else(|| {
            let name = component.name();
            let problem = format!("expected a subfolder {name}, found none");
            DiffusionError::checkpoint(&self.path, problem)
        })
    }

    pub(super) fn config(&self, component: Component) -> Result<Value> {
        read_config(&self.folder(component)?.join("config.json"))
    }

    pub(super) fn scheduler_config(&self) -> Result<Value> {
        read_config(&self.path.join("scheduler").join("scheduler_config.json"))
    }

    pub(super) fn tokenizer(&self) -> Option<PathBuf> {
        Some(self.path.join("tokenizer")).filter(|folder| folder.is_dir())
    }

    /// The weight file or shard index of a component.
    pub(super) fn weights_path(&self, component: Component) -> Result<PathBuf> {
        let folder = self.folder(component)?;
        let asked = self.variant.as_deref().map(Some);
        // The variant asked for, then none, then whatever variant there is.
        let fallbacks = VARIANTS.into_iter().map(Some);
        for variant in asked.into_iter().chain([None]).chain(fallbacks) {
            for extension in ["safetensors", "bin"] {
                for stem in STEMS {
                    for name in names(stem, extension, variant) {
                        let path = folder.join(name);
                        if path.is_file() {
                            return Ok(path);
                        }
                    }
                }
            }
        }
        Err(DiffusionError::checkpoint(
            folder,
            "expected weights (diffusion_pytorch_model or model, .safetensors or .bin), found none",
        ))
    }

    /// The weight files of a component: one, or the shards.
    pub(super) fn files(&self, component: Component) -> Result<Vec<PathBuf>> {
        let path = self.weights_path(component)?;
        Ok(if is_index(&path) { Shards::files(&path) } else { vec![path] })
    }

    pub(super) fn weights(&self, component: Component) -> Result<Arc<dyn TensorSource>> {
        let path = self.weights_path(component)?;
        let file: Arc<dyn TensorFile> =
            if is_index(&path) { Arc::new(Shards::open(&path)?) } else { open_weights(&path)? };
        Ok(Arc::new(canonical(component, file)))
    }
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// The names of a single file and of the shard index (today's and the older spelling with a variant).
pub(super) fn names(stem: &str, extension: &str, variant: Option<&str>) -> Vec<String> {
    match variant {
        None => vec![format!("{stem}.{extension}"), format!("{stem}.{extension}.index.json")],
        Some(variant) => vec![
            format!("{stem}.{variant}.{extension}"),
            format!("{stem}.{extension}.index.{variant}.json"),
            format!("{stem}.{extension}.{variant}.index.json"),
        ],
    }
}

/// Refuses pipelines of other families by what their index says.
fn check_family(path: &Path, index: &Value) -> Result<()> {
    let has = |key: &str| index.get(key).is_some_and(|value| !value.is_null());
    if has("text_encoder_2") || has("transformer") || has("prior") {
        let class = string(index, "_class_name").unwrap_or("another pipeline");
        let problem = format!("expected Stable Diffusion 1.x or 2.x, found {class}");
        return Err(DiffusionError::checkpoint(path, problem));
    }
    Ok(())
}

/// Which component a lone `config.json` describes.
fn component_of(path: &Path, config: &Value) -> Result<Component> {
    let architecture = config.get("architectures").and_then(|list| list.get(0));
    let class = string(config, "_class_name")
        .or_else(|| architecture.and_then(Value::as_str))
        .or_else(|| string(config, "model_type"))
        .unwrap_or("no class");
    match class {
        "UNet2DConditionModel" => Ok(Component::Unet),
        "AutoencoderKL" | "AsymmetricAutoencoderKL" => Ok(Component::Vae),
        "CLIPTextModel" | "CLIPTextModelWithProjection" | "clip_text_model" => {
            Ok(Component::TextEncoder)
        }
        other => Err(DiffusionError::checkpoint(
            path,
            format!(
                "expected UNet2DConditionModel, AutoencoderKL, AsymmetricAutoencoderKL or CLIPTextModel, found {}",
                super::shorten(other)
            ),
        )),
    }
}

/// A file of diffusers' layout under today's names, whichever version wrote it.
///
/// - transformers 5.6 and later leave `text_model.` off; all else, LoRA files too, has it.
/// - VAEs of 2022 call the attention `query`, `key`, `value` and `proj_attn`, some as 1×1 convolutions.
/// - `position_ids` are no weights.
pub(super) fn canonical(component: Component, file: Arc<dyn TensorFile>) -> Renamed {
    let names = file.names().into_iter().filter(|name| !name.ends_with("position_ids"));
    let table: Vec<_> = names
        .map(|name| match component {
            Component::TextEncoder => (text_name(&name), Stored { name, change: Change::None }),
            Component::Vae => vae_name(name),
            Component::Unet => (name.clone(), Stored { name, change: Change::None }),
        })
        .collect();
    Renamed::new(file, table)
}

fn text_name(name: &str) -> String {
    let bare = ["embeddings.", "encoder.", "final_layer_norm."];
    if bare.iter().any(|start| name.starts_with(start)) {
        format!("text_model.{name}")
    } else {
        name.to_owned()
    }
}

fn vae_name(name: String) -> (String, Stored) {
    if !name.contains(".attentions.") {
        return (name.clone(), Stored { name, change: Change::None });
    }
    let mut new = name.clone();
    for (old, today) in [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ] {
        new = new.replace(old, today);
    }
    let change = if new.ends_with(".weight") { Change::Flatten } else { Change::None };
    (new, Stored { name, change })
}
