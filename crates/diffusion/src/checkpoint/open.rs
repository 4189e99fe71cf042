//! A checkpoint of any layout behind one interface.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::TensorSource;
use super::expected::expected_tensors;
use super::folder::Folder;
use super::json::string;
use super::single_file::SingleFile;
use crate::error::{DiffusionError, Result};

/// A network of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// CLIP's text encoder.
    TextEncoder,
    /// The denoising network.
    Unet,
    /// The autoencoder between images and latents.
    Vae,
}

impl Component {
    /// All of them, in the order in which a pipeline uses them.
    pub const ALL: [Self; 3] = [Self::TextEncoder, Self::Unet, Self::Vae];

    /// The name of its subfolder: `text_encoder`, `unet` or `vae`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Unet => "unet",
            Self::Vae => "vae",
        }
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How to open a checkpoint, where it leaves a choice.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The variant of a folder's files to prefer, e.g. `fp16`. Components without it fall back to what they have.
    pub variant: Option<String>,
    /// What the UNet predicts (`epsilon` or `v_prediction`), against what the checkpoint says or is taken to say.
    pub prediction_type: Option<String>,
    /// A diffusers folder whose configurations replace those inferred from a single file's tensors.
    pub config: Option<PathBuf>,
}

/// Where a checkpoint's tokenizer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// The folder that they are in.
    pub folder: Option<PathBuf>,
    /// `vocab.json`.
    pub vocab: Option<PathBuf>,
    /// `merges.txt`.
    pub merges: Option<PathBuf>,
    /// `tokenizer.json`, which holds both.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`, with the padding token.
    pub tokenizer_config: Option<PathBuf>,
    /// `special_tokens_map.json`, where older checkpoints name the padding token.
    pub special_tokens_map: Option<PathBuf>,
    /// True for single files with an OpenCLIP text encoder (SD 2): the vocabulary is CLIP's, padded with token 0.
    pub open_clip: bool,
    /// For single files with a text encoder of fewer tokens than CLIP's: how many of CLIP's merges it knows.
    pub first_merges: Option<usize>,
}

/// An opened checkpoint: a diffusers folder, one component's folder, or a single file.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    replaced: BTreeMap<Component, Arc<dyn TensorSource>>,
    replaced_configs: BTreeMap<Component, Value>,
    prediction_type: Option<String>,
    layout: Layout,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum Layout {
    Folder(Folder),
    SingleFile(SingleFile),
}

