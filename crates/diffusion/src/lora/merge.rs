//! A checkpoint's weights with LoRAs in them.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::layer::Adapters;
use crate::checkpoint::{TensorInfo, TensorSource, check_tensor};
use crate::error::Result;

/// A component's tensors with the changes of LoRAs added as they are read: saved, they are a merged checkpoint.
///
/// The sum is taken in f32, once, and only then rounded to the dtype asked for.
pub struct MergedSource {
    inner: Arc<dyn TensorSource>,
    adapters: Arc<Adapters>,
}

impl MergedSource {
    /// `inner` with `adapters` in its weights, whether they were made to be merged or to run live.
    #[must_use]
    pub fn new(inner: Arc<dyn TensorSource>, adapters: Arc<Adapters>) -> Self {
        Self { inner, adapters }
    }
}

impl TensorSource for MergedSource {
    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(name)
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        check_tensor(&self.origin(), name, shape, self.info(name).as_ref())?;
        match name.strip_suffix(".weight").filter(|path| self.adapters.changes(path)) {
            None => self.inner.read(name, shape, dtype, device),
            Some(path) => {
                let weight = self.inner.read(name, shape, DType::F32, device)?;
                Ok(self.adapters.add_to(path, weight)?.to_dtype(dtype)?)
            }
        }
    }
}
