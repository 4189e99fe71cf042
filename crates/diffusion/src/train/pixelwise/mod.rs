//! Training of the networks that work on the picture's own pixels: the damage detector, and the refiner of fills.
//!
//! ```text
//! photographs ─► pages (scaled, damaged) ─► crops ─► PixelUnet ─► loss ─► gradients ─► AdamW
//! ```

mod crops;
mod judge;
mod loss;
mod options;
mod pages;
mod photographs;
mod trainer;

pub use self::options::{PageOptions, PixelTask, PixelTrainOptions};
pub use self::trainer::{PixelTrainJob, train_pixelwise};