impl Checkpoint {
    /// Opens what is at `path`, decided by content, or a [carried](crate::carried) checkpoint by its name. Weights are opened when
    /// they are asked for.
    ///
    /// # Errors
    /// [`DiffusionError::Io`] if there is nothing to read, [`DiffusionError::Checkpoint`] if it is no checkpoint,
    /// [`DiffusionError::Argument`] for an unknown `prediction_type`.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        if let Some(given) = &options.prediction_type
            && !["epsilon", "v_prediction"].contains(&given.as_str())
        {
            return Err(DiffusionError::argument(
                "prediction_type",
                "epsilon or v_prediction",
                given,
            ));
        }
        let layout = if path.is_dir() {
            Layout::Folder(Folder::open(path, options.variant.as_deref())?)
        } else {
            Layout::SingleFile(SingleFile::open(path, options)?)
        };
        let prediction_type = options.prediction_type.clone();
        Ok(Self {
            path: path.to_path_buf(),
            replaced: BTreeMap::new(),
            replaced_configs: BTreeMap::new(),
            prediction_type,
            layout,
        })
    }

    /// What was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The components that are there.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        match &self.layout {
            Layout::Folder(folder) => folder.components(),
            Layout::SingleFile(file) => file.components(),
        }
    }

    /// The pipeline's class, where the checkpoint names one (`StableDiffusionInpaintPipeline`).
    #[must_use]
    pub fn pipeline_class(&self) -> Option<&str> {
        match &self.layout {
            Layout::Folder(folder) => folder.class(),
            Layout::SingleFile(_) => None,
        }
    }

    /// True if this is one component and no pipeline.
    #[must_use]
    pub fn is_component(&self) -> bool {
        match &self.layout {
            Layout::Folder(folder) => folder.is_component(),
            Layout::SingleFile(file) => file.components().len() == 1,
        }
    }

    /// The files that a component's weights are in: one, or all shards.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if there are none.
    pub fn files(&self, component: Component) -> Result<Vec<PathBuf>> {
        match &self.layout {
            Layout::Folder(folder) => folder.files(component),
            Layout::SingleFile(_) => Ok(vec![self.path.clone()]),
        }
    }

    /// A component's configuration in the form of diffusers' (or, for the text encoder, transformers') `config.json`.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the component or its configuration is missing or damaged.
    pub fn config(&self, component: Component) -> Result<Value> {
        if let Some(config) = self.replaced_configs.get(&component) {
            return Ok(config.clone());
        }
        match &self.layout {
            Layout::Folder(folder) => folder.config(component),
            Layout::SingleFile(file) => file.config(component),
        }
    }

    /// The name and shape of every tensor that a component's configuration asks for.
    ///
    /// # Errors
    /// Those of [`Checkpoint::config`], and [`DiffusionError::Argument`] if the configuration's sizes make no sense.
    pub fn expected_tensors(&self, component: Component) -> Result<Vec<(String, Vec<usize>)>> {
        expected_tensors(component, &self.config(component)?)
    }

    /// A component's weights under diffusers' names.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the component or its weights are missing or damaged.
    pub fn weights(&self, component: Component) -> Result<Arc<dyn TensorSource>> {
        if let Some(source) = self.replaced.get(&component) {
            return Ok(Arc::clone(source));
        }
        match &self.layout {
            Layout::Folder(folder) => folder.weights(component),
            Layout::SingleFile(file) => file.weights(component),
        }
    }

    /// The same checkpoint with other weights for a component, e.g. with adapters merged in. The tensors must have the
    /// names and shapes that the configuration asks for.
    #[must_use]
    pub fn with_weights(mut self, component: Component, source: Arc<dyn TensorSource>) -> Self {
        self.replaced.insert(component, source);
        self
    }

    /// The same checkpoint with another configuration for a component.
    #[must_use]
    pub fn with_config(mut self, component: Component, config: Value) -> Self {
        self.replaced_configs.insert(component, config);
        self
    }

    /// The scheduler's configuration in the form of `scheduler_config.json`.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if it is missing or damaged.
    pub fn scheduler_config(&self) -> Result<Value> {
        let mut config = match &self.layout {
            Layout::Folder(folder) => folder.scheduler_config()?,
            Layout::SingleFile(file) => file.scheduler_config(),
        };
        if let (Some(given), Some(config)) = (&self.prediction_type, config.as_object_mut()) {
            config.insert("prediction_type".to_owned(), Value::from(given.clone()));
        }
        Ok(config)
    }

    /// The tokenizer's files, where there are any; single files have none.
    #[must_use]
    pub fn tokenizer_files(&self) -> TokenizerFiles {
        let (folder, open_clip, first_merges) = match &self.layout {
            Layout::Folder(folder) => (folder.tokenizer(), false, None),
            Layout::SingleFile(file) => (None, file.is_open_clip(), file.first_merges()),
        };
        let file = |name: &str| {
            folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.is_file())
        };
        TokenizerFiles {
            folder: folder.clone(),
            vocab: file("vocab.json"),
            merges: file("merges.txt"),
            tokenizer: file("tokenizer.json"),
            tokenizer_config: file("tokenizer_config.json"),
            special_tokens_map: file("special_tokens_map.json"),
            open_clip,
            first_merges,
        }
    }

    /// True for a folder in diffusers' layout, false for a single file.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        matches!(self.layout, Layout::Folder(_))
    }

    /// True if the autoencoder's decoder is conditioned on the kept pixels (`AsymmetricAutoencoderKL`).
    ///
    /// # Errors
    /// Those of [`Checkpoint::config`].
    pub fn vae_is_asymmetric(&self) -> Result<bool> {
        let config = self.config(Component::Vae)?;
        Ok(string(&config, "_class_name") == Some("AsymmetricAutoencoderKL"))
    }
}
