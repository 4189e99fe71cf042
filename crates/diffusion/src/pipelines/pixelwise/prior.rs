//! How much of a picture is damaged, and what that says of each of its pixels.

use super::levels::{log_odds, sigmoid};

/// The share of damaged pixels up to which a picture has little damage.
const USUAL: f32 = 0.05;
/// No less than this is added to log-odds, so that slight damage is found yet in a picture that has little else. Both were chosen
/// on photographs that are neither samples nor learned from (`docs/models.md`).
const LEAST: f32 = -1.0;
/// Far more than it takes for two digits of what is added.
const ITERATIONS: usize = 40;

/// What is to be added to the log-odds of all pixels of a picture, at most 0: how much less damaged it is by what they come to
/// than a share of 5 % would be. `counts` has how many pixels there are of each [level](super::levels::level).
///
/// The share is the one at which pixels are damaged as probably as their log-odds say once these are corrected for it, found by
/// expectation maximization (Saerens, Latinne, Decaestecker: "Adjusting the Outputs of a Classifier to New a Priori
/// Probabilities", Neural Computation 14, 2002).
pub(super) fn correction(counts: &[u64; 256]) -> f32 {
    let pixels = counts.iter().sum::<u64>() as f32;
    let odds = |share: f32| share / (1.0 - share);
    let mut added = 0.0_f32;
    for _ in 0..ITERATIONS {
        let damaged = counts
            .iter()
            .zip(0..=u8::MAX)
            .map(|(&count, level)| count as f32 * sigmoid(log_odds(level) + added));
        let share = (damaged.sum::<f32>() / pixels).min(USUAL);
        added = (odds(share) / odds(USUAL)).ln().max(LEAST);
    }
    added
}

#[cfg(test)]
mod tests {
    use super::super::levels::level;
    use super::*;

    /// A picture of a million pixels with so many of some log-odds, and no damage elsewhere.
    fn counts(of: &[(f32, u64)]) -> [u64; 256] {
        let mut counts = [0; 256];
        counts[0] = 1_000_000;
        for &(log_odds, pixels) in of {
            counts[usize::from(level(log_odds))] += pixels;
            counts[0] -= pixels;
        }
        counts
    }

    #[test]
    fn the_share_of_certain_damage_is_what_it_is() {
        let expected = (0.03_f32 / 0.97).ln() - (0.05_f32 / 0.95).ln();
        assert!((correction(&counts(&[(7.9, 30_000)])) - expected).abs() < 0.02);
    }

    #[test]
    fn much_damage_changes_nothing() {
        assert_eq!(correction(&counts(&[(7.9, 51_000)])), 0.0);
        assert_eq!(correction(&counts(&[(7.9, 1_000_000)])), 0.0);
    }

    #[test]
    fn doubtful_damage_counts_less_the_less_of_it_there_is() {
        let [little, more] = [40_000, 60_000].map(|pixels| correction(&counts(&[(1.0, pixels)])));
        assert!(LEAST <= little && little < more && more < 0.0, "{little} {more}");
        let certain = correction(&counts(&[(7.9, 40_000)]));
        assert!(little < certain, "{little} {certain}");
    }

    #[test]
    fn without_damage_no_more_is_taken_away_than_the_least() {
        assert_eq!(correction(&counts(&[])), LEAST);
    }
}
