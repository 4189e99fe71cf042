//! How noisy a picture is: the median absolute diagonal Haar coefficient.
//!
//! Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage" (1994), with the Haar wavelet.
//! Structures hardly reach the diagonal band, and the median ignores the few that do.

use rayon::prelude::*;

use crate::plane::Plane;

/// The standard deviation of the noise in 8-bit grey levels; 0 for a picture below 2×2 pixels.
///
/// Pixels at 0 or 255 are left out, as clipping hides their noise.
#[must_use]
pub fn noise_sigma(src: &Plane<u8>) -> f32 {
    let width = src.width();
    // |a - b - c + d| is at most 510.
    let counts = src
        .data()
        .par_chunks_exact((2 * width).max(1))
        .map(|rows| {
            let mut counts = vec![0u64; 511];
            let (top, bottom) = rows.split_at(width);
            for (top, bottom) in top.chunks_exact(2).zip(bottom.chunks_exact(2)) {
                let [a, b, c, d] = [top[0], top[1], bottom[0], bottom[1]].map(i32::from);
                if [a, b, c, d].iter().all(|value| (1..=254).contains(value)) {
                    counts[(a - b - c + d).unsigned_abs() as usize] += 1;
                }
            }
            counts
        })
        .reduce(
            || vec![0u64; 511],
            |mut left, right| {
                left.iter_mut().zip(&right).for_each(|(left, right)| *left += right);
                left
            },
        );
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return 0.0;
    }
    // The value is spread evenly over its bin, so that the estimate is not stuck to whole levels.
    let mut below = 0;
    for (value, &count) in counts.iter().enumerate() {
        if 2 * (below + count) >= total {
            let share = (total as f64 / 2.0 - below as f64) / count as f64;
            let median = (value as f64 - 0.5 + share).max(0.0);
            // The coefficient (a - b - c + d) / 2 has the noise's own deviation; MAD = 0.6745 σ.
            return (median / 2.0 / 0.6745) as f32;
        }
        below += count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn known_noise_is_estimated() {
        // The mean of 12 uniform numbers, times 12, less 6, has deviation 1.
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(5);
        let mut normal =
            || (0..12).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0;
        let noisy = Plane::from_fn(128, 128, |x, _| (90.0 + x as f64 / 4.0 + 4.0 * normal()) as u8);
        let sigma = noise_sigma(&noisy);
        assert!((3.6..4.4).contains(&sigma), "{sigma}");
    }

    #[test]
    fn flat_clipped_and_tiny_pictures_have_no_noise() {
        for plane in [Plane::filled(9, 9, 255), Plane::filled(1, 1, 7), Plane::filled(0, 0, 7)] {
            assert_eq!(noise_sigma(&plane), 0.0);
        }
        assert!(noise_sigma(&Plane::filled(9, 9, 99)) < 0.4);
    }
}
