//! A LoRA file of any style, read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

use super::config::AdapterConfig;
use super::keys::{LoraComponent, LoraKey, LoraPart, LoraStyle};
use super::module::LoraModule;
use super::read::{LoraTensors, read_config};
use crate::error::{DiffusionError, Result};

/// Where the scale of a module without an `alpha` tensor comes from.
pub(super) const METADATA_CONFIG: &str = "lora_adapter_metadata";
pub(super) const PEFT_CONFIG: &str = "adapter_config.json";
/// The files that diffusers and PEFT write, less their endings.
const DIFFUSERS_STEM: &str = "pytorch_lora_weights";
pub(super) const PEFT_STEM: &str = "adapter_model";
/// Names shown in a message about many.
const SHOWN: usize = 3;

/// A LoRA, its modules complete pairs of finite matrices whose ranks agree.
///
/// The scale of a module is alpha / r. Alpha is that of the file's `alpha` tensor, or of the PEFT configuration in
/// diffusers' metadata (`lora_adapter_metadata`) or beside a PEFT file (`adapter_config.json`, with its patterns and
/// rank-stabilised scales), or else r, as in every reference implementation. The network alpha in kohya's metadata
/// (`ss_network_alpha`) describes the training and is not used for this, there as here.
#[derive(Clone, Debug)]
pub struct LoraFile {
    pub(super) path: PathBuf,
    pub(super) style: LoraStyle,
    pub(super) modules: Vec<LoraModule>,
    pub(super) unknown: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl LoraFile {
    /// Reads a file (safetensors or PyTorch's own), the LoRA in a folder as diffusers and PEFT save them, or a
    /// [carried](crate::carried) one by its name.
    ///
    /// In a folder it is `pytorch_lora_weights` or `adapter_model`, or one `adapter_model` in each of `unet` and
    /// `text_encoder`.
    ///
    /// # Errors
    /// [`DiffusionError::Io`], and [`DiffusionError::Checkpoint`] or [`DiffusionError::TensorShape`] naming the file, the
    /// tensor, what was expected and what was found: no LoRA at all, half a pair, ranks that do not agree, values that
    /// are not finite, a method other than LoRA (DoRA, LoHa, LoKr, …).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() { Self::open_folder(path) } else { Self::open_file(path) }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let find = |folder: &Path, stem: &str| {
            let files =
                ["safetensors", "bin"].map(|ending| folder.join(format!("{stem}.{ending}")));
            files.into_iter().find(|path| path.is_file())
        };
        for stem in [DIFFUSERS_STEM, PEFT_STEM] {
            if let Some(path) = find(folder, stem) {
                return Self::open_file(&path);
            }
        }
        let mut whole: Option<Self> = None;
        for component in [LoraComponent::Unet, LoraComponent::TextEncoder] {
            let Some(path) = find(&folder.join(component.name()), PEFT_STEM) else { continue };
            let mut part = Self::open_file(&path)?;
            // The folder's name says what PEFT's names leave open.
            part.modules.iter_mut().for_each(|module| module.component = component);
            match &mut whole {
                None => whole = Some(Self { path: folder.to_path_buf(), ..part }),
                Some(whole) => {
                    whole.modules.append(&mut part.modules);
                    whole.unknown.append(&mut part.unknown);
                    whole.metadata.append(&mut part.metadata);
                }
            }
        }
        whole.ok_or_else(|| {
            DiffusionError::checkpoint(
                folder,
                format!(
                    "expected a LoRA ({DIFFUSERS_STEM} or {PEFT_STEM}, .safetensors or .bin, or {PEFT_STEM} in the \
                     folders unet and text_encoder), found none"
                ),
            )
        })
    }

    fn open_file(path: &Path) -> Result<Self> {
        let tensors = LoraTensors::open(path)?;

        // 1. names
        let mut entries: BTreeMap<(LoraComponent, String), Entry> = BTreeMap::new();
        let (mut unknown, mut other_methods) = (Vec::new(), Vec::new());
        let mut styles: BTreeMap<LoraStyle, usize> = BTreeMap::new();
        for name in tensors.names() {
            let Some(key) = LoraKey::parse(&name) else {
                unknown.push(name);
                continue;
            };
            if let LoraPart::Unsupported(method) = key.part {
                other_methods.push((method, name));
                continue;
            }
            *styles.entry(key.style).or_default() += 1;
            let entry = entries.entry((key.component, key.module)).or_insert(Entry::new(key.style));
            entry.put(path, key.part, name)?;
        }
        refuse_other_methods(path, &other_methods)?;
        let Some(style) = styles.into_iter().max_by_key(|(_, count)| *count).map(|(s, _)| s) else {
            return Err(no_lora(path, &unknown));
        };

        // 2. configuration
        let metadata = tensors.metadata().clone();
        let configs = Configs::read(path, style, &metadata)?;

        // 3. matrices and scales
        let modules = entries
            .into_iter()
            .map(|((component, name), entry)| entry.read(&tensors, component, name, &configs))
            .collect::<Result<_>>()?;
        Ok(Self { path: path.to_path_buf(), style, modules, unknown, metadata })
    }

    /// The LoRA with its matrices in another type: f32, f16 or bf16.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] for numbers too large for the type.
    pub fn to_dtype(mut self, dtype: DType) -> Result<Self> {
        for module in &mut self.modules {
            *module = module.to_dtype(&self.path, dtype)?;
        }
        Ok(self)
    }

    /// A LoRA in memory, for instance one just trained. `path` names it in messages.
    #[must_use]
    pub fn from_modules(path: impl Into<PathBuf>, modules: Vec<LoraModule>) -> Self {
        Self {
            path: path.into(),
            style: LoraStyle::Diffusers,
            modules,
            unknown: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The same LoRA with notes for the header of what it is written to.
    #[must_use]
    pub fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// The file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The style of most of the names.
    #[must_use]
    pub const fn style(&self) -> LoraStyle {
        self.style
    }

    /// The modules, by component and name.
    #[must_use]
    pub fn modules(&self) -> &[LoraModule] {
        &self.modules
    }

    /// Names of tensors that are no part of a LoRA; they were not read.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The text in the file's header, such as kohya's `ss_…` notes on the training.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// The names of one module's tensors.
struct Entry {
    style: LoraStyle,
    down: Option<String>,
    up: Option<String>,
    mid: Option<String>,
    alpha: Option<String>,
}

impl Entry {
    const fn new(style: LoraStyle) -> Self {
        Self { style, down: None, up: None, mid: None, alpha: None }
    }

    fn put(&mut self, path: &Path, part: LoraPart, name: String) -> Result<()> {
        let slot = match part {
            LoraPart::Down => &mut self.down,
            LoraPart::Up => &mut self.up,
            LoraPart::Mid => &mut self.mid,
            LoraPart::Alpha => &mut self.alpha,
            LoraPart::Unsupported(_) => return Ok(()),
        };
        match slot {
            None => *slot = Some(name),
            Some(first) => {
                return Err(DiffusionError::checkpoint(
                    path,
                    format!("expected one tensor for a matrix, found two: {first} and {name}"),
                ));
            }
        }
        Ok(())
    }

    fn read(
        self,
        tensors: &LoraTensors,
        component: LoraComponent,
        name: String,
        configs: &Configs,
    ) -> Result<LoraModule> {
        let path = tensors.path();
        let (down_key, up_key) = match (self.down, self.up) {
            (Some(down), Some(up)) => (down, up),
            (down, up) => {
                let found = down.or(up).or(self.mid).or(self.alpha).unwrap_or_default();
                return Err(DiffusionError::checkpoint(
                    path,
                    format!(
                        "{component}.{name}: expected a matrix down and a matrix up, found only {found}"
                    ),
                ));
            }
        };
        let mut down = tensors.matrix(&down_key)?;
        let up = tensors.matrix(&up_key)?;
        if let Some(mid_key) = self.mid {
            let mid = tensors.matrix(&mid_key)?;
            down = fold_mid(&down, &mid).ok_or_else(|| DiffusionError::TensorShape {
                origin: path.display().to_string(),
                name: mid_key,
                expected: vec![up.dims().get(1).copied().unwrap_or(0), down.dims()[0]],
                found: mid.dims().to_vec(),
            })??;
        }
        let mut module = LoraModule::named(path, component, name, down, up, &down_key, &up_key)?;
        let rank = module.rank();
        let alpha = match &self.alpha {
            Some(key) => match tensors.scalar(key)? {
                // kohya's trainer takes 0 for "not given", which is r.
                0.0 if self.style == LoraStyle::Kohya => rank as f64,
                alpha => alpha,
            },
            None => configs
                .alpha(component, &module.name, rank)
                .map_err(|problem| {
                    DiffusionError::checkpoint(path, format!("{down_key}: {problem}"))
                })?
                .unwrap_or(rank as f64),
        };
        module.set_alpha(path, self.alpha.as_deref().unwrap_or(&down_key), alpha)?;
        Ok(module)
    }
}

/// `down` `(r, in, 1, 1)` followed by `mid` `(r', r, k, k)`, as one convolution `(r', in, k, k)`; `None` if they do not
/// fit.
fn fold_mid(down: &Tensor, mid: &Tensor) -> Option<Result<Tensor>> {
    let (r, input, kh, kw) = down.dims4().ok()?;
    let (out, mid_r, h, w) = mid.dims4().ok()?;
    if (kh, kw) != (1, 1) || mid_r != r || [out, mid_r, h, w, input].contains(&0) {
        return None;
    }
    let folded = || -> candle_core::Result<Tensor> {
        let down = down.to_dtype(DType::F32)?.reshape((r, input))?;
        let mid = mid.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.reshape((out * h * w, r))?;
        let folded = mid.contiguous()?.matmul(&down)?.reshape((out, h, w, input))?;
        folded.permute((0, 3, 1, 2))?.contiguous() // (out, input, h, w)
    };
    Some(folded().map_err(Into::into))
}

fn refuse_other_methods(path: &Path, found: &[(&'static str, String)]) -> Result<()> {
    let Some((_, first)) = found.first() else { return Ok(()) };
    let mut methods: Vec<_> = found.iter().map(|(method, _)| *method).collect();
    methods.sort_unstable();
    methods.dedup();
    let (methods, count) = (methods.join(", "), found.len());
    Err(DiffusionError::checkpoint(
        path,
        format!(
            "expected LoRA, found {methods}, which is not supported ({count} tensors, first {first})"
        ),
    ))
}

fn no_lora(path: &Path, unknown: &[String]) -> DiffusionError {
    let found = match unknown {
        [] => "no tensors at all".to_owned(),
        names => {
            let first = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("{} other tensors ({first}, …)", names.len())
        }
    };
    let expected = "expected a LoRA with names in the style of PEFT, diffusers or kohya";
    DiffusionError::checkpoint(path, format!("{expected}, found {found}"))
}

/// The PEFT configuration of each component, if the file came with one.
struct Configs(Vec<(Option<LoraComponent>, AdapterConfig)>);

impl Configs {
    fn read(path: &Path, style: LoraStyle, metadata: &BTreeMap<String, String>) -> Result<Self> {
        use LoraComponent::{TextEncoder, Unet};
        let mut configs = Vec::new();
        if let Some(text) = metadata.get(METADATA_CONFIG) {
            let fail = |problem: &dyn std::fmt::Display| {
                DiffusionError::checkpoint(path, format!("metadata {METADATA_CONFIG}: {problem}"))
            };
            let fields: serde_json::Map<_, _> = serde_json::from_str(text).map_err(|e| fail(&e))?;
            for component in [Unet, TextEncoder] {
                let config = AdapterConfig::from_json(&fields, &format!("{component}."));
                configs.extend(config.map_err(|e| fail(&e))?.map(|c| (Some(component), c)));
            }
            // `save_lora_adapter` of a single model writes the fields without a component.
            if fields.contains_key("r") {
                let config = AdapterConfig::from_json(&fields, "").map_err(|e| fail(&e))?;
                configs.extend(config.map(|config| (None, config)));
            }
        }
        let from_peft =
            style == LoraStyle::Peft || path.file_stem().is_some_and(|stem| stem == PEFT_STEM);
        if configs.is_empty() && from_peft {
            let beside = path.with_file_name(PEFT_CONFIG);
            if beside.is_file() {
                let config = AdapterConfig::from_json(&read_config(&beside)?, "")
                    .map_err(|problem| DiffusionError::checkpoint(&beside, problem))?;
                configs.extend(config.map(|config| (None, config)));
            }
        }
        Ok(Self(configs))
    }

    fn alpha(
        &self,
        component: LoraComponent,
        module: &str,
        rank: usize,
    ) -> std::result::Result<Option<f64>, String> {
        let config = self.0.iter().find(|(of, _)| of.is_none_or(|of| of == component));
        config.map(|(_, config)| config.alpha(module, rank)).transpose()
    }
}
