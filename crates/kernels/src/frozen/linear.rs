//! `torch.nn.functional.linear` with a frozen weight, and a residual added to it if wished.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Layout, Result, Shape, Tensor, bail};

use super::residual::{self, Layer};
use super::{Finish, check_dtype, product};
use crate::product::{Engine, PackedWeight, Side};
use crate::simd::Real;
use crate::tensors::{cpu, for_real, from_numbers, numbers};

/// `xs · weightᵀ + bias + residual`.
///
/// # Shapes
/// - xs: `(.., inputs)`, contiguous or not, in the weight's [`compute_dtype`](PackedWeight::compute_dtype)
/// - residual: `(.., outputs)`, in the same dtype
/// - returns: `(.., outputs)`
///
/// # Errors
/// If a shape, dtype or device is another one, or the weight is a convolution's or gated.
pub fn linear_frozen(
    xs: &Tensor,
    weight: &PackedWeight,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    residual::apply(FrozenLinear { weight: weight.clone() }, xs, residual)
}

struct FrozenLinear {
    weight: PackedWeight,
}

/// The tokens of `xs`, and the dimensions of the output.
///
/// # Errors
/// If the weight is no linear layer's or takes another number of features.
pub(super) fn tokens_of(xs: &Layout, weight: &PackedWeight) -> Result<(usize, Vec<usize>)> {
    let order = &weight.get().order;
    let mut dims = xs.dims().to_vec();
    let (Some(last), (1, 1)) = (dims.last_mut(), order.kernel) else {
        bail!("linear: expected (.., {}) and a weight without taps, found {xs:?}", order.channels);
    };
    if *last != order.channels {
        bail!("linear: expected {} features, found {:?}", order.channels, xs.dims());
    }
    *last = order.finished_columns();
    let tokens = xs.dims()[..xs.dims().len() - 1].iter().product();
    Ok((tokens, dims))
}

impl Layer for FrozenLinear {
    const NAME: &'static str = "linear";

    fn forward(
        &self,
        (xs, layout): (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let (tokens, dims) = tokens_of(layout, &self.weight)?;
        if self.weight.get().order.gated {
            bail!("linear: a gated weight is for linear_geglu");
        }
        if let Some((_, layout)) = residual
            && layout.dims() != dims
        {
            bail!("linear: expected a residual {dims:?}, found {:?}", layout.dims());
        }
        check_dtype(xs.dtype(), self.weight.compute_dtype())?;
        let out = for_real!(xs.dtype(), |T| {
            let residual = residual.map(|(xs, layout)| numbers::<T>(xs, layout)).transpose()?;
            Real::storage(forward::<T>(&self.weight, numbers(xs, layout)?, tokens, residual, None))
        });
        Ok((out, dims.into()))
    }

    fn input_gradient(&self, xs: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let storage = cpu(&storage)?;
        let (tokens, _) = tokens_of(xs.layout(), &self.weight)?;
        for_real!(grad.dtype(), |T| {
            let dxs = input_gradient::<T>(&self.weight, numbers(storage, layout)?, tokens, None);
            from_numbers(dxs, xs.dims())
        })
    }
}

/// `(tokens, outputs)` with the bias, a residual and the share of a shallow product.
pub(super) fn forward<T: Engine>(
    weight: &PackedWeight,
    xs: &[T],
    tokens: usize,
    residual: Option<&[T]>,
    extra: Option<(&[T], Side<'_>)>,
) -> Vec<T> {
    let packed = weight.get();
    let finish = Finish {
        bias: packed.bias.as_deref(),
        residual,
        gated: packed.order.gated,
        columns: packed.order.finished_columns(),
    };
    product(Side::Forward(packed), xs, tokens, extra, &finish)
}

/// `grad · weight`, `(tokens, inputs)`, with the share of a shallow product; `grad` has the packed columns.
pub(super) fn input_gradient<T: Engine>(
    weight: &PackedWeight,
    grad: &[T],
    tokens: usize,
    extra: Option<(&[T], Side<'_>)>,
) -> Vec<T> {
    let packed = weight.get();
    let columns = packed.order.channels;
    let finish = Finish { bias: None, residual: None, gated: false, columns };
    product(Side::Transposed(packed), grad, tokens, extra, &finish)
}
