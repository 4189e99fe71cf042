//! Writes LoRA files in the styles of PEFT, diffusers and kohya.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use imaging::ImagingError;
use imaging::io::write_atomically;
use serde_json::{Value, json};

use super::file::{LoraFile, METADATA_CONFIG, PEFT_CONFIG, PEFT_STEM};
use super::keys::{LoraComponent, LoraStyle};
use super::module::LoraModule;
use super::names::ModuleNames;
use crate::checkpoint::save_tensors;
use crate::error::{DiffusionError, Result};

/// A style that LoRA files are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoraFormat {
    /// `adapter_model.safetensors` with `adapter_config.json` beside it, which holds ranks and alphas. One component a file.
    Peft,
    /// `pytorch_lora_weights.safetensors`: alpha = r, which every version takes for granted, so that any other scale is
    /// multiplied into the matrices up.
    #[default]
    Diffusers,
    /// Underscored names, an alpha tensor a module, `ss_network_dim` and `ss_network_alpha` in the metadata.
    Kohya,
}

impl LoraFormat {
    /// The name that [`FromStr`] takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peft => "peft",
            Self::Diffusers => "diffusers",
            Self::Kohya => "kohya",
        }
    }
}

impl fmt::Display for LoraFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LoraFormat {
    type Err = DiffusionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Peft, Self::Diffusers, Self::Kohya]
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| DiffusionError::argument("format", "peft, diffusers or kohya", text))
    }
}

impl From<LoraStyle> for LoraFormat {
    fn from(style: LoraStyle) -> Self {
        match style {
            LoraStyle::Peft => Self::Peft,
            LoraStyle::Diffusers | LoraStyle::DiffusersOld => Self::Diffusers,
            LoraStyle::Kohya => Self::Kohya,
        }
    }
}

/// How [`LoraFile::write`] writes.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// The style.
    pub format: LoraFormat,
    /// Replace a file that exists.
    pub force: bool,
    /// The UNet's layers, to give kohya's underscored names their dots; Stable Diffusion's if `None`.
    pub unet: Option<ModuleNames>,
    /// The text encoder's layers, likewise.
    pub text_encoder: Option<ModuleNames>,
}

impl LoraFile {
    /// Writes the LoRA to `path`, which appears whole or not at all. No scale is lost in any format.
    ///
    /// `path` is a `.safetensors` file. For PEFT it may also be a folder, which is made and must be if both components are
    /// changed: then it gets a folder `unet` and a folder `text_encoder`.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] naming a module that no path is known for; [`DiffusionError::Argument`] for PEFT's
    /// format and both components in one file; those of writing.
    pub fn write(&self, path: impl AsRef<Path>, options: &WriteOptions) -> Result<()> {
        let path = path.as_ref();
        let modules = self.with_paths(options)?;
        match options.format {
            LoraFormat::Peft => self.write_peft(path, options.force, &modules),
            LoraFormat::Diffusers => {
                let mut tensors = HashMap::new();
                for (module_path, module) in &modules {
                    let component = module.component();
                    // diffusers 0.18 to 0.22 know only this ending on the text encoder.
                    let lora = match component {
                        LoraComponent::Unet => "lora",
                        _ => "lora_linear_layer",
                    };
                    let key = format!("{component}.{module_path}.{lora}");
                    tensors.insert(format!("{key}.down.weight"), module.down().clone());
                    tensors
                        .insert(format!("{key}.up.weight"), scaled(module.up(), module.scale())?);
                }
                let metadata = self.metadata_for(&[("format", "pt".to_owned())]);
                save_tensors(path, options.force, &tensors, &metadata)
            }
            LoraFormat::Kohya => {
                let mut tensors = HashMap::new();
                for (module_path, module) in &modules {
                    let prefix = match module.component() {
                        LoraComponent::Unet => "lora_unet",
                        LoraComponent::TextEncoder => "lora_te",
                        LoraComponent::TextEncoder2 => "lora_te2",
                    };
                    let key = format!("{prefix}_{}", module_path.replace('.', "_"));
                    // kohya takes an alpha of 0 for "not given"; a scale of 0 is a matrix of zeros.
                    let (up, alpha) = match module.alpha() {
                        0.0 => (module.up().zeros_like()?, module.rank() as f64),
                        alpha => (module.up().clone(), alpha),
                    };
                    tensors.insert(format!("{key}.lora_down.weight"), module.down().clone());
                    tensors.insert(format!("{key}.lora_up.weight"), up);
                    tensors
                        .insert(format!("{key}.alpha"), Tensor::new(alpha as f32, &Device::Cpu)?);
                }
                // What kohya's own tools write for networks whose modules differ.
                let common = |values: Vec<f64>, show: &dyn Fn(f64) -> String| match values[..] {
                    [first, ref rest @ ..] if rest.iter().all(|value| *value == first) => {
                        show(first)
                    }
                    _ => "Dynamic".to_owned(),
                };
                let ranks = modules.iter().map(|(_, module)| module.rank() as f64).collect();
                let alphas = modules.iter().map(|(_, module)| module.alpha()).collect();
                let metadata = self.metadata_for(&[
                    ("ss_network_module", "networks.lora".to_owned()),
                    ("ss_network_dim", common(ranks, &|rank| format!("{rank:.0}"))),
                    ("ss_network_alpha", common(alphas, &|alpha| format!("{alpha:?}"))),
                ]);
                save_tensors(path, options.force, &tensors, &metadata)
            }
        }
    }

