//! One layer's low-rank change, and the set of them that a component gets.

use std::collections::HashMap;

use candle_core::{DType, Module as _, Tensor};

use super::dropout::LoraDropout;
use crate::error::{DiffusionError, Result};
use crate::nn::{Conv2dConfig, cast, conv2d_channels_last, on_kernels};

/// `ΔW = scale · up · down` for one layer (Hu et al. 2021).
///
/// # Shapes
/// - linear: down `(r, in)`, up `(out, r)`
/// - convolution: down `(r, in, k, k)`, up `(out, r, 1, 1)`
#[derive(Clone, Debug)]
pub struct LoraLayer {
    /// "A": to rank r.
    pub down: Tensor,
    /// "B": from rank r.
    pub up: Tensor,
    /// `weight · alpha / r`.
    pub scale: f64,
    /// What hides inputs at random while training.
    pub dropout: Option<LoraDropout>,
}

impl LoraLayer {
    /// A pair without dropout.
    #[must_use]
    pub const fn new(down: Tensor, up: Tensor, scale: f64) -> Self {
        Self { down, up, scale, dropout: None }
    }

    /// True if the layer's own product can take this one along ([`kernels::linear_lora`]).
    pub(crate) fn rides_along(&self) -> bool {
        let rank = self.down.dims().first().copied().unwrap_or(0);
        let is_linear = self.down.rank() == 2 && self.up.rank() == 2;
        self.dropout.is_none() && is_linear && (1..=kernels::LowRank::MAX_RANK).contains(&rank)
    }

    /// The inputs that the matrix down sees.
    fn seen(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.dropout.as_ref().map_or_else(|| Ok(xs.clone()), |dropout| dropout.forward(xs))
    }

    /// `scale · up` in f32: a matrix takes the factor sooner than a picture does.
    pub(crate) fn scaled_up(&self) -> candle_core::Result<Tensor> {
        self.up.to_dtype(DType::F32)?.affine(self.scale, 0.0)
    }

    /// The change to a linear layer's output.
    ///
    /// # Errors
    /// Those of the products.
    pub fn linear(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let xs = self.seen(xs)?;
        if on_kernels(&xs) {
            let low = kernels::linear(&cast(&xs, DType::F32)?, &self.down, None)?;
            return kernels::linear(&low, &self.scaled_up()?, None);
        }
        let down = self.down.to_dtype(xs.dtype())?.t()?;
        let up = self.up.to_dtype(xs.dtype())?.t()?;
        xs.matmul(&down)?.matmul(&up)?.affine(self.scale, 0.0)
    }

    /// The change to a convolution's output; `config` is the convolution's own.
    ///
    /// # Errors
    /// Those of the convolutions.
    pub fn conv2d(&self, xs: &Tensor, config: Conv2dConfig) -> candle_core::Result<Tensor> {
        let mut xs = self.seen(xs)?;
        if on_kernels(&xs) {
            // Once: what is between the matrices stays as it is computed.
            xs = cast(&xs, DType::F32)?;
        }
        let low = conv2d_channels_last(&xs, &self.down, None, config)?;
        conv2d_channels_last(&low, &self.scaled_up()?, None, Conv2dConfig::POINTWISE)
    }

    /// ΔW itself, in f32, with the shape of the layer's weight.
    ///
    /// # Errors
    /// Those of the product.
    pub fn delta(&self) -> candle_core::Result<Tensor> {
        let (down, up) = (self.down.to_dtype(DType::F32)?, self.up.to_dtype(DType::F32)?);
        let mut shape = down.dims().to_vec();
        shape[0] = up.dim(0)?;
        let product = up.flatten_from(1)?.matmul(&down.flatten_from(1)?)?;
        product.affine(self.scale, 0.0)?.reshape(shape)
    }
}

/// The adapters of one component, by the path of the layer that they change.
#[derive(Clone, Debug, Default)]
pub struct Adapters {
    layers: HashMap<String, Vec<LoraLayer>>,
    merged: bool,
}

impl Adapters {
    /// Adapters to run beside the weights they change.
    #[must_use]
    pub const fn live_set(layers: HashMap<String, Vec<LoraLayer>>) -> Self {
        Self { layers, merged: false }
    }

    /// Adapters to add into the weights as they are loaded.
    #[must_use]
    pub const fn merged_set(layers: HashMap<String, Vec<LoraLayer>>) -> Self {
        Self { layers, merged: true }
    }

    /// The layer paths, e.g. `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// What runs beside the layer at `path`.
    pub(crate) fn live(&self, path: &str) -> Vec<LoraLayer> {
        if self.merged {
            return Vec::new();
        }
        self.layers.get(path).cloned().unwrap_or_default()
    }

    /// `weight` of the layer at `path` with what is to be merged added.
    pub(crate) fn merged(&self, path: &str, weight: Tensor) -> Result<Tensor> {
        if self.merged { self.add_to(path, weight) } else { Ok(weight) }
    }

    /// `weight` of the layer at `path` with its changes added, summed in f32 and stored as it was.
    pub(super) fn add_to(&self, path: &str, weight: Tensor) -> Result<Tensor> {
        let Some(layers) = self.layers.get(path) else { return Ok(weight) };
        let dtype = weight.dtype();
        let mut sum = weight.to_dtype(DType::F32)?;
        for layer in layers {
            let delta = layer.delta()?;
            if delta.dims() != sum.dims() {
                return Err(DiffusionError::TensorShape {
                    origin: "LoRA".to_owned(),
                    name: path.to_owned(),
                    expected: sum.dims().to_vec(),
                    found: delta.dims().to_vec(),
                });
            }
            sum = (sum + delta)?;
        }
        Ok(sum.to_dtype(dtype)?)
    }

    /// True if the layer at `path` is changed.
    pub(super) fn changes(&self, path: &str) -> bool {
        self.layers.contains_key(path)
    }
}
