//! `torch.nn.functional.linear`: one product over all leading dimensions, the bias added in it.
//!
//! Weights stay in the dtype that they are stored in and become f32 while they are packed. Gradients are those that
//! are asked for: by the input if it is tracked, by the weight if that is.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::gemm::{Bias, Matrix, Size, gemm};
use crate::isa::Tier;
use crate::tensors::{cpu, from_numbers, frozen_bias, numbers, with_weights};

/// `xs · weightᵀ + bias` of f32 activations on the CPU.
///
/// # Shapes
/// - xs: `(.., in_features)`, f32
/// - weight: `(out_features, in_features)`, f32, bf16 or f16
/// - bias: `(out_features)`, any float dtype
/// - returns: `(.., out_features)`
///
/// # Errors
/// If a shape, dtype or device is another one.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_on(Tier::current(), xs, weight, bias)
}

/// [`linear`] on a given tier.
///
/// # Errors
/// Those of [`linear`].
pub fn linear_on(
    tier: Tier,
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (fused, separate) = frozen_bias(bias, weight.dims2()?.0)?;
    let op = Linear { tier, bias: fused };
    let xs = xs.contiguous()?;
    let ys = if weight.track_op() {
        crate::recording::apply2(&xs, weight, op)?
    } else {
        crate::recording::apply1(&xs, FrozenLinear { op, weight: weight.clone() })?
    };
    match separate {
        Some(bias) => ys.broadcast_add(&bias),
        None => Ok(ys),
    }
}

/// A product whose weight may want a gradient.
struct Linear {
    tier: Tier,
    bias: Option<Vec<f32>>,
}

/// A product whose weight wants none.
struct FrozenLinear {
    op: Linear,
    weight: Tensor,
}

/// Rows of activations, inputs and outputs.
struct Sizes {
    tokens: usize,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn sizes(xs: &[usize], weight: &[usize]) -> Result<Sizes> {
        let (Some((&features, leading)), &[outputs, inputs]) = (xs.split_last(), weight) else {
            bail!("linear: expected (.., in) and (out, in), found {xs:?} and {weight:?}");
        };
        if features != inputs {
            bail!("linear: expected {inputs} features for {weight:?}, found {xs:?}");
        }
        Ok(Sizes { tokens: leading.iter().product(), inputs, outputs })
    }

    fn forward(
        &self,
        (xs, x_layout): (&CpuStorage, &Layout),
        (weight, w_layout): (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let Sizes { tokens, inputs, outputs } = Self::sizes(x_layout.dims(), w_layout.dims())?;
        let xs = numbers::<f32>(xs, x_layout)?;
        let xs = Matrix::new(xs, (tokens, inputs), (inputs, 1));
        let mut ys = vec![0.0; tokens * outputs];
        let bias = self.bias.as_deref().map_or(Bias::None, Bias::Column);
        let size = Size { rows: tokens, columns: outputs, depth: inputs };
        with_weights!(weight, w_layout, |weight| {
            let weight = Matrix::new(weight, (outputs, inputs), (inputs, 1));
            gemm(self.tier, size, &xs, &weight, bias, outputs, &mut ys);
        });
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        Ok((CpuStorage::F32(ys), dims.into()))
    }

    /// `grad · weight`.
    fn input_gradient(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let Sizes { tokens, inputs, outputs } = Self::sizes(xs.dims(), weight.dims())?;
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let grad =
            Matrix::new(numbers::<f32>(cpu(&storage)?, layout)?, (tokens, outputs), (outputs, 1));
        let mut dxs = vec![0.0; tokens * inputs];
        let size = Size { rows: tokens, columns: inputs, depth: outputs };
        let (storage, layout) = weight.storage_and_layout();
        let storage = cpu(&storage)?;
        with_weights!(storage, layout, |weight| {
            let weight = Matrix::new(weight, (inputs, 1), (outputs, inputs));
            gemm(self.tier, size, &grad, &weight, Bias::None, inputs, &mut dxs);
        });
        from_numbers(dxs, xs.dims())
    }

    /// `gradᵀ · xs`.
    fn weight_gradient(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let Sizes { tokens, inputs, outputs } = Self::sizes(xs.dims(), weight.dims())?;
        let grad = grad.contiguous()?;
        let (grad_storage, layout) = grad.storage_and_layout();
        let values = numbers::<f32>(cpu(&grad_storage)?, layout)?;
        let grad = Matrix::new(values, (outputs, 1), (tokens, outputs));
        let (storage, layout) = xs.storage_and_layout();
        let values = numbers::<f32>(cpu(&storage)?, layout)?;
        let xs = Matrix::new(values, (inputs, 1), (tokens, inputs));
        let mut dw = vec![0.0; outputs * inputs];
        let size = Size { rows: outputs, columns: inputs, depth: tokens };
        gemm(self.tier, size, &grad, &xs, Bias::None, inputs, &mut dw);
        from_numbers(dw, weight.dims())?.to_dtype(weight.dtype())
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((xs, x_layout), (weight, w_layout))
    }
    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dxs = xs.track_op().then(|| self.input_gradient(xs, weight, grad)).transpose()?;
        Ok((dxs, Some(self.weight_gradient(xs, weight, grad)?)))
    }
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, w_layout) = self.weight.storage_and_layout();
        self.op.forward((xs, layout), (cpu(&storage)?, w_layout))
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.op.input_gradient(xs, &self.weight, grad).map(Some)
    }
}

#[cfg(test)]
mod tests;
