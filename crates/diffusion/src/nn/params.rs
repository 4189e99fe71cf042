//! Where a model's parameters come from while it is built.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::TensorSource;
use crate::error::Result;
use crate::lora::{Adapters, LoraLayer};

/// A path into a component's weights: `params.pp("down_blocks").pp(0)` mirrors the checkpoint's names.
///
/// Cheap to clone. Carries the adapters that layers attach as they are loaded, and remembers which tensors were
/// read, so that unused ones can be named.
#[derive(Clone)]
pub struct Params {
    source: Arc<dyn TensorSource>,
    adapters: Arc<Adapters>,
    used: Arc<Mutex<HashSet<String>>>,
    path: String,
    dtype: DType,
    device: Device,
}

impl Params {
    /// The root of a component's weights, to be stored as `dtype` on `device`.
    #[must_use]
    pub fn new(source: Arc<dyn TensorSource>, dtype: DType, device: &Device) -> Self {
        Self {
            source,
            adapters: Arc::default(),
            used: Arc::default(),
            path: String::new(),
            dtype,
            device: device.clone(),
        }
    }

    /// The same weights with adapters on the layers that they name.
    #[must_use]
    pub fn with_adapters(mut self, adapters: Arc<Adapters>) -> Self {
        self.adapters = adapters;
        self
    }

    /// One level down: "push prefix".
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        Self { path: self.name(name), ..self.clone() }
    }

    /// The full name of a tensor at this level.
    fn name(&self, name: impl Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// The path so far, e.g. `down_blocks.0.attentions.0`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The dtype that weights are stored in.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where weights are stored.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// True if there is a tensor of this name at this level.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.source.info(&self.name(name)).is_some()
    }

    /// The tensor `name` at this level.
    ///
    /// # Errors
    /// Those of [`TensorSource::read`].
    pub fn get(&self, shape: impl AsRef<[usize]>, name: &str) -> Result<Tensor> {
        let name = self.name(name);
        let tensor = self.source.read(&name, shape.as_ref(), self.dtype, &self.device)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        Ok(tensor)
    }

    /// The adapters of the layer at this path, to run beside it; empty when they are merged or there are none.
    #[must_use]
    pub fn live_adapters(&self) -> Vec<LoraLayer> {
        self.adapters.live(&self.path)
    }

    /// The weight of the layer at this path with merged adapters, if any, added: `W + Σ scale · up · down`.
    ///
    /// # Errors
    /// Those of [`Params::get`], and [`crate::DiffusionError::TensorShape`] if an adapter does not fit.
    pub fn weight(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        let weight = self.get(shape, "weight")?;
        self.adapters.merged(&self.path, weight)
    }

    /// Names in the source that no layer has read, sorted.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.source.names().into_iter().filter(|name| !used.contains(name)).collect()
    }
}
