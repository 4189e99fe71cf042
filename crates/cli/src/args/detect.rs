//! The parameters of damage detection, shared by the verbs that detect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgAction, Args};
use diffusion::pipelines::pixelwise::LearnedDetector;
use imaging::Detector;
use imaging::detect::DetectParams;

use super::{PresetArg, number_in};
use crate::exit;

/// Every parameter of the detection; what is not given comes from the preset.
///
/// The library checks the ranges, so that they are stated once.
#[derive(Debug, Args)]
#[command(next_help_heading = "Detection (classical defaults come from the preset)")]
pub(crate) struct DetectionArgs {
    /// How damage is found: learned (the carried network), classical (to which --preset and all but --threshold apply), or
    /// a network's file [default: learned, or classical if a setting of that is not its default]
    #[arg(long, value_name = "NAME|FILE")]
    detector: Option<PathBuf>,

    /// The least probability of being damaged that a network's finding needs, above 0 and below 1: lower finds more
    /// [default: 0.5]
    #[arg(long, value_name = "P", value_parser = number_in(0.001_f32..=0.999))]
    threshold: Option<f32>,

    /// Leave dark cracks alone
    #[arg(long, action = ArgAction::SetTrue)]
    no_dark: bool,

    /// Leave bright scratches alone
    #[arg(long, action = ArgAction::SetTrue)]
    no_bright: bool,

    /// Leave wide losses alone
    #[arg(long, action = ArgAction::SetTrue)]
    no_wide: bool,

    /// Contrast that a line's pixels need beyond the activity around, in grey levels, 0 to 255
    #[arg(long, value_name = "LEVELS")]
    low: Option<f32>,

    /// Contrast that at least one pixel of a line needs, from --low to 255
    #[arg(long, value_name = "LEVELS")]
    high: Option<f32>,

    /// Least contrast of a line as a multiple of the picture's noise, 0 to 20
    #[arg(long, value_name = "FACTOR")]
    noise: Option<f32>,

    /// Least extent of a line as a share of the mean of the sides, 0 to 1; at least 12, at most 80 pixels
    #[arg(long, value_name = "SHARE")]
    min_length: Option<f32>,

    /// Length of the stretch that brightness is averaged along, odd, 3 to 31
    #[arg(long, value_name = "PX")]
    length: Option<usize>,

    /// Directions that are tried, 4 to 32
    #[arg(long, value_name = "N")]
    directions: Option<usize>,

    /// Distance of a line's middle from its flanks, 1 to 15
    #[arg(long, value_name = "PX")]
    near: Option<usize>,

    /// A second such distance, for wider lines, from --near to 15
    #[arg(long, value_name = "PX")]
    far: Option<usize>,

    /// Side of the window in which activity is measured, odd, 3 to 501
    #[arg(long, value_name = "PX")]
    window: Option<usize>,

    /// Contrasts above this count as this in the activity, 1 to 25
    #[arg(long, value_name = "LEVELS")]
    activity_cap: Option<f32>,

    /// How much activity of the other polarity raises the threshold, 0 to 20
    #[arg(long, value_name = "FACTOR")]
    other_activity: Option<f32>,

    /// How much activity of the same polarity raises the threshold, 0 to 20
    #[arg(long, value_name = "FACTOR")]
    same_activity: Option<f32>,

    /// Share of a line's contrast that each of its pixels must have, 0 to 1
    #[arg(long, value_name = "SHARE")]
    own_contrast: Option<f32>,

    /// Search half-size copies too while their longer side has this many pixels, 64 to 1000000
    #[arg(long, value_name = "PX")]
    octave_side: Option<usize>,

    /// Reduce the picture to this longer side to look for wide losses, 64 to 4096
    #[arg(long, value_name = "PX")]
    loss_max_side: Option<usize>,

    /// The smallest wide loss as a share of the picture, 0 to 1
    #[arg(long, value_name = "SHARE")]
    loss_min_area: Option<f32>,

    /// The largest wide loss as a share of the picture, up to 1
    #[arg(long, value_name = "SHARE")]
    loss_max_area: Option<f32>,

