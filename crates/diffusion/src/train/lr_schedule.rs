//! Learning-rate schedules, as diffusers' `get_scheduler` makes them.

use serde::{Deserialize, Serialize};

/// How the learning rate goes from step to step, by diffusers' names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// The same throughout; warm-up is ignored.
    Constant,
    /// The same after the warm-up. With no warm-up it is [`LrScheduler::Constant`].
    #[default]
    ConstantWithWarmup,
    /// Down to 0 at the last step, in a line.
    Linear,
    /// Down to 0 at the last step, along half a cosine.
    Cosine,
}

impl LrScheduler {
    /// All of them, by name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("constant", Self::Constant),
        ("constant_with_warmup", Self::ConstantWithWarmup),
        ("linear", Self::Linear),
        ("cosine", Self::Cosine),
    ];

    /// The factor of the learning rate at `step` (from 0) of `total`, with `warmup` steps from 0 up to 1.
    #[must_use]
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        if self == Self::Constant {
            return 1.0;
        }
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Constant | Self::ConstantWithWarmup => 1.0,
            Self::Linear => (total.saturating_sub(step) as f64 / rest).max(0.0),
            Self::Cosine => {
                let progress = (step - warmup) as f64 / rest;
                // Half a cycle.
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_rise_hold_and_fall() {
        use LrScheduler as S;
        assert_eq!(S::Constant.factor(0, 10, 100), 1.0);
        assert_eq!(S::ConstantWithWarmup.factor(5, 10, 100), 0.5);
        assert_eq!(S::Linear.factor(0, 0, 10), 1.0);
        assert_eq!(S::Linear.factor(55, 10, 100), 0.5);
        assert_eq!(S::Linear.factor(200, 10, 100), 0.0);
        assert!((S::Cosine.factor(55, 10, 100) - 0.5).abs() < 1e-12);
        assert!(S::Cosine.factor(100, 10, 100) < 1e-12);
    }
}
