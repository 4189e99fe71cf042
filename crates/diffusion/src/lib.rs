//! Stable Diffusion inpainting: models, checkpoints, schedulers, LoRA and the pipelines over them.
//!
//! Names are diffusers' own, and so are the parameter names: `vb.pp("down_blocks").pp(0)` there is
//! `params.pp("down_blocks").pp(0)` here. Every entry point is `Send + Sync`, prints nothing, keeps no global
//! state, reports progress through an [`imaging::Observer`] and stops when the observer says so.
//!
//! The conventions that hold everywhere in this crate:
//! - images are `(b, 3, h, w)`, sRGB in `[-1, 1]`; latents are `(b, 4, h/8, w/8)`, times `scaling_factor`;
//! - masks are `(b, 1, h, w)`, 1 where the picture is repainted, 0 where it is kept;
//! - weights may be stored in f32, bf16 or f16; on the CPU activations are f32, or bf16 where
//!   weights are and the processor multiplies bf16; elsewhere they have the dtype of the inputs.

pub mod carried;
pub mod checkpoint;
pub mod components;
pub mod lora;
pub mod models;
pub mod nn;
pub mod noise;
pub mod pipelines;
pub mod schedulers;
pub mod tokenizer;
pub mod train;
pub mod validate;

mod device;
mod error;
mod pixels;
mod random;

pub use crate::device::{DeviceKind, WeightDtype, instruction_set};
pub use crate::error::{DiffusionError, Result};
pub use candle_core::{DType, Device, Tensor};
pub use kernels::Allocator;
