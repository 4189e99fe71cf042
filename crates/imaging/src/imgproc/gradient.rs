//! First and second derivatives, as OpenCV's `Sobel` (3 × 3) and `Laplacian` (aperture 1).

use rayon::prelude::*;

use super::border::Border;
use super::simd::vectorized;
use crate::plane::Plane;

/// Rows that one task filters.
const STRIP: usize = 64;

/// Sobel's derivative along x: `[-1 0 1]` across, `[1 2 1]` down, with mirrored borders.
#[must_use]
pub fn sobel_x(src: &Plane<u8>) -> Plane<i16> {
    three_by_three(
        src,
        #[inline(always)]
        |above, row, below, x| {
            let column = |x: usize| above[x] + 2 * row[x] + below[x];
            column(x + 2) - column(x)
        },
    )
}

/// Sobel's derivative along y: `[1 2 1]` across, `[-1 0 1]` down (brighter below is positive).
#[must_use]
pub fn sobel_y(src: &Plane<u8>) -> Plane<i16> {
    three_by_three(
        src,
        #[inline(always)]
        |above, _, below, x| {
            let line = |row: &[i16]| row[x] + 2 * row[x + 1] + row[x + 2];
            line(below) - line(above)
        },
    )
}

/// The sum of the four neighbours less four times the pixel.
#[must_use]
pub fn laplacian(src: &Plane<u8>) -> Plane<i16> {
    three_by_three(
        src,
        #[inline(always)]
        |above, row, below, x| above[x + 1] + below[x + 1] + row[x] + row[x + 2] - 4 * row[x + 1],
    )
}

/// `f(above, row, below, x)` for every pixel, where column `x` of the picture is at `x + 1`.
fn three_by_three(
    src: &Plane<u8>,
    f: impl Fn(&[i16], &[i16], &[i16], usize) -> i16 + Sync,
) -> Plane<i16> {
    let (width, height) = src.size();
    let mut out = Plane::filled(width, height, 0i16);
    if width == 0 || height == 0 {
        return out;
    }
    out.data_mut().par_chunks_mut(STRIP * width).enumerate().for_each(|(strip, out)| {
        let extended = |y: isize| {
            let mut row = vec![0i16; width + 2];
            Border::Reflect101.extend(src.row(Border::Reflect101.index(y, height)), 1, &mut row);
            row
        };
        let top = (strip * STRIP) as isize;
        let (mut above, mut row) = (extended(top - 1), extended(top));
        for (y, out) in (top..).zip(out.chunks_exact_mut(width)) {
            let below = extended(y + 1);
            // Slices of one known length, so that the loop needs no checks.
            let (a, r, b) = (&above[..width + 2], &row[..width + 2], &below[..width + 2]);
            vectorized(
                #[inline(always)]
                || {
                    for (x, out) in out.iter_mut().enumerate().take(width) {
                        *out = f(a, r, b, x);
                    }
                },
            );
            above = std::mem::replace(&mut row, below);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_has_a_constant_slope() {
        let src = Plane::from_fn(90, 5, |x, y| (2 * x + 3 * y) as u8);
        // 2 · (1 + 2 + 1) · 2 = 16 and 3 · 4 · 2 = 24
        assert_eq!(sobel_x(&src).get(40, 2), 16);
        assert_eq!(sobel_y(&src).get(40, 2), 24);
        assert_eq!(laplacian(&src).get(40, 2), 0);
        assert_eq!(sobel_x(&src).get(0, 2), 0);
    }
}
