//! Linear layers that share an input, as one product where they can be: queries, keys and values.

use candle_core::{D, DType, Module, Tensor};
use kernels::{LowRank, PackedWeight};

use super::{Linear, Params};
use crate::error::Result;
use crate::lora::LoraLayer;

/// Linear layers of one input.
#[derive(Clone, Debug)]
pub(super) enum Projections {
    /// Frozen layers on the CPU: their outputs lie side by side.
    Fused(Fused),
    /// Trained layers, or such on a GPU.
    Separate(Vec<Linear>),
}

/// Outputs of several layers, one after the other in the last dimension.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    weight: PackedWeight,
    outputs: usize,
    adapters: Vec<Option<LoraLayer>>,
}

impl Projections {
    /// Loads layers of `inputs` features with `outputs` each.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub(super) fn load(
        inputs: usize,
        outputs: usize,
        bias: bool,
        params: &[Params],
    ) -> Result<Self> {
        let mut weights = Vec::with_capacity(params.len());
        let mut biases = Vec::new();
        let mut adapters = Vec::with_capacity(params.len());
        for params in params {
            weights.push(params.weight([outputs, inputs])?);
            if bias {
                biases.push(params.get([outputs], "bias")?);
            }
            adapters.push(params.live_adapters());
        }
        let frozen = |tensor: &Tensor| tensor.device().is_cpu() && !tensor.track_op();
        let rides = |adapters: &Vec<LoraLayer>| match adapters.as_slice() {
            [] => Some(0),
            [one] if one.rides_along() => one.down.dim(0).ok(),
            _ => None,
        };
        let rank: Option<usize> = adapters.iter().map(rides).sum();
        let can_be_fused = weights.iter().chain(&biases).all(frozen)
            && rank.is_some_and(|rank| rank <= LowRank::MAX_RANK);
        if can_be_fused {
            let weight = Tensor::cat(&weights, 0)?;
            let bias = bias.then(|| Tensor::cat(&biases, 0)).transpose()?;
            let adapters = adapters.into_iter().map(|adapters| adapters.into_iter().next());
            return Ok(Self::Fused(Fused {
                weight: PackedWeight::new(&weight, bias.as_ref())?,
                outputs,
                adapters: adapters.collect(),
            }));
        }
        let mut biases = biases.into_iter();
        let layers = weights.into_iter().zip(adapters);
        let layers = layers.map(|(weight, adapters)| Linear::new(weight, biases.next(), adapters));
        Ok(Self::Separate(layers.collect::<Result<_>>()?))
    }

    /// The outputs of all layers side by side.
    ///
    /// # Shapes
    /// - xs: `(.., inputs)`
    /// - returns: `(.., layers · outputs)`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub(super) fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Separate(layers) => {
                let outputs: Vec<Tensor> = layers
                    .iter()
                    .map(|layer| layer.forward(xs))
                    .collect::<candle_core::Result<_>>()?;
                Tensor::cat(&outputs, D::Minus1)
            }
            Self::Fused(fused) => fused.forward(xs),
        }
    }
}

impl Fused {
    /// # Shapes
    /// - xs: `(.., inputs)`
    /// - returns: `(.., layers · outputs)`
    pub(super) fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let xs = xs.to_dtype(self.weight.compute_dtype())?;
        if self.adapters.iter().all(Option::is_none) {
            return kernels::linear_frozen(&xs, &self.weight, None);
        }
        let (down, up) = self.joined()?;
        kernels::linear_lora(&xs, &self.weight, LowRank { down: &down, up: &up, scale: 1.0 })
    }

    /// The adapters as one: `down`s below each other, `up`s as the blocks of a diagonal.
    fn joined(&self) -> candle_core::Result<(Tensor, Tensor)> {
        let layers = || self.adapters.iter().flatten();
        let downs: Vec<Tensor> = layers()
            .map(|layer| layer.down.to_dtype(DType::F32))
            .collect::<candle_core::Result<_>>()?;
        let down = Tensor::cat(&downs, 0)?;
        let rank = down.dim(0)?;
        let mut rows = Vec::with_capacity(self.adapters.len());
        let mut first = 0;
        for adapter in &self.adapters {
            let Some(adapter) = adapter else {
                rows.push(Tensor::zeros((self.outputs, rank), DType::F32, down.device())?);
                continue;
            };
            let up = adapter.scaled_up()?;
            let own = up.dim(1)?;
            rows.push(up.pad_with_zeros(1, first, rank - first - own)?);
            first += own;
        }
        Ok((down, Tensor::cat(&rows, 0)?))
    }
}
