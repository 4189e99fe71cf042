//! An exponential moving average of weights, as diffusers' `EMAModel` keeps it with its defaults.

/// The averages, a parameter each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ema {
    decay: f64,
    pub(super) shadows: Vec<Vec<f32>>,
}

impl Ema {
    /// Averages that start as the weights are; `decay` is what the decay grows to.
    pub(super) const fn new(decay: f64, weights: Vec<Vec<f32>>) -> Self {
        Self { decay, shadows: weights }
    }

    /// Takes in the weights after the optimizer's step number `step` (from 1).
    pub(super) fn update<'a>(&mut self, step: u64, weights: impl Iterator<Item = &'a [f32]>) {
        // The first step counts as number 0, and takes the weights as they are.
        let grown = match step.saturating_sub(1) {
            0 => 0.0,
            at => (1.0 + at as f64) / (10.0 + at as f64),
        };
        let towards = (1.0 - grown.min(self.decay)) as f32;
        for (shadow, weights) in self.shadows.iter_mut().zip(weights) {
            for (s, w) in shadow.iter_mut().zip(weights) {
                *s -= towards * (*s - w);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_grows_to_its_limit() {
        let mut ema = Ema::new(0.3, vec![vec![0.0]]);
        ema.update(1, [&[1.0][..]].into_iter());
        assert_eq!(ema.shadows[0][0], 1.0);
        // (1 + 1) / (10 + 1) = 0.1818: the average moves by 0.8182 of the way to 2.
        ema.update(2, [&[2.0][..]].into_iter());
        assert!((ema.shadows[0][0] - 1.818_181_8).abs() < 1e-6);
        // (1 + 9) / (10 + 9) is above the limit of 0.3.
        let before = ema.shadows[0][0];
        ema.update(10, [&[before + 1.0][..]].into_iter());
        assert!((ema.shadows[0][0] - before - 0.7).abs() < 1e-6);
    }
}
