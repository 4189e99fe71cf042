//! The command line as clap derives it: the doc comments are the help, the completions and the man pages.

mod bench;
mod common;
mod completions;
mod damage;
mod detect;
mod diffusion;
mod engine;
mod evaluate;
mod fill;
mod man;
mod mask;
mod model;
mod restore;
mod serve;
mod train;
mod train_pixels;

use clap::{Args, Parser, Subcommand};

pub(crate) use bench::{BenchArgs, Stage};
pub(crate) use common::{InputArgs, JsonArgs, PresetArg, ReadArgs, WriteArgs, number_in};
pub(crate) use completions::CompletionsArgs;
pub(crate) use damage::DamageArgs;
pub(crate) use detect::{CLASSICAL, DetectionArgs, DetectorChoice, LEARNED};
pub(crate) use diffusion::{DiffusionArgs, NoiseSeed};
pub(crate) use engine::EngineArgs;
pub(crate) use evaluate::EvaluateArgs;
pub(crate) use fill::{FillArgs, MethodArg, TELEA_RADIUS};
pub(crate) use man::ManArgs;
pub(crate) use mask::MaskArgs;
pub(crate) use model::{
    FormArg, ModelArgs, ModelCommand, ModelConvertArgs, ModelInfoArgs, ModelMergeArgs,
    ModelNewArgs, ModelPullArgs, ModelRunArgs, ModelStoreArgs, StageArg,
};
pub(crate) use restore::RestoreArgs;
pub(crate) use serve::ServeArgs;
pub(crate) use train::TrainArgs;
pub(crate) use train_pixels::{PixelCommonArgs, TrainAutoencoderArgs, TrainPixelsArgs};

/// Finds and repairs the damage in old photographs and artworks.
///
/// Reads and writes PNG, JPEG, TIFF and WebP, 8 and 16 bits a channel. Every pixel outside the damage keeps
/// its exact value, unless the output format is lossy.
///
/// Exit status: 0 if all went well, 1 if something failed, 2 for wrong usage, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "photomend", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every verb takes.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Threads to work with, 1 to 1024 [default: all cores]
    #[arg(
        long, value_name = "N", global = true, help_heading = "General",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub(crate) threads: Option<u16>,

    /// Print errors only: no progress, no notes
    #[arg(short, long, global = true, help_heading = "General")]
    pub(crate) quiet: bool,
}

/// The verbs. Each has its arguments in `args/` and its work in `commands/`, in a file of its name.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Restore(Box<RestoreArgs>),
    Mask(Box<MaskArgs>),
    Damage(Box<DamageArgs>),
    Train(Box<TrainArgs>),
    /// Trains a damage detector on clean photographs, which are damaged while training.
    ///
    /// The folder of the run gets detector.safetensors, run.toml to run it again, log.jsonl, TensorBoard logs, loss.png and
    /// checkpoints: with --resume an interrupted run goes on to the same weights that it would have had.
    TrainDetector(Box<TrainPixelsArgs>),
    /// Trains a refiner of classical fills on clean photographs, which are damaged and filled while training.
    ///
    /// The folder of the run gets refiner.safetensors, run.toml to run it again, log.jsonl, TensorBoard logs, loss.png and
    /// checkpoints: with --resume an interrupted run goes on to the same weights that it would have had.
    TrainRefiner(Box<TrainPixelsArgs>),
    TrainAutoencoder(Box<TrainAutoencoderArgs>),
    Evaluate(Box<EvaluateArgs>),
    Serve(Box<ServeArgs>),
    Model(ModelArgs),
    Bench(BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}
