//! Single files in the layout of the original latent-diffusion code: a whole pipeline in one `.safetensors` or `.ckpt`.
//!
//! Names are translated when tensors are asked for, so nothing is copied. EMA copies, losses and noise schedules that
//! training leaves in such files are not looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::folder::Folder;
use super::infer::{self, Shapes};
use super::ldm_keys::{Naming, pairs};
use super::weights::{Renamed, open_weights};
use super::{Component, OpenOptions, TensorFile, TensorSource};
use crate::error::{DiffusionError, Result};

/// The key of the metadata under which a component's configuration is kept by `save_single_file`.
pub(super) fn config_key(component: &str) -> String {
    format!("photomend.{component}.config")
}

/// An opened single file.
#[derive(Clone)]
pub(super) struct SingleFile {
    file: Arc<dyn TensorFile>,
    components: BTreeMap<Component, (Naming, Value)>,
    scheduler: Value,
}

impl std::fmt::Debug for SingleFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SingleFile").field("origin", &self.file.origin()).finish_non_exhaustive()
    }
}

impl SingleFile {
    /// Opens a file and finds the components in it.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the file is damaged, or holds something else than Stable Diffusion 1.x or 2.x.
    pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        Self::of_file(open_weights(path)?, options)
    }

    /// [`SingleFile::open`] of a file that is open already.
    pub(super) fn of_file(file: Arc<dyn TensorFile>, options: &OpenOptions) -> Result<Self> {
        let shapes = Shapes::new(file.as_ref());
        let given = options.config.as_deref().map(|path| Folder::open(path, None)).transpose()?;

        let mut components = BTreeMap::new();
        if let Some(config) = infer::clip(&shapes)? {
            let (prefix, config) = config;
            components.insert(Component::TextEncoder, (Naming::Clip { prefix }, config));
        } else if let Some(config) = infer::open_clip(&shapes)? {
            components.insert(Component::TextEncoder, (Naming::OpenClip, config));
        }
        if let Some(config) = infer::unet(&shapes)? {
            components.insert(Component::Unet, (Naming::Unet, config));
        }
        if let Some((prefix, config)) = infer::vae(&shapes)? {
            components.insert(Component::Vae, (Naming::Vae { prefix }, config));
        }
        if components.is_empty() {
            let problem = format!(
                "expected a Stable Diffusion 1.x or 2.x checkpoint, found {}",
                describe(&file.names())
            );
            return Err(DiffusionError::checkpoint(file.origin(), problem));
        }
        let unet = components.get(&Component::Unet).map(|(_, config)| config);
        let mut scheduler = infer::scheduler(file.as_ref(), unet);

        // What the file or the caller knows goes before what was inferred.
        for (component, (_, config)) in &mut components {
            if let Some(known) = known_config(file.as_ref(), component.name())? {
                *config = known;
            }
            if let Some(given) =
                given.as_ref().filter(|given| given.components().contains(component))
            {
                *config = given.config(*component)?;
            }
        }
        if let Some(known) = known_config(file.as_ref(), "scheduler")? {
            scheduler = known;
        }
        if let Some(given) = given.and_then(|given| given.scheduler_config().ok()) {
            scheduler = given;
        }
        Ok(Self { file, components, scheduler })
    }

    pub(super) fn components(&self) -> Vec<Component> {
        self.components.keys().copied().collect()
    }

    fn component(&self, component: Component) -> Result<&(Naming, Value)> {
        self.components.get(&component).ok_or_else(|| {
            let problem = format!("expected a {component}, found none in this file");
            DiffusionError::checkpoint(self.file.origin(), problem)
        })
    }

    pub(super) fn config(&self, component: Component) -> Result<Value> {
        Ok(self.component(component)?.1.clone())
    }

    pub(super) fn weights(&self, component: Component) -> Result<Arc<dyn TensorSource>> {
        let (naming, config) = self.component(component)?;
        let table = pairs(*naming, config)?.into_iter().map(|(name, _, stored)| (name, stored));
        Ok(Arc::new(Renamed::new(Arc::clone(&self.file), table)))
    }

    pub(super) fn scheduler_config(&self) -> Value {
        self.scheduler.clone()
    }

    /// True if the text encoder is OpenCLIP's.
    pub(super) fn is_open_clip(&self) -> bool {
        self.components.values().any(|(naming, _)| *naming == Naming::OpenClip)
    }

    /// How many of CLIP's merges the text encoder knows, if not all.
    pub(super) fn first_merges(&self) -> Option<usize> {
        let (_, config) = self.components.get(&Component::TextEncoder)?;
        let tokens = config["vocab_size"].as_u64().filter(|&tokens| tokens < CLIP_TOKENS)?;
        tokens.checked_sub(UNMERGED).map(|merges| merges as usize)
    }
}

/// Tokens of CLIP's vocabulary that are no merges: bytes, bytes that end a word, start and end.
const UNMERGED: u64 = 514;
/// All of its tokens.
const CLIP_TOKENS: u64 = 49_408;

/// A configuration in the file's metadata.
fn known_config(file: &dyn TensorFile, component: &str) -> Result<Option<Value>> {
    let key = config_key(component);
    let Some(json) = file.metadata_value(&key) else { return Ok(None) };
    match serde_json::from_str(&json) {
        Ok(config @ Value::Object(_)) => Ok(Some(config)),
        _ => {
            let problem = format!("the metadata {key}: expected a JSON object");
            Err(DiffusionError::checkpoint(file.origin(), problem))
        }
    }
}

/// What a file's names look like.
fn describe(names: &[String]) -> String {
    let any = |test: &dyn Fn(&str) -> bool| names.iter().any(|name| test(name));
    if any(&|name| name.contains("lora_") || name.contains(".lora.")) {
        return "a LoRA, which goes on top of a checkpoint".to_owned();
    }
    if any(&|name| name.starts_with("conditioner.embedders.")) {
        return "Stable Diffusion XL".to_owned();
    }
    if any(&|name| name.starts_with("model.diffusion_model.")) {
        return "a network of another family".to_owned();
    }
    if any(&|name| {
        name.starts_with("down_blocks.")
            || name.starts_with("encoder.down_blocks.")
            || name.starts_with("text_model.encoder.")
    }) {
        return "one component in diffusers' layout: open the folder that holds it and its config.json"
            .to_owned();
    }
    match names.first() {
        Some(name) => format!("other tensors ({}, …)", super::shorten(name)),
        None => "no tensors".to_owned(),
    }
}
