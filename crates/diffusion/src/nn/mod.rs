//! Layers, each with the parameter names of PyTorch and diffusers, all differentiable.

mod conv2d;
mod linear;
mod params;

pub use conv2d::{Conv2d, Conv2dConfig};
pub use linear::Linear;
pub use params::Params;
