//! The pictures that training sees: triplets of clean picture, damaged picture and mask, or clean photographs that are
//! damaged on the way, differently each epoch.
//!
//! [`TrainingSet::open`] reads every file once and tells all that is wrong before any training;
//! [`TrainingSet::epoch_batches`] says which pictures are seen together, [`TrainingSet::sample`] makes the tensors.
//! Both are functions of their arguments alone. What is drawn for a picture depends on the seed, the epoch and the
//! picture's name, never on its place among the others, so that training can stop and go on, and pictures added later
//! change nothing about those that were there.
//!
//! ```text
//! options condition                 what a configuration says
//!   ├─ files                        which files belong together
//!   ├─ picture loaded hash          what is in them, checked and kept
//!   ├─ buckets crops batches        plans, without files
//!   └─ view damaging prompt key     what is seen → sample → set
//! ```

mod batches;
mod buckets;
mod condition;
mod crops;
mod damaging;
mod files;
mod key;
mod loaded;
mod options;
mod picture;
mod prompt;
mod sample;
mod set;
mod view;

pub(super) use crops::DamagedPixels;

pub use condition::Condition;
pub use files::TripletPaths;
pub use key::SampleKey;
pub use options::{CropPolicy, DataOptions, MaskedImage};
pub use sample::Sample;
pub use set::TrainingSet;
