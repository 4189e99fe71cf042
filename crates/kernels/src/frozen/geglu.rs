//! A linear layer whose outputs are values and their gates, and `values · gelu(gates)` (Shazeer 2020), as one operator.
//!
//! What the layer itself computes is never in memory as a whole; the backward pass computes it again.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::linear::{forward, input_gradient, tokens_of};
use super::{Finish, check_dtype, product};
use crate::activation::Activation;
use crate::isa::Tier;
use crate::product::{Engine, PackedWeight, Side};
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{cpu, for_real, from_numbers, numbers};

/// `a · gelu(gate)` where `a` is the first half of `xs · weightᵀ + bias` and `gate` the second.
///
/// # Shapes
/// - xs: `(.., inputs)`, in the weight's [`compute_dtype`](PackedWeight::compute_dtype)
/// - weight: packed by [`PackedWeight::gated`]
/// - returns: `(.., outputs / 2)`
///
/// # Errors
/// If a shape, dtype or device is another one, or the weight is not gated.
pub fn linear_geglu(xs: &Tensor, weight: &PackedWeight) -> Result<Tensor> {
    crate::recording::apply1(&xs.contiguous()?, LinearGeglu { weight: weight.clone() })
}

struct LinearGeglu {
    weight: PackedWeight,
}

impl CustomOp1 for LinearGeglu {
    fn name(&self) -> &'static str {
        "linear-geglu"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, dims) = tokens_of(layout, &self.weight)?;
        if !self.weight.get().order.gated {
            bail!("linear_geglu: expected a gated weight");
        }
        check_dtype(xs.dtype(), self.weight.compute_dtype())?;
        let out = for_real!(xs.dtype(), |T| {
            T::storage(forward::<T>(&self.weight, numbers(xs, layout)?, tokens, None, None))
        });
        Ok((out, dims.into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (storage, layout) = xs.storage_and_layout();
        let (grad_storage, grad_layout) = grad.storage_and_layout();
        let (tokens, _) = tokens_of(layout, &self.weight)?;
        for_real!(xs.dtype(), |T| {
            let (values, grad) = (
                numbers::<T>(cpu(&storage)?, layout)?,
                numbers::<T>(cpu(&grad_storage)?, grad_layout)?,
            );
            let dxs = backward(&self.weight, values, grad, tokens);
            from_numbers(dxs, xs.dims()).map(Some)
        })
    }
}

fn backward<T: Engine>(weight: &PackedWeight, xs: &[T], grad: &[T], tokens: usize) -> Vec<T> {
    let packed = weight.get();
    let (columns, finished) = (packed.order.columns(), packed.order.finished_columns());
    let finish = Finish { bias: packed.bias.as_deref(), residual: None, gated: false, columns };
    // In the order of the packed columns: registers of values and of gates in turn.
    let mut hidden = product(Side::Forward(packed), xs, tokens, None, &finish);
    let rows = hidden.par_chunks_mut(columns.max(1)).zip(grad.par_chunks(finished.max(1)));
    rows.for_each(|(hidden, grad)| {
        dispatch(packed.tier, Row { tier: packed.tier, hidden, grad });
    });
    input_gradient(weight, &hidden, tokens, None)
}

/// From values and gates to the gradients by them, in place.
struct Row<'a, T> {
    tier: Tier,
    hidden: &'a mut [T],
    grad: &'a [T],
}

impl<T: Real> Kernel for Row<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        debug_assert_eq!(self.tier.lanes(), S::LANES);
        for (at, pair) in self.hidden.chunks_exact_mut(2 * S::LANES).enumerate() {
            let column = at * S::LANES;
            // SAFETY: the pair is two registers long; the rest of the gradient starts there.
            unsafe {
                let from = self.grad.as_ptr().add(column);
                let grad = T::load_up_to(simd, from, self.grad.len() - column);
                let (values, gates) = (pair.as_mut_ptr(), pair.as_mut_ptr().add(S::LANES));
                let (value, gate) = (T::load(simd, values), T::load(simd, gates));
                T::store(simd, values, simd.mul(grad, Activation::Gelu.value(simd, gate)));
                let slope = simd.mul(value, Activation::Gelu.slope(simd, gate));
                T::store(simd, gates, simd.mul(grad, slope));
            }
        }
    }
}
