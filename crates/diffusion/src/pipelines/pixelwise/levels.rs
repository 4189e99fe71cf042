//! What networks say of each pixel, in a byte each.

/// Levels of a byte to 1 in log-odds, which it holds from −8 to 8.
const LEVELS: f32 = 16.0;
/// No less than this of the log-odds of the network that sees colours counts: it knows damage that is as sharp and coloured as pixels can
/// be, and is sure that there is none where it went through a JPEG file. Chosen on photographs that are neither samples nor
/// learned from (`docs/models.md`).
const LEAST: f32 = -6.0;

/// The log-odds that each pixel of a picture, or of a tile's core, is damaged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said<T> {
    /// By the network that sees luma, or by the only one.
    pub(super) first: T,
    /// By the one that sees colours, if it was asked beside.
    pub(super) color: Option<T>,
    /// What they come to together. Of levels it is not [`mean_of_levels`]: that counts what each says up to what a byte holds.
    pub(super) joined: T,
}

impl Said<Vec<f32>> {
    /// What two networks say.
    pub(super) fn by_two(first: Vec<f32>, color: Vec<f32>) -> Self {
        let joined = first.iter().zip(&color).map(|(&first, &color)| mean(first, color)).collect();
        Self { first, color: Some(color), joined }
    }

    /// What the only one says.
    pub(super) fn by_one(first: Vec<f32>) -> Self {
        Self { joined: first.clone(), first, color: None }
    }
}

impl<T> Said<T> {
    pub(super) fn map<U>(&self, mut convert: impl FnMut(&T) -> U) -> Said<U> {
        Said {
            first: convert(&self.first),
            color: self.color.as_ref().map(&mut convert),
            joined: convert(&self.joined),
        }
    }
}

fn mean(first: f32, color: f32) -> f32 {
    0.5 * (first + color.max(LEAST))
}

/// The log-odds that two levels come to.
pub(super) fn mean_of_levels(first: u8, color: u8) -> f32 {
    mean(log_odds(first), log_odds(color))
}

/// The level that stands for log-odds.
pub(super) fn level(log_odds: f32) -> u8 {
    (LEVELS * log_odds + 128.0).round() as u8
}

/// The log-odds that a level stands for.
pub(super) fn log_odds(level: u8) -> f32 {
    (f32::from(level) - 128.0) / LEVELS
}

/// The probability that log-odds are, 0 to 255.
pub(super) fn probability(log_odds: f32) -> u8 {
    (255.0 * sigmoid(log_odds)).round() as u8
}

/// The probability that log-odds are.
pub(super) fn sigmoid(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_that_there_is_no_damage_counts_so_far_only() {
        assert_eq!(mean(5.0, -20.0), -0.5);
        assert_eq!(mean(-3.0, 1.0), -1.0);
    }

    #[test]
    fn two_are_joined_to_their_mean_and_one_to_itself() {
        let one = Said::by_one(vec![5.0, -3.0]);
        assert_eq!((&one.joined, &one.color), (&one.first, &None));
        let two = Said::by_two(vec![12.0, -3.0], vec![-20.0, 1.0]);
        assert_eq!(two.joined, [3.0, -1.0]);
        let levels = two.map(|values| values.iter().map(|&value| level(value)).collect::<Vec<_>>());
        assert_eq!(levels.joined, [level(3.0), level(-1.0)]);
        let color = levels.color.expect("two");
        assert!(
            (mean_of_levels(levels.first[0], color[0]) - 1.0).abs() < 0.1,
            "8 is the most of a byte"
        );
        assert_eq!(mean_of_levels(levels.first[1], color[1]), -1.0);
    }

    #[test]
    fn levels_stand_for_log_odds_and_end_at_eight() {
        for value in [-8.0, -0.5, 0.0, 3.25] {
            assert_eq!(log_odds(level(value)), value);
        }
        assert_eq!((level(-100.0), level(100.0)), (0, 255));
        assert_eq!((probability(0.0), probability(-30.0), probability(30.0)), (128, 0, 255));
    }
}
