//! `photomend bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{EngineArgs, JsonArgs, ReadArgs, number_in};

/// Times the stages of a restoration on this machine.
///
/// The stages of the picture work on a synthetic scan made from a fixed seed, or on an image and a mask of yours.
/// The stages of the model are networks of Stable Diffusion 1.5's size for inpainting at 512×512, with random
/// weights: nothing is downloaded. Each stage runs several times, the model's once before; the median is reported.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The stages to time [default: all]
    #[arg(long, value_enum, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) only: Vec<Stage>,

    /// Time on this image instead of a synthetic one
    #[arg(long, value_name = "FILE", requires = "mask", conflicts_with = "megapixels")]
    pub(crate) image: Option<PathBuf>,

    /// The mask to fill in that image
    #[arg(long, value_name = "FILE", requires = "image")]
    pub(crate) mask: Option<PathBuf>,

    /// Size of the synthetic scan in million pixels, 0.1 to 400
    #[arg(
        long, value_name = "MP", default_value = "12",
        value_parser = number_in(0.1_f64..=400.0)
    )]
    pub(crate) megapixels: f64,

    /// Runs of each stage, 1 to 1000 [default: 5, or as many as 20 seconds allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeat: Option<u16>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) json: JsonArgs,

    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// A stage that can be timed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Damage detection
    Detect,
    /// Telea's fill
    Telea,
    /// Biharmonic fill
    Biharmonic,
    /// The text encoder on one prompt
    Text,
    /// The autoencoder's encoder on one picture
    VaeEncode,
    /// The autoencoder's decoder on one picture
    VaeDecode,
    /// One evaluation of the UNet
    Unet,
    /// One evaluation for two pictures at once, as guidance needs it
    UnetBatch2,
}
