//! Weights in the order that the engines read them.

use std::fmt;
use std::sync::Arc;

use candle_core::{CpuStorage, DType, Result, Tensor, bail};
use half::{bf16, f16};

use super::packing::{pack_lanes, pack_pairs, pack_turned};
use crate::buffer::Aligned;
use crate::isa::Tier;
use crate::panel::{Element, MAX_VECTORS};
use crate::tensors::{cpu, with_weights};

/// Columns of a panel of pairs: two tiles.
pub(crate) const PAIR_COLUMNS: usize = 32;
/// Depth of a step of pairs: a row of a tile.
pub(crate) const PAIR_DEPTH: usize = 32;
/// Steps whose taps are neighbours: 64 channels.
pub(super) const PAIR_CHUNK: usize = 2;

/// A frozen weight of a linear layer or a convolution with its bias, packed for a tier.
///
/// In memory it takes as much as the tensor that it was made from, but for the padding of its last panels.
#[derive(Clone)]
pub struct PackedWeight(Arc<Packed>);

pub(crate) struct Packed {
    pub(crate) tier: Tier,
    pub(crate) order: Order,
    pub(crate) values: Values,
    /// One number a packed column, with zeros up to the end of the last panel.
    pub(crate) bias: Option<Vec<f32>>,
}

/// Sizes of a packed weight, and what its columns are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Rows of the weight.
    pub(crate) outputs: usize,
    /// Depth under each tap.
    pub(crate) channels: usize,
    /// Height and width of the kernel.
    pub(crate) kernel: (usize, usize),
    /// Numbers in a register, or columns of a tile.
    pub(crate) lanes: usize,
    /// Registers in a panel, or tiles.
    pub(crate) vectors: usize,
    /// Registers alternate between the first half of the outputs (values) and the second (their gates).
    pub(crate) gated: bool,
}

/// The numbers of a packed weight.
pub(crate) enum Values {
    /// Panels of `[tap][channel][column]`.
    F32(Aligned<f32>),
    Bf16(Aligned<bf16>),
    F16(Aligned<f16>),
    /// Panels of `[chunk of 64 channels][tap][step of 32 channels][tile of 16 columns][pair of channels][column][which of
    /// the pair]`.
    Pairs(Aligned<bf16>),
}

impl Order {
    /// Panels of f32 with no narrow one beside wide ones, where there are few.
    fn balanced(tier: Tier, outputs: usize, channels: usize, kernel: (usize, usize)) -> Self {
        let lanes = tier.lanes();
        let vectors = if outputs.div_ceil(lanes) == MAX_VECTORS + 1 { 2 } else { MAX_VECTORS };
        Self { outputs, channels, kernel, lanes, vectors, gated: false }
    }
    pub(crate) const fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }
    /// Columns in a panel, but the last.
    pub(crate) const fn width(&self) -> usize {
        self.lanes * self.vectors
    }
    /// Columns, with the zeros that fill registers of gated ones.
    pub(crate) const fn columns(&self) -> usize {
        if self.gated { (self.outputs / 2).next_multiple_of(self.lanes) * 2 } else { self.outputs }
    }
    /// Columns of what comes out in the end.
    pub(crate) const fn finished_columns(&self) -> usize {
        if self.gated { self.outputs / 2 } else { self.outputs }
    }
    pub(crate) const fn panels(&self) -> usize {
        self.columns().div_ceil(self.width())
    }
    /// Registers in a panel.
    pub(crate) fn vectors_of(&self, panel: usize) -> usize {
        (self.columns() - panel * self.width()).div_ceil(self.lanes).min(self.vectors)
    }
    /// The row of the weight that a packed column is.
    pub(crate) const fn output(&self, column: usize) -> Option<usize> {
        if !self.gated {
            return if column < self.outputs { Some(column) } else { None };
        }
        let (group, lane) = (column / self.lanes, column % self.lanes);
        let half = self.outputs / 2;
        let at = group / 2 * self.lanes + lane;
        if at < half { Some(at + group % 2 * half) } else { None }
    }
    /// One number an output as one a packed column, with zeros up to the end of the last panel.
    pub(crate) fn arrange(&self, values: &[f32]) -> Vec<f32> {
        (0..self.panels() * self.width())
            .map(|column| self.output(column).map_or(0.0, |output| values[output]))
            .collect()
    }
}

