//! Gaussian blur, as OpenCV's `GaussianBlur` with `BORDER_REFLECT_101`.
//!
//! On bytes it is OpenCV's bit-exact path: the kernel in 8-bit fixed point with its rounding error
//! carried from tap to tap, row sums exact in 16 bits, one rounding at the end. On `f32` it differs from
//! OpenCV in the order of the sums only, that is in the last bits.

use rayon::prelude::*;

use super::border::Border;
use super::ring::{LANES, RowRing, block, padded};
use super::simd::vectorized;
use crate::error::{ImagingError, Result};
use crate::plane::Plane;

/// Rows that one task filters. Fixed, so that work is cut alike whatever the number of threads.
const STRIP: usize = 128;

/// The largest kernel accepted, in pixels across.
const MAX_SIZE: usize = 8191;

/// The width of a blur: standard deviation and, if wanted, the kernel's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaussian {
    sigma: f64,
    size: Option<usize>,
}

impl Gaussian {
    /// A blur of standard deviation `sigma` pixels; the kernel's size follows from it as in OpenCV:
    /// out to 3 σ for bytes, to 4 σ for `f32`.
    #[must_use]
    pub const fn sigma(sigma: f64) -> Self {
        Self { sigma, size: None }
    }

    /// A kernel `size` pixels across (odd). With a `sigma` of 0, the deviation follows from the size as
    /// in OpenCV: `0.3 · ((size − 1) / 2 − 1) + 0.8`, and fixed binomial-like kernels up to size 9.
    #[must_use]
    pub const fn sized(size: usize, sigma: f64) -> Self {
        Self { sigma, size: Some(size) }
    }

    /// The kernel's taps in `f64`, which sum to 1, for a kernel reaching out to `reach` σ by itself.
    fn kernel(self, reach: f64) -> Result<Vec<f64>> {
        if !self.sigma.is_finite() || self.sigma < 0.0 || (self.size.is_none() && self.sigma == 0.0)
        {
            return Err(ImagingError::argument("sigma", "a positive number", self.sigma));
        }
        let size = match self.size {
            Some(size) => size,
            None if self.sigma * reach * 2.0 > MAX_SIZE as f64 => {
                let limit = MAX_SIZE as f64 / (reach * 2.0);
                return Err(ImagingError::argument("sigma", format!("≤ {limit:.0}"), self.sigma));
            }
            None => (self.sigma * reach * 2.0 + 1.0).round_ties_even() as usize | 1,
        };
        if size.is_multiple_of(2) || size > MAX_SIZE {
            let expected = format!("an odd number up to {MAX_SIZE}");
            return Err(ImagingError::argument("kernel size", expected, size));
        }
        if self.sigma == 0.0 {
            match size {
                1 => return Ok(vec![1.0]),
                3 => return Ok(vec![0.25, 0.5, 0.25]),
                5 => return Ok(vec![0.0625, 0.25, 0.375, 0.25, 0.0625]),
                7 => {
                    let half = [0.03125, 0.109375, 0.21875];
                    return Ok(mirrored(&half, 0.28125));
                }
                9 => {
                    let half = [4.0, 13.0, 30.0, 51.0].map(|tap: f64| tap / 256.0);
                    return Ok(mirrored(&half, 60.0 / 256.0));
                }
                _ => {}
            }
        }
        // 0.3 · ((size − 1) / 2 − 1) + 0.8 = 0.15 · size + 0.35
        let sigma = if self.sigma > 0.0 { self.sigma } else { 0.15 * size as f64 + 0.35 };
        let scale = -0.125 / (sigma * sigma);
        let half: Vec<f64> = (0..size / 2)
            .map(|i| {
                let x = (size - 1 - 2 * i) as f64;
                (x * x * scale).exp()
            })
            .collect();
        let total = 2.0 * half.iter().sum::<f64>() + 1.0;
        let half: Vec<f64> = half.iter().map(|tap| tap / total).collect();
        Ok(mirrored(&half, 1.0 / total))
    }

