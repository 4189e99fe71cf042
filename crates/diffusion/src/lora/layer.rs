//! One layer's low-rank change, and the set of them that a component gets.

use std::collections::HashMap;

use candle_core::{DType, Module as _, Tensor};

use super::dropout::LoraDropout;
use crate::error::{DiffusionError, Result};
use crate::nn::{Conv2dConfig, on_kernels};

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

    /// The inputs that the matrix down sees.
    fn seen(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.dropout.as_ref().map_or_else(|| Ok(xs.clone()), |dropout| dropout.forward(xs))
    }

    /// The change to a linear layer's output.
    ///
    /// # Errors
    /// Those of the products.
    pub fn linear(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let xs = self.seen(xs)?;
        if on_kernels(&xs) {
            let low = kernels::linear(&xs, &self.down, None)?;
            return kernels::linear(&low, &self.up, None)?.affine(self.scale, 0.0);
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
        let xs = self.seen(xs)?;
        if on_kernels(&xs) {
            let (stride, padding) = (config.stride, config.padding);
            let low = kernels::conv2d(&xs, &self.down, None, stride, padding)?;
            return kernels::conv2d(&low, &self.up, None, 1, 0)?.affine(self.scale, 0.0);
        }
        let down = self.down.to_dtype(xs.dtype())?;
        let up = self.up.to_dtype(xs.dtype())?;
        let low = xs.conv2d(&down, config.padding, config.stride, 1, 1)?;
        low.conv2d(&up, 0, 1, 1, 1)?.affine(self.scale, 0.0)
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