impl PackedWeight {
    /// Packs a weight for the tier in use.
    ///
    /// # Shapes
    /// - weight: `(outputs, inputs)` of a linear layer, `(outputs, channels, kh, kw)` of a convolution; f32, bf16 or
    ///   f16 on the CPU
    /// - bias: `(outputs)`, any float dtype
    ///
    /// # Errors
    /// If the shape, dtype or device is another one.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Self::new_on(Tier::current(), weight, bias, false)
    }

    /// Packs the weight of a linear layer whose outputs are values, then as many gates ([`linear_geglu`]).
    ///
    /// [`linear_geglu`]: crate::linear_geglu
    ///
    /// # Errors
    /// Those of [`PackedWeight::new`]; or if the number of outputs is odd.
    pub fn gated(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Self::new_on(Tier::current(), weight, bias, true)
    }

    /// Packs a weight that is computed with in f32 in any case, however it is stored: for the few small layers whose
    /// rounding all others feel.
    ///
    /// # Errors
    /// Those of [`PackedWeight::new`].
    pub fn in_f32(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Self::new_on(Tier::current().without_bf16(), weight, bias, false)
    }

    /// [`PackedWeight::new`] or [`PackedWeight::gated`] on a given tier.
    ///
    /// # Errors
    /// Those of [`PackedWeight::gated`].
    pub fn new_on(tier: Tier, weight: &Tensor, bias: Option<&Tensor>, gated: bool) -> Result<Self> {
        let (outputs, channels, kernel) = match *weight.dims() {
            [outputs, inputs] => (outputs, inputs, (1, 1)),
            [outputs, channels, kh, kw] => (outputs, channels, (kh, kw)),
            _ => bail!("packed weight: expected (out, in) or (out, in, kh, kw), found {weight:?}"),
        };
        if gated && (kernel != (1, 1) || !outputs.is_multiple_of(2)) {
            bail!("packed weight: expected values and as many gates, found {weight:?}");
        }
        let in_pairs = tier.multiplies_bf16() && weight.dtype() == DType::BF16;
        let lanes = if in_pairs { PAIR_COLUMNS / 2 } else { tier.lanes() };
        let vectors = if gated || in_pairs { 2 } else { MAX_VECTORS };
        let order = Order { outputs, channels, kernel, lanes, vectors, gated };
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let storage = cpu(&storage)?;
        let values = if in_pairs {
            match storage {
                CpuStorage::BF16(values) => {
                    Values::Pairs(pack_pairs(&order, &values[layout.start_offset()..]))
                }
                _ => bail!("packed weight: expected bf16"),
            }
        } else {
            with_weights!(storage, layout, |weight| { Lane::values(pack_lanes(&order, weight)) })
        };
        let bias = bias
            .map(|bias| {
                if bias.dims() != [outputs] {
                    bail!("packed weight: expected a bias of shape [{outputs}], found {bias:?}");
                }
                Ok(order.arrange(&bias.to_dtype(DType::F32)?.to_vec1::<f32>()?))
            })
            .transpose()?;
        Ok(Self(Arc::new(Packed { tier, order, values, bias })))
    }

    /// Packs a weight `(outputs, channels, kernel)` for one call in f32.
    ///
    /// # Panics
    /// If there is not one number for each of the shape's, or not one of the bias an output.
    pub(crate) fn of_numbers(
        tier: Tier,
        weight: &[f32],
        (outputs, channels, kernel): (usize, usize, (usize, usize)),
        bias: Option<&[f32]>,
    ) -> Packed {
        let order = Order::balanced(tier, outputs, channels, kernel);
        let values = Values::F32(pack_lanes(&order, weight));
        Packed { tier, order, values, bias: bias.map(|bias| order.arrange(bias)) }
    }

    /// Packs the transpose of a weight `(outputs, channels, kernel)` for one call in f32, with its taps turned: the
    /// gradient by an input is its product with that by the output.
    ///
    /// # Panics
    /// If there is not one number for each of the shape's.
    pub(crate) fn turned(
        tier: Tier,
        weight: &[f32],
        (outputs, channels, kernel): (usize, usize, (usize, usize)),
    ) -> Packed {
        let order = Order::balanced(tier, channels, outputs, kernel);
        Packed { tier, order, values: Values::F32(pack_turned(&order, weight)), bias: None }
    }

    pub(crate) fn get(&self) -> &Packed {
        &self.0
    }

    /// Rows of the weight.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.0.order.outputs
    }

    /// The dtype of the activations that it multiplies: bf16 where the tier multiplies bf16 and the weight is bf16, f32
    /// otherwise.
    #[must_use]
    pub fn compute_dtype(&self) -> DType {
        match self.0.values {
            Values::Pairs(_) => DType::BF16,
            _ => DType::F32,
        }
    }
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedWeight").field("order", &self.0.order).finish_non_exhaustive()
    }
}

/// A type that panels of lanes are stored in.
trait Lane: Element + candle_core::WithDType {
    fn values(aligned: Aligned<Self>) -> Values;
}

impl Lane for f32 {
    fn values(aligned: Aligned<Self>) -> Values {
        Values::F32(aligned)
    }
}
impl Lane for bf16 {
    fn values(aligned: Aligned<Self>) -> Values {
        Values::Bf16(aligned)
    }
}
impl Lane for f16 {
    fn values(aligned: Aligned<Self>) -> Values {
        Values::F16(aligned)
    }
}

/// A packed weight as one side of a product, as it is or transposed (for the gradient by the input).
#[derive(Clone, Copy)]
pub(crate) enum Side<'a> {
    Forward(&'a Packed),
    Transposed(&'a Packed),
}

impl Side<'_> {
    pub(crate) const fn packed(&self) -> &Packed {
        match self {
            Self::Forward(packed) | Self::Transposed(packed) => packed,
        }
    }
    pub(crate) const fn tier(&self) -> Tier {
        self.packed().tier
    }
    /// Columns of the product.
    pub(crate) const fn columns(&self) -> usize {
        match self {
            Self::Forward(packed) => packed.order.columns(),
            Self::Transposed(packed) => packed.order.channels,
        }
    }
    /// Depth under each tap.
    pub(crate) const fn depth(&self) -> usize {
        match self {
            Self::Forward(packed) => packed.order.channels,
            Self::Transposed(packed) => packed.order.columns(),
        }
    }
    /// Registers (or tiles) in a panel.
    pub(crate) fn vectors(&self) -> usize {
        match self {
            Self::Forward(packed) => packed.order.vectors,
            Self::Transposed(packed) => match packed.values {
                Values::Pairs(_) => 2,
                _ => MAX_VECTORS,
            },
        }
    }
}
