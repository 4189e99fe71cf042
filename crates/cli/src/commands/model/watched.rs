//! Weights that stop being read when the user asks to stop.

use std::sync::Arc;

use diffusion::checkpoint::{Checkpoint, TensorInfo, TensorSource};
use diffusion::{DType, Device, Tensor};
use imaging::ImagingError;

use crate::context::CancelToken;

/// A checkpoint that is read for long enough to be stopped in between.
///
/// # Errors
/// Those of opening the weights.
pub(super) fn watched(
    mut checkpoint: Checkpoint,
    cancel: &CancelToken,
) -> anyhow::Result<Checkpoint> {
    for component in checkpoint.components() {
        let inner = checkpoint.weights(component)?;
        let source = Arc::new(Watched { inner, cancel: cancel.clone() });
        checkpoint = checkpoint.with_weights(component, source);
    }
    Ok(checkpoint)
}

struct Watched {
    inner: Arc<dyn TensorSource>,
    cancel: CancelToken,
}

impl TensorSource for Watched {
    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(name)
    }

    fn read(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> diffusion::Result<Tensor> {
        if self.cancel.is_set() {
            return Err(ImagingError::Cancelled.into());
        }
        self.inner.read(name, shape, dtype, device)
    }
}
