//! What a file or folder is, what it holds and what it lacks, without loading it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::Serialize;

use super::json::string;
use super::{
    Checkpoint, Component, OpenOptions, TensorFile, TensorInfo, TensorSource, open_weights,
};
use crate::error::Result;
use crate::lora::LoraKey;

/// What a path turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// A folder in diffusers' layout.
    Folder,
    /// One component's folder.
    ComponentFolder,
    /// A single file in the original layout.
    SingleFile,
    /// A LoRA file.
    Lora,
    /// A file of tensors that nothing more is known about.
    Tensors,
}

/// Tensors, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TensorSummary {
    /// How many there are.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes as stored.
    pub bytes: u64,
    /// How many there are of each element type.
    pub dtypes: BTreeMap<String, usize>,
}

/// One component of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct ComponentInfo {
    /// Which.
    pub component: Component,
    /// Its class, as its configuration says.
    pub class: Option<String>,
    /// The files that its weights are in.
    pub files: Vec<PathBuf>,
    /// What is there.
    #[serde(flatten)]
    pub summary: TensorSummary,
    /// Tensors that the configuration asks for and that are not there.
    pub missing: Vec<String>,
    /// Tensors of another shape than the configuration asks for.
    pub mismatched: Vec<String>,
    /// Tensors that the configuration does not ask for.
    pub unexpected: Vec<String>,
    /// Why it cannot be used, if so.
    pub problem: Option<String>,
}

/// A LoRA file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoraSummary {
    /// The styles of its keys: one, or a mixture.
    pub styles: BTreeSet<String>,
    /// How many layers it changes in each component.
    pub layers: BTreeMap<String, usize>,
    /// Keys of no known style.
    pub unknown: Vec<String>,
}

/// What a path holds.
#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    /// What was looked at.
    pub path: PathBuf,
    /// What it is.
    pub kind: ModelKind,
    /// The pipeline's class, where it is written down.
    pub class: Option<String>,
    /// What the UNet predicts.
    pub prediction_type: Option<String>,
    /// The components that are there.
    pub components: Vec<ComponentInfo>,
    /// Parts of a pipeline that are not there: components, scheduler, tokenizer.
    pub missing: Vec<String>,
    /// Everything in a single file or LoRA.
    pub summary: Option<TensorSummary>,
    /// Of a LoRA.
    pub lora: Option<LoraSummary>,
}

/// Looks at a file or folder. Damage within one component is told in its `problem`; the rest is still told.
///
/// # Errors
/// Those of [`Checkpoint::open`] and of opening a file of tensors.
pub fn inspect(path: &Path, options: &OpenOptions) -> Result<ModelInfo> {
    if path.is_dir() {
        return Ok(inspect_checkpoint(&Checkpoint::open(path, options)?, None));
    }
    let file = open_weights(path)?;
    let names = file.names();
    let summary = summarise(names.iter().filter_map(|name| file.info(name)));
    match Checkpoint::open(path, options) {
        Ok(checkpoint) => Ok(inspect_checkpoint(&checkpoint, Some(summary))),
        Err(error) if !is_plain(file.as_ref()) => Err(error),
        Err(_) => {
            let is_lora = |name: &String| name.to_ascii_lowercase().contains("lora");
            let is_lora = names.iter().any(is_lora);
            Ok(ModelInfo {
                lora: is_lora.then(|| inspect_lora(&names)),
                summary: Some(summary),
                ..nothing(path, if is_lora { ModelKind::Lora } else { ModelKind::Tensors })
            })
        }
    }
}

/// True if no name is one of the original layout, so that the error is not about damage.
fn is_plain(file: &dyn TensorFile) -> bool {
    let starts = ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."];
    !file.names().iter().any(|name| starts.iter().any(|start| name.starts_with(start)))
}

fn nothing(path: &Path, kind: ModelKind) -> ModelInfo {
    ModelInfo {
        path: path.to_path_buf(),
        kind,
        class: None,
        prediction_type: None,
        components: Vec::new(),
        missing: Vec::new(),
        summary: None,
        lora: None,
    }
}

