//! Peak signal-to-noise ratio, as scikit-image's `peak_signal_noise_ratio` with the data range of the depth.
//!
//! The squared differences are summed as integers, so the result does not depend on the order of the sum.

use pulp::Arch;
use rayon::prelude::*;

use super::Pair;
use crate::error::{ImagingError, Result};
use crate::image::Image;
use crate::mask::Mask;

/// Samples a parallel piece of the sum.
const CHUNK: usize = 1 << 16;

/// The mean squared difference over pixels and colour channels, in squared sample values.
///
/// # Errors
/// What [`check_comparable`](super::check_comparable) says.
pub fn mse(reference: &Image, test: &Image) -> Result<f64> {
    let layout = layout(reference, test);
    let sum = match Pair::new(reference, test)? {
        Pair::U8(a, b) => squared_difference(a, b, layout),
        Pair::U16(a, b) => squared_difference(a, b, layout),
    };
    let (_, _, color) = layout;
    Ok(sum as f64 / (reference.width() * reference.height() * color) as f64)
}

/// Peak signal-to-noise ratio in dB, `10 · log10(max² / MSE)` with `max` 255 or 65535; infinite if nothing differs.
///
/// # Errors
/// What [`check_comparable`](super::check_comparable) says.
pub fn psnr(reference: &Image, test: &Image) -> Result<f64> {
    Ok(decibels(reference, mse(reference, test)?))
}

/// [`psnr`] over the pixels whose mask weight is above 0; `None` if there are none.
///
/// # Errors
/// As [`psnr`], and [`ImagingError::Size`] for a mask of another size.
pub fn masked_psnr(reference: &Image, test: &Image, mask: &Mask) -> Result<Option<f64>> {
    ImagingError::check_size("mask", reference.size(), mask.size())?;
    let weights = mask.plane().data();
    let layout = layout(reference, test);
    let (sum, pixels) = match Pair::new(reference, test)? {
        Pair::U8(a, b) => masked_squared_difference(a, b, weights, layout),
        Pair::U16(a, b) => masked_squared_difference(a, b, weights, layout),
    };
    if pixels == 0 {
        return Ok(None);
    }
    let (_, _, color) = layout;
    Ok(Some(decibels(reference, sum as f64 / (pixels * color as u64) as f64)))
}

fn decibels(reference: &Image, mse: f64) -> f64 {
    let max = f64::from(reference.samples().max_value());
    if mse == 0.0 { f64::INFINITY } else { 10.0 * (max * max / mse).log10() }
}

/// Values a pixel in the first and second picture, and how many of them are colour.
type Layout = (usize, usize, usize);

fn layout(reference: &Image, test: &Image) -> Layout {
    let color = reference.color();
    (color.channels(), test.color().channels(), color.color_channels())
}

fn squared_difference<T: Copy + Into<i64> + Sync>(
    a: &[T],
    b: &[T],
    (channels_a, channels_b, color): Layout,
) -> u64 {
    if channels_a == color && channels_b == color {
        let arch = Arch::new();
        return a
            .par_chunks(CHUNK)
            .zip(b.par_chunks(CHUNK))
            .map(|(a, b)| arch.dispatch(|| sum_of_squares(a, b)))
            .sum();
    }
    a.par_chunks_exact(channels_a)
        .zip(b.par_chunks_exact(channels_b))
        .with_min_len(CHUNK)
        .map(|(a, b)| sum_of_squares(&a[..color], &b[..color]))
        .sum()
}

fn masked_squared_difference<T: Copy + Into<i64> + Sync>(
    a: &[T],
    b: &[T],
    weights: &[u8],
    (channels_a, channels_b, color): Layout,
) -> (u64, u64) {
    weights
        .par_iter()
        .zip(a.par_chunks_exact(channels_a))
        .zip(b.par_chunks_exact(channels_b))
        .with_min_len(CHUNK)
        .filter(|((weight, _), _)| **weight > 0)
        .map(|((_, a), b)| (sum_of_squares(&a[..color], &b[..color]), 1))
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

#[inline(always)]
fn sum_of_squares<T: Copy + Into<i64>>(a: &[T], b: &[T]) -> u64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| {
        let difference: i64 = a.into() - b.into();
        (difference * difference) as u64
    });
    squares.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ColorType, Samples};

    fn gray(values: Vec<u8>) -> Image {
        Image::new(values.len(), 1, ColorType::Gray, Samples::U8(values)).expect("one row")
    }

    #[test]
    fn known_numbers() {
        // MSE = (3² + 4²) / 2 = 12.5, PSNR = 10 · log10(65025 / 12.5) = 10 · log10(5202) dB
        let (a, b) = (gray(vec![10, 20]), gray(vec![13, 16]));
        assert!((psnr(&a, &b).expect("comparable") - 10.0 * 5202.0_f64.log10()).abs() < 1e-12);
        // only the second pixel: MSE = 4² = 16
        let mask = Mask::from_fn(2, 1, |x, _| x == 1);
        let masked = masked_psnr(&a, &b, &mask).expect("comparable").expect("one pixel");
        assert!((masked - 10.0 * (65025.0_f64 / 16.0).log10()).abs() < 1e-12);
        assert_eq!(masked_psnr(&a, &b, &Mask::empty(2, 1)).expect("comparable"), None);
        assert_eq!(psnr(&a, &a).expect("comparable"), f64::INFINITY);
    }

    #[test]
    fn alpha_does_not_count() {
        let a = Image::new(1, 1, ColorType::GrayAlpha, Samples::U16(vec![500, 1])).expect("1 px");
        let b = Image::new(1, 1, ColorType::Gray, Samples::U16(vec![510])).expect("1 px");
        assert_eq!(mse(&a, &b).expect("comparable"), 100.0);
        assert_eq!(mse(&b, &a).expect("comparable"), 100.0);
    }
}
