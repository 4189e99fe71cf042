//! `torch.nn.GroupNorm` (Wu and He 2018).

use candle_core::{D, DType, Module, Tensor};

use super::{Activation, Params, on_kernels};
use crate::error::{DiffusionError, Result};

/// Normalises groups of channels to mean 0 and variance 1, then scales and shifts each channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    num_groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Loads `weight` and `bias`, both `(num_channels)`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if the groups do not divide the channels, and those of [`Params::get`].
    pub fn load(num_groups: usize, num_channels: usize, eps: f64, params: &Params) -> Result<Self> {
        if num_groups == 0 || !num_channels.is_multiple_of(num_groups) {
            return Err(DiffusionError::argument(
                "norm_num_groups",
                format!("a divisor of the {num_channels} channels of {}", params.path()),
                num_groups,
            ));
        }
        let weight = params.get([num_channels], "weight")?;
        let bias = params.get([num_channels], "bias")?;
        Ok(Self { weight, bias, num_groups, eps })
    }

    /// The norm with a non-linearity behind it, in one pass where an operator has both.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward_then(
        &self,
        xs: &Tensor,
        activation: Option<Activation>,
    ) -> candle_core::Result<Tensor> {
        match activation {
            Some(activation) if on_kernels(xs) => {
                let fused = Some(activation.on_kernels());
                kernels::group_norm(xs, self.num_groups, self.affine(), fused)
            }
            Some(activation) => activation.forward(&self.forward(xs)?),
            None => self.forward(xs),
        }
    }

    /// As a part of an operator that takes frozen norms only.
    pub(super) fn as_frozen(&self) -> Option<kernels::NormBefore<'_>> {
        let is_trained = self.weight.track_op() || self.bias.track_op();
        let (groups, affine) = (self.num_groups, self.affine());
        (!is_trained).then_some(kernels::NormBefore { groups, affine })
    }

    const fn affine(&self) -> kernels::Affine<'_> {
        kernels::Affine { weight: &self.weight, bias: &self.bias, eps: self.eps }
    }
}

impl Module for GroupNorm {
    /// Statistics are taken in f32 whatever the dtype of the input.
    ///
    /// # Shapes
    /// - xs: `(b, .., num_channels)`
    /// - returns: the same
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        if on_kernels(xs) {
            return kernels::group_norm(xs, self.num_groups, self.affine(), None);
        }
        let (shape, dtype) = (xs.shape().clone(), xs.dtype());
        let (b, c) = (xs.dim(0)?, xs.dim(D::Minus1)?);
        let (groups, width) = (self.num_groups, c / self.num_groups);
        let xs = xs.to_dtype(DType::F32)?.reshape((b, (), groups, width))?;
        // Two short sums in place of one long one: f32 keeps its digits over a million elements.
        let mean = xs.mean_keepdim(D::Minus1)?.mean_keepdim(1)?;
        let xs = xs.broadcast_sub(&mean)?;
        let variance = xs.sqr()?.mean_keepdim(D::Minus1)?.mean_keepdim(1)?;
        let xs = xs.broadcast_div(&variance.affine(1.0, self.eps)?.sqrt()?)?.reshape(shape)?;
        let (weight, bias) = (self.weight.to_dtype(DType::F32)?, self.bias.to_dtype(DType::F32)?);
        xs.broadcast_mul(&weight)?.broadcast_add(&bias)?.to_dtype(dtype)
    }
}
