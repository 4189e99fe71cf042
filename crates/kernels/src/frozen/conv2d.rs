//! `torch.nn.functional.conv2d` with a frozen weight on channels-last pictures, one group, undilated.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, DType, Layout, Result, Shape, Tensor, bail};

use super::norm_before::{Norm, NormBefore};
use super::padded::{Bent, Copy};
use super::plain::ConvShape;
use super::residual::{self, Layer};
use super::windows::Ends;
use super::{Finish, check_dtype, product};
use crate::activation::Activation;
use crate::product::{Engine, PackedWeight, Side};
use crate::simd::Real;
use crate::tensors::{cpu, for_real, from_numbers, numbers};
use crate::upsample::Nearest;

/// A convolution with a frozen weight, and what is done before and after it.
#[derive(Clone, Copy, Debug)]
pub struct FrozenConv2d<'a> {
    /// Packed `(outputs, channels, kh, kw)`, with its bias.
    pub weight: &'a PackedWeight,
    /// Steps between outputs.
    pub stride: usize,
    /// Zeros above and on the left, and below and on the right.
    pub padding: (usize, usize),
    /// Height and width that the picture is resized to first, by nearest neighbours.
    pub resize: Option<(usize, usize)>,
    /// Normalises the picture before anything else. Its weight and bias get no gradient.
    pub norm: Option<NormBefore<'a>>,
    /// Bends the picture, behind the norm if there is one.
    pub activation: Option<Activation>,
    /// Added to every pixel of an image: `(b, outputs)`, f32. It gets no gradient.
    pub image_bias: Option<&'a Tensor>,
    /// Added to the output: its shape and dtype.
    pub residual: Option<&'a Tensor>,
}

impl<'a> FrozenConv2d<'a> {
    /// The plain one.
    #[must_use]
    pub const fn new(weight: &'a PackedWeight, stride: usize, padding: usize) -> Self {
        Self {
            weight,
            stride,
            padding: (padding, padding),
            resize: None,
            norm: None,
            activation: None,
            image_bias: None,
            residual: None,
        }
    }

    /// # Shapes
    /// - xs: `(b, h, w, channels)`, in the weight's [`compute_dtype`](PackedWeight::compute_dtype)
    /// - returns: `(b, h', w', outputs)` with `h' = (h + padding - kh) / stride + 1`
    ///
    /// # Errors
    /// If a shape, dtype or device is another one.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let image_bias = self
            .image_bias
            .map(|bias| {
                let outputs = self.weight.outputs();
                if bias.dims() != [xs.dim(0)?, outputs] {
                    bail!("conv2d: expected a bias (b, {outputs}) for {xs:?}, found {bias:?}");
                }
                bias.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
            })
            .transpose()?;
        let op = Op {
            weight: self.weight.clone(),
            stride: self.stride,
            padding: self.padding,
            resize: self.resize,
            norm: self.norm.map(Norm::new).transpose()?,
            activation: self.activation,
            image_bias,
        };
        residual::apply(op, xs, self.residual)
    }
}

struct Op {
    weight: PackedWeight,
    stride: usize,
    padding: (usize, usize),
    resize: Option<(usize, usize)>,
    norm: Option<Norm>,
    activation: Option<Activation>,
    image_bias: Option<Vec<f32>>,
}

/// Sizes of a call.
#[derive(Clone, Copy)]
struct Sizes {
    shape: ConvShape,
    /// Height and width of the picture in memory, before resizing.
    source: (usize, usize),
}

impl Op {
    fn sizes(&self, dims: &[usize]) -> Result<Sizes> {
        let order = &self.weight.get().order;
        let &[images, height, width, channels] = dims else {
            bail!("conv2d: expected (b, h, w, c), found {dims:?}");
        };
        if channels != order.channels || order.gated {
            bail!("conv2d: expected {} channels, found {dims:?}", order.channels);
        }
        if let Some(norm) = &self.norm {
            norm.check(channels)?;
        }
        let size = self.resize.unwrap_or((height, width));
        if (height * width == 0) != (size.0 * size.1 == 0) {
            bail!("conv2d: {dims:?} resized to {size:?}");
        }
        let weight = (order.outputs, channels, order.kernel);
        let shape = ConvShape::new((images, size), weight, self.stride, self.padding)?;
        Ok(Sizes { shape, source: (height, width) })
    }

