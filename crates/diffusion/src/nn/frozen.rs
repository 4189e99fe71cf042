//! A layer's weight: packed for the kernels where it is frozen and on the CPU, a plain tensor otherwise.

use candle_core::{DType, Tensor};
use kernels::PackedWeight;

use super::Params;
use crate::error::Result;

/// Weight and bias of a linear layer or a convolution.
#[derive(Clone, Debug)]
pub(super) enum Weight {
    /// Frozen, on the CPU.
    Packed(PackedWeight),
    /// Trained, or on a GPU.
    Plain { weight: Tensor, bias: Option<Tensor> },
}

/// What a layer computes in where its weights are bf16 and the processor multiplies bf16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Precision {
    /// bf16.
    #[default]
    OfWeights,
    /// f32.
    F32,
}

impl Weight {
    pub(super) fn new(weight: Tensor, bias: Option<Tensor>, precision: Precision) -> Result<Self> {
        let is_trained = weight.track_op() || bias.as_ref().is_some_and(Tensor::track_op);
        if !weight.device().is_cpu() || is_trained {
            return Ok(Self::Plain { weight, bias });
        }
        let bias = bias.as_ref();
        Ok(Self::Packed(match precision {
            Precision::OfWeights => PackedWeight::new(&weight, bias)?,
            Precision::F32 => PackedWeight::in_f32(&weight, bias)?,
        }))
    }

    /// Loads `weight` and, if wished, `bias`.
    pub(super) fn load(
        shape: &[usize],
        bias: bool,
        precision: Precision,
        params: &Params,
    ) -> Result<Self> {
        let weight = params.weight(shape)?;
        let bias = bias.then(|| params.get([shape[0]], "bias")).transpose()?;
        Self::new(weight, bias, precision)
    }
}

/// The dtype that a network's activations have: what the kernels compute in on the CPU, what weights are stored in on a
/// GPU.
pub(crate) fn compute_dtype(params: &Params) -> DType {
    let dtype = params.dtype();
    if !params.device().is_cpu() {
        return dtype;
    }
    let in_bf16 = dtype == DType::BF16 && kernels::Tier::current().multiplies_bf16();
    if in_bf16 { DType::BF16 } else { DType::F32 }
}
