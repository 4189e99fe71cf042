//! Global and local thresholds, as OpenCV's `threshold` and `adaptiveThreshold`.

use rayon::prelude::*;

use super::border::Border;
use super::box_filter::{BoxFilter, box_filter_then};
use super::gaussian::{Gaussian, gaussian_mean_then};
use super::simd::vectorized;
use crate::error::{ImagingError, Result};
use crate::mask::Mask;
use crate::plane::Plane;

/// Which side of a threshold becomes 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThresholdKind {
    /// Pixels above it (`THRESH_BINARY`).
    #[default]
    Binary,
    /// Pixels at or below it (`THRESH_BINARY_INV`).
    BinaryInv,
}

/// The mask of the pixels above `threshold`, or of the others.
#[must_use]
pub fn threshold(src: &Plane<u8>, threshold: u8, kind: ThresholdKind) -> Mask {
    let (width, height) = src.size();
    let mut out = Mask::empty(width, height);
    let (above, below) = match kind {
        ThresholdKind::Binary => (255, 0),
        ThresholdKind::BinaryInv => (0, 255),
    };
    let chunks = out.plane_mut().data_mut().par_chunks_mut(1 << 16);
    chunks.zip(src.data().par_chunks(1 << 16)).for_each(|(out, src)| {
        vectorized(
            #[inline(always)]
            || {
                for (out, &value) in out.iter_mut().zip(src) {
                    *out = if value > threshold { above } else { below };
                }
            },
        );
    });
    out
}

/// How many pixels have each value.
#[must_use]
pub fn histogram(src: &Plane<u8>) -> [u64; 256] {
    src.data()
        .par_chunks(1 << 18)
        .map(|pixels| {
            // Four tables, so that equal neighbours do not wait for each other.
            let mut counts = [[0u32; 256]; 4];
            let groups = pixels.chunks_exact(4);
            for &value in groups.remainder() {
                counts[0][usize::from(value)] += 1;
            }
            for group in groups {
                for (counts, &value) in counts.iter_mut().zip(group) {
                    counts[usize::from(value)] += 1;
                }
            }
            std::array::from_fn(|value| counts.iter().map(|counts| u64::from(counts[value])).sum())
        })
        .reduce(|| [0; 256], |a: [u64; 256], b| std::array::from_fn(|value| a[value] + b[value]))
}

/// The threshold that best parts a picture's values in two classes, after Otsu, "A threshold selection
/// method from gray-level histograms" (1979), with OpenCV's arithmetic. 0 for a plane without pixels.
#[must_use]
pub fn otsu(src: &Plane<u8>) -> u8 {
    let counts = histogram(src);
    let scale = 1.0 / src.data().len().max(1) as f64;
    let mean =
        (0u64..).zip(counts).map(|(value, count)| (value * count) as f64).sum::<f64>() * scale;
    let (mut below, mut mean_below) = (0.0, 0.0);
    let (mut best, mut threshold) = (0.0, 0);
    for (value, count) in (0u8..=255).zip(counts) {
        let share = count as f64 * scale;
        mean_below *= below;
        below += share;
        let above = 1.0 - below;
        if below.min(above) < f64::from(f32::EPSILON)
            || below.max(above) > 1.0 - f64::from(f32::EPSILON)
        {
            continue;
        }
        mean_below = (mean_below + f64::from(value) * share) / below;
        let mean_above = (mean - below * mean_below) / above;
        let variance = below * above * (mean_below - mean_above) * (mean_below - mean_above);
        if variance > best {
            (best, threshold) = (variance, value);
        }
    }
    threshold
}

/// The mean that a pixel is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdaptiveMethod {
    /// Over a square (`ADAPTIVE_THRESH_MEAN_C`).
    #[default]
    Mean,
    /// Weighted by a Gaussian of that size (`ADAPTIVE_THRESH_GAUSSIAN_C`).
    Gaussian,
}

