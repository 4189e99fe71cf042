//! How well a found mask agrees with the true one, with a tolerance: a crack found one pixel beside its true
//! place is found.

use serde::Serialize;

use crate::error::{ImagingError, Result};
use crate::mask::Mask;
use crate::plane::Plane;

/// Precision, recall and F1, each in `0 ..= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DetectionScore {
    /// The share of found pixels that lie within the tolerance of a true pixel.
    pub precision: f64,
    /// The share of true pixels that lie within the tolerance of a found pixel.
    pub recall: f64,
    /// The harmonic mean of the two; 0 if both are 0.
    pub f1: f64,
}

/// Scores the mask `found` against `truth`. Pixels with a weight above 0 count as damaged.
///
/// `tolerance` is a Euclidean distance in pixels, `0 ..= 250`; 0 compares pixel by pixel. Two empty masks agree
/// (all three figures are 1); if only one of them is empty, all three are 0.
///
/// # Errors
/// [`ImagingError::Size`] if the masks differ in size, [`ImagingError::Argument`] for a tolerance out of range.
pub fn detection_score(found: &Mask, truth: &Mask, tolerance: f64) -> Result<DetectionScore> {
    ImagingError::check_size("found mask", truth.size(), found.size())?;
    if !(0.0..=250.0).contains(&tolerance) {
        return Err(ImagingError::argument("tolerance", "0 to 250 pixels", tolerance));
    }
    match (found.is_empty(), truth.is_empty()) {
        (true, true) => return Ok(DetectionScore { precision: 1.0, recall: 1.0, f1: 1.0 }),
        (true, false) | (false, true) => {
            return Ok(DetectionScore { precision: 0.0, recall: 0.0, f1: 0.0 });
        }
        (false, false) => {}
    }
    let precision = share_near(found, truth, tolerance);
    let recall = share_near(truth, found, tolerance);
    let sum = precision + recall;
    let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
    Ok(DetectionScore { precision, recall, f1 })
}

/// The share of the pixels of `mask` with a pixel of `other` within `tolerance`.
fn share_near(mask: &Mask, other: &Mask, tolerance: f64) -> f64 {
    let distances = distances_in_rows(other);
    let radius = tolerance as usize;
    // reach[dy]: how far to the side a pixel dy rows away may lie.
    let reach: Vec<u8> = (0..=radius)
        .map(|dy| (tolerance * tolerance - (dy * dy) as f64).max(0.0).sqrt() as u8)
        .collect();
    let last = mask.height() - 1;
    let mut near = 0_usize;
    let mut count = 0_usize;
    for (y, row) in mask.plane().rows().enumerate() {
        let rows = y.saturating_sub(radius)..=(y + radius).min(last);
        for (x, _) in row.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            count += 1;
            near += usize::from(
                rows.clone().any(|other| distances.get(x, other) <= reach[other.abs_diff(y)]),
            );
        }
    }
    near as f64 / count as f64
}

/// The distance of each pixel to the nearest damaged one of its row, at most 255.
fn distances_in_rows(mask: &Mask) -> Plane<u8> {
    let mut distances = Plane::filled(mask.width(), mask.height(), u8::MAX);
    for (y, row) in mask.plane().rows().enumerate() {
        let out = distances.row_mut(y);
        let mut nearest = u8::MAX;
        for (out, &weight) in out.iter_mut().zip(row) {
            nearest = if weight > 0 { 0 } else { nearest.saturating_add(1) };
            *out = nearest;
        }
        let mut nearest = u8::MAX;
        for (out, &weight) in out.iter_mut().zip(row).rev() {
            nearest = if weight > 0 { 0 } else { nearest.saturating_add(1) };
            *out = nearest.min(*out);
        }
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_is_a_euclidean_distance() {
        let truth = Mask::from_fn(20, 20, |x, y| x == 10 && y == 10);
        let at = |dx: usize, dy: usize, tolerance: f64| {
            let found = Mask::from_fn(20, 20, |x, y| x == 10 + dx && y == 10 + dy);
            detection_score(&found, &truth, tolerance).expect("same size").f1
        };
        assert_eq!([at(2, 0, 2.0), at(0, 2, 2.0), at(1, 1, 2.0)], [1.0; 3]);
        // √(2² + 1²) = 2.24 > 2
        assert_eq!([at(2, 1, 2.0), at(3, 0, 2.0)], [0.0; 2]);
        assert_eq!([at(0, 0, 0.0), at(1, 0, 0.0), at(2, 1, 2.25)], [1.0, 0.0, 1.0]);
    }

    #[test]
    fn precision_and_recall_count_their_own_pixels() {
        // truth: columns 0 and 10; found: columns 1, 2, 3 and 4 of the same rows
        let truth = Mask::from_fn(12, 5, |x, _| x == 0 || x == 10);
        let found = Mask::from_fn(12, 5, |x, _| (1..=4).contains(&x));
        let score = detection_score(&found, &truth, 2.0).expect("same size");
        // columns 1 and 2 of 4 are near; column 0 of 2 is found; F1 = 2 · ½ · ½ / 1 = ½
        assert_eq!(score, DetectionScore { precision: 0.5, recall: 0.5, f1: 0.5 });
    }

    #[test]
    fn empty_masks_follow_the_documented_convention() {
        let (none, some) = (Mask::empty(3, 3), Mask::from_fn(3, 3, |x, _| x == 1));
        let f1 = |a, b| detection_score(a, b, 2.0).expect("same size").f1;
        assert_eq!([f1(&none, &none), f1(&none, &some), f1(&some, &none)], [1.0, 0.0, 0.0]);
        assert!(detection_score(&none, &some, f64::NAN).is_err());
    }
}