    /// Log-odds that a region needs to count as a loss, -20 to 20
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    loss_score: Option<f32>,

    /// The same for a dark region, which is more often a shadow than a hole, -20 to 20
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    loss_dark_score: Option<f32>,
}

/// What `--detector` calls the network that the program carries.
pub(crate) const LEARNED: &str = "learned";
/// What it calls the way without a network.
pub(crate) const CLASSICAL: &str = "classical";

/// A detector and where it comes from.
#[derive(Debug)]
pub(crate) enum DetectorChoice {
    /// The classical one.
    Classical(DetectParams),
    /// A network: that of a file, or the carried one.
    Learned(Option<PathBuf>, Box<LearnedDetector>),
}

impl DetectionArgs {
    /// The detector that was asked for, whose mask reaches `dilate` pixels beyond the damage if that is given.
    ///
    /// # Errors
    /// As [`DetectionArgs::choice`].
    pub(crate) fn detector(
        &self,
        preset: PresetArg,
        dilate: Option<usize>,
    ) -> anyhow::Result<Arc<dyn Detector>> {
        Ok(match self.choice(preset, dilate)? {
            DetectorChoice::Classical(params) => Arc::new(params),
            DetectorChoice::Learned(_, network) => Arc::new(*network),
        })
    }

    /// The same, before it is forgotten which one it is.
    ///
    /// # Errors
    /// Those of reading a network, parameters out of range, and a usage error for settings that do not go together.
    pub(crate) fn choice(
        &self,
        preset: PresetArg,
        dilate: Option<usize>,
    ) -> anyhow::Result<DetectorChoice> {
        let mut classical = DetectParams::preset(preset.into());
        self.apply(&mut classical);
        let is_tuned = classical != DetectParams::default();
        let named = self.detector.as_deref();
        if named == Some(Path::new(CLASSICAL)) || (named.is_none() && is_tuned) {
            if self.threshold.is_some() {
                let problem = "--threshold is for networks, and not for --detector classical";
                return Err(exit::usage(problem));
            }
            set(&mut classical.dilate, dilate);
            classical.validate().map_err(|error| exit::usage(error.to_string()))?;
            return Ok(DetectorChoice::Classical(classical));
        }
        if is_tuned {
            return Err(exit::usage("--preset and its settings are for --detector classical"));
        }
        let path = named.filter(|&name| name != Path::new(LEARNED));
        let network = path.map_or_else(LearnedDetector::carried, LearnedDetector::open)?;
        let mut params = network.params();
        set(&mut params.threshold, self.threshold);
        set(&mut params.dilate, dilate);
        let network = Box::new(network.with_params(params)?);
        Ok(DetectorChoice::Learned(path.map(Path::to_path_buf), network))
    }

    fn apply(&self, params: &mut DetectParams) {
        params.dark &= !self.no_dark;
        params.bright &= !self.no_bright;
        params.wide &= !self.no_wide;
        let lines = &mut params.lines;
        set(&mut lines.low, self.low);
        set(&mut lines.high, self.high);
        set(&mut lines.noise, self.noise);
        set(&mut lines.min_length, self.min_length);
        set(&mut lines.length, self.length);
        set(&mut lines.directions, self.directions);
        set(&mut lines.near, self.near);
        set(&mut lines.far, self.far);
        set(&mut lines.window, self.window);
        set(&mut lines.activity_cap, self.activity_cap);
        set(&mut lines.other_activity, self.other_activity);
        set(&mut lines.same_activity, self.same_activity);
        set(&mut lines.own_contrast, self.own_contrast);
        set(&mut lines.octave_side, self.octave_side);
        let losses = &mut params.losses;
        set(&mut losses.max_side, self.loss_max_side);
        set(&mut losses.min_area, self.loss_min_area);
        set(&mut losses.max_area, self.loss_max_area);
        set(&mut losses.score, self.loss_score);
        set(&mut losses.dark_score, self.loss_dark_score);
    }
}

fn set<T>(parameter: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *parameter = value;
    }
}