    /// The kernel in `f32` from the centre outwards.
    fn float(self) -> Result<Vec<f32>> {
        let kernel = self.kernel(4.0)?;
        Ok(kernel[kernel.len() / 2..].iter().map(|&tap| tap as f32).collect())
    }

    /// The kernel in 256ths from the centre outwards: they sum to 256 over the whole kernel.
    fn fixed_point(self) -> Result<Vec<u16>> {
        let kernel = self.kernel(3.0)?;
        let mut error = 0.0;
        let mut half = Vec::with_capacity(kernel.len() / 2 + 1);
        for &tap in &kernel[..kernel.len() / 2] {
            let wanted = tap * 256.0 + error;
            let given = wanted.round_ties_even();
            error = wanted - given;
            half.push(given as u16);
        }
        half.push(256 - 2 * half.iter().sum::<u16>());
        half.reverse();
        while half.len() > 1 && half.last() == Some(&0) {
            half.pop();
        }
        Ok(half)
    }
}

fn mirrored(half: &[f64], centre: f64) -> Vec<f64> {
    half.iter().copied().chain([centre]).chain(half.iter().rev().copied()).collect()
}

/// Blurs bytes, bit for bit as OpenCV's `GaussianBlur`.
///
/// # Errors
/// `Argument` if σ is not a positive number or the kernel's size is even.
pub fn gaussian_blur(src: &Plane<u8>, gaussian: Gaussian) -> Result<Plane<u8>> {
    let taps = gaussian.fixed_point()?;
    Ok(separable::<FixedPoint>(src, &taps, Border::Reflect101, |_, _| {}))
}

/// Blurs `f32` values, within a few units in the last place of OpenCV's `GaussianBlur`.
///
/// # Errors
/// `Argument` if σ is not a positive number or the kernel's size is even.
pub fn gaussian_blur_f32(src: &Plane<f32>, gaussian: Gaussian) -> Result<Plane<f32>> {
    Ok(separable::<Float>(src, &gaussian.float()?, Border::Reflect101, |_, _| {}))
}

/// Blurs bytes in `f32` and rounds, then applies `finish(source row, blurred row)` to every row.
pub(super) fn gaussian_mean_then(
    src: &Plane<u8>,
    gaussian: Gaussian,
    border: Border,
    finish: impl Fn(&[u8], &mut [u8]) + Sync,
) -> Result<Plane<u8>> {
    Ok(separable::<FloatOnBytes>(src, &gaussian.float()?, border, finish))
}

/// The rows at the same distance above and below.
type Pair<'a, T> = (&'a [T], &'a [T]);

/// The arithmetic of a symmetric separable filter. Taps run from the centre outwards.
trait Arithmetic {
    type Pixel: Copy + Default + Send + Sync;
    /// Taps, and the values between the row and the column filter.
    type Value: Copy + Default + Send + Sync + From<Self::Pixel>;

    fn rows(padded: &[Self::Value], taps: &[Self::Value], out: &mut [Self::Value]);
    fn columns(
        centre: &[Self::Value],
        pairs: &[Pair<'_, Self::Value>],
        taps: &[Self::Value],
        out: &mut [Self::Pixel],
    );
}

fn separable<A: Arithmetic>(
    src: &Plane<A::Pixel>,
    taps: &[A::Value],
    border: Border,
    finish: impl Fn(&[A::Pixel], &mut [A::Pixel]) + Sync,
) -> Plane<A::Pixel> {
    let (width, height) = src.size();
    let radius = taps.len() - 1;
    let mut out = Plane::filled(width, height, A::Pixel::default());
    if width == 0 || height == 0 {
        return out;
    }
    out.data_mut().par_chunks_mut(STRIP * width).enumerate().for_each(|(strip, out)| {
        // Neither border leads further from a row than the radius, so this many rows suffice.
        let mut ring = RowRing::<A::Value>::new(width, (2 * radius + 1).min(height));
        let mut extended = vec![A::Value::default(); padded(width) + 2 * radius];
        let top = strip * STRIP;
        let mut filtered = top.saturating_sub(radius);
        let mut pairs = Vec::with_capacity(radius);
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let y = top + row;
            while filtered < (y + radius + 1).min(height) {
                border.extend(src.row(filtered), radius, &mut extended);
                let target = ring.row_mut(filtered);
                vectorized(
                    #[inline(always)]
                    || A::rows(&extended, taps, target),
                );
                filtered += 1;
            }
            let neighbour = |distance: isize| ring.row(border.index(y as isize + distance, height));
            pairs.clear();
            pairs.extend((1..=radius as isize).map(|j| (neighbour(-j), neighbour(j))));
            vectorized(
                #[inline(always)]
                || {
                    A::columns(ring.row(y), &pairs, taps, out);
                    finish(src.row(y), out);
                },
            );
            pairs = recycle(pairs);
        }
    });
    out
}

