//! `photomend train-detector`, `train-refiner` and `train-autoencoder`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use diffusion::train::pixelwise::PixelTrainOptions;

use super::damage::severity;
use super::{JsonArgs, number_in};

/// What the verbs for networks on pixels take.
#[derive(Debug, Args)]
pub(crate) struct TrainPixelsArgs {
    #[command(flatten)]
    pub(crate) common: PixelCommonArgs,

    #[command(flatten)]
    pub(crate) network: PixelNetworkArgs,
}

/// Trains the autoencoder of a checkpoint on clean photographs.
///
/// The folder of the run gets model/, which is the checkpoint with the trained autoencoder, run.toml to run it again, log.jsonl,
/// TensorBoard logs, loss.png and checkpoints: with --resume an interrupted run goes on to the same weights that it would have
/// had.
#[derive(Debug, Args)]
pub(crate) struct TrainAutoencoderArgs {
    #[command(flatten)]
    pub(crate) common: PixelCommonArgs,

    /// The checkpoint whose autoencoder is trained: a diffusers folder, a single .safetensors or .ckpt file, or an id on the
    /// hub
    #[arg(long, value_name = "PATH|ID", required_unless_present_any = ["run", "resume"])]
    pub(crate) model: Option<String>,
}

/// What all of them take.
#[derive(Debug, Args)]
pub(crate) struct PixelCommonArgs {
    /// Folder of clean photographs, which are damaged while training, differently each time
    #[arg(value_name = "CLEAN_DIR", required_unless_present_any = ["run", "resume"])]
    pub(crate) clean: Option<PathBuf>,

    /// Folder of the run
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) run: PixelRunArgs,

    #[command(flatten)]
    pub(crate) pages: PageArgs,

    #[command(flatten)]
    pub(crate) optimizer: PixelOptimizerArgs,

    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// How long, from which settings, and what is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct PixelRunArgs {
    /// Settings from a run.toml; options given beside it come on top
    #[arg(long, value_name = "FILE")]
    pub(crate) run: Option<PathBuf>,

    /// Go on from the newest checkpoint in the folder, with the settings of its run.toml
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,

    /// Replace a run that is in the folder
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Optimizer steps [default: 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: Option<u64>,

    /// Write the first N pages that the run would be trained on into pages/ in the folder, and train nothing: for programs that
    /// train the same network on a GPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) pages_only: Option<u64>,

    /// The seed of everything random [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: Option<u64>,

    /// Steps between checkpoints; 0 for none but at the end [default: 500]
    #[arg(long, value_name = "N")]
    pub(crate) save_every: Option<u64>,

    /// Steps between validations on the photographs that are held back; 0 for one at the end [default: 1000]
    #[arg(long, value_name = "N")]
    pub(crate) validate_every: Option<u64>,
}

/// What the network sees.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct PageArgs {
    /// Also take the photographs in folders inside the folder
    #[arg(short, long)]
    pub(crate) recursive: bool,

    /// Photographs that are held back and judged by [default: 8]
    #[arg(long, value_name = "N")]
    pub(crate) held_out: Option<usize>,

    /// Kinds of damage with their weights, such as cracks=2,losses=1, or the name of a mixture [default: structural]
    #[arg(long, value_name = "KINDS")]
    pub(crate) damage: Option<String>,

    /// How bad it is, from 0 (slight) to 1 (worst) [default: 0..1]
    #[arg(long, value_name = "S..T", value_parser = severity)]
    pub(crate) severity: Option<RangeInclusive<f32>>,

    /// The side of what the network sees at a time, in pixels [default: 384 for a detector, else 128]
    #[arg(long, value_name = "PX")]
    pub(crate) crop: Option<usize>,
}

/// The network that is trained.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct PixelNetworkArgs {
    /// Start from a network that was trained before, of the same shape
    #[arg(long, value_name = "FILE")]
    pub(crate) start_from: Option<PathBuf>,

    /// A detector that sees luma alone, for pictures without colour
    #[arg(long)]
    pub(crate) luma: bool,

    /// Channels of the network at each resolution, the picture's first, such as 16,32,64
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) widths: Vec<usize>,

    /// Blocks of the network at each resolution
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) blocks: Vec<usize>,
}

/// How weights are changed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Optimizer")]
pub(crate) struct PixelOptimizerArgs {
    /// The learning rate at its highest; it falls along half a cosine [default: 1e-3]
    #[arg(long, value_name = "LR", value_parser = number_in(0.0_f64..=10.0))]
    pub(crate) lr: Option<f64>,

    /// Crops that go through the network together [default: 2 for a detector, else 16]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
}

impl TrainPixelsArgs {
    /// Puts what was asked for on top of `options`.
    pub(crate) fn apply(&self, options: &mut PixelTrainOptions) {
        let PixelNetworkArgs { start_from, luma, widths, blocks } = &self.network;
        self.common.apply(options);
        if start_from.is_some() {
            options.start_from.clone_from(start_from);
        }
        if let Some(network) = &mut options.network {
            if *luma {
                network.in_channels = 1;
            }
            if !widths.is_empty() {
                network.widths.clone_from(widths);
            }
            if !blocks.is_empty() {
                network.blocks.clone_from(blocks);
            }
        }
    }
}

impl TrainAutoencoderArgs {
    /// Puts what was asked for on top of `options`.
    pub(crate) fn apply(&self, options: &mut PixelTrainOptions) {
        self.common.apply(options);
        if self.model.is_some() {
            options.model.clone_from(&self.model);
        }
    }
}

impl PixelCommonArgs {
    fn apply(&self, options: &mut PixelTrainOptions) {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
        let Self { run, pages, optimizer, .. } = self;
        set(&mut options.pages.clean, self.clean.as_ref());
        set(&mut options.steps, run.steps.as_ref());
        set(&mut options.seed, run.seed.as_ref());
        set(&mut options.save_every, run.save_every.as_ref());
        set(&mut options.validate_every, run.validate_every.as_ref());
        options.pages.recursive |= pages.recursive;
        set(&mut options.pages.held_out, pages.held_out.as_ref());
        set(&mut options.pages.damage, pages.damage.as_ref());
        if let Some(severity) = &pages.severity {
            options.pages.severity = [*severity.start(), *severity.end()];
        }
        set(&mut options.pages.crop, pages.crop.as_ref());
        set(&mut options.optimizer.learning_rate, optimizer.lr.as_ref());
        set(&mut options.optimizer.batch_size, optimizer.batch_size.as_ref());
    }
}
