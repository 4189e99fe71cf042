//! Mean colour difference ΔE2000: G. Sharma, W. Wu, E. N. Dalal, "The CIEDE2000 Color-Difference Formula", 2005,
//! as scikit-image's `deltaE_ciede2000` on its `rgb2lab` (sRGB, D65, 2° observer).
//!
//! Grey counts as red = green = blue. Samples are taken as sRGB whatever a file's ICC profile says. Pixels that
//! are equal in both pictures, which after a restoration are nearly all, are not converted: their difference is 0.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::Pair;
use crate::error::{ImagingError, Result};
use crate::image::Image;
use crate::mask::Mask;

/// Pixels a parallel piece of the sum; fixed, so that the sum does not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// Mean ΔE2000 over all pixels: 0 for equal pictures; about 1 is just visible.
///
/// # Errors
/// What [`check_comparable`](super::check_comparable) says.
pub fn delta_e(reference: &Image, test: &Image) -> Result<f64> {
    let (sum, _) = total(reference, test, None)?;
    Ok(sum / (reference.width() * reference.height()) as f64)
}

/// [`delta_e`] over the pixels whose mask weight is above 0; `None` if there are none.
///
/// # Errors
/// As [`delta_e`], and [`ImagingError::Size`] for a mask of another size.
pub fn masked_delta_e(reference: &Image, test: &Image, mask: &Mask) -> Result<Option<f64>> {
    ImagingError::check_size("mask", reference.size(), mask.size())?;
    let (sum, pixels) = total(reference, test, Some(mask))?;
    Ok((pixels > 0).then(|| sum / pixels as f64))
}

fn total(reference: &Image, test: &Image, mask: Option<&Mask>) -> Result<(f64, usize)> {
    let channels = (reference.color().channels(), test.color().channels());
    let color = reference.color().color_channels();
    let weights = mask.map(|mask| mask.plane().data());
    let max = f64::from(reference.samples().max_value());
    let linear: Vec<f64> =
        (0..=reference.samples().max_value()).map(|value| linear(f64::from(value) / max)).collect();
    Ok(match Pair::new(reference, test)? {
        Pair::U8(a, b) => sum(a, b, channels, color, weights, &linear),
        Pair::U16(a, b) => sum(a, b, channels, color, weights, &linear),
    })
}

/// The sum of ΔE over the pixels with a weight above 0, and their number.
fn sum<T: Copy + Eq + Into<usize> + Sync>(
    a: &[T],
    b: &[T],
    channels: (usize, usize),
    color: usize,
    weights: Option<&[u8]>,
    linear: &[f64],
) -> (f64, usize) {
    let lab = |pixel: &[T]| match *pixel {
        [r, g, b, ..] => lab([r, g, b].map(|value| linear[value.into()])),
        _ => lab([linear[pixel[0].into()]; 3]),
    };
    let chunks: Vec<(f64, usize)> = a
        .par_chunks(CHUNK * channels.0)
        .zip(b.par_chunks(CHUNK * channels.1))
        .enumerate()
        .map(|(chunk, (a, b))| {
            let mut sum = 0.0;
            let mut pixels = 0;
            let both = a.chunks_exact(channels.0).zip(b.chunks_exact(channels.1));
            for (i, (a, b)) in both.enumerate() {
                if weights.is_some_and(|weights| weights[chunk * CHUNK + i] == 0) {
                    continue;
                }
                pixels += 1;
                let (a, b) = (&a[..color], &b[..color]);
                if a != b {
                    sum += ciede2000(lab(a), lab(b));
                }
            }
            (sum, pixels)
        })
        .collect();
    chunks.iter().fold((0.0, 0), |total, part| (total.0 + part.0, total.1 + part.1))
}

/// The light behind an sRGB value; both in `[0, 1]`.
pub(super) fn linear(value: f64) -> f64 {
    if value > 0.04045 { ((value + 0.055) / 1.055).powf(2.4) } else { value / 12.92 }
}

