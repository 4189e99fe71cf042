//! `photomend bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{EngineArgs, JsonArgs, ReadArgs, number_in};

/// Times the stages of a restoration on this machine.
///
/// The stages of the picture work on a synthetic scan made from a fixed seed, or on an image and a mask of yours.
/// The stages of the model are networks of Stable Diffusion 1.5's size for inpainting at 512×512, with random
/// weights: nothing is downloaded. The training steps are those of a LoRA of rank 4 on that UNet, one picture at a time;
/// they take gigabytes and minutes, and run if --only names them. Each stage runs several times, the model's once before;
/// the median is reported, and on Linux the most memory that the process held meanwhile.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The stages to time [default: all but the training steps]
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
    /// One training step of a LoRA
    LoraStep,
    /// The same with gradient checkpointing
    LoraStepCheckpointed,
}

impl Stage {
    /// True if it works on a picture, false if on the networks.
    pub(crate) const fn is_of_picture(self) -> bool {
        matches!(self, Self::Detect | Self::Telea | Self::Biharmonic)
    }

    /// True if it is timed when nobody says what to time.
    pub(crate) const fn is_default(self) -> bool {
        !matches!(self, Self::LoraStep | Self::LoraStepCheckpointed)
    }

    /// The name that `--only` takes.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What the progress bar calls it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Detect => "detection",
            Self::Telea => "Telea's fill",
            Self::Biharmonic => "biharmonic fill",
            Self::Text => "text encoder",
            Self::VaeEncode => "VAE encoder",
            Self::VaeDecode => "VAE decoder",
            Self::Unet => "UNet",
            Self::UnetBatch2 => "UNet, batch of 2",
            Self::LoraStep => "training step",
            Self::LoraStepCheckpointed => "training step, checkpointed",
        }
    }
}