/// The same vector, emptied, for references of another lifetime; the allocation is kept.
fn recycle<'a, T>(mut pairs: Vec<Pair<'_, T>>) -> Vec<Pair<'a, T>> {
    pairs.clear();
    pairs.into_iter().map(|_| unreachable!("the vector is empty")).collect()
}

/// Bytes with taps in 256ths.
struct FixedPoint;

impl Arithmetic for FixedPoint {
    type Pixel = u8;
    type Value = u16;

    /// The sums stay below 255 · 256 < 2¹⁶, the product of a pair too, as 2 · tap ≤ 256.
    #[inline(always)]
    fn rows(padded: &[u16], taps: &[u16], out: &mut [u16]) {
        let radius = taps.len() - 1;
        for (index, out) in out.chunks_exact_mut(LANES).enumerate() {
            let centre = index * LANES + radius;
            let mut sum = [0u16; LANES];
            for (sum, &value) in sum.iter_mut().zip(block(padded, centre)) {
                *sum = value.wrapping_mul(taps[0]);
            }
            for (j, &tap) in taps.iter().enumerate().skip(1) {
                let (left, right) = (block(padded, centre - j), block(padded, centre + j));
                for i in 0..LANES {
                    let pair = left[i].wrapping_add(right[i]);
                    sum[i] = sum[i].wrapping_add(pair.wrapping_mul(tap));
                }
            }
            out.copy_from_slice(&sum);
        }
    }

    /// High and low bytes are summed apart, which keeps everything in 16 bits: the rounded result
    /// `(256 · high + low + 2¹⁵) >> 16` is `(high + (low >> 8) + 128) >> 8`.
    #[inline(always)]
    fn columns(centre: &[u16], pairs: &[Pair<'_, u16>], taps: &[u16], out: &mut [u8]) {
        for (index, out) in out.chunks_mut(LANES).enumerate() {
            let x = index * LANES;
            let mut high = [0u16; LANES];
            let mut low = [0u16; LANES];
            let values = block(centre, x);
            for i in 0..LANES {
                high[i] = (values[i] >> 8).wrapping_mul(taps[0]);
                low[i] = (values[i] & 255).wrapping_mul(taps[0]);
            }
            for (&(above, below), &tap) in pairs.iter().zip(&taps[1..]) {
                let (above, below) = (block(above, x), block(below, x));
                for i in 0..LANES {
                    let (a, b) = (above[i], below[i]);
                    let pair = (a >> 8).wrapping_add(b >> 8).wrapping_mul(tap);
                    high[i] = high[i].wrapping_add(pair);
                    let pair = (a & 255).wrapping_add(b & 255).wrapping_mul(tap);
                    low[i] = low[i].wrapping_add(pair);
                }
            }
            let mut bytes = [0u8; LANES];
            for i in 0..LANES {
                bytes[i] = (high[i].wrapping_add(low[i] >> 8).wrapping_add(128) >> 8) as u8;
            }
            out.copy_from_slice(&bytes[..out.len()]);
        }
    }
}

/// `f32` throughout.
struct Float;

impl Arithmetic for Float {
    type Pixel = f32;
    type Value = f32;

