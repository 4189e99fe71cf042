//! Exact Euclidean distances, as OpenCV's `distanceTransform` with `DIST_L2` and `DIST_MASK_PRECISE`.
//!
//! Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions" (2012): vertical distances
//! first, then the lower envelope of parabolas along each row. Two differences: rows are cut at kept
//! pixels, as no parabola reaches past one; and strips of rows are independent once each knows the
//! nearest kept pixel above and below it, so no plane of vertical distances is needed.

use rayon::prelude::*;

use super::simd::vectorized;
use crate::mask::Mask;
use crate::plane::Plane;

/// Rows that one task handles.
const STRIP: usize = 64;

/// A vertical distance for columns without a kept pixel; far above any real one.
const FAR: u32 = 1 << 30;

/// The distance of every damaged pixel (weight above 0) from the centre of the nearest kept pixel, in
/// pixels; 0 on kept pixels, infinite if there are none.
///
/// Pixels beyond the edge do not count as kept.
#[must_use]
pub fn distance_transform(mask: &Mask) -> Plane<f32> {
    let (width, height) = mask.size();
    let mut out = Plane::filled(width, height, 0f32);
    if width == 0 || height == 0 {
        return out;
    }
    let pixels = mask.plane().data();

    // 1. For each strip and column, the distance from the strip's last row up to a kept pixel, and
    //    from its first row down to one.
    let mut edges: Vec<(Vec<u32>, Vec<u32>)> = pixels
        .par_chunks(STRIP * width)
        .map(|strip| {
            let (mut up, mut down) = (vec![FAR; width], vec![FAR; width]);
            vectorized(
                #[inline(always)]
                || {
                    for row in strip.chunks_exact(width) {
                        step(row, &mut up);
                    }
                    for row in strip.chunks_exact(width).rev() {
                        step(row, &mut down);
                    }
                },
            );
            (up, down)
        })
        .collect();

    // 2. Carried from strip to strip: what lies above its first row and below its last.
    let rows = |strip: usize| STRIP.min(height - strip * STRIP) as u32;
    let carry = |nearer: &mut [u32], further: &[u32], rows: u32| {
        for (near, &far) in nearer.iter_mut().zip(further) {
            *near = (*near).min(far.saturating_add(rows)).min(FAR);
        }
    };
    for strip in 1..edges.len() {
        let (before, after) = edges.split_at_mut(strip);
        carry(&mut after[0].0, &before[strip - 1].0, rows(strip));
    }
    for strip in (1..edges.len()).rev() {
        let (before, after) = edges.split_at_mut(strip);
        carry(&mut before[strip - 1].1, &after[0].1, rows(strip - 1));
    }

    // 3. Vertical distances in the strip, then the envelope along each row.
    out.data_mut().par_chunks_mut(STRIP * width).enumerate().for_each(|(strip, out)| {
        let pixels = &pixels[strip * STRIP * width..][..out.len()];
        let far = vec![FAR; width];
        let mut nearest = match strip.checked_sub(1) {
            Some(above) => edges[above].0.clone(),
            None => far.clone(),
        };
        let mut vertical = vec![0u32; out.len()];
        vectorized(
            #[inline(always)]
            || {
                let rows = pixels.chunks_exact(width).zip(vertical.chunks_exact_mut(width));
                for (row, vertical) in rows {
                    step(row, &mut nearest);
                    vertical.copy_from_slice(&nearest);
                }
            },
        );
        nearest.copy_from_slice(edges.get(strip + 1).map_or(&far, |below| &below.1));
        let mut envelope = Envelope::default();
        let rows = pixels.chunks_exact(width).zip(vertical.chunks_exact_mut(width));
        for ((row, vertical), out) in rows.zip(out.chunks_exact_mut(width)).rev() {
            vectorized(
                #[inline(always)]
                || {
                    step(row, &mut nearest);
                    for (vertical, &below) in vertical.iter_mut().zip(&nearest) {
                        *vertical = below.min(*vertical);
                    }
                },
            );
            let mut x = 0;
            while let Some(skip) = vertical[x..].iter().position(|&distance| distance > 0) {
                let start = x + skip;
                let run = vertical[start..].iter().take_while(|&&distance| distance > 0).count();
                let end = start + run;
                // The kept pixels on either side belong to the envelope.
                let (first, last) = (start.saturating_sub(1), (end + 1).min(width));
                vectorized(
                    #[inline(always)]
                    || envelope.run(&vertical[first..last], &mut out[first..last]),
                );
                x = end;
            }
        }
    });
    out
}

/// One row on: distances grow by one, or are 0 on a kept pixel.
#[inline(always)]
fn step(row: &[u8], distances: &mut [u32]) {
    for (distance, &weight) in distances.iter_mut().zip(row) {
        *distance = if weight > 0 { (*distance + 1).min(FAR) } else { 0 };
    }
}

/// The lower envelope of the parabolas `(x − centre)² + height`.
#[derive(Default)]
struct Envelope {
    /// Centre, height and the first column where the parabola is the lowest.
    parabolas: Vec<(i64, i64, i64)>,
}

impl Envelope {
    #[inline(always)]
    fn run(&mut self, vertical: &[u32], out: &mut [f32]) {
        self.parabolas.clear();
        let width = vertical.len() as i64;
        for (centre, &distance) in (0i64..).zip(vertical) {
            if distance >= FAR {
                continue;
            }
            let height = i64::from(distance) * i64::from(distance);
            let mut first = 0;
            while let Some(&(other, other_height, other_first)) = self.parabolas.last() {
                // This one is lower from where the two cross; the sums stay far below 2⁵³.
                let sum = (height + centre * centre) - (other_height + other * other);
                let crossing = sum as f64 / (2 * (centre - other)) as f64;
                first = crossing.ceil() as i64;
                if first > other_first {
                    break;
                }
                self.parabolas.pop();
                first = 0;
            }
            if first < width {
                self.parabolas.push((centre, height, first));
            }
        }
        if self.parabolas.is_empty() {
            out.fill(f32::INFINITY);
            return;
        }
        let ends = self.parabolas.iter().skip(1).map(|&(_, _, first)| first).chain([width]);
        for (&(centre, height, first), end) in self.parabolas.iter().zip(ends) {
            let out = &mut out[first as usize..end as usize];
            for (x, out) in (first..).zip(out) {
                *out = ((x - centre) * (x - centre) + height) as f32;
            }
        }
        for out in out {
            *out = out.sqrt();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(mask: &Mask) -> Plane<f32> {
        let (width, height) = mask.size();
        let kept: Vec<(usize, usize)> = (0..width * height)
            .map(|i| (i % width, i / width))
            .filter(|&(x, y)| mask.plane().get(x, y) == 0)
            .collect();
        Plane::from_fn(width, height, |x, y| {
            let nearest = kept.iter().map(|&(a, b)| a.abs_diff(x).pow(2) + b.abs_diff(y).pow(2));
            nearest.min().map_or(f32::INFINITY, |squared| (squared as f32).sqrt())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_the_definition(
            width in 1usize..40, height in 1usize..150, kept in 0u32..400, seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
            let mask = Mask::from_fn(width, height, |_, _| rng.next_u32() % 2000 >= kept);
            prop_assert_eq!(distance_transform(&mask), naive(&mask));
        }
    }

    #[test]
    fn a_plane_without_pixels_stays() {
        assert_eq!(distance_transform(&Mask::empty(0, 3)).size(), (0, 3));
        assert_eq!(distance_transform(&Mask::empty(2, 1)).data(), [0.0, 0.0]);
    }
}
