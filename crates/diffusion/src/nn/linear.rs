//! `torch.nn.Linear`, with LoRA beside it.

use candle_core::{DType, Module, Tensor};
use kernels::LowRank;

use super::frozen::{Precision, Weight};
use super::{Params, add, cast, on_kernels};
use crate::error::Result;
use crate::lora::LoraLayer;

/// An affine map of the last dimension, plus `scale · up(down(x))` of each live adapter.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    adapters: Vec<LoraLayer>,
}

impl Linear {
    /// Loads `weight` `(out_features, in_features)` and, if wished, `bias` `(out_features)`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(
        in_features: usize,
        out_features: usize,
        bias: bool,
        params: &Params,
    ) -> Result<Self> {
        Self::load_as(Precision::OfWeights, in_features, out_features, bias, params)
    }

    /// As [`Linear::load`], computed in f32 on the CPU whatever the weights are stored in.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub(super) fn load_in_f32(
        in_features: usize,
        out_features: usize,
        bias: bool,
        params: &Params,
    ) -> Result<Self> {
        Self::load_as(Precision::F32, in_features, out_features, bias, params)
    }

    fn load_as(
        precision: Precision,
        in_features: usize,
        out_features: usize,
        bias: bool,
        params: &Params,
    ) -> Result<Self> {
        let weight = Weight::load(&[out_features, in_features], bias, precision, params)?;
        Ok(Self { weight, adapters: params.live_adapters() })
    }

    pub(super) fn new(
        weight: Tensor,
        bias: Option<Tensor>,
        adapters: Vec<LoraLayer>,
    ) -> Result<Self> {
        Ok(Self { weight: Weight::new(weight, bias, Precision::OfWeights)?, adapters })
    }

    /// The layer's output plus `residual`, which has its shape.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward_add(&self, xs: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        match &self.weight {
            Weight::Packed(weight)
                if self.adapters.is_empty() && residual.dtype() == weight.compute_dtype() =>
            {
                let xs = cast(xs, weight.compute_dtype())?;
                kernels::linear_frozen(&xs, weight, Some(residual))
            }
            _ => add(&self.forward(xs)?, residual),
        }
    }
}

impl Module for Linear {
    /// # Shapes
    /// - xs: `(.., in_features)`
    /// - returns: `(.., out_features)`
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let (mut ys, rest) = match (&self.weight, self.adapters.as_slice()) {
            (Weight::Packed(weight), adapters) => {
                let xs = cast(xs, weight.compute_dtype())?;
                match adapters {
                    [first, rest @ ..] if first.rides_along() => {
                        let (down, up) =
                            (first.down.to_dtype(DType::F32)?, first.up.to_dtype(DType::F32)?);
                        let low = LowRank { down: &down, up: &up, scale: first.scale };
                        (kernels::linear_lora(&xs, weight, low)?, rest)
                    }
                    _ => (kernels::linear_frozen(&xs, weight, None)?, adapters),
                }
            }
            (Weight::Plain { weight, bias }, adapters) => {
                (plain(xs, weight, bias.as_ref())?, adapters)
            }
        };
        for adapter in rest {
            ys = add(&ys, &cast(&adapter.linear(xs)?, ys.dtype())?)?;
        }
        Ok(ys)
    }
}

/// The layer with a plain weight, in the dtype of `xs`.
fn plain(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    if on_kernels(xs) {
        return cast(&kernels::linear(&cast(xs, DType::F32)?, weight, bias)?, xs.dtype());
    }
    // One product over all leading dimensions: candle repeats the weight for each batch otherwise.
    let (dims, in_features) = (xs.dims(), xs.dim(candle_core::D::Minus1)?);
    let ys = xs.reshape(((), in_features))?.matmul(&weight.to_dtype(xs.dtype())?.t()?)?;
    let ys = match bias {
        Some(bias) => ys.broadcast_add(&bias.to_dtype(xs.dtype())?)?,
        None => ys,
    };
    let mut out = dims[..dims.len() - 1].to_vec();
    out.push(ys.dim(1)?);
    ys.reshape(out)
}
