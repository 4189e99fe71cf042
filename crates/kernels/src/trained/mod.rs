//! Layers whose weights are trained: convolutions and linear layers of channels-last activations in f32, with gradients
//! by all that they are made of.
//!
//! Weights change with every step, so they are packed in every call, into what [`crate::frozen`] multiplies with; it
//! costs as much as reading them a few times. Gradients are those that are asked for.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::frozen::ConvShape;
use crate::isa::Tier;
use crate::outer::{Gradients, bias_gradient, weight_gradient};
use crate::panel::Element;
use crate::product::{PackedWeight, Side};
use crate::recording::{apply2, apply3};
use crate::tensors::{cpu, from_numbers, numbers, with_numbers, with_weights};

/// `torch.nn.functional.conv2d` of channels-last pictures, one group, undilated.
///
/// # Shapes
/// - xs: `(b, h, w, channels)`, f32 on the CPU, any strides
/// - weight: `(outputs, channels, kh, kw)`, f32, bf16 or f16; it is multiplied in f32
/// - bias: `(outputs)`, any float dtype
/// - padding: zeros above and on the left, and below and on the right
/// - returns: `(b, h', w', outputs)` with `h' = (h + padding - kh) / stride + 1`
///
/// # Errors
/// If a shape, dtype or device is another one.
pub fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: (usize, usize),
) -> Result<Tensor> {
    conv2d_on(Tier::current(), xs, weight, bias, stride, padding)
}

/// [`conv2d`] on a given tier.
///
/// # Errors
/// Those of [`conv2d`].
pub fn conv2d_on(
    tier: Tier,
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: (usize, usize),
) -> Result<Tensor> {
    apply(tier, Kind::Conv2d { stride, padding }, xs, weight, bias)
}

/// `torch.nn.functional.linear`: `xs · weightᵀ + bias`.
///
/// # Shapes
/// - xs: `(.., inputs)`, f32 on the CPU, any strides
/// - weight: `(outputs, inputs)`, f32, bf16 or f16; it is multiplied in f32
/// - bias: `(outputs)`, any float dtype
/// - returns: `(.., outputs)`
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
    apply(tier, Kind::Linear, xs, weight, bias)
}

