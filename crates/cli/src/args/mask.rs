//! `photomend mask`.

use std::path::PathBuf;

use clap::Args;

use super::{DetectionArgs, InputArgs, JsonArgs, PresetArg, ReadArgs, number_in};

/// Finds the damage in photographs and writes it as masks, to look at or to touch up.
///
/// For folders and several files, writes OUT/NAME.png (8 bits: 255 is damage, 0 is kept) and
/// OUT/overlay/NAME.png, the picture with its damage tinted red. A single file with -o MASK.png gives the
/// mask alone. "photomend restore --mask OUT" repairs by these masks.
#[derive(Debug, Args)]
pub(crate) struct MaskArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// Where to write: a .png file for a single input, else a folder
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// What the detection is tuned for; the values below then change single settings
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub(crate) preset: PresetArg,

    #[command(flatten)]
    pub(crate) json: JsonArgs,

    /// Write soft masks: the blend weights of `restore --feather`, grown by a pixel and softened outside
    #[arg(long)]
    pub(crate) soft: bool,

    /// Width of that edge: a Gaussian of this many pixels, 0 to 50
    #[arg(
        long, value_name = "SIGMA", default_value = "1", requires = "soft",
        value_parser = number_in(0.0_f32..=50.0)
    )]
    pub(crate) feather: f32,

    /// How far the mask reaches beyond the damage itself, 0 to 50
    #[arg(long, value_name = "PX")]
    pub(crate) dilate: Option<usize>,

    #[command(flatten)]
    pub(crate) detection: DetectionArgs,

    #[command(flatten)]
    pub(crate) read: ReadArgs,

    /// Replace outputs that exist; the inputs themselves are never replaced
    #[arg(short, long, help_heading = "Files")]
    pub(crate) force: bool,
}