    /// The modules with their paths in diffusers' layout, `text_model` in front of the text encoder's as in checkpoints.
    fn with_paths(&self, options: &WriteOptions) -> Result<Vec<(String, &LoraModule)>> {
        let unet = options.unet.clone().unwrap_or_else(ModuleNames::stable_diffusion_unet);
        let text = options.text_encoder.clone();
        let text = text.unwrap_or_else(ModuleNames::stable_diffusion_text_encoder);
        let mut paths = Vec::with_capacity(self.modules.len());
        for module in &self.modules {
            let names = if module.component() == LoraComponent::Unet { &unet } else { &text };
            let path = match names.resolve(module.name()) {
                Some(path) => path,
                None if module.name().contains('.') => module.name(),
                None => {
                    return Err(DiffusionError::checkpoint(
                        &self.path,
                        format!(
                            "expected the name of a layer of Stable Diffusion, found {}.{}: its path needs the model",
                            module.component(),
                            module.name()
                        ),
                    ));
                }
            };
            let bare = path.strip_prefix("text_model.").unwrap_or(path);
            paths.push(match module.component() {
                LoraComponent::Unet => (path.to_owned(), module),
                _ => (format!("text_model.{bare}"), module),
            });
        }
        Ok(paths)
    }

    /// The file's own notes, less those on the format, and `more`.
    fn metadata_for(&self, more: &[(&str, String)]) -> BTreeMap<String, String> {
        const FORMAT: [&str; 5] =
            ["format", METADATA_CONFIG, "ss_network_module", "ss_network_dim", "ss_network_alpha"];
        let kept = self.metadata.iter().filter(|(key, _)| !FORMAT.contains(&key.as_str()));
        let kept = kept.map(|(key, text)| (key.clone(), text.clone()));
        kept.chain(more.iter().map(|(key, text)| ((*key).to_owned(), text.clone()))).collect()
    }

