//! `torch.nn.functional.group_norm` (Wu and He 2018) of channels-last activations, with a non-linearity behind it if
//! wished, and `layer_norm` (Ba, Kiros and Hinton 2016).
//!
//! Sums run over blocks of rows in f32 registers and over blocks in f64: a million elements keep f32's digits, and
//! so does a variance that is small beside the mean's square.

pub(crate) mod backward;
pub(crate) mod group;
mod layer;
pub(crate) mod statistics;

use candle_core::{DType, Result, Tensor, bail};

pub(crate) use self::backward::group_norm_backward;
pub(crate) use self::group::normalise_rows;
pub use self::group::{group_norm, group_norm_on};
pub use self::layer::{layer_norm, layer_norm_on};
pub(crate) use self::statistics::{Groups, Scales, group_scales};
use crate::activation::Activation;
use crate::simd::Simd;
use crate::tensors::from_numbers;

/// Scale and shift, and what is added to the variance.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// One factor a channel or feature, any float dtype.
    pub weight: &'a Tensor,
    /// One term a channel or feature, any float dtype.
    pub bias: &'a Tensor,
    /// Added to the variance.
    pub eps: f64,
}

impl Affine<'_> {
    /// Weight and bias in f32, contiguous; gradients find their way through the conversion.
    ///
    /// # Errors
    /// If one of them does not have `count` numbers.
    fn checked(&self, count: usize) -> Result<(Tensor, Tensor)> {
        let (weight, bias) = (self.weight, self.bias);
        if weight.dims() != [count] || bias.dims() != [count] {
            bail!(
                "norm: expected a weight and a bias of shape [{count}], found {:?} and {:?}",
                weight.dims(),
                bias.dims()
            );
        }
        let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.contiguous();
        Ok((numbers(weight)?, numbers(bias)?))
    }
}

/// A weight's gradient, if it wants one.
fn weight_gradient(weight: &Tensor, gradient: Vec<f32>) -> Result<Option<Tensor>> {
    weight.track_op().then(|| from_numbers(gradient, weight.dims())).transpose()
}

// Functions and not closures: a closure may be compiled apart, and then without the tier's instructions.
#[inline(always)]
fn apply<S: Simd>(simd: S, activation: Option<Activation>, z: S::V) -> S::V {
    match activation {
        Some(activation) => activation.value(simd, z),
        None => z,
    }
}

/// The gradient by what the activation takes.
#[inline(always)]
fn pulled<S: Simd>(simd: S, activation: Option<Activation>, z: S::V, grad: S::V) -> S::V {
    match activation {
        Some(activation) => simd.mul(grad, activation.slope(simd, z)),
        None => grad,
    }
}

#[cfg(test)]
mod tests;
