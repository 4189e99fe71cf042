//! Training of the networks that see the picture's own pixels: the damage detector, the refiner of fills, and the autoencoder
//! of a checkpoint.
//!
//! ```text
//! photographs ─► pages (scaled, damaged) ─► crops ─► Student ─► loss ─► gradients ─► AdamW
//! ```

mod autoencoder;
mod crops;
mod export;
mod judge;
mod loss;
mod options;
mod pages;
mod photographs;
mod scan;
mod standardised;
mod student;
mod trainer;

pub use self::export::export_pages;
pub use self::options::{PageOptions, PixelTask, PixelTrainOptions};
pub use self::trainer::{PixelTrainJob, train_pixelwise};