    fn write_peft(
        &self,
        path: &Path,
        force: bool,
        modules: &[(String, &LoraModule)],
    ) -> Result<()> {
        let of = |component| -> Vec<_> {
            modules.iter().filter(|(_, module)| module.component() == component).collect()
        };
        let (unet, text) = (of(LoraComponent::Unet), of(LoraComponent::TextEncoder));
        if unet.len() + text.len() < modules.len() {
            let expected = "a LoRA on unet and text_encoder";
            return Err(DiffusionError::argument("format peft", expected, "text_encoder_2"));
        }
        let is_file = path.extension().is_some_and(|ending| ending == "safetensors");
        let make = |folder: &Path| {
            std::fs::create_dir_all(folder)
                .map_err(|e| DiffusionError::io(folder, "create the folder", e))
        };
        match (unet.is_empty(), text.is_empty(), is_file) {
            (false, false, true) => Err(DiffusionError::argument(
                "format peft",
                "a folder, for one file for each of unet and text_encoder",
                path.display(),
            )),
            (false, false, false) => {
                for modules in [unet, text] {
                    let folder = path.join(modules[0].1.component().name());
                    make(&folder)?;
                    self.write_adapter(
                        &folder.join(format!("{PEFT_STEM}.safetensors")),
                        force,
                        &modules,
                    )?;
                }
                Ok(())
            }
            (_, _, is_file) => {
                let modules = if unet.is_empty() { text } else { unet };
                if is_file {
                    return self.write_adapter(path, force, &modules);
                }
                make(path)?;
                self.write_adapter(&path.join(format!("{PEFT_STEM}.safetensors")), force, &modules)
            }
        }
    }

    /// The configuration and then the tensors, so that a file without a scale is never there.
    fn write_adapter(
        &self,
        path: &Path,
        force: bool,
        modules: &[&(String, &LoraModule)],
    ) -> Result<()> {
        let beside = path.with_file_name(PEFT_CONFIG);
        if !force && path.symlink_metadata().is_ok() {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(DiffusionError::io(path, "write", exists));
        }
        let text = format!("{:#}\n", peft_config(modules));
        write_atomically(&beside, force, |writer| {
            let write = writer.write_all(text.as_bytes());
            write.map_err(|error| ImagingError::io(&beside, "write", error))
        })?;
        let mut tensors = HashMap::new();
        for (module_path, module) in modules {
            let key = format!("base_model.model.{}", peft_path(module_path));
            tensors.insert(format!("{key}.lora_A.weight"), module.down().clone());
            tensors.insert(format!("{key}.lora_B.weight"), module.up().clone());
        }
        let metadata = self.metadata_for(&[("format", "pt".to_owned())]);
        save_tensors(path, force, &tensors, &metadata)
    }
}

/// PEFT's `LoraConfig`: the first module's rank and alpha, and a pattern for each that has others.
fn peft_config(modules: &[&(String, &LoraModule)]) -> Value {
    let (rank, alpha) = modules.first().map_or((1, 1.0), |(_, m)| (m.rank(), m.alpha()));
    // PEFT matches the end of a path; `^` makes it the whole.
    let pattern = |path: &str| format!("^{}", peft_path(path));
    let ranks = modules.iter().filter(|(_, module)| module.rank() != rank);
    let ranks: BTreeMap<_, _> = ranks.map(|(path, m)| (pattern(path), m.rank())).collect();
    let alphas = modules.iter().filter(|(_, module)| module.alpha() != alpha);
    let alphas: BTreeMap<_, _> = alphas.map(|(path, m)| (pattern(path), m.alpha())).collect();
    let targets: Vec<_> = modules.iter().map(|(path, _)| peft_path(path)).collect();
    json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "use_dora": false,
        "use_rslora": false,
        "r": rank,
        "lora_alpha": whole(alpha),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": targets,
    })
}

/// PEFT's names are those of the model in memory, where transformers 5 has no `text_model` in front of a text encoder's.
fn peft_path(path: &str) -> &str {
    path.strip_prefix("text_model.").unwrap_or(path)
}

/// Whole numbers without a point, as PEFT writes them.
fn whole(alpha: f64) -> Value {
    if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) }
}

/// `matrix` times `scale`, in f32 unless the scale is 1, so that nothing is rounded.
fn scaled(matrix: &Tensor, scale: f64) -> Result<Tensor> {
    if scale == 1.0 {
        return Ok(matrix.clone());
    }
    Ok(matrix.to_dtype(DType::F32)?.affine(scale, 0.0)?)
}
