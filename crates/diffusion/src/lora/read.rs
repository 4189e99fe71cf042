//! The tensors of a LoRA file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorView};
use serde_json::{Map, Value};

use crate::error::{DiffusionError, Result};

/// A file's bytes, its header checked.
pub(super) struct LoraTensors {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where the header ends and the tensors begin.
    start: usize,
    header: Metadata,
    metadata: BTreeMap<String, String>,
}

impl LoraTensors {
    /// # Errors
    /// [`DiffusionError::Io`]; [`DiffusionError::Checkpoint`] if it is no whole safetensors file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| DiffusionError::io(path, "read", e))?;
        let (length, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(path, &e))?;
        let metadata = header.metadata().iter().flatten();
        let metadata = metadata.map(|(key, text)| (key.clone(), text.clone())).collect();
        // The header follows its own length, eight bytes.
        Ok(Self { path: path.to_path_buf(), bytes, start: length + 8, header, metadata })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort_unstable();
        names
    }

    /// The text in the header.
    pub(super) const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// One tensor, as stored.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if there is none, or its type is unknown.
    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let fail = |problem: &dyn std::fmt::Display| {
            DiffusionError::checkpoint(&self.path, format!("{name}: {problem}"))
        };
        let info = self.header.info(name).ok_or_else(|| fail(&"expected a tensor, found none"))?;
        let (from, to) = info.data_offsets;
        let bytes = from
            .checked_add(self.start)
            .zip(to.checked_add(self.start))
            .and_then(|(from, to)| self.bytes.get(from..to))
            .ok_or_else(|| fail(&"expected its bytes, found the end of the file"))?;
        let view = TensorView::new(info.dtype, info.shape.clone(), bytes).map_err(|e| fail(&e))?;
        view.load(&Device::Cpu).map_err(|e| fail(&e))
    }
}

fn damaged(path: &Path, error: &safetensors::SafeTensorError) -> DiffusionError {
    DiffusionError::checkpoint(path, format!("expected a whole safetensors file, found {error}"))
}

/// A JSON file that holds an object.
///
/// # Errors
/// [`DiffusionError::Io`], and [`DiffusionError::Checkpoint`] if it holds anything else.
pub(super) fn read_config(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read(path).map_err(|e| DiffusionError::io(path, "read", e))?;
    serde_json::from_slice(&text)
        .map_err(|e| DiffusionError::checkpoint(path, format!("expected a JSON object, found {e}")))
}
