//! Weight files of one component, whatever their format and however many shards: opened by content, read by name.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use serde_json::Value;

use super::elements::FileBytes;
use super::json::read_index;
use super::{PickleFile, SafetensorsFile, TensorFile, TensorInfo, TensorSource, check_tensor};
use crate::error::{DiffusionError, Result};

/// Opens a file of tensors by its content: safetensors or a PyTorch zip archive.
///
/// # Errors
/// [`DiffusionError::Checkpoint`] saying what the file is if it is something else that people come across, and those of
/// the formats.
pub fn open_weights(path: &Path) -> Result<Arc<dyn TensorFile>> {
    let file = FileBytes::open(path)?;
    let mut start = [0; 64];
    let length = file.len().min(64) as usize;
    let start = &mut start[..length];
    file.read_at(0, start)?;
    let problem = match start {
        [] => "the file is empty",
        [b'P', b'K', 3, 4, ..] => return Ok(Arc::new(PickleFile::open(path)?)),
        [b'G', b'G', b'U', b'F', ..] => {
            "expected safetensors or a PyTorch checkpoint, found a GGUF file (not supported)"
        }
        [0x80, 0..=5, ..] => {
            "expected safetensors or a zipped PyTorch checkpoint, found a bare pickle, as PyTorch wrote before 1.6: \
             load it there and save it again"
        }
        _ if start.starts_with(b"version https://git-lfs") => {
            "expected weights, found the pointer that git leaves without LFS: run `git lfs pull`"
        }
        _ if start.starts_with(b"<") => {
            "expected weights, found a web page: download the file again"
        }
        // The length of the header, then its opening brace. By its name a file gets the format's own errors.
        [_, _, _, _, _, _, _, _, b'{', ..] => return Ok(Arc::new(SafetensorsFile::open(path)?)),
        _ if path.extension().is_some_and(|extension| extension == "safetensors") => {
            return Ok(Arc::new(SafetensorsFile::open(path)?));
        }
        _ => "expected safetensors or a PyTorch checkpoint, found neither",
    };
    Err(DiffusionError::checkpoint(path, problem))
}

/// Several files as one: the shards of an index.
#[derive(Clone)]
pub(super) struct Shards {
    origin: String,
    owners: BTreeMap<String, Arc<dyn TensorFile>>,
}

impl Shards {
    /// Opens every shard that an index (`*.index.json`) names.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the index is damaged, names a file outside its folder, or a shard lacks a
    /// tensor that the index says it has.
    pub(super) fn open(index: &Path) -> Result<Self> {
        let fail = |problem: String| DiffusionError::checkpoint(index, problem);
        let json = read_index(index)?;
        let Some(Value::Object(map)) = json.get("weight_map") else {
            return Err(fail("expected an object weight_map, found none".into()));
        };
        let mut files: HashMap<&str, Arc<dyn TensorFile>> = HashMap::new();
        let mut owners = BTreeMap::new();
        for (name, shard) in map {
            let shard = shard.as_str().filter(|shard| is_plain_name(shard)).ok_or_else(|| {
                fail(format!(
                    "tensor {name}: expected the name of a file in this folder, found {shard}"
                ))
            })?;
            let file = match files.get(shard) {
                Some(file) => Arc::clone(file),
                None => {
                    let file = open_weights(&index.with_file_name(shard))?;
                    files.insert(shard, Arc::clone(&file));
                    file
                }
            };
            if file.info(name).is_none() {
                return Err(fail(format!("expected tensor {name} in {shard}, found none")));
            }
            owners.insert(name.clone(), file);
        }
        Ok(Self { origin: index.display().to_string(), owners })
    }

    /// The files that an index names, for reports; those of a damaged index are left out.
    pub(super) fn files(index: &Path) -> Vec<PathBuf> {
        let Ok(json) = read_index(index) else { return Vec::new() };
        let Some(Value::Object(map)) = json.get("weight_map") else { return Vec::new() };
        let mut files: Vec<_> = map
            .values()
            .filter_map(Value::as_str)
            .filter(|name| is_plain_name(name))
            .map(|name| index.with_file_name(name))
            .collect();
        files.sort();
        files.dedup();
        files
    }
}

/// True for a file name without a folder, so that an index cannot point elsewhere.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

impl TensorSource for Shards {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        self.owners.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.owners.get(name)?.info(name)
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        match self.owners.get(name) {
            Some(file) => file.read(name, shape, dtype, device),
            None => Err(missing(&self.origin, name, shape)),
        }
    }
}

impl TensorFile for Shards {
    fn stored_dtype(&self, name: &str) -> Option<Dtype> {
        self.owners.get(name)?.stored_dtype(name)
    }

    fn metadata_value(&self, _: &str) -> Option<String> {
        None
    }

    fn read_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        match self.owners.get(name) {
            Some(file) => file.read_rows(name, rows, dtype, device),
            None => Err(missing(&self.origin, name, &[])),
        }
    }
}

pub(super) fn missing(origin: &str, name: &str, shape: &[usize]) -> DiffusionError {
    DiffusionError::MissingTensor {
        origin: origin.to_owned(),
        name: name.to_owned(),
        shape: shape.to_vec(),
    }
}

/// A tensor of a file under another name and perhaps another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// The name in the file.
    pub(super) name: String,
    /// How the file's tensor becomes the one asked for.
    pub(super) change: Change,
}

/// How a stored tensor becomes a diffusers tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Not at all.
    None,
    /// A 1×1 convolution `(o, i, 1, 1)`, if it is one, to a linear `(o, i)`.
    Flatten,
    /// The given third of the rows: query 0, key 1, value 2 of a fused projection.
    Third(usize),
}

/// A file seen through a table of names.
pub(super) struct Renamed {
    file: Arc<dyn TensorFile>,
    table: BTreeMap<String, Stored>,
}

impl Renamed {
    /// `table` maps the names that are asked for to those of `file`; entries whose tensor is absent are dropped.
    pub(super) fn new(
        file: Arc<dyn TensorFile>,
        table: impl IntoIterator<Item = (String, Stored)>,
    ) -> Self {
        let table =
            table.into_iter().filter(|(_, stored)| file.info(&stored.name).is_some()).collect();
        Self { file, table }
    }
}

impl TensorSource for Renamed {
    fn origin(&self) -> String {
        self.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let stored = self.table.get(name)?;
        let mut info = self.file.info(&stored.name)?;
        match stored.change {
            Change::None => {}
            Change::Flatten => {
                while info.shape.len() > 2 && info.shape.last() == Some(&1) {
                    info.shape.pop();
                }
            }
            Change::Third(_) => {
                // A row count that is no multiple of three cannot be divided: the shape check then fails on it.
                let rows = info.shape.first_mut()?;
                if *rows % 3 == 0 {
                    *rows /= 3;
                }
            }
        }
        Some(info)
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        check_tensor(&self.origin(), name, shape, self.info(name).as_ref())?;
        let Some(stored) = self.table.get(name) else {
            return Err(missing(&self.origin(), name, shape));
        };
        let Some(TensorInfo { shape: whole, .. }) = self.file.info(&stored.name) else {
            return Err(missing(&self.origin(), &stored.name, shape));
        };
        let rows = shape.first().copied().unwrap_or(1);
        let tensor = match stored.change {
            Change::None => self.file.read(&stored.name, shape, dtype, device)?,
            Change::Flatten => self.file.read(&stored.name, &whole, dtype, device)?,
            Change::Third(third) => self.file.read_rows(
                &stored.name,
                third * rows..(third + 1) * rows,
                dtype,
                device,
            )?,
        };
        Ok(tensor.reshape(shape)?)
    }
}
