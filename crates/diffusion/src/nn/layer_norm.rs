//! `torch.nn.LayerNorm` over the last dimension (Ba, Kiros and Hinton 2016).

use candle_core::{D, DType, Module, Tensor};

use super::{Params, on_kernels};
use crate::error::Result;

/// Normalises the last dimension to mean 0 and variance 1, then scales and shifts each feature.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `(features)`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(features: usize, eps: f64, params: &Params) -> Result<Self> {
        let weight = params.get([features], "weight")?;
        let bias = params.get([features], "bias")?;
        Ok(Self { weight, bias, eps })
    }
}

impl Module for LayerNorm {
    /// Statistics are taken in f32 whatever the dtype of the input.
    ///
    /// # Shapes
    /// - xs: `(.., features)`
    /// - returns: the same
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        if on_kernels(xs) {
            let affine = kernels::Affine { weight: &self.weight, bias: &self.bias, eps: self.eps };
            return kernels::layer_norm(xs, affine);
        }
        let dtype = xs.dtype();
        let xs = xs.to_dtype(DType::F32)?;
        let xs = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
        let variance = xs.sqr()?.mean_keepdim(D::Minus1)?;
        let xs = xs.broadcast_div(&variance.affine(1.0, self.eps)?.sqrt()?)?;
        let weight = self.weight.to_dtype(DType::F32)?;
        let bias = self.bias.to_dtype(DType::F32)?;
        xs.broadcast_mul(&weight)?.broadcast_add(&bias)?.to_dtype(dtype)
    }
}
