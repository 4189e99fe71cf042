//! Resampling, as OpenCV's `resize` with `INTER_NEAREST`, `INTER_LINEAR` and `INTER_AREA`.
//!
//! Bytes are interpolated in `f32` and rounded, where OpenCV uses 11-bit weights for `INTER_LINEAR`:
//! results differ by one level at most. Area averages round like OpenCV's, with halves to even except
//! when halving both sides, where halves go up.

use rayon::prelude::*;

use super::simd::vectorized;
use crate::error::{ImagingError, Result};
use crate::plane::Plane;

/// How values between pixels, or over several, are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel that the position falls in.
    Nearest,
    /// Between the four nearest pixels; aliases when shrinking by more than two.
    Linear,
    /// The mean over the area that a new pixel covers; for shrinking only.
    Area,
}

/// Resamples bytes to `width × height` pixels.
///
/// # Errors
/// `Argument` if one size has no pixels and the other does, or if [`Interpolation::Area`] enlarges.
pub fn resize(
    src: &Plane<u8>,
    width: usize,
    height: usize,
    interpolation: Interpolation,
) -> Result<Plane<u8>> {
    let halved = src.size() == (2 * width, 2 * height);
    if halved && interpolation != Interpolation::Nearest && width > 0 && height > 0 {
        return Ok(halve(src));
    }
    resample(src, width, height, interpolation, |value| value.round_ties_even() as u8)
}

/// Resamples `f32` values to `width × height` pixels.
///
/// # Errors
/// `Argument` if one size has no pixels and the other does, or if [`Interpolation::Area`] enlarges.
pub fn resize_f32(
    src: &Plane<f32>,
    width: usize,
    height: usize,
    interpolation: Interpolation,
) -> Result<Plane<f32>> {
    resample(src, width, height, interpolation, |value| value)
}

fn resample<T>(
    src: &Plane<T>,
    width: usize,
    height: usize,
    interpolation: Interpolation,
    finish: impl Fn(f32) -> T + Sync,
) -> Result<Plane<T>>
where
    T: Copy + Default + Send + Sync + Into<f32>,
{
    let (old_width, old_height) = src.size();
    if src.data().is_empty() != (width == 0 || height == 0) {
        let expected = format!("a size that goes with {old_width}×{old_height} pixels");
        return Err(ImagingError::argument("new size", expected, format!("{width}×{height}")));
    }
    if interpolation == Interpolation::Area && (width > old_width || height > old_height) {
        let expected = format!("at most {old_width}×{old_height} pixels for an area average");
        return Err(ImagingError::argument("new size", expected, format!("{width}×{height}")));
    }
    let mut out = Plane::filled(width, height, T::default());
    if width == 0 || height == 0 {
        return Ok(out);
    }
    let columns = Taps::new(old_width, width, interpolation);
    let rows = Taps::new(old_height, height, interpolation);
    // With whole factors every weight is the same: sums are exact for bytes, and scaled once.
    let whole = interpolation == Interpolation::Area
        && old_width.is_multiple_of(width)
        && old_height.is_multiple_of(height);
    let scale = 1.0 / ((old_width / width) * (old_height / height)).max(1) as f32;
    out.data_mut().par_chunks_exact_mut(width).enumerate().for_each_init(
        || vec![0f32; old_width],
        |mixed, (y, out)| {
            if interpolation == Interpolation::Nearest {
                let row = src.row(rows.taps(y).0);
                for (x, out) in out.iter_mut().enumerate() {
                    *out = row[columns.taps(x).0];
                }
                return;
            }
            // 1. Down: rows mixed by weight.
            mixed.fill(0.0);
            let (first, weights) = rows.taps(y);
            for (row, &weight) in (first..).zip(weights) {
                let weight = if whole { 1.0 } else { weight };
                let row = src.row(row);
                vectorized(
                    #[inline(always)]
                    || {
                        for (mixed, &value) in mixed.iter_mut().zip(row) {
                            *mixed += weight * value.into();
                        }
                    },
                );
            }
            // 2. Across.
            for (x, out) in out.iter_mut().enumerate() {
                let (first, weights) = columns.taps(x);
                let values = &mixed[first..first + weights.len()];
                *out = finish(if whole {
                    values.iter().sum::<f32>() * scale
                } else {
                    values.iter().zip(weights).map(|(value, weight)| value * weight).sum()
                });
            }
        },
    );
    Ok(out)
}

