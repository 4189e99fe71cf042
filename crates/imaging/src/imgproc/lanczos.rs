//! Resampling with Lanczos' windowed sinc of three lobes, as Pillow's `Image.resize` with `LANCZOS`.
//!
//! Enlarging interpolates; shrinking widens the kernel with the step, so that nothing aliases. Pillow resamples
//! bytes with fixed-point weights and rounds after the horizontal pass; here values stay `f32` throughout, which
//! differs from it by a level at most.

use rayon::prelude::*;

use crate::error::{ImagingError, Result};
use crate::plane::Plane;

/// Lobes of the kernel on each side.
const LOBES: f64 = 3.0;

/// Resamples `src` to `width × height` pixels, columns first, then rows. Values may overshoot at edges.
///
/// # Errors
/// `Argument` if either size has no pixels.
pub fn resize_lanczos(src: &Plane<f32>, width: usize, height: usize) -> Result<Plane<f32>> {
    let (old_width, old_height) = src.size();
    if [width, height, old_width, old_height].contains(&0) {
        let expected = "at least one pixel before and after";
        let found = format!("{old_width}×{old_height} to {width}×{height}");
        return Err(ImagingError::argument("new size", expected, found));
    }
    if src.size() == (width, height) {
        return Ok(src.clone());
    }

    // 1. each row to the new width
    let columns = taps(old_width, width);
    let mut across = Plane::filled(width, old_height, 0f32);
    across.data_mut().par_chunks_exact_mut(width).enumerate().for_each(|(y, out)| {
        let row = src.row(y);
        for (value, tap) in out.iter_mut().zip(&columns) {
            let inputs = &row[tap.first..tap.first + tap.weights.len()];
            *value = inputs.iter().zip(&tap.weights).map(|(input, weight)| input * weight).sum();
        }
    });

    // 2. rows to the new height
    let rows = taps(old_height, height);
    let mut out = Plane::filled(width, height, 0f32);
    out.data_mut().par_chunks_exact_mut(width).zip(&rows).for_each(|(out, tap)| {
        for (offset, &weight) in tap.weights.iter().enumerate() {
            for (value, &input) in out.iter_mut().zip(across.row(tap.first + offset)) {
                *value += input * weight;
            }
        }
    });
    Ok(out)
}

/// The inputs of one output, from `first` on, and their weights, which sum to 1.
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = LOBES * stretch;
    (0..to)
        .map(|at| {
            let centre = (at as f64 + 0.5) * scale;
            // Pillow's bounds: truncated after adding a half.
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..last)
                .map(|input| lanczos((input as f64 - centre + 0.5) / stretch))
                .collect();
            let sum: f64 = weights.iter().sum();
            Tap { first, weights: weights.iter().map(|weight| (weight / sum) as f32).collect() }
        })
        .collect()
}

fn lanczos(x: f64) -> f64 {
    if x.abs() >= LOBES { 0.0 } else { sinc(x) * sinc(x / LOBES) }
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle == 0.0 { 1.0 } else { angle.sin() / angle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_and_the_same_size_is_a_copy() {
        let plane = Plane::filled(7, 5, 0.3_f32);
        for (width, height) in [(3, 9), (20, 2), (1, 1), (14, 10)] {
            let resized = resize_lanczos(&plane, width, height).expect("sizes with pixels");
            assert_eq!(resized.size(), (width, height));
            assert!(resized.data().iter().all(|value| (value - 0.3).abs() < 1e-6));
        }
        let ramp = Plane::from_fn(6, 4, |x, y| (x + 10 * y) as f32);
        assert_eq!(resize_lanczos(&ramp, 6, 4).expect("the same size"), ramp);
    }

    #[test]
    fn smooth_pictures_survive_there_and_back() {
        let wave = Plane::from_fn(40, 30, |x, y| (x as f32 * 0.2).sin() + (y as f32 * 0.15).cos());
        let large = resize_lanczos(&wave, 120, 90).expect("larger");
        let back = resize_lanczos(&large, 40, 30).expect("smaller");
        // Edges see fewer pixels; inside the error is that of the kernel.
        for y in 4..26 {
            for x in 4..36 {
                let (was, is) = (wave.get(x, y), back.get(x, y));
                assert!((was - is).abs() < 0.01, "({x}, {y}): {was} became {is}");
            }
        }
    }

    #[test]
    fn no_pixels_are_refused() {
        assert!(resize_lanczos(&Plane::filled(3, 3, 0.0), 0, 4).is_err());
    }
}
