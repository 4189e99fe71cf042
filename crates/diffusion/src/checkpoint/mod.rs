//! Checkpoints: files and folders with weights and configurations, whatever their layout.

pub mod hub;

mod convert;
mod elements;
mod expected;
mod folder;
mod infer;
mod inspect;
mod json;
mod ldm_keys;
mod new;
mod open;
mod pickle;
mod pytorch;
mod random;
mod safetensors;
mod single_file;
mod weights;
mod write;
mod zip_index;

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::error::{DiffusionError, Result};

pub use self::convert::{SaveOptions, save_folder, save_single_file, save_weights};
pub use self::hub::{HubOptions, resolve};
pub use self::inspect::{ComponentInfo, LoraSummary, ModelInfo, ModelKind, TensorSummary, inspect};
pub use self::new::{NewCheckpoint, write_new};
pub use self::open::{Checkpoint, Component, OpenOptions, TokenizerFiles};
pub use self::pytorch::PickleFile;
pub use self::random::RandomSource;
pub use self::safetensors::SafetensorsFile;
pub use self::weights::open_weights;
pub use self::write::{TensorSpec, save_tensors, write_safetensors};

/// What a file says about a tensor before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element type in the file.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Vec<usize>,
}

/// Named tensors, read on demand; the names are those of diffusers' layout for the component.
///
/// Sources translate from other layouts as they are asked, so that a model sees one set of names.
pub trait TensorSource: Send + Sync {
    /// The file or folder, for messages.
    fn origin(&self) -> String;

    /// Every name, sorted.
    fn names(&self) -> Vec<String>;

    /// The dtype and shape of a tensor; `None` if there is none of this name.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// Reads one tensor, converted to `dtype`, onto `device`. Its shape is `shape`, which the caller knows.
    ///
    /// # Errors
    /// [`DiffusionError::MissingTensor`], [`DiffusionError::TensorShape`], and those of reading the file.
    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor>;
}

/// A file of tensors under its own names.
pub trait TensorFile: TensorSource {
    /// The element type in the file, where [`TensorInfo`] can only give the nearest one.
    fn stored_dtype(&self, name: &str) -> Option<::safetensors::Dtype>;

    /// A string that the file carries beside its tensors.
    fn metadata_value(&self, key: &str) -> Option<String>;

    /// Reads some of a tensor's first dimension.
    ///
    /// # Errors
    /// Those of [`TensorSource::read`], and [`DiffusionError::Argument`] if there are fewer rows.
    fn read_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor>;
}

/// A string of a file, short enough for a message.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 {
        return text.to_owned();
    }
    text.chars().take(80).chain("…".chars()).collect()
}

/// `Ok` if `info` exists and has `shape`: what every [`TensorSource::read`] checks first.
///
/// # Errors
/// [`DiffusionError::MissingTensor`] or [`DiffusionError::TensorShape`].
pub fn check_tensor(
    origin: &str,
    name: &str,
    shape: &[usize],
    info: Option<&TensorInfo>,
) -> Result<()> {
    match info {
        None => Err(DiffusionError::MissingTensor {
            origin: origin.to_owned(),
            name: name.to_owned(),
            shape: shape.to_vec(),
        }),
        Some(info) if info.shape != shape => Err(DiffusionError::TensorShape {
            origin: origin.to_owned(),
            name: name.to_owned(),
            expected: shape.to_vec(),
            found: info.shape.clone(),
        }),
        Some(_) => Ok(()),
    }
}

/// Tensors in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    origin: String,
    tensors: HashMap<String, Tensor>,
}

impl MemorySource {
    /// A source over `tensors`; `origin` names them in messages.
    #[must_use]
    pub fn new(origin: impl Into<String>, tensors: HashMap<String, Tensor>) -> Self {
        Self { origin: origin.into(), tensors }
    }
}

impl TensorSource for MemorySource {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.tensors.keys().cloned().collect();
        names.sort();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let tensor = self.tensors.get(name)?;
        Some(TensorInfo { dtype: tensor.dtype(), shape: tensor.dims().to_vec() })
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        check_tensor(&self.origin, name, shape, self.info(name).as_ref())?;
        Ok(self.tensors[name].to_device(device)?.to_dtype(dtype)?)
    }
}
