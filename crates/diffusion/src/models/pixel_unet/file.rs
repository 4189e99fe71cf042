//! A network in one file: safetensors, with what it was built from in the header's notes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{PixelUnet, PixelUnetConfig, ScaledWeights};
use crate::checkpoint::{SafetensorsFile, TensorSource, save_tensors};
use crate::error::{DiffusionError, Result};
use crate::nn::Params;

/// The key of the notes in the file's metadata.
const KEY: &str = "photomend_pixel_unet";

/// What the header says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Notes {
    task: String,
    #[serde(flatten)]
    config: PixelUnetConfig,
}

impl PixelUnet {
    /// Loads a network that was trained for `task` ("detector" or "refiner"); weights, of 8 bits too, become f32.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the file is none of a network for this task, and those of reading it.
    pub fn from_file(file: SafetensorsFile, task: &str, device: &Device) -> Result<Self> {
        let fail = |problem: String| DiffusionError::checkpoint(Path::new(&file.origin()), problem);
        let notes = file.metadata().get(KEY).ok_or_else(|| {
            fail(format!("expected a {task} that photomend trained, found other tensors"))
        })?;
        let notes: Notes = serde_json::from_str(notes).map_err(|error| fail(error.to_string()))?;
        if notes.task != task {
            return Err(fail(format!("expected a {task}, found a {}", notes.task)));
        }
        Self::load(
            &notes.config,
            &Params::new(Arc::new(ScaledWeights::new(file)), DType::F32, device),
        )
    }
}

/// Writes a network for [`PixelUnet::from_file`], in f16.
///
/// # Errors
/// Those of writing.
pub(crate) fn save(
    path: &Path,
    task: &str,
    config: &PixelUnetConfig,
    tensors: HashMap<String, Tensor>,
) -> Result<()> {
    let notes = Notes { task: task.to_owned(), config: config.clone() };
    let notes = serde_json::to_string(&notes)
        .map_err(|error| DiffusionError::argument("notes", "values that JSON has", error))?;
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F16)?)))
        .collect::<Result<_>>()?;
    save_tensors(path, true, &tensors, &BTreeMap::from([(KEY.to_owned(), notes)]))
}
