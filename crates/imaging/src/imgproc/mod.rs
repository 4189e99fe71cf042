//! Pixel operations that agree with OpenCV's `imgproc`, shared by detection, damage, fill and metrics.
//!
//! Everything works on one [`Plane`](crate::Plane) or [`Mask`](crate::Mask) at a time, is threaded over
//! fixed strips of rows (so that the result never depends on the number of threads) and uses the widest
//! vectors that the running machine has.

pub mod components;
pub mod gaussian;
pub mod morphology;
pub mod structuring_element;

mod border;
mod ring;

pub use border::Border;
pub use components::{
    Component, ComponentRuns, Components, Connectivity, component_runs, connected_components,
};
pub use gaussian::{Gaussian, gaussian_blur, gaussian_blur_f32};
pub use morphology::{
    MorphOp, black_hat, close, dilate, erode, morphological_gradient, morphology, open, top_hat,
};
pub use structuring_element::StructuringElement;
