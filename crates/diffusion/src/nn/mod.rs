//! Layers, each with the parameter names of PyTorch and diffusers, all differentiable.

mod activations;
mod attention;
mod conv2d;
mod embedding;
mod feed_forward;
mod frozen;
mod group_norm;
mod layer_norm;
mod linear;
mod params;
mod projections;
mod resize;
mod resnet;
mod timestep_embedding;
mod transformer_2d;

pub use activations::Activation;
pub use attention::{Attention, AttentionConfig, AttentionOptions, attention};
pub use conv2d::{Around, Conv2d, Conv2dConfig};
pub use embedding::Embedding;
pub use feed_forward::FeedForward;
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use params::Params;
pub use resize::{Downsample2D, Upsample2D, resize_nearest};
pub use resnet::{ResnetBlock2D, ResnetConfig, TimeScaleShift};
pub use timestep_embedding::{
    TimestepEmbedding, TimestepsConfig, guidance_scale_embedding, timestep_embedding,
};
pub use transformer_2d::{DualTransformer2D, Transformer2D, Transformer2DConfig};

pub(crate) use conv2d::conv2d_channels_last;
pub(crate) use frozen::compute_dtype;
pub(crate) use resize::{channels_first, channels_last, concat_channels};
pub(crate) use timestep_embedding::timestep_values;

/// True if the operators of [`kernels`] take this tensor. The way on other devices is candle's own operations.
pub(crate) fn on_kernels(xs: &candle_core::Tensor) -> bool {
    use candle_core::DType;
    xs.device().is_cpu() && matches!(xs.dtype(), DType::F32 | DType::BF16)
}

/// The tensor in another dtype.
pub(crate) fn cast(
    xs: &candle_core::Tensor,
    dtype: candle_core::DType,
) -> candle_core::Result<candle_core::Tensor> {
    if on_kernels(xs) { kernels::cast(xs, dtype) } else { xs.to_dtype(dtype) }
}

/// The sum of two tensors of one shape and dtype.
pub(crate) fn add(
    a: &candle_core::Tensor,
    b: &candle_core::Tensor,
) -> candle_core::Result<candle_core::Tensor> {
    if on_kernels(a) { kernels::add(a, b) } else { a + b }
}
