//! Where random numbers come from: an argument, never a global.

mod torch;

use std::collections::VecDeque;

use candle_core::{DType, Device, Shape, Tensor};

pub use self::torch::TorchNoise;
use crate::error::{DiffusionError, Result};

/// Draws standard normal tensors, in an order that its documentation fixes.
pub trait NoiseSource {
    /// The next tensor of this shape, N(0, 1).
    ///
    /// # Errors
    /// Whatever drawing or moving to `device` returns.
    fn randn(&mut self, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor>;
}

/// Hands out given tensors, in order: for comparing with another implementation.
#[derive(Clone, Debug, Default)]
pub struct GivenNoise {
    tensors: VecDeque<Tensor>,
}

impl GivenNoise {
    /// The tensors to hand out, the first one first.
    #[must_use]
    pub fn new(tensors: impl IntoIterator<Item = Tensor>) -> Self {
        Self { tensors: tensors.into_iter().collect() }
    }

    /// How many tensors are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.tensors.len()
    }
}

impl NoiseSource for GivenNoise {
    /// # Errors
    /// [`DiffusionError::Argument`] if no tensor is left, [`DiffusionError::Shape`] if the next one has
    /// another shape; it stays the next one then.
    fn randn(&mut self, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(next) = self.tensors.pop_front() else {
            let expected = format!("another tensor of shape {:?}", shape.dims());
            return Err(DiffusionError::argument("noise", expected, "none left"));
        };
        if next.dims() != shape.dims() {
            let error = DiffusionError::shape("noise", format!("{:?}", shape.dims()), next.dims());
            self.tensors.push_front(next);
            return Err(error);
        }
        Ok(next.to_device(device)?.to_dtype(dtype)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_noise_is_handed_out_in_order_and_only_in_its_shape() -> Result<()> {
        let cpu = Device::Cpu;
        let tensors = [Tensor::full(1_f32, 3, &cpu)?, Tensor::full(2_f32, (1, 2), &cpu)?];
        let mut noise = GivenNoise::new(tensors);
        assert_eq!(noise.randn(&3.into(), DType::F32, &cpu)?.to_vec1::<f32>()?, [1.0; 3]);
        let error = noise.randn(&2.into(), DType::F32, &cpu).expect_err("another shape");
        assert!(matches!(error, DiffusionError::Shape { .. }), "{error}");
        assert_eq!(noise.randn(&(1, 2).into(), DType::BF16, &cpu)?.dtype(), DType::BF16);
        let error = noise.randn(&2.into(), DType::F32, &cpu).expect_err("none left");
        assert!(error.to_string().contains("none left"), "{error}");
        Ok(())
    }
}
