//! The main job on one picture: find the damage or take a mask, fill it, leave the rest as it was.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::detect::{DetectParams, DetectionStats, detect, feather};
use crate::error::{ImagingError, Result};
use crate::fill::{FillOptions, FillReport, fill};
use crate::image::Image;
use crate::imgproc::{self, StructuringElement};
use crate::mask::Mask;
use crate::observer::Observer;

/// Where the mask of a restoration comes from.
#[derive(Clone, Debug)]
pub enum MaskSource {
    /// Find the damage; feather the dilated mask with a Gaussian of this many pixels.
    Detect {
        /// Parameters of the detection.
        params: DetectParams,
        /// Standard deviation of the feather in pixels; 0 for none.
        feather: f32,
    },
    /// Blend weights given by the caller; used as they are with both options at 0.
    Given {
        /// The weights.
        mask: Mask,
        /// Grow the mask by a disc of this radius in pixels; 0 for none.
        dilate: usize,
        /// Standard deviation in pixels, `0 ..= 100`, of a soft edge around the (grown) mask; 0 for none.
        feather: f32,
    },
}

/// What a restoration did and how long each stage took.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreReport {
    /// What the detector found; `None` when a mask was given.
    pub detection: Option<DetectionStats>,
    /// Share of the pixels that may have changed, in `0 ..= 1`.
    pub coverage: f64,
    /// What was filled.
    pub fill: FillReport,
    /// Seconds for finding the damage.
    #[serde(serialize_with = "seconds", rename = "detect_s")]
    pub detect_time: Duration,
    /// Seconds for filling it.
    #[serde(serialize_with = "seconds", rename = "fill_s")]
    pub fill_time: Duration,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// A restored picture, the blend weights that were used, and the report.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The picture; bit-identical to the input wherever `mask` is 0.
    pub image: Image,
    /// The blend weights.
    pub mask: Mask,
    /// What was done.
    pub report: RestoreReport,
}

/// Restores one picture with classical inpainting.
///
/// # Errors
/// [`ImagingError::Size`] if a given mask has another size, whatever detection and filling return, and
/// [`ImagingError::Cancelled`].
pub fn restore(
    mut image: Image,
    source: MaskSource,
    options: &FillOptions,
    observer: &dyn Observer,
) -> Result<Restored> {
    // 1. the blend weights
    let started = Instant::now();
    let (mask, detection) = match source {
        MaskSource::Given { mask, dilate, feather } => {
            ImagingError::check_size("mask", image.size(), mask.size())?;
            (grown(mask, dilate, feather)?, None)
        }
        MaskSource::Detect { params, feather: sigma } => {
            let found = detect(&image, &params, observer)?;
            (feather(&found.core, &found.mask, sigma)?, Some(found.stats))
        }
    };
    let detect_time = started.elapsed();
    observer.check()?;

    // 2. the fill, blended in place
    let started = Instant::now();
    let fill = fill(&mut image, &mask, options, observer)?;
    let fill_time = started.elapsed();

    let report =
        RestoreReport { detection, coverage: mask.coverage(), fill, detect_time, fill_time };
    Ok(Restored { image, mask, report })
}

/// A given mask, dilated by a disc, and with an edge that falls off *outside* it: what the caller marked stays
/// marked, at the weight that the caller gave.
fn grown(mask: Mask, dilate: usize, sigma: f32) -> Result<Mask> {
    let mask = dilated(mask, dilate)?;
    if sigma == 0.0 {
        return Ok(mask);
    }
    if !(0.0..=MAX_FEATHER).contains(&sigma) {
        return Err(ImagingError::argument("feather", format!("0 to {MAX_FEATHER} pixels"), sigma));
    }
    // Beyond 2σ a Gaussian edge is below 3 % and no longer seen.
    let room = dilated(mask.clone(), (2.0 * sigma).ceil() as usize)?;
    let mut weights = feather(&mask.binarized(1), &room, sigma)?;
    if mask.plane().data().iter().any(|weight| (1..Mask::DAMAGED).contains(weight)) {
        for (weight, &given) in weights.plane_mut().data_mut().iter_mut().zip(mask.plane().data()) {
            *weight = if given > 0 { given } else { *weight };
        }
    }
    Ok(weights)
}

/// The widest soft edge of a given mask, in pixels.
const MAX_FEATHER: f32 = 100.0;

fn dilated(mask: Mask, radius: usize) -> Result<Mask> {
    if radius == 0 {
        return Ok(mask);
    }
    let disc = StructuringElement::disc(2 * radius + 1)?;
    Ok(Mask::from_plane(imgproc::dilate(mask.plane(), &disc)))
}