    const fn pixels(sizes: &Sizes) -> usize {
        sizes.source.0 * sizes.source.1
    }

    fn convolve<T: Engine>(&self, xs: &[T], sizes: Sizes, residual: Option<&[T]>) -> Vec<T> {
        let Sizes { shape, source } = sizes;
        let packed = self.weight.get();
        let is_bent = self.norm.is_some() || self.activation.is_some();
        let is_plain = self.image_bias.is_none() && !is_bent && source == shape.size;
        if shape.is_pointwise() && is_plain {
            let finish = Finish {
                bias: packed.bias.as_deref(),
                residual,
                gated: false,
                columns: packed.order.outputs,
            };
            return product(Side::Forward(packed), xs, shape.pixels(), None, &finish);
        }
        let windows = shape.windows(source);
        let ends =
            Ends { bias: packed.bias.as_deref(), image_bias: self.image_bias.as_deref(), residual };
        let side = Side::Forward(packed);
        match (&self.norm, self.activation) {
            (None, None) => windows.multiply(xs, side, &ends, &Copy),
            (None, Some(activation)) => windows.multiply(xs, side, &ends, &Bent(activation)),
            (Some(norm), activation) => {
                let size = (shape.images, Self::pixels(&sizes));
                let scaled = norm.scaled(packed.tier, xs, size, activation);
                windows.multiply(xs, side, &ends, &scaled)
            }
        }
    }

    fn pull_back<T: Engine>(&self, grad: &[T], sizes: Sizes) -> Vec<T> {
        let packed = self.weight.get();
        let Sizes { shape: ConvShape { images, channels, size: to, .. }, source: from } = sizes;
        let resized = sizes.shape.input_gradient(Side::Transposed(packed), grad);
        if from == to {
            return resized;
        }
        Nearest { tier: packed.tier, from, to, channels }.backward(&resized, images)
    }
}

impl Layer for Op {
    const NAME: &'static str = "conv2d";

    fn forward(
        &self,
        (xs, layout): (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(layout.dims())?;
        let order = &self.weight.get().order;
        let ConvShape { images, out, .. } = sizes.shape;
        let dims = [images, out.0, out.1, order.outputs];
        if let Some((_, layout)) = residual
            && layout.dims() != dims
        {
            bail!("conv2d: expected a residual {dims:?}, found {:?}", layout.dims());
        }
        check_dtype(xs.dtype(), self.weight.compute_dtype())?;
        let out = for_real!(xs.dtype(), |T| {
            let residual = residual.map(|(xs, layout)| numbers::<T>(xs, layout)).transpose()?;
            T::storage(self.convolve::<T>(numbers(xs, layout)?, sizes, residual))
        });
        Ok((out, dims.as_slice().into()))
    }

    /// The transposed convolution of the outputs' gradient.
    fn input_gradient(&self, xs: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let sizes = self.sizes(xs.dims())?;
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let (x_storage, x_layout) = xs.storage_and_layout();
        for_real!(grad.dtype(), |T| {
            let mut dxs = self.pull_back::<T>(numbers(cpu(&storage)?, layout)?, sizes);
            let tier = self.weight.get().tier;
            let values = || numbers::<T>(cpu(&x_storage)?, x_layout);
            if let Some(norm) = &self.norm {
                let size = (sizes.shape.images, Self::pixels(&sizes));
                dxs = norm.pull_back(tier, (values()?, &dxs), size, self.activation);
            } else if let Some(activation) = self.activation {
                dxs = activation.pull_back(tier, values()?, &dxs);
            }
            from_numbers(dxs, xs.dims())
        })
    }
}
