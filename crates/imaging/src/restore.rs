//! The main job on one picture: find the damage or take a mask, fill it, leave the rest as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::detect::{DetectionStats, feather};
use crate::error::{ImagingError, Result};
use crate::fill::FillReport;
use crate::image::Image;
use crate::imgproc::{self, StructuringElement};
use crate::mask::Mask;
use crate::methods::{Detector, Repainter};
use crate::observer::Observer;

/// Where the mask of a restoration comes from.
#[derive(Clone, Debug)]
pub enum MaskSource {
    /// Find the damage, dilate and feather what was found.
    Detect {
        /// How it is found.
        detector: Arc<dyn Detector>,
        /// Pixels to grow the found mask by: the rim of a loss would tint what is painted over it.
        dilate: usize,
        /// Standard deviation of the feather in pixels; 0 for none.
        feather: f32,
    },
    /// Blend weights given by the caller; used as they are with both options at 0.
    Given {
        /// The weights.
        mask: Mask,
        /// Grow the mask by a disc of this radius in pixels; 0 for none.
        dilate: usize,
        /// Standard deviation in pixels, `0 ..= 50`, of a soft edge around the (grown) mask; 0 for none.
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

/// Where a picture is to be repainted, and how that was found.
#[derive(Clone, Debug)]
pub struct FoundMask {
    /// The blend weights.
    pub mask: Mask,
    /// What the detector found; `None` when a mask was given.
    pub detection: Option<DetectionStats>,
    /// How long it took.
    pub time: Duration,
}

/// Finds the damage or takes the given mask, and makes blend weights of it: the first half of every restoration.
///
/// # Errors
/// [`ImagingError::Size`] if a given mask has another size, whatever detection returns, and
/// [`ImagingError::Cancelled`].
pub fn find_mask(image: &Image, source: MaskSource, observer: &dyn Observer) -> Result<FoundMask> {
    let started = Instant::now();
    let (mask, detection) = match source {
        MaskSource::Given { mask, dilate, feather } => {
            ImagingError::check_size("mask", image.size(), mask.size())?;
            (blend_weights(mask, dilate, feather)?, None)
        }
        MaskSource::Detect { detector, dilate, feather } => {
            let found = detector.detect(image, observer)?;
            (blend_weights(found.mask, dilate, feather)?, Some(found.stats))
        }
    };
    observer.check()?;
    Ok(FoundMask { mask, detection, time: started.elapsed() })
}

/// Restores one picture: finds the damage or takes a mask, repaints it, leaves the rest as it was.
///
/// # Errors
/// Those of [`find_mask`] and of the repainter, and [`ImagingError::Cancelled`].
pub fn restore(
    mut image: Image,
    source: MaskSource,
    repainter: &dyn Repainter,
    observer: &dyn Observer,
) -> Result<Restored> {
    // 1. the blend weights
    let FoundMask { mask, detection, time: detect_time } = find_mask(&image, source, observer)?;

    // 2. repainted and blended in place
    let started = Instant::now();
    let fill = repainter.repaint(&mut image, &mask, observer)?;
    let fill_time = started.elapsed();

    let report =
        RestoreReport { detection, coverage: mask.coverage(), fill, detect_time, fill_time };
    Ok(Restored { image, mask, report })
}

/// The blend weights of a restoration: `mask` dilated by a disc of radius `dilate` pixels, with an edge that
/// falls off *outside* it, a Gaussian of `sigma` pixels (`0 ..= 50`, 0 for none). What is marked stays marked,
/// at the weight that it has.
///
/// # Errors
/// [`ImagingError::Argument`] if `dilate` or `sigma` is out of range.
pub fn blend_weights(mask: Mask, dilate: usize, sigma: f32) -> Result<Mask> {
    let mask = dilated(mask, dilate)?;
    if sigma == 0.0 {
        return Ok(mask);
    }
    if !(0.0..=MAX_FEATHER).contains(&sigma) {
        return Err(ImagingError::argument("feather", format!("0 to {MAX_FEATHER} pixels"), sigma));
    }
    // Two σ out the Gaussian has fallen to 14 %, and `feather` brings it to 0 there.
    let room = dilated(mask.clone(), (2.0 * sigma).ceil() as usize)?;
    let mut weights = feather(&mask.binarized(1), &room, sigma)?;
    // The edge of a grey area starts from that grey.
    let around = room.plane().data().iter().zip(mask.plane().data());
    for (weight, (&reach, &given)) in weights.plane_mut().data_mut().iter_mut().zip(around) {
        let faded = (u32::from(*weight) * u32::from(reach) + 127) / 255;
        *weight = if given > 0 { given } else { faded as u8 };
    }
    Ok(weights)
}

/// What detected damage is grown by before it is filled, in pixels, unless the caller says otherwise: with 2 restored photographs
/// were 0.1 to 1 dB further from the clean ones, as what is found has a rim of its own. Nor is its edge softened, which would lie outside
/// the damage and be filled too: with a Gaussian of 1 pixel, 29 photographs were 0.9 dB further from the clean ones, and 0.4 dB on damaged pixels.
pub const DETECTED_DILATE: usize = 1;

/// The widest soft edge of a given mask, in pixels.
const MAX_FEATHER: f32 = 50.0;

fn dilated(mask: Mask, radius: usize) -> Result<Mask> {
    if radius == 0 {
        return Ok(mask);
    }
    let disc = StructuringElement::disc(2 * radius + 1)?;
    Ok(Mask::from_plane(imgproc::dilate(mask.plane(), &disc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::FillOptions;
    use crate::image::{ColorType, Samples};
    use crate::observer::Silent;

    /// Two pixels in a row of 21: one at full weight, one at 100.
    fn two_dots() -> Mask {
        let mut mask = Mask::empty(21, 9);
        mask.plane_mut().set(5, 4, 255);
        mask.plane_mut().set(15, 4, 100);
        mask
    }

    #[test]
    fn a_given_mask_stays_as_it_is_without_options() {
        assert_eq!(blend_weights(two_dots(), 0, 0.0).expect("in range"), two_dots());
    }

    #[test]
    fn growing_keeps_each_weight() {
        let weights = blend_weights(two_dots(), 1, 0.0).expect("in range");
        let row = weights.plane().row(4);
        assert_eq!(&row[3..8], [0, 255, 255, 255, 0]);
        assert_eq!(&row[13..18], [0, 100, 100, 100, 0]);
        assert_eq!(weights.count(), 10);
    }

    #[test]
    fn a_soft_edge_lies_outside_what_was_marked() {
        let weights = blend_weights(two_dots(), 0, 1.0).expect("in range");
        let row = weights.plane().row(4);
        assert_eq!((row[5], row[15]), (255, 100));
        for dot in [5, 15] {
            let falling = row[dot..dot + 4].windows(2).all(|pair| pair[0] > pair[1]);
            assert!(falling && row[dot + 3] == 0, "{row:?}");
        }
        for sigma in [-1.0, f32::NAN, f32::INFINITY, 51.0] {
            assert!(blend_weights(two_dots(), 0, sigma).is_err(), "{sigma}");
        }
    }

    #[test]
    fn weights_of_0_keep_their_pixels_and_a_mask_of_another_size_is_refused() {
        let samples = Samples::U8((0..21 * 9).map(|at| at as u8).collect());
        let image = Image::new(21, 9, ColorType::Gray, samples.clone()).expect("a picture");
        let source = |mask| MaskSource::Given { mask, dilate: 0, feather: 0.0 };
        let options = FillOptions::default();

        let done = restore(image.clone(), source(Mask::empty(21, 9)), &options, &Silent);
        assert_eq!(done.expect("nothing to do").image.samples(), &samples);
        let error = restore(image, source(Mask::empty(9, 21)), &options, &Silent);
        let error = error.expect_err("the mask lies on its side").to_string();
        assert_eq!(error, "mask: expected 21×9 pixels, found 9×21");
    }
}
