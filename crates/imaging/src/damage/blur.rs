//! Motion blur: every point drawn out along one line.
//!
//! A line of `n` samples is built by doubling: the mean of two copies of the picture, moved apart by half the
//! length, then by a quarter, and so on, down to a pixel. That takes log₂ n passes instead of n samples a pixel.

use rayon::prelude::*;

use super::canvas::Canvas;
use super::random::{Random, lerp};
use crate::plane::Plane;

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let (x, y) = random.direction();
    let length = canvas.unit * lerp(1.8, 13.0, severity) * random.range(0.85, 1.2);
    canvas.filter(|plane| {
        let mut plane = plane;
        // Moves of ± length/4, ± length/8, …: 2ᵏ samples at most a pixel apart spread over the length.
        let mut offset = 0.25 * length;
        loop {
            plane = spread(&plane, offset * x, offset * y);
            if 2.0 * offset <= 1.0 {
                return plane;
            }
            offset *= 0.5;
        }
    });
}

/// The mean of the picture moved by `(dx, dy)` and by `(-dx, -dy)`; beyond the border it goes on as it ends.
fn spread(plane: &Plane<f32>, dx: f32, dy: f32) -> Plane<f32> {
    let (width, height) = plane.size();
    let mut data = vec![0.0; width * height];
    // The weights of linear interpolation are the same for every pixel.
    let taps = [(dx, dy), (-dx, -dy)].map(|(dx, dy)| {
        let (fx, fy) = (dx.floor(), dy.floor());
        (fx as isize, fy as isize, dx - fx, dy - fy)
    });
    let clamp = |at: usize, by: isize, size: usize| at.saturating_add_signed(by).min(size - 1);
    data.par_chunks_mut(width).enumerate().for_each(|(y, row)| {
        for (ix, iy, tx, ty) in taps {
            let top = plane.row(clamp(y, iy, height));
            let bottom = plane.row(clamp(y, iy + 1, height));
            let at = |x0: usize, x1: usize| {
                let upper = top[x0] + tx * (top[x1] - top[x0]);
                let lower = bottom[x0] + tx * (bottom[x1] - bottom[x0]);
                0.5 * (upper + ty * (lower - upper))
            };
            // Columns whose neighbours lie inside need no clamping.
            let first = (ix.min(0).unsigned_abs()).min(width);
            let reach = (ix + 1).max(0).unsigned_abs();
            let last = width.saturating_sub(reach).max(first);
            for x in (0..first).chain(last..width) {
                row[x] += at(clamp(x, ix, width), clamp(x, ix + 1, width));
            }
            if first < last {
                let from = first.saturating_add_signed(ix);
                let count = last - first;
                let (t0, t1) = (&top[from..from + count], &top[from + 1..from + 1 + count]);
                let (b0, b1) = (&bottom[from..from + count], &bottom[from + 1..from + 1 + count]);
                for (i, value) in row[first..last].iter_mut().enumerate() {
                    let upper = t0[i] + tx * (t1[i] - t0[i]);
                    let lower = b0[i] + tx * (b1[i] - b0[i]);
                    *value += 0.5 * (upper + ty * (lower - upper));
                }
            }
        }
    });
    Plane::from_vec(width, height, data).expect("one value for each pixel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_and_a_dot_spreads_evenly() {
        let flat = Plane::filled(9, 5, 0.25_f32);
        assert_eq!(spread(&flat, 2.3, -1.7), flat);
        let mut dot = Plane::filled(17, 9, 0.0_f32);
        dot.set(8, 4, 1.0);
        let moved = spread(&dot, 3.0, 0.0);
        assert_eq!((moved.get(5, 4), moved.get(11, 4), moved.get(8, 4)), (0.5, 0.5, 0.0));
        for (dx, dy) in [(0.4, 0.3), (-2.5, 1.25), (30.0, -40.0)] {
            let tiny = Plane::from_fn(1, 1, |_, _| 0.5_f32);
            assert_eq!(spread(&tiny, dx, dy), tiny);
        }
    }
}
