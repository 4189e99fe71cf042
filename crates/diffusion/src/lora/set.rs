//! Several LoRAs at once, fitted to a model.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;

use super::file::LoraFile;
use super::keys::LoraComponent;
use super::layer::{Adapters, LoraLayer};
use super::names::ModuleNames;
use super::spec::LoraSpec;
use crate::checkpoint::{Checkpoint, Component};
use crate::error::{DiffusionError, Result};

/// Whether a LoRA becomes part of the weights or runs beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdapterMode {
    /// Added into the weights as they are loaded: costs nothing afterwards.
    #[default]
    Merged,
    /// Beside the weights: exact even where these are stored with few bits, and trainable.
    Live,
}

/// The layers of the model that LoRAs are fitted to, each with the shape of its weight.
#[derive(Clone, Copy, Debug)]
pub struct LoraTargets<'a> {
    /// Those of the UNet.
    pub unet: &'a ModuleNames,
    /// Those of the text encoder.
    pub text_encoder: &'a ModuleNames,
}

/// LoRA files and the weight of each.
#[derive(Clone, Debug, Default)]
pub struct LoraSet {
    files: Vec<(LoraFile, f64)>,
}

/// What a set comes to on one model.
#[derive(Clone, Debug)]
pub struct LoraAdapters {
    /// For the UNet.
    pub unet: Arc<Adapters>,
    /// For the text encoder.
    pub text_encoder: Arc<Adapters>,
    /// What was and was not used of each file, in order.
    pub reports: Vec<LoraReport>,
}

/// What was and was not used of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraReport {
    /// The file or folder.
    pub path: PathBuf,
    /// The factor asked for.
    pub weight: f64,
    /// Layers of the UNet that it changes.
    pub unet_layers: usize,
    /// Layers of the text encoder that it changes.
    pub text_encoder_layers: usize,
    /// Modules that the model does not have, as `unet.mid_block.…`.
    pub unused: Vec<String>,
    /// Tensors that are no part of a LoRA.
    pub unknown: Vec<String>,
}

impl LoraSet {
    /// Reads the files.
    ///
    /// # Errors
    /// Those of [`LoraFile::open`], and [`DiffusionError::Argument`] for a weight that is not finite.
    pub fn open(specs: &[LoraSpec]) -> Result<Self> {
        let mut set = Self::default();
        for spec in specs {
            set.push(LoraFile::open(&spec.path)?, spec.weight)?;
        }
        Ok(set)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for a weight that is not finite.
    pub fn push(&mut self, file: LoraFile, weight: f64) -> Result<()> {
        if !weight.is_finite() {
            let name = format!("the weight of {}", file.path().display());
            return Err(DiffusionError::argument(name, "a finite number", weight));
        }
        self.files.push((file, weight));
        Ok(())
    }

    /// The files and their weights.
    #[must_use]
    pub fn files(&self) -> &[(LoraFile, f64)] {
        &self.files
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Fits the LoRAs to a checkpoint, whose parts need not all be there: [`LoraSet::adapters`] of its layers.
    ///
    /// # Errors
    /// Those of [`Checkpoint::weights`] and of [`LoraSet::adapters`].
    pub fn fit(
        &self,
        checkpoint: &Checkpoint,
        mode: AdapterMode,
        device: &Device,
    ) -> Result<LoraAdapters> {
        let present = checkpoint.components();
        let names = |component: Component| -> Result<ModuleNames> {
            if !present.contains(&component) {
                return Ok(ModuleNames::from_paths(Vec::<String>::new()));
            }
            Ok(ModuleNames::from_source(checkpoint.weights(component)?.as_ref()))
        };
        let (unet, text_encoder) = (names(Component::Unet)?, names(Component::TextEncoder)?);
        self.adapters(LoraTargets { unet: &unet, text_encoder: &text_encoder }, mode, device)
    }

    /// Fits the LoRAs to a model: matrices in f32 on `device`, by the path of the layer that they change.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if a file has nothing for this model, or two modules for one layer;
    /// [`DiffusionError::TensorShape`] if a module does not fit its layer.
    pub fn adapters(
        &self,
        targets: LoraTargets<'_>,
        mode: AdapterMode,
        device: &Device,
    ) -> Result<LoraAdapters> {
        let mut unet = HashMap::new();
        let mut text_encoder = HashMap::new();
        let mut reports = Vec::with_capacity(self.files.len());
        for (file, weight) in &self.files {
            let (layers, report) = fit(file, *weight, targets, device)?;
            for ((component, path), layer) in layers {
                let map: &mut HashMap<String, Vec<LoraLayer>> = match component {
                    LoraComponent::Unet => &mut unet,
                    _ => &mut text_encoder,
                };
                map.entry(path).or_default().push(layer);
            }
            reports.push(report);
        }
        let adapters = |layers| {
            Arc::new(match mode {
                AdapterMode::Merged => Adapters::merged_set(layers),
                AdapterMode::Live => Adapters::live_set(layers),
            })
        };
        Ok(LoraAdapters { unet: adapters(unet), text_encoder: adapters(text_encoder), reports })
    }
}

type FittedLayers = BTreeMap<(LoraComponent, String), LoraLayer>;

/// The layers of one file.
fn fit(
    file: &LoraFile,
    weight: f64,
    targets: LoraTargets<'_>,
    device: &Device,
) -> Result<(FittedLayers, LoraReport)> {
    let mut layers = FittedLayers::new();
    let mut unused = Vec::new();
    for module in file.modules() {
        let component = module.component();
        let names = match component {
            LoraComponent::Unet => Some(targets.unet),
            LoraComponent::TextEncoder => Some(targets.text_encoder),
            LoraComponent::TextEncoder2 => None,
        };
        let found = names.and_then(|names| {
            let path = names.resolve(module.name())?;
            Some((path.to_owned(), names.shape(path)?))
        });
        let Some((path, shape)) = found else {
            unused.push(format!("{component}.{}", module.name()));
            continue;
        };
        let layer = module.layer(file.path(), shape, weight, device)?;
        if layers.insert((component, path.clone()), layer).is_some() {
            return Err(DiffusionError::checkpoint(
                file.path(),
                format!(
                    "expected one module for the layer {component}.{path}, found two; one is {}",
                    module.name()
                ),
            ));
        }
    }
    if layers.is_empty() {
        let first = unused.first().map_or("none", String::as_str);
        return Err(DiffusionError::checkpoint(
            file.path(),
            format!(
                "expected a LoRA for this model, found {} modules that it does not have, such as {first}",
                unused.len()
            ),
        ));
    }
    let unet_layers = layers.keys().filter(|(of, _)| *of == LoraComponent::Unet).count();
    let report = LoraReport {
        path: file.path().to_path_buf(),
        weight,
        unet_layers,
        text_encoder_layers: layers.len() - unet_layers,
        unused,
        unknown: file.unknown().to_vec(),
    };
    Ok((layers, report))
}
