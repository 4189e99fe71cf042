//! `photomend restore`.

use std::path::PathBuf;

use clap::Args;

use super::{
    DetectionArgs, DiffusionArgs, FillArgs, InputArgs, JsonArgs, NoiseSeed, PresetArg, ReadArgs,
    WriteArgs, number_in,
};

/// Repairs photographs: finds the damage (or takes a mask) and repaints only that.
///
/// Every pixel outside the mask keeps its exact value in PNG, TIFF and lossless WebP outputs; JPEG encodes
/// all pixels anew. Without -o, a single file PHOTO.EXT becomes PHOTO.restored.EXT beside it.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// Where to write: a file name with an image extension for a single input, else a folder
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) json: JsonArgs,

    /// Also write a sheet "Damaged → Mask → Restored" to look at, as NAME.compare.png beside the output
    #[arg(long)]
    pub(crate) compare: bool,

    /// Also write the mask that was used, as NAME.mask.png beside the output
    #[arg(long)]
    pub(crate) save_mask: bool,

    /// Repair where this mask says, instead of finding the damage: a file for a single input, or a folder of
    /// masks with the images' names (any extension); white is repaired, black kept, grey blends
    #[arg(
        short,
        long,
        value_name = "FILE|DIR",
        help_heading = "Mask",
        conflicts_with = "DetectionArgs"
    )]
    pub(crate) mask: Option<PathBuf>,

    /// What the detection is tuned for
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        default_value_t,
        help_heading = "Mask",
        conflicts_with = "mask"
    )]
    pub(crate) preset: PresetArg,

    /// Grow the mask by this many pixels, 0 to 100 [default: 1 for detected damage, 0 for a given mask]
    #[arg(
        long, value_name = "PX", help_heading = "Mask",
        value_parser = clap::value_parser!(u16).range(0..=100)
    )]
    pub(crate) dilate: Option<u16>,

    /// Soften the mask's edge with a Gaussian of this many pixels, 0 to 50
    #[arg(
        long, value_name = "SIGMA", default_value_t = 0.0, help_heading = "Mask",
        value_parser = number_in(0.0_f32..=50.0)
    )]
    pub(crate) feather: f32,

    #[command(flatten)]
    pub(crate) fill: FillArgs,

    #[command(flatten)]
    pub(crate) diffusion: DiffusionArgs,

    #[command(flatten)]
    pub(crate) noise: NoiseSeed,

    #[command(flatten)]
    pub(crate) detection: DetectionArgs,

    #[command(flatten)]
    pub(crate) read: ReadArgs,

    #[command(flatten)]
    pub(crate) write: WriteArgs,
}