    #[inline(always)]
    fn rows(padded: &[f32], taps: &[f32], out: &mut [f32]) {
        let radius = taps.len() - 1;
        for (index, out) in out.chunks_exact_mut(LANES).enumerate() {
            let centre = index * LANES + radius;
            let mut sum = [0f32; LANES];
            for (sum, &value) in sum.iter_mut().zip(block(padded, centre)) {
                *sum = value * taps[0];
            }
            for (j, &tap) in taps.iter().enumerate().skip(1) {
                let (left, right) = (block(padded, centre - j), block(padded, centre + j));
                for i in 0..LANES {
                    sum[i] += (left[i] + right[i]) * tap;
                }
            }
            out.copy_from_slice(&sum);
        }
    }

    #[inline(always)]
    fn columns(centre: &[f32], pairs: &[Pair<'_, f32>], taps: &[f32], out: &mut [f32]) {
        for (index, out) in out.chunks_mut(LANES).enumerate() {
            let sum = column_sums(centre, pairs, taps, index * LANES);
            out.copy_from_slice(&sum[..out.len()]);
        }
    }
}

/// Bytes summed in `f32`, rounded to the nearest, halves to even.
struct FloatOnBytes;

impl Arithmetic for FloatOnBytes {
    type Pixel = u8;
    type Value = f32;

    #[inline(always)]
    fn rows(padded: &[f32], taps: &[f32], out: &mut [f32]) {
        Float::rows(padded, taps, out);
    }

    #[inline(always)]
    fn columns(centre: &[f32], pairs: &[Pair<'_, f32>], taps: &[f32], out: &mut [u8]) {
        for (index, out) in out.chunks_mut(LANES).enumerate() {
            // Adding 2²³ leaves the rounded number in the lowest bits.
            let sum = column_sums(centre, pairs, taps, index * LANES);
            let bytes = sum.map(|sum| (sum.min(255.0) + (1u32 << 23) as f32).to_bits() as u8);
            out.copy_from_slice(&bytes[..out.len()]);
        }
    }
}

/// The column filter on the `LANES` columns from `x` on.
#[inline(always)]
fn column_sums(centre: &[f32], pairs: &[Pair<'_, f32>], taps: &[f32], x: usize) -> [f32; LANES] {
    let mut sum = [0f32; LANES];
    for (sum, &value) in sum.iter_mut().zip(block(centre, x)) {
        *sum = value * taps[0];
    }
    for (&(above, below), &tap) in pairs.iter().zip(&taps[1..]) {
        let (above, below) = (block(above, x), block(below, x));
        for i in 0..LANES {
            sum[i] += (above[i] + below[i]) * tap;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays() {
        for size in [(1, 1), (1, 9), (130, 3), (70, 300)] {
            let src = Plane::filled(size.0, size.1, 201u8);
            for sigma in [0.3, 2.0, 25.0] {
                assert_eq!(gaussian_blur(&src, Gaussian::sigma(sigma)).unwrap(), src);
            }
        }
    }

    #[test]
    fn an_impulse_becomes_the_kernel() {
        let mut src = Plane::filled(9, 1, 0u8);
        src.set(4, 0, 255);
        // 255 · (16, 64, 96, 64, 16) / 256 = 15.9, 63.8, 95.6, 63.8, 15.9
        let out = gaussian_blur(&src, Gaussian::sized(5, 0.0)).unwrap();
        assert_eq!(out.data(), [0, 0, 16, 64, 96, 64, 16, 0, 0]);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let src = Plane::filled(3, 3, 0u8);
        for gaussian in [
            Gaussian::sigma(0.0),
            Gaussian::sigma(-1.0),
            Gaussian::sigma(f64::NAN),
            Gaussian::sigma(1e9),
            Gaussian::sized(4, 1.0),
            Gaussian::sized(0, 1.0),
        ] {
            assert!(matches!(gaussian_blur(&src, gaussian), Err(ImagingError::Argument { .. })));
        }
        let empty = Plane::from_vec(0, 0, vec![]).unwrap();
        assert_eq!(gaussian_blur(&empty, Gaussian::sigma(1.0)).unwrap(), empty);
    }
}
