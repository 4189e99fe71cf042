//! The parameters of detection and the presets that fill them.

use serde::{Deserialize, Serialize};

use crate::error::{ImagingError, Result};

/// Which kind of picture the parameters are tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Photographs and their scans.
    #[default]
    Photo,
    /// Paintings: craquelure wanted, brush strokes not.
    Painting,
}

/// Every parameter of [`detect`](super::detect()).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectParams {
    /// Look for dark thin damage: cracks.
    pub dark: bool,
    /// Look for bright thin damage: scratches and cracks that show paper.
    pub bright: bool,
    /// Look for wide losses: holes, torn corners, missing emulsion or paint.
    pub wide: bool,
    /// How thin damage is found.
    pub lines: LineParams,
    /// How wide losses are found.
    pub losses: LossParams,
    /// How far the mask reaches beyond the damage itself, in pixels, `0 ..= 50`.
    pub dilate: usize,
}

/// How thin damage is found. Contrasts are in 8-bit grey levels, lengths in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LineParams {
    /// Length of the stretch that brightness is averaged along, odd, `3 ..= 31`.
    pub length: usize,
    /// Directions that are tried, `4 ..= 32`.
    pub directions: usize,
    /// Distance from a line's middle to the flanks it is compared with, `1 ..= 15`; finds widths below
    /// twice this.
    pub near: usize,
    /// A second such distance, for wider damage; equal to `near` to try one only.
    pub far: usize,
    /// Contrast beyond the local activity that a pixel of a line needs, `0 ..= 255`.
    pub low: f32,
    /// The same for at least one pixel of each line, `low ..= 255`.
    pub high: f32,
    /// The least contrast as a multiple of the picture's own noise, `0 ..= 20`.
    pub noise: f32,
    /// The least extent of a line (the diagonal of its bounding box) as a share of the geometric mean of the
    /// picture's sides, `0 ..= 1`; never below 12 or above 80 pixels.
    pub min_length: f32,
    /// Side of the window in which local activity is measured, odd, `3 ..= 501`.
    pub window: usize,
    /// Responses above this count as this in the activity, `1 ..= 25`.
    pub activity_cap: f32,
    /// How much activity of the other polarity (dark for a bright line) raises the threshold, `0 ..= 20`.
    pub other_activity: f32,
    /// How much activity of the same polarity raises the threshold, `0 ..= 20`.
    pub same_activity: f32,
    /// Share of a line's contrast that each of its pixels must have itself, `0 ..= 1`.
    pub own_contrast: f32,
    /// Half-size copies are searched too while their longer side has at least this many pixels,
    /// `64 ..= 1000000`: large scans have wider cracks.
    pub octave_side: usize,
}

/// How wide losses are found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossParams {
    /// The picture is reduced so that its longer side is at most this, in pixels, `64 ..= 4096`.
    pub max_side: usize,
    /// The smallest loss, as a share of the picture, `0 ..= 1`.
    pub min_area: f32,
    /// The largest loss, as a share of the picture, `min_area ..= 1`.
    pub max_area: f32,
    /// The log-odds that a region needs to count as a loss, `-20 ..= 20`.
    pub score: f32,
    /// The same for a dark region, which is more often a shadow than a hole, `-20 ..= 20`.
    pub dark_score: f32,
}

impl DetectParams {
    /// The parameters of a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let photo = Self {
            dark: true,
            bright: true,
            wide: true,
            lines: LineParams::default(),
            losses: LossParams::default(),
            dilate: 1,
        };
        match preset {
            Preset::Photo => photo,
            // Craquelure is a dense net of short, dark, thin cracks: the net itself must not raise the
            // threshold much, and brush strokes, which are ridges in light and shade, must.
            Preset::Painting => Self {
                lines: LineParams {
                    length: 9,
                    min_length: 0.05,
                    other_activity: 5.0,
                    same_activity: 0.5,
                    ..photo.lines
                },
                ..photo
            },
        }
    }

    /// `Ok` if every parameter is in its range.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] naming the first that is not.
    pub fn validate(&self) -> Result<()> {
        let (lines, losses) = (&self.lines, &self.losses);
        let odd = |name, value: usize, low: usize, high: usize| {
            if value % 2 == 1 { within(name, value, low, high) } else { Err(even(name, value)) }
        };
        within("dilate", self.dilate, 0, 50)?;
        odd("length", lines.length, 3, 31)?;
        within("directions", lines.directions, 4, 32)?;
        within("near", lines.near, 1, 15)?;
        within("far", lines.far, lines.near, 15)?;
        within("low", lines.low, 0.0, 255.0)?;
        within("high", lines.high, lines.low, 255.0)?;
        within("noise", lines.noise, 0.0, 20.0)?;
        within("min-length", lines.min_length, 0.0, 1.0)?;
        odd("window", lines.window, 3, 501)?;
        within("activity-cap", lines.activity_cap, 1.0, 25.0)?;
        within("other-activity", lines.other_activity, 0.0, 20.0)?;
        within("same-activity", lines.same_activity, 0.0, 20.0)?;
        within("own-contrast", lines.own_contrast, 0.0, 1.0)?;
        within("octave-side", lines.octave_side, 64, 1_000_000)?;
        within("loss-max-side", losses.max_side, 64, 4096)?;
        within("loss-min-area", losses.min_area, 0.0, 1.0)?;
        within("loss-max-area", losses.max_area, losses.min_area, 1.0)?;
        within("loss-score", losses.score, -20.0, 20.0)?;
        within("loss-dark-score", losses.dark_score, -20.0, 20.0)
    }
}

impl Default for DetectParams {
    fn default() -> Self {
        Self::preset(Preset::Photo)
    }
}

impl Default for LineParams {
    fn default() -> Self {
        Self {
            length: 11,
            directions: 12,
            near: 2,
            far: 3,
            low: 6.0,
            high: 20.0,
            noise: 1.5,
            min_length: 0.08,
            window: 61,
            activity_cap: 25.0,
            other_activity: 4.2,
            same_activity: 1.6,
            own_contrast: 0.4,
            octave_side: 1500,
        }
    }
}

impl Default for LossParams {
    fn default() -> Self {
        Self { max_side: 640, min_area: 0.0006, max_area: 0.25, score: 1.0, dark_score: 3.5 }
    }
}

/// `Ok` if `value` is in `low ..= high`; not-a-number never is.
fn within<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    value: T,
    low: T,
    high: T,
) -> Result<()> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(ImagingError::argument(name, format!("{low} to {high}"), value))
    }
}

fn even(name: &str, value: usize) -> ImagingError {
    ImagingError::argument(name, "an odd number", value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        for preset in [Preset::Photo, Preset::Painting] {
            DetectParams::preset(preset).validate().expect("in range");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let mut params = DetectParams::default();
        params.lines.low = f32::NAN;
        let error = params.validate().expect_err("not a number").to_string();
        assert_eq!(error, "low: expected 0 to 255, found NaN");
        let mut params = DetectParams::default();
        params.lines.window = 60;
        assert!(params.validate().is_err());
    }
}