/// The parameters of [`adaptive_threshold`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveThreshold {
    /// The mean that a pixel is compared with.
    pub method: AdaptiveMethod,
    /// Which side becomes 255.
    pub kind: ThresholdKind,
    /// The neighbourhood, in pixels across: odd, 3 to 2047.
    pub block_size: usize,
    /// Subtracted from the mean, in grey levels; a pixel must be above `mean − c`.
    pub c: f64,
}

impl Default for AdaptiveThreshold {
    fn default() -> Self {
        Self { method: AdaptiveMethod::Mean, kind: ThresholdKind::Binary, block_size: 51, c: 0.0 }
    }
}

/// Compares each pixel with the mean of its neighbourhood less a constant.
///
/// As in OpenCV the mean is rounded to a byte, the edge pixel is repeated beyond the border, and `c` is
/// rounded up for [`ThresholdKind::Binary`], down for [`ThresholdKind::BinaryInv`].
///
/// # Errors
/// `Argument` if the block size is even, below 3 or above 2047, or `c` is not finite.
pub fn adaptive_threshold(src: &Plane<u8>, params: &AdaptiveThreshold) -> Result<Mask> {
    let size = params.block_size;
    if size < 3 || size.is_multiple_of(2) || size > 2047 {
        return Err(ImagingError::argument("block size", "an odd number from 3 to 2047", size));
    }
    if !params.c.is_finite() {
        return Err(ImagingError::argument("c", "a finite number of grey levels", params.c));
    }
    let (c, above, below) = match params.kind {
        ThresholdKind::Binary => (params.c.ceil(), 255, 0),
        ThresholdKind::BinaryInv => (params.c.floor(), 0, 255),
    };
    // Differences of bytes lie within ±255.
    let c = c.clamp(-300.0, 300.0) as i16;
    let plane = match params.method {
        AdaptiveMethod::Mean => {
            let filter = BoxFilter { width: size, height: size, border: Border::Replicate };
            box_filter_then(
                src,
                filter,
                #[inline(always)]
                |src, mean| compare(src, mean, c, above, below),
            )?
        }
        AdaptiveMethod::Gaussian => gaussian_mean_then(
            src,
            Gaussian::sized(size, 0.0),
            Border::Replicate,
            #[inline(always)]
            |src, mean| compare(src, mean, c, above, below),
        )?,
    };
    Ok(Mask::from_plane(plane))
}

/// Replaces each mean by `above` or `below`, as the pixel is above `mean − c` or not.
#[inline(always)]
fn compare(src: &[u8], mean: &mut [u8], c: i16, above: u8, below: u8) {
    for (mean, &value) in mean.iter_mut().zip(src) {
        let is_above = i16::from(value) - i16::from(*mean) > -c;
        *mean = if is_above { above } else { below };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kinds_are_complements() {
        let src = Plane::from_fn(70, 3, |x, y| (x * 3 + y) as u8);
        let above = threshold(&src, 100, ThresholdKind::Binary).into_plane();
        let below = threshold(&src, 100, ThresholdKind::BinaryInv).into_plane();
        assert_eq!(above.get(34, 0), 255); // 102
        assert_eq!(above.get(33, 1), 0); // 100
        assert!(above.data().iter().zip(below.data()).all(|(a, b)| a ^ b == 255));
    }

    #[test]
    fn otsu_parts_two_levels() {
        let src = Plane::from_fn(10, 10, |x, _| if x < 3 { 40 } else { 200 });
        assert_eq!(otsu(&src), 40);
        assert_eq!(otsu(&Plane::filled(5, 5, 9)), 0);
        assert_eq!(otsu(&Plane::filled(0, 0, 9)), 0);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let src = Plane::filled(3, 3, 0);
        for block_size in [0, 1, 2, 4, 2049] {
            let params = AdaptiveThreshold { block_size, ..AdaptiveThreshold::default() };
            assert!(adaptive_threshold(&src, &params).is_err());
        }
        let params = AdaptiveThreshold { c: f64::NAN, ..AdaptiveThreshold::default() };
        assert!(adaptive_threshold(&src, &params).is_err());
    }
}
