//! The tensors of a LoRA file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use crate::checkpoint::{SafetensorsFile, TensorFile, open_weights};
use crate::error::{DiffusionError, Result};

/// The longest configuration that is read, in bytes; PEFT's are a few thousand.
const MAX_CONFIG: u64 = 16 << 20;

/// An open file of tensors under its own names.
pub(super) struct LoraTensors {
    path: PathBuf,
    file: Arc<dyn TensorFile>,
    metadata: BTreeMap<String, String>,
}

impl LoraTensors {
    /// # Errors
    /// Those of [`open_weights`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_weights(path)?;
        // A pickle has no such text, and is no safetensors file either.
        let metadata = SafetensorsFile::open(path).map(|file| file.metadata().clone());
        Ok(Self { path: path.to_path_buf(), file, metadata: metadata.unwrap_or_default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.file.names()
    }

    /// The text in the header.
    pub(super) const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// A tensor of floats: as stored if that is f32, f16 or bf16, else in f32.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if its elements are no floats, and those of reading.
    pub(super) fn matrix(&self, name: &str) -> Result<Tensor> {
        let info =
            self.file.info(name).ok_or_else(|| self.fail(name, "expected it, found none"))?;
        let dtype = match info.dtype {
            DType::F32 | DType::F16 | DType::BF16 => info.dtype,
            DType::F64 | DType::F8E4M3 => DType::F32,
            found => {
                let problem = format!("expected floating-point numbers, found {}", found.as_str());
                return Err(self.fail(name, &problem));
            }
        };
        self.file.read(name, &info.shape, dtype, &Device::Cpu)
    }

    /// The one number of a tensor of any type.
    ///
    /// # Errors
    /// [`DiffusionError::TensorShape`] if it has more or none, and those of reading.
    pub(super) fn scalar(&self, name: &str) -> Result<f64> {
        let info =
            self.file.info(name).ok_or_else(|| self.fail(name, "expected it, found none"))?;
        if info.shape.iter().any(|&side| side != 1) {
            return Err(DiffusionError::TensorShape {
                origin: self.path.display().to_string(),
                name: name.to_owned(),
                expected: Vec::new(),
                found: info.shape,
            });
        }
        let tensor = self.file.read(name, &info.shape, DType::F32, &Device::Cpu)?;
        Ok(f64::from(tensor.flatten_all()?.to_vec1::<f32>()?[0]))
    }

    fn fail(&self, name: &str, problem: &str) -> DiffusionError {
        DiffusionError::checkpoint(&self.path, format!("{name}: {problem}"))
    }
}

/// A JSON file that holds an object.
///
/// # Errors
/// [`DiffusionError::Io`], and [`DiffusionError::Checkpoint`] if it holds anything else.
pub(super) fn read_config(path: &Path) -> Result<Map<String, Value>> {
    let length = std::fs::metadata(path).map_err(|e| DiffusionError::io(path, "read", e))?.len();
    if length > MAX_CONFIG {
        let problem = format!("expected at most {MAX_CONFIG} bytes of JSON, found {length}");
        return Err(DiffusionError::checkpoint(path, problem));
    }
    let text = std::fs::read(path).map_err(|e| DiffusionError::io(path, "read", e))?;
    serde_json::from_slice(&text)
        .map_err(|e| DiffusionError::checkpoint(path, format!("expected a JSON object, found {e}")))
}
