//! Pixel operations that agree with OpenCV's `imgproc`, shared by detection, damage, fill and metrics.
//!
//! Everything works on one [`Plane`](crate::Plane) or [`Mask`](crate::Mask) at a time, is threaded over
//! fixed strips of rows (so that the result never depends on the number of threads) and uses the widest
//! vectors that the running machine has.

pub mod box_filter;
pub mod components;
pub mod distance;
pub mod gaussian;
pub mod gradient;
pub mod lanczos;
pub mod morphology;
pub mod reconstruct;
pub mod resize;
pub mod structuring_element;
pub mod thinning;
pub mod threshold;

mod border;
mod ring;
mod simd;

pub(crate) use simd::vectorized;

pub use border::Border;
pub use box_filter::{BoxFilter, box_filter, box_filter_f32, sqr_box_filter};
pub use components::{
    Component, ComponentRuns, Components, Connectivity, Run, component_runs, connected_components,
};
pub use distance::distance_transform;
pub use gaussian::{Gaussian, gaussian_blur, gaussian_blur_f32};
pub use gradient::{laplacian, sobel_x, sobel_y};
pub use lanczos::resize_lanczos;
pub use morphology::{
    MorphOp, black_hat, close, dilate, erode, morphological_gradient, morphology, open, top_hat,
};
pub use reconstruct::{hysteresis, hysteresis_threshold, reconstruct_by_dilation};
pub use resize::{Interpolation, resize, resize_f32};
pub use structuring_element::StructuringElement;
pub use thinning::thin;
pub use threshold::{
    AdaptiveMethod, AdaptiveThreshold, ThresholdKind, adaptive_threshold, histogram, otsu,
    threshold,
};