/// CIE L*a*b* of linear sRGB. The constants are scikit-image's, rounded as they are there.
fn lab([r, g, b]: [f64; 3]) -> [f64; 3] {
    let x = (0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047;
    let y = 0.212671 * r + 0.715160 * g + 0.072169 * b;
    let z = (0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883;
    let [x, y, z] = [x, y, z]
        .map(|value| if value > 0.008856 { value.cbrt() } else { 7.787 * value + 16.0 / 116.0 });
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// ΔE2000 between two L*a*b* colours, with all three weighting factors 1.
fn ciede2000([l1, a1, b1]: [f64; 3], [l2, a2, b2]: [f64; 3]) -> f64 {
    const POW25_7: f64 = 6_103_515_625.0;
    let chroma_weight = |chroma: f64| {
        let c7 = chroma.powi(7);
        (c7 / (c7 + POW25_7)).sqrt()
    };

    // 1. chroma and hue, with a* stretched for colours near grey
    let mean_chroma = 0.5 * (a1.hypot(b1) + a2.hypot(b2));
    let stretch = 1.0 + 0.5 * (1.0 - chroma_weight(mean_chroma));
    let polar = |a: f64, b: f64| {
        let hue = b.atan2(a);
        (a.hypot(b), if hue < 0.0 { hue + TAU } else { hue })
    };
    let (c1, h1) = polar(a1 * stretch, b1);
    let (c2, h2) = polar(a2 * stretch, b2);

    // 2. lightness
    let from_middle = (0.5 * (l1 + l2) - 50.0).powi(2);
    let lightness = (l2 - l1) / (1.0 + 0.015 * from_middle / (20.0 + from_middle).sqrt());

    // 3. chroma
    let mean_chroma = 0.5 * (c1 + c2);
    let chroma = (c2 - c1) / (1.0 + 0.045 * mean_chroma);

    // 4. hue: the shorter way round, and 0 where one of the colours is grey
    let product = c1 * c2;
    let (difference, sum) = (h2 - h1, h1 + h2);
    let half_circle = TAU / 2.0;
    let (shortest, mean_hue) = if product == 0.0 {
        (0.0, sum)
    } else if difference.abs() <= half_circle {
        (difference, 0.5 * sum)
    } else {
        let turn = if sum < TAU { TAU } else { -TAU };
        (if difference > 0.0 { difference - TAU } else { difference + TAU }, 0.5 * (sum + turn))
    };
    let t = 1.0 - 0.17 * (mean_hue - 30_f64.to_radians()).cos()
        + 0.24 * (2.0 * mean_hue).cos()
        + 0.32 * (3.0 * mean_hue + 6_f64.to_radians()).cos()
        - 0.20 * (4.0 * mean_hue - 63_f64.to_radians()).cos();
    let hue = 2.0 * product.sqrt() * (0.5 * shortest).sin() / (1.0 + 0.015 * mean_chroma * t);

    // 5. the rotation that couples chroma and hue among the blues
    let angle = 30_f64.to_radians() * (-((mean_hue.to_degrees() - 275.0) / 25.0).powi(2)).exp();
    let rotation = -(2.0 * angle).sin() * 2.0 * chroma_weight(mean_chroma) * chroma * hue;

    (lightness * lightness + chroma * chroma + hue * hue + rotation).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_published_by_sharma_wu_and_dalal() {
        // Rows 1, 7, 13, 16, 17 and 25 of the supplementary test data, which probe the blue, grey and hue cases.
        let rows = [
            ([50.0, 2.6772, -79.7751], [50.0, 0.0, -82.7485], 2.0425),
            ([50.0, 0.0, 0.0], [50.0, -1.0, 2.0], 2.3669),
            ([50.0, -0.0010, 2.4900], [50.0, 0.0009, -2.4900], 4.8045),
            ([50.0, 2.5000, 0.0], [50.0, 0.0, -2.5000], 4.3065),
            ([50.0, 2.5000, 0.0], [73.0, 25.0, -18.0], 27.1492),
            ([60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387], 1.2644),
        ];
        for (first, second, expected) in rows {
            let found = ciede2000(first, second);
            assert!((found - expected).abs() < 5e-5, "{first:?} {second:?}: {found}");
            assert!((ciede2000(second, first) - found).abs() < 1e-12);
        }
    }
}