/// Half as wide and high: means of four, halves up.
fn halve(src: &Plane<u8>) -> Plane<u8> {
    let (width, height) = (src.width() / 2, src.height() / 2);
    let mut out = Plane::filled(width, height, 0u8);
    out.data_mut().par_chunks_exact_mut(width).enumerate().for_each(|(y, out)| {
        let (upper, lower) = (src.row(2 * y), src.row(2 * y + 1));
        vectorized(
            #[inline(always)]
            || {
                let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                for (out, (a, b)) in out.iter_mut().zip(pairs) {
                    let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
                    *out = ((sum + 2) >> 2) as u8;
                }
            },
        );
    });
    out
}

/// For each new position along an axis, the first old one that counts and the weights from there on.
struct Taps {
    firsts: Vec<usize>,
    /// Where each position's weights begin; one more entry than positions.
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(old: usize, new: usize, interpolation: Interpolation) -> Self {
        // Not `old / new`: the last bit decides which pixel is nearest, and this is OpenCV's.
        let scale = 1.0 / (new as f64 / old as f64);
        let mut taps = Self { firsts: Vec::new(), starts: vec![0], weights: Vec::new() };
        for position in 0..new {
            let first = match interpolation {
                Interpolation::Nearest => {
                    taps.weights.push(1.0);
                    ((position as f64 * scale) as usize).min(old - 1)
                }
                Interpolation::Linear => taps.linear(position, scale, old),
                Interpolation::Area => taps.area(position, scale, old),
            };
            taps.firsts.push(first);
            taps.starts.push(taps.weights.len());
        }
        taps
    }

    fn linear(&mut self, position: usize, scale: f64, old: usize) -> usize {
        let at = ((position as f64 + 0.5) * scale - 0.5).clamp(0.0, (old - 1) as f64);
        let first = at as usize;
        let share = (at - first as f64) as f32;
        if first + 1 < old {
            self.weights.extend([1.0 - share, share]);
        } else {
            self.weights.push(1.0);
        }
        first
    }

    /// Old pixels weigh as much as the new one covers of them. Slivers below a thousandth do not count,
    /// as in OpenCV.
    fn area(&mut self, position: usize, scale: f64, old: usize) -> usize {
        let (from, to) = (position as f64 * scale, (position + 1) as f64 * scale);
        let cell = scale.min(old as f64 - from);
        let (inner, end) = (from.ceil() as usize, (to.floor() as usize).min(old - 1));
        let inner = inner.min(end);
        let mut first = inner;
        if inner as f64 - from > 1e-3 {
            first = inner - 1;
            self.weights.push(((inner as f64 - from) / cell) as f32);
        }
        self.weights.extend((inner..end).map(|_| (1.0 / cell) as f32));
        let rest = to - end as f64;
        if rest > 1e-3 {
            self.weights.push((rest.min(1.0).min(cell) / cell) as f32);
        }
        first
    }

    fn taps(&self, position: usize) -> (usize, &[f32]) {
        let weights = &self.weights[self.starts[position]..self.starts[position + 1]];
        (self.firsts[position], weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_stay() {
        let src = Plane::filled(37, 23, 77u8);
        for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Area] {
            for (width, height) in [(1, 1), (36, 22), (37, 23), (5, 1), (12, 7)] {
                let out = resize(&src, width, height, interpolation).unwrap();
                assert_eq!(out, Plane::filled(width, height, 77));
            }
        }
    }

    #[test]
    fn area_means() {
        let src = Plane::from_vec(3, 1, vec![0f32, 30.0, 90.0]).unwrap();
        // 1.5 old pixels each: (0 + 30 / 2) / 1.5 = 10, (30 / 2 + 90) / 1.5 = 70
        let out = resize_f32(&src, 2, 1, Interpolation::Area).unwrap();
        assert!((out.get(0, 0) - 10.0).abs() < 1e-4 && (out.get(1, 0) - 70.0).abs() < 1e-4);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let src = Plane::filled(4, 4, 0u8);
        assert!(resize(&src, 0, 4, Interpolation::Linear).is_err());
        assert!(resize(&src, 5, 4, Interpolation::Area).is_err());
        assert!(resize(&Plane::filled(0, 4, 0u8), 1, 1, Interpolation::Nearest).is_err());
        assert!(resize(&Plane::filled(0, 4, 0u8), 0, 1, Interpolation::Area).is_ok());
    }
}
