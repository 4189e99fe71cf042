//! diffusers' `FeedForward` with GEGLU (Shazeer 2020).

use candle_core::{D, Module, Tensor};

use super::{Activation, Linear, Params, on_kernels};
use crate::error::Result;

/// `net.2(a · gelu(gate))` where `net.0.proj` gives `a` and `gate`, each four times as wide as the input.
#[derive(Clone, Debug)]
pub struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    /// Loads `net.0.proj` and `net.2`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(dim: usize, params: &Params) -> Result<Self> {
        let inner_dim = 4 * dim;
        Ok(Self {
            proj: Linear::load(dim, 2 * inner_dim, true, &params.pp("net.0.proj"))?,
            out: Linear::load(inner_dim, dim, true, &params.pp("net.2"))?,
        })
    }
}

impl Module for FeedForward {
    /// # Shapes
    /// - xs: `(.., dim)`
    /// - returns: the same
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let xs = self.proj.forward(xs)?;
        if on_kernels(&xs) {
            return self.out.forward(&kernels::geglu(&xs)?);
        }
        let inner_dim = xs.dim(D::Minus1)? / 2;
        let values = xs.narrow(D::Minus1, 0, inner_dim)?;
        let gate = xs.narrow(D::Minus1, inner_dim, inner_dim)?.contiguous()?;
        self.out.forward(&(values * Activation::Gelu.forward(&gate)?)?)
    }
}