fn apply(
    tier: Tier,
    kind: Kind,
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let op = Trained { tier: tier.without_bf16(), kind };
    let (xs, weight) = (xs.contiguous()?, weight.contiguous()?);
    match bias {
        None => apply2(&xs, &weight, op),
        Some(bias) => apply3(&xs, &weight, &bias.to_dtype(DType::F32)?.contiguous()?, op),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Linear,
    Conv2d { stride: usize, padding: (usize, usize) },
}

struct Trained {
    tier: Tier,
    kind: Kind,
}

/// The numbers of a weight in f32.
fn in_f32(storage: &CpuStorage, layout: &Layout) -> Result<Vec<f32>> {
    with_weights!(storage, layout, |weight| {
        let mut values = vec![0.0; weight.len()];
        Element::convert(weight, &mut values);
        Ok(values)
    })
}

impl Trained {
    /// The sizes of a call, and the dimensions of its output.
    fn shape(&self, xs: &[usize], weight: &[usize]) -> Result<(ConvShape, Vec<usize>)> {
        let (shape, channels) = match (self.kind, xs, weight) {
            (Kind::Linear, &[.., _], &[outputs, inputs]) => {
                let tokens = xs[..xs.len() - 1].iter().product();
                (ConvShape::linear(tokens, inputs, outputs), inputs)
            }
            (
                Kind::Conv2d { stride, padding },
                &[images, height, width, _],
                &[outputs, channels, kh, kw],
            ) => {
                let weight = (outputs, channels, (kh, kw));
                (ConvShape::new((images, (height, width)), weight, stride, padding)?, channels)
            }
            (Kind::Linear, ..) => {
                bail!("linear: expected (.., in) and (out, in), found {xs:?} and {weight:?}")
            }
            (Kind::Conv2d { .. }, ..) => bail!(
                "conv2d: expected (b, h, w, c) and (out, c, kh, kw), found {xs:?} and {weight:?}"
            ),
        };
        if xs.last() != Some(&channels) {
            bail!("kernels: expected {channels} channels for {weight:?}, found {xs:?}");
        }
        let mut dims = xs.to_vec();
        if let Kind::Conv2d { .. } = self.kind {
            (dims[1], dims[2]) = shape.out;
        }
        if let Some(last) = dims.last_mut() {
            *last = shape.outputs;
        }
        Ok((shape, dims))
    }

    fn forward(
        &self,
        (xs, x_layout): (&CpuStorage, &Layout),
        (weight, w_layout): (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let (shape, dims) = self.shape(x_layout.dims(), w_layout.dims())?;
        let xs = numbers::<f32>(xs, x_layout)?;
        let bias = bias.map(|(bias, layout)| numbers::<f32>(bias, layout)).transpose()?;
        if let Some(bias) = bias
            && bias.len() != shape.outputs
        {
            bail!("kernels: expected a bias of {} numbers, found {}", shape.outputs, bias.len());
        }
        let size = (shape.outputs, shape.channels, shape.kernel);
        let packed = match weight.dtype() {
            DType::F32 => {
                PackedWeight::of_numbers(self.tier, numbers(weight, w_layout)?, size, bias)
            }
            _ => PackedWeight::of_numbers(self.tier, &in_f32(weight, w_layout)?, size, bias),
        };
        Ok((CpuStorage::F32(shape.convolve(&packed, xs)), dims.into()))
    }

    fn input_gradient(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (shape, _) = self.shape(xs.dims(), weight.dims())?;
        let size = (shape.outputs, shape.channels, shape.kernel);
        let (storage, layout) = weight.storage_and_layout();
        let turned = PackedWeight::turned(self.tier, &in_f32(cpu(&storage)?, layout)?, size);
        let dxs = with_numbers(grad, |grad| {
            Ok(shape.input_gradient::<f32>(Side::Forward(&turned), grad))
        })?;
        from_numbers(dxs, xs.dims())
    }

    /// The gradients by input, weight and bias that are wanted.
    fn backward(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?;
        let dxs = xs.track_op().then(|| self.input_gradient(xs, weight, &grad)).transpose()?;
        let bias = bias.filter(|bias| bias.track_op());
        let (shape, _) = self.shape(xs.dims(), weight.dims())?;
        let (by_weight, by_bias) = match (weight.track_op(), bias) {
            (false, None) => (None, None),
            (false, Some(_)) => {
                let by_bias = with_numbers(&grad, |grad| {
                    Ok(bias_gradient::<f32>(self.tier, grad, shape.outputs))
                })?;
                (None, Some(by_bias))
            }
            (true, _) => {
                let Gradients { weight, bias } = with_numbers(xs, |xs| {
                    with_numbers(&grad, |grad| {
                        Ok(weight_gradient::<f32>(self.tier, xs, grad, shape))
                    })
                })?;
                (Some(weight), Some(bias))
            }
        };
        let tensor = |values: Option<Vec<f32>>, like: &Tensor| {
            values.map(|values| from_numbers(values, like.dims())?.to_dtype(like.dtype()))
        };
        let by_bias = bias.and_then(|bias| tensor(by_bias, bias)).transpose()?;
        Ok([dxs, tensor(by_weight, weight).transpose()?, by_bias])
    }
}

impl CustomOp2 for Trained {
    fn name(&self) -> &'static str {
        "trained"
    }
    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((xs, x_layout), (weight, w_layout), None)
    }
    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dxs, by_weight, _] = self.backward(xs, weight, None, grad)?;
        Ok((dxs, by_weight))
    }
}

impl CustomOp3 for Trained {
    fn name(&self) -> &'static str {
        "trained"
    }
    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        w_layout: &Layout,
        bias: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((xs, x_layout), (weight, w_layout), Some((bias, b_layout)))
    }
    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dxs, by_weight, by_bias] = self.backward(xs, weight, Some(bias), grad)?;
        Ok((dxs, by_weight, by_bias))
    }
}

#[cfg(test)]
mod tests;
