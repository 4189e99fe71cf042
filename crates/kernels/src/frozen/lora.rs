//! A frozen linear layer with LoRA's two matrices beside it (Hu et al. 2021), as one product.
//!
//! `xs · weightᵀ + scale · (xs · downᵀ) · upᵀ`: the second product is a few more steps of the first one's depth. So is
//! its share of the gradient by the input.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, WithDType, bail};

use super::linear::{forward, input_gradient, tokens_of};
use super::{ConvShape, Finish, check_dtype, product};
use crate::isa::Tier;
use crate::outer::weight_gradient;
use crate::panel::Element;
use crate::product::{Engine, MAX_EXTRA_DEPTH, PackedWeight, Side};
use crate::simd::Real;
use crate::tensors::{cpu, for_real, from_numbers, numbers};

/// LoRA's matrices for one layer.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// `(rank, inputs)`, f32.
    pub down: &'a Tensor,
    /// `(outputs, rank)`, f32.
    pub up: &'a Tensor,
    /// Factor of their product.
    pub scale: f64,
}

impl LowRank<'_> {
    /// The largest rank that [`linear_lora`] takes.
    pub const MAX_RANK: usize = MAX_EXTRA_DEPTH;
}

/// `xs · weightᵀ + bias + scale · (xs · downᵀ) · upᵀ`, with gradients by the input and by both matrices.
///
/// # Shapes
/// - xs: `(.., inputs)`, in the weight's [`compute_dtype`](PackedWeight::compute_dtype)
/// - low: see [`LowRank`]
/// - returns: `(.., outputs)`
///
/// # Errors
/// If a shape, dtype or device is another one, or the rank is larger than [`LowRank::MAX_RANK`].
pub fn linear_lora(xs: &Tensor, weight: &PackedWeight, low: LowRank<'_>) -> Result<Tensor> {
    let op = LoraLinear { weight: weight.clone(), scale: low.scale as f32 };
    crate::recording::apply3(&xs.contiguous()?, &low.down.contiguous()?, &low.up.contiguous()?, op)
}

struct LoraLinear {
    weight: PackedWeight,
    scale: f32,
}

/// A small matrix, packed for one call.
fn pack<T: WithDType>(
    tier: Tier,
    values: &[f32],
    scale: f32,
    dims: &[usize],
) -> Result<PackedWeight> {
    let values: Vec<f32> = values.iter().map(|value| value * scale).collect();
    let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(T::DTYPE)?;
    PackedWeight::new_on(tier, &tensor, None, false)
}

/// What both passes multiply with.
struct Matrices {
    down: PackedWeight,
    /// Times the scale.
    up: PackedWeight,
    rank: usize,
}

impl LoraLinear {
    fn matrices<T: WithDType>(
        &self,
        (down, down_layout): (&CpuStorage, &Layout),
        (up, up_layout): (&CpuStorage, &Layout),
    ) -> Result<Matrices> {
        let order = &self.weight.get().order;
        let (down_dims, up_dims) = (down_layout.dims(), up_layout.dims());
        let &[rank, inputs] = down_dims else {
            bail!("linear_lora: expected (rank, inputs), found {down_dims:?}");
        };
        if inputs != order.channels || up_dims != [order.outputs, rank] || order.gated {
            bail!("linear_lora: {down_dims:?} and {up_dims:?} beside {order:?}");
        }
        if rank > LowRank::MAX_RANK {
            bail!("linear_lora: expected a rank up to {}, found {rank}", LowRank::MAX_RANK);
        }
        let tier = self.weight.get().tier;
        Ok(Matrices {
            down: pack::<T>(tier, numbers(down, down_layout)?, 1.0, down_dims)?,
            up: pack::<T>(tier, numbers(up, up_layout)?, self.scale, up_dims)?,
            rank,
        })
    }

    fn backward<T: Engine + Element>(
        &self,
        xs: (&[T], bool),
        grad: &[T],
        matrices: &Matrices,
        tokens: usize,
    ) -> (Option<Vec<T>>, Vec<f32>, Vec<f32>) {
        let (xs, wanted) = xs;
        let order = &self.weight.get().order;
        let Matrices { down, up, rank } = matrices;
        let (tier, rank) = (self.weight.get().tier, *rank);
        // 1. scale · grad · up, and by it and the weight the input's gradient
        let finish = Finish { bias: None, residual: None, gated: false, columns: rank };
        let low_grad = product(Side::Transposed(up.get()), grad, tokens, None, &finish);
        let dxs = wanted.then(|| {
            let extra = Some((low_grad.as_slice(), Side::Transposed(down.get())));
            input_gradient(&self.weight, grad, tokens, extra)
        });
        // 2. the matrices' own
        let low = forward(down, xs, tokens, None, None);
        let columns = order.channels;
        let turned = ConvShape::linear(tokens, rank, columns);
        let by_columns = weight_gradient(tier, &low_grad, xs, turned).weight; // (columns, rank)
        let d_down =
            (0..rank * columns).map(|at| by_columns[at % columns * rank + at / columns]).collect(); // (rank, columns)
        let shape = ConvShape::linear(tokens, rank, order.outputs);
        let mut d_up = weight_gradient(tier, &low, grad, shape).weight; // (outputs, rank)
        d_up.iter_mut().for_each(|value| *value *= self.scale);
        (dxs, d_down, d_up)
    }
}

impl CustomOp3 for LoraLinear {
    fn name(&self) -> &'static str {
        "linear-lora"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        down: &CpuStorage,
        down_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (tokens, dims) = tokens_of(layout, &self.weight)?;
        check_dtype(xs.dtype(), self.weight.compute_dtype())?;
        let out = for_real!(xs.dtype(), |T| {
            let matrices = self.matrices::<T>((down, down_layout), (up, up_layout))?;
            let xs = numbers::<T>(xs, layout)?;
            let low = forward(&matrices.down, xs, tokens, None, None);
            let extra = Some((low.as_slice(), Side::Forward(matrices.up.get())));
            Real::storage(forward(&self.weight, xs, tokens, None, extra))
        });
        Ok((out, dims.into()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        down: &Tensor,
        up: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [x, d, u, g] = [xs, down, up, &grad].map(Tensor::storage_and_layout);
        let (tokens, _) = tokens_of(x.1, &self.weight)?;
        for_real!(xs.dtype(), |T| {
            let matrices = self.matrices::<T>((cpu(&d.0)?, d.1), (cpu(&u.0)?, u.1))?;
            let values = numbers::<T>(cpu(&x.0)?, x.1)?;
            let grad = numbers::<T>(cpu(&g.0)?, g.1)?;
            let (dxs, d_down, d_up) =
                self.backward((values, xs.track_op()), grad, &matrices, tokens);
            Ok((
                dxs.map(|dxs| from_numbers(dxs, xs.dims())).transpose()?,
                Some(from_numbers(d_down, down.dims())?),
                Some(from_numbers(d_up, up.dims())?),
            ))
        })
    }
}
