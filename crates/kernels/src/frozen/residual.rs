//! What frozen layers have in common as operators: an input, and perhaps a residual that is added to the output.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::recording::{apply1, apply2};

/// A frozen layer.
pub(super) trait Layer: Send + Sync + 'static {
    const NAME: &'static str;

    /// The output, with the residual added to it.
    fn forward(
        &self,
        xs: (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)>;

    /// The gradient by the input, given that by the output.
    fn input_gradient(&self, xs: &Tensor, grad: &Tensor) -> Result<Tensor>;
}

/// A layer as candle's operator of one input, or of an input and a residual.
struct Operator<L>(L);

/// Applies a layer.
pub(super) fn apply(layer: impl Layer, xs: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
    let (xs, operator) = (xs.contiguous()?, Operator(layer));
    match residual {
        None => apply1(&xs, operator),
        Some(residual) => apply2(&xs, &residual.contiguous()?, operator),
    }
}

impl<L: Layer> CustomOp1 for Operator<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.forward((xs, layout), None)
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.0.input_gradient(xs, grad).map(Some)
    }
}

impl<L: Layer> CustomOp2 for Operator<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }
    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward((xs, layout), Some((residual, residual_layout)))
    }
    fn bwd(
        &self,
        xs: &Tensor,
        residual: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dxs = xs.track_op().then(|| self.0.input_gradient(xs, grad)).transpose()?;
        Ok((dxs, residual.track_op().then(|| grad.clone())))
    }
}
