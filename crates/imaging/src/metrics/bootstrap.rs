//! How sure a mean is: the percentile bootstrap of B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::Serialize;

/// Resamples of the bootstrap: enough for the second decimal of a percentile to settle.
const RESAMPLES: usize = 10_000;

/// A range that holds the true mean with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// The 95 % confidence interval of the mean of `values`, from 10 000 seeded resamples.
///
/// `None` for fewer than two values, which say nothing about their spread. All values must be finite. The same
/// values and seed give the same interval everywhere.
#[must_use]
pub fn mean_confidence(values: &[f64], seed: u64) -> Option<Interval> {
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut generator = Pcg64::seed_from_u64(seed);
    let count = values.len() as u64;
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = (0..count)
                .map(|_| {
                    // A 32-bit fraction times the count picks an index; the bias is below count / 2³².
                    let index = (u64::from(generator.next_u32()) * count) >> 32;
                    values[index as usize]
                })
                .sum();
            sum / count as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Some(Interval { low: percentile(&means, 0.025), high: percentile(&means, 0.975) })
}

/// Linear interpolation between order statistics, numpy's default.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_normal_approximation() {
        // 0 … 99: mean 49.5, standard deviation 28.87, standard error 2.887, so about 49.5 ± 1.96 · 2.887
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let found = mean_confidence(&values, 1).expect("100 values");
        assert!((found.low - (49.5 - 5.66)).abs() < 0.3, "{found:?}");
        assert!((found.high - (49.5 + 5.66)).abs() < 0.3, "{found:?}");
        assert_eq!(mean_confidence(&values, 1), Some(found));
    }

    #[test]
    fn equal_values_have_no_spread_and_too_few_no_interval() {
        assert_eq!(mean_confidence(&[2.5; 4], 7), Some(Interval { low: 2.5, high: 2.5 }));
        assert_eq!(mean_confidence(&[2.5], 7), None);
        assert_eq!(mean_confidence(&[1.0, f64::INFINITY], 7), None);
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[0.0, 10.0, 20.0], 0.75), 15.0);
        assert_eq!(percentile(&[4.0], 0.5), 4.0);
    }
}
