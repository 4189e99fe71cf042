//! LoRA: low-rank changes to layers, read from the files of every trainer, merged or run beside the weights.

mod layer;

pub use layer::{Adapters, LoraLayer};
