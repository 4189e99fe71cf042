//! LoRA: low-rank changes to layers, read from the files of every trainer, merged or run beside the weights.
//!
//! ```text
//! LoraSpec ("FILE:0.8") ─► LoraFile ─► LoraSet ─► Adapters ─► nn::Params, which hands them to the layers
//!                    keys, config, module   └─ ModuleNames: what the model's layers are called
//! ```

mod config;
mod convert;
mod dropout;
mod file;
mod keys;
mod layer;
mod merge;
mod module;
mod names;
mod read;
mod set;
mod spec;

pub use convert::{LoraFormat, WriteOptions};
pub use dropout::{DropoutSeed, LoraDropout};
pub use file::LoraFile;
pub use keys::{LoraComponent, LoraKey, LoraPart, LoraStyle};
pub use layer::{Adapters, LoraLayer};
pub use merge::MergedSource;
pub use module::LoraModule;
pub use names::ModuleNames;
pub use set::{AdapterMode, LoraAdapters, LoraReport, LoraSet, LoraTargets};
pub use spec::LoraSpec;
