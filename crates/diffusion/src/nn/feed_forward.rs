//! diffusers' `FeedForward` with GEGLU (Shazeer 2020).

use candle_core::{D, Module, Tensor};
use kernels::PackedWeight;

use super::{Activation, Linear, Params, on_kernels};
use crate::error::Result;

/// `net.2(a · gelu(gate))` where `net.0.proj` gives `a` and `gate`, each four times as wide as the input.
#[derive(Clone, Debug)]
pub struct FeedForward {
    proj: Gated,
    out: Linear,
}

/// `net.0.proj` and what comes after it.
#[derive(Clone, Debug)]
enum Gated {
    /// As one operator.
    Packed(PackedWeight),
    Separate(Linear),
}

impl FeedForward {
    /// Loads `net.0.proj` and `net.2`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(dim: usize, params: &Params) -> Result<Self> {
        let inner_dim = 4 * dim;
        Ok(Self {
            proj: Gated::load(dim, 2 * inner_dim, &params.pp("net.0.proj"))?,
            out: Linear::load(inner_dim, dim, true, &params.pp("net.2"))?,
        })
    }

    /// The layer's output plus `residual`.
    ///
    /// # Shapes
    /// - xs, residual: `(.., dim)`
    /// - returns: the same
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward_add(&self, xs: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        self.out.forward_add(&self.proj.forward(xs)?, residual)
    }
}

impl Gated {
    fn load(inputs: usize, outputs: usize, params: &Params) -> Result<Self> {
        let weight = params.weight([outputs, inputs])?;
        let bias = params.get([outputs], "bias")?;
        let adapters = params.live_adapters();
        let is_trained = weight.track_op() || bias.track_op();
        if weight.device().is_cpu() && !is_trained && adapters.is_empty() {
            return Ok(Self::Packed(PackedWeight::gated(&weight, Some(&bias))?));
        }
        Ok(Self::Separate(Linear::new(weight, Some(bias), adapters)?))
    }

    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = match self {
            Self::Packed(weight) => {
                return kernels::linear_geglu(&xs.to_dtype(weight.compute_dtype())?, weight);
            }
            Self::Separate(linear) => linear.forward(xs)?,
        };
        if on_kernels(&hidden) {
            return kernels::geglu(&hidden);
        }
        let inner_dim = hidden.dim(D::Minus1)? / 2;
        let values = hidden.narrow(D::Minus1, 0, inner_dim)?;
        let gate = hidden.narrow(D::Minus1, inner_dim, inner_dim)?.contiguous()?;
        values * Activation::Gelu.forward(&gate)?
    }
}
