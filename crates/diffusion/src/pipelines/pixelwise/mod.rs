//! What small networks do on the picture's own pixels: find damage, and refine classical fills.

mod detector;
mod judge;
mod levels;
mod networks;
mod prior;
mod refiner;
mod tiles;

pub use detector::{LearnedDetectParams, LearnedDetector};
pub use refiner::Refiner;
