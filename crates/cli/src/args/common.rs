//! Options that several verbs share, and how they become the library's own types.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use imaging::detect::Preset;
use imaging::io::{ReadOptions, WriteOptions};

/// The pictures that a verb works on.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// Images, or folders of images
    #[arg(value_name = "INPUT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,

    /// Also take the images in folders inside the folders; the output keeps their layout
    #[arg(short, long)]
    pub(crate) recursive: bool,
}

/// How images are read.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Refuse images with more than this many million pixels, before decoding them; 0.01 to 4000
    #[arg(
        long, value_name = "MP", default_value = "300", help_heading = "Files",
        value_parser = number_in(0.01_f64..=4000.0)
    )]
    pub(crate) max_megapixels: f64,
}

impl ReadArgs {
    /// The library's options.
    pub(crate) fn options(&self) -> ReadOptions {
        ReadOptions { max_pixels: (self.max_megapixels * 1e6) as u64 }
    }
}

/// How images are written.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// Replace outputs that exist; the inputs themselves are never replaced
    #[arg(short, long, help_heading = "Files")]
    pub(crate) force: bool,

    /// Quality of JPEG outputs, 1 to 100 [default: that of the input if it is a JPEG, else 95]
    #[arg(
        long, value_name = "Q", help_heading = "Files",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub(crate) jpeg_quality: Option<u8>,
}

impl WriteArgs {
    /// The library's options.
    pub(crate) fn options(&self) -> WriteOptions {
        WriteOptions { force: self.force, jpeg_quality: self.jpeg_quality }
    }
}

/// The machine-readable report.
#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print a report as JSON on stdout, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which kind of picture the detection is tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PresetArg {
    /// Photographs and their scans
    #[default]
    Photo,
    /// Paintings: finds craquelure, leaves brush strokes
    Painting,
}

impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Photo => Self::Photo,
            PresetArg::Painting => Self::Painting,
        }
    }
}

/// Parses a number and checks its range; for `value_parser`.
pub(crate) fn number_in<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + std::fmt::Display + Clone + Send + Sync + 'static,
{
    move |text| match text.parse::<T>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("expected a number from {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_and_not_a_number_are_refused() {
        let parse = number_in(0.5_f32..=2.0);
        assert_eq!(parse("0.5"), Ok(0.5));
        for text in ["0.4", "2.1", "NaN", "inf", "", "1,0"] {
            assert_eq!(parse(text), Err("expected a number from 0.5 to 2".to_owned()), "{text}");
        }
    }
}