fn inspect_checkpoint(checkpoint: &Checkpoint, summary: Option<TensorSummary>) -> ModelInfo {
    let present = checkpoint.components();
    let kind = match (checkpoint.is_folder(), checkpoint.is_component()) {
        (true, true) => ModelKind::ComponentFolder,
        (true, false) => ModelKind::Folder,
        (false, _) => ModelKind::SingleFile,
    };
    let scheduler = checkpoint.scheduler_config();
    let mut missing = Vec::new();
    if kind != ModelKind::ComponentFolder {
        let absent = Component::ALL.into_iter().filter(|component| !present.contains(component));
        missing.extend(absent.map(|component| component.name().to_owned()));
    }
    if kind == ModelKind::Folder {
        if let Err(error) = &scheduler {
            missing.push(format!("scheduler ({error})"));
        }
        let tokenizer = checkpoint.tokenizer_files();
        let both = tokenizer.vocab.is_some() && tokenizer.merges.is_some();
        if !both && tokenizer.tokenizer.is_none() {
            missing.push("tokenizer".to_owned());
        }
    }
    let prediction_type =
        scheduler.ok().and_then(|config| string(&config, "prediction_type").map(str::to_owned));
    ModelInfo {
        class: checkpoint.pipeline_class().map(str::to_owned),
        prediction_type: prediction_type.filter(|_| kind != ModelKind::ComponentFolder),
        components: present.into_iter().map(|part| inspect_component(checkpoint, part)).collect(),
        missing,
        summary,
        ..nothing(checkpoint.path(), kind)
    }
}

fn inspect_component(checkpoint: &Checkpoint, component: Component) -> ComponentInfo {
    let mut info = ComponentInfo {
        component,
        class: None,
        files: checkpoint.files(component).unwrap_or_default(),
        summary: TensorSummary::default(),
        missing: Vec::new(),
        mismatched: Vec::new(),
        unexpected: Vec::new(),
        problem: None,
    };
    let mut problems = Vec::new();
    match checkpoint.config(component) {
        Ok(config) => {
            let architecture = config.get("architectures").and_then(|list| list.get(0));
            info.class = string(&config, "_class_name")
                .or_else(|| architecture.and_then(|name| name.as_str()))
                .map(str::to_owned);
        }
        Err(error) => problems.push(error.to_string()),
    }
    match checkpoint.weights(component) {
        Ok(source) => {
            compare(&mut info, checkpoint, source.as_ref(), &mut problems);
        }
        Err(error) => problems.push(error.to_string()),
    }
    info.problem = (!problems.is_empty()).then(|| problems.join("; "));
    info
}

fn compare(
    info: &mut ComponentInfo,
    checkpoint: &Checkpoint,
    source: &dyn TensorSource,
    problems: &mut Vec<String>,
) {
    let names = source.names();
    info.summary = summarise(names.iter().filter_map(|name| source.info(name)));
    // Without a configuration, which is a problem that has been told, there is nothing to compare with.
    if info.class.is_none() && checkpoint.config(info.component).is_err() {
        return;
    }
    let expected: BTreeMap<_, _> = match checkpoint.expected_tensors(info.component) {
        Ok(expected) => expected.into_iter().collect(),
        Err(error) => {
            problems.push(error.to_string());
            return;
        }
    };
    for (name, shape) in &expected {
        match source.info(name) {
            None => info.missing.push(name.clone()),
            Some(found) if found.shape != *shape => info
                .mismatched
                .push(format!("{name}: expected shape {shape:?}, found {:?}", found.shape)),
            Some(_) => {}
        }
    }
    info.unexpected = names.into_iter().filter(|name| !expected.contains_key(name)).collect();
}

fn summarise(infos: impl Iterator<Item = TensorInfo>) -> TensorSummary {
    let mut summary = TensorSummary::default();
    for TensorInfo { dtype, shape } in infos {
        let count = shape.iter().fold(1_u64, |count, &d| count.saturating_mul(d as u64));
        let bytes = count.saturating_mul(dtype.size_in_bytes() as u64);
        summary.tensors += 1;
        summary.parameters = summary.parameters.saturating_add(count);
        summary.bytes = summary.bytes.saturating_add(bytes);
        *summary.dtypes.entry(label(dtype)).or_default() += 1;
    }
    summary
}

fn label(dtype: DType) -> String {
    dtype.as_str().to_owned()
}

fn inspect_lora(names: &[String]) -> LoraSummary {
    let mut summary = LoraSummary::default();
    let mut layers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in names {
        match LoraKey::parse(name) {
            Some(key) => {
                summary.styles.insert(key.style.to_string());
                layers.entry(key.component.to_string()).or_default().insert(key.module);
            }
            None => summary.unknown.push(name.clone()),
        }
    }
    summary.layers = layers.into_iter().map(|(part, layers)| (part, layers.len())).collect();
    summary
}
