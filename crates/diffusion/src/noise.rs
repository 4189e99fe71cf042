//! Where random numbers come from: an argument, never a global.

use candle_core::{DType, Device, Shape, Tensor};

use crate::error::Result;

/// Draws standard normal tensors, in an order that its documentation fixes.
pub trait NoiseSource {
    /// The next tensor of this shape, N(0, 1).
    ///
    /// # Errors
    /// Whatever drawing or moving to `device` returns.
    fn randn(&mut self, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor>;
}
