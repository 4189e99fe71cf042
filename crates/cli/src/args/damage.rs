//! `photomend damage`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use imaging::damage::{DamageRecipe, DatasetOptions};

use super::{JsonArgs, ReadArgs};

/// Makes a training or test set: damages clean photographs, and keeps the masks.
///
/// Writes OUT/clean/NAME.png, OUT/damaged/NAME.png and OUT/mask/NAME.png, which belong together, and
/// OUT/manifest.csv. The same seed gives the same bytes; adding photographs changes none of the others.
///
/// With --age or --decoys, OUT/clean holds the photograph as it was before the damage: aged, and with the decoys.
///
/// Kinds: cracks, craquelure, scratches, folds, tears, losses, stains, dust, occlusion; and blur, grain,
/// fading, which change the whole picture and are not in the mask. Or one of: mixed (all of them),
/// structural (those in the mask), photo, painting. A photograph that would get only kinds that are not in the mask
/// gets another one instead of the last of them, if there is one among KINDS.
#[derive(Debug, Args)]
pub(crate) struct DamageArgs {
    /// Folder of clean photographs
    #[arg(value_name = "CLEAN_DIR")]
    pub(crate) clean: PathBuf,

    /// Folder to write to
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Kinds of damage with their weights, such as cracks=2,losses=1, or the name of a mixture
    #[arg(
        long, value_name = "KINDS", default_value = "mixed", value_parser = recipe,
        help_heading = "Damage"
    )]
    pub(crate) kinds: DamageRecipe,

    /// How many kinds meet on one picture, as N or N..M [default: 1..4, at most the kinds there are]
    #[arg(long, value_name = "N..M", value_parser = mix, help_heading = "Damage")]
    pub(crate) mix: Option<RangeInclusive<usize>>,

    /// How bad it is, from 0 (slight) to 1 (worst), as S or S..T
    #[arg(
        long, value_name = "S..T", default_value = "0.3..0.8", value_parser = severity,
        help_heading = "Damage"
    )]
    pub(crate) severity: RangeInclusive<f32>,

    /// Let each photograph look like an old print or scan first: tones, grain, softness, paper
    #[arg(long, help_heading = "Damage")]
    pub(crate) age: bool,

    /// Draw on each photograph first what looks like damage and is none: hair, branches, wires, text, plates and boxes
    #[arg(long, help_heading = "Damage")]
    pub(crate) decoys: bool,

    /// Seed of the whole set
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Damage")]
    pub(crate) seed: u64,

    /// Differently damaged versions of each photograph, 1 to 10000; above 1 they are named NAME-1, NAME-2, …
    #[arg(
        long, value_name = "N", default_value = "1", help_heading = "Damage",
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    pub(crate) count: u16,

    /// Shrink photographs to this longest side in pixels, at least 8, and crop to multiples of 8
    #[arg(
        long, value_name = "PX", help_heading = "Files",
        value_parser = clap::value_parser!(u32).range(8..)
    )]
    pub(crate) size: Option<u32>,

    /// Also take the photographs in folders inside the folder; the output keeps their layout
    #[arg(short, long, help_heading = "Files")]
    pub(crate) recursive: bool,

    /// Replace triplets that exist
    #[arg(short, long, help_heading = "Files")]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) read: ReadArgs,

    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

impl DamageArgs {
    /// The library's options.
    pub(crate) fn options(&self) -> DatasetOptions {
        let mut recipe =
            self.kinds.clone().with_severity(self.severity.clone()).with_always_masked(true);
        if let Some(mix) = &self.mix {
            recipe = recipe.with_mix(mix.clone());
        }
        DatasetOptions {
            recipe,
            age: self.age,
            decoys: self.decoys,
            seed: self.seed,
            count: usize::from(self.count),
            size: self.size.map(|size| size as usize),
            recursive: self.recursive,
            force: self.force,
            read: self.read.options(),
        }
    }
}

fn recipe(text: &str) -> Result<DamageRecipe, String> {
    DamageRecipe::parse(text).map_err(|error| error.to_string())
}

pub(super) fn mix(text: &str) -> Result<RangeInclusive<usize>, String> {
    range(text, 1..=usize::MAX).ok_or_else(|| "expected N or N..M with 1 ≤ N ≤ M".to_owned())
}

pub(super) fn severity(text: &str) -> Result<RangeInclusive<f32>, String> {
    range(text, 0.0..=1.0).ok_or_else(|| "expected S or S..T with 0 ≤ S ≤ T ≤ 1".to_owned())
}

/// Reads `low..high`, or one value for both.
fn range<T: FromStr + PartialOrd + Copy + Display>(
    text: &str,
    within: RangeInclusive<T>,
) -> Option<RangeInclusive<T>> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (within.contains(&low) && within.contains(&high) && low <= high).then_some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_refused() {
        assert_eq!(severity("0.3..0.7"), Ok(0.3..=0.7));
        assert_eq!(severity("0.5"), Ok(0.5..=0.5));
        assert_eq!(mix("2..3"), Ok(2..=3));
        for text in ["", "..", "0.3..", "0.7..0.3", "0..1.1", "-0.1..1", "NaN", "0.1..0.2..0.3"] {
            assert!(severity(text).is_err(), "{text}");
        }
        for text in ["0", "0..2", "3..2", "1.5"] {
            assert!(mix(text).is_err(), "{text}");
        }
    }
}
