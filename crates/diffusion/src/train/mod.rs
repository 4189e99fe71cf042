//! Training: LoRA on a frozen base, or every weight of the UNet.
//!
//! ```text
//! data ─► Sample ─► encode: latents, prompts, noise ─► Batch ─► Learner: Objective ─► gradients ─► AdamW ─► Parameter
//!                                                       trainer: epochs, log, checkpoints, Validator ─► outputs
//! ```
//!
//! Training knows no pipelines: what judges a model in training is given to it as a [`Validator`].

pub mod data;
pub mod pixelwise;

mod adamw;
mod cache;
mod ema;
mod encode;
mod gradients;
mod hash;
mod journal;
mod learner;
mod log;
mod lr_schedule;
mod objective;
mod optimizer;
mod options;
mod outputs;
mod parameters;
mod plan;
mod plots;
mod run_file;
mod session;
mod settings;
mod state;
mod step_bench;
mod tensorboard;
mod trainer;
mod validation;

pub use self::adamw::AdamWOptions;
pub use self::learner::Learner;
pub use self::log::{LogEntry, read as read_log};
pub use self::lr_schedule::LrScheduler;
pub use self::objective::{Batch, Objective, ObjectiveOptions};
pub use self::optimizer::StepReport;
pub use self::options::{LoraInit, NetworkOptions, OptimizerOptions};
pub use self::parameters::{LoraNetwork, Parameter, TrainableSource};
pub use self::run_file::NamedRun;
pub use self::settings::{BaseDtype, BaseOptions, RunOptions, TrainOptions, ValidationOptions};
pub use self::step_bench::StepBench;
pub use self::tensorboard::EventWriter;
pub use self::trainer::{TrainJob, TrainObserver, TrainReport, train};
pub use self::validation::{MeanScores, Subject, Validation, Validator};
