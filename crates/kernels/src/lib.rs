//! The hot operators of the diffusion engine on CPU, as candle custom ops with their own backward.
//!
//! Activations are channels-last, in f32, or in bf16 where the processor multiplies bf16; weights may be stored in
//! f32, bf16 or f16.
//! Each operator exists once per instruction tier ([`Tier`]), chosen at run time, and is deterministic: its results
//! do not depend on the number of threads. `f` is the tier in use, `f_on` takes one.
//!
//! This is the one crate where `unsafe` is allowed, for vector instructions and for tasks that write disjoint
//! blocks of one output. Each such block says why it is sound.

mod activation;
mod add;
mod attention;
mod buffer;
mod cast;
mod concat;
mod frozen;
mod isa;
mod layout;
mod memory;
mod norm;
mod outer;
mod output;
mod panel;
mod product;
mod recording;
mod simd;
mod tensors;
#[cfg(test)]
mod testing;
mod trained;
mod upsample;

pub use crate::activation::{Activation, activate, activate_on, geglu, geglu_on};
pub use crate::add::{add, add_on};
pub use crate::attention::{attention, attention_on, cross_attention, self_attention};
pub use crate::cast::{cast, cast_on};
pub use crate::concat::concat_channels;
pub use crate::frozen::{
    FrozenConv2d, LowRank, NormBefore, linear_frozen, linear_geglu, linear_lora,
};
pub use crate::isa::Tier;
pub use crate::layout::{channels_first, channels_first_on, channels_last, channels_last_on};
pub use crate::memory::Allocator;
pub use crate::norm::{Affine, group_norm, group_norm_on, layer_norm, layer_norm_on};
pub use crate::product::PackedWeight;
pub use crate::recording::{Gradients, Recording};
pub use crate::trained::{conv2d, conv2d_on, linear, linear_on};
pub use crate::upsample::{upsample_nearest, upsample_nearest_on};
