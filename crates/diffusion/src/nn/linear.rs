//! `torch.nn.Linear`, with LoRA beside it.

use candle_core::{Module, Tensor};

use super::{Params, on_kernels};
use crate::error::Result;
use crate::lora::LoraLayer;

/// `y = x Wᵀ + b`, plus `scale · up(down(x))` of each live adapter.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    adapters: Vec<LoraLayer>,
}

impl Linear {
    /// Loads `weight` `(out_features, in_features)` and, with `bias`, `bias` `(out_features)`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(
        in_features: usize,
        out_features: usize,
        bias: bool,
        params: &Params,
    ) -> Result<Self> {
        let weight = params.weight([out_features, in_features])?;
        let bias = bias.then(|| params.get([out_features], "bias")).transpose()?;
        Ok(Self { weight, bias, adapters: params.live_adapters() })
    }
}

impl Module for Linear {
    /// # Shapes
    /// - xs: `(.., in_features)`
    /// - returns: `(.., out_features)`
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        // One product over all leading dimensions: candle repeats the weight for each batch otherwise.
        let (dims, in_features) = (xs.dims(), xs.dim(candle_core::D::Minus1)?);
        let flat = xs.reshape(((), in_features))?;
        let mut ys = if on_kernels(xs) {
            kernels::linear(&flat, &self.weight, self.bias.as_ref())?
        } else {
            let ys = flat.matmul(&self.weight.to_dtype(xs.dtype())?.t()?)?;
            match &self.bias {
                Some(bias) => ys.broadcast_add(&bias.to_dtype(xs.dtype())?)?,
                None => ys,
            }
        };
        for adapter in &self.adapters {
            ys = (ys + adapter.linear(&flat)?)?;
        }
        let mut out = dims[..dims.len() - 1].to_vec();
        out.push(ys.dim(1)?);
        ys.reshape(out)
    }
}
