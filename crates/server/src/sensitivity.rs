//! One slider for every way to find damage: 0 finds next to nothing, 100 far too much, 50 is the detector's own setting.

use imaging::detect::DetectParams;

/// The sensitivity at which a detector has its own settings.
pub const DEFAULT_SENSITIVITY: f32 = 50.0;

/// How much the ends of the slider change contrasts of the classical detector.
const CLASSICAL_FACTOR: f32 = 3.0;

/// How much the ends change its log-odds.
const CLASSICAL_SCORE: f32 = 2.0;

/// How much the ends change the log-odds of a network: 0.5 becomes 0.98 and 0.02.
const LEARNED_SCORE: f32 = 3.9;

/// The classical detector at a sensitivity of `0 ..= 100`; exactly `params` at [`DEFAULT_SENSITIVITY`].
///
/// Contrasts that lines need and the weight of the activity around fall by a factor of three towards 100 and rise by as
/// much towards 0; the scores that losses need change by two.
#[must_use]
pub fn classical_params(params: &DetectParams, sensitivity: f32) -> DetectParams {
    let along = along(sensitivity);
    if along == 0.0 {
        return *params;
    }
    let factor = CLASSICAL_FACTOR.powf(-along);
    let mut params = *params;
    let lines = &mut params.lines;
    for (value, most) in [
        (&mut lines.low, 255.0),
        (&mut lines.high, 255.0),
        (&mut lines.noise, 20.0),
        (&mut lines.other_activity, 20.0),
        (&mut lines.same_activity, 20.0),
    ] {
        *value = rounded(*value * factor).min(most);
    }
    for score in [&mut params.losses.score, &mut params.losses.dark_score] {
        *score = rounded(*score - CLASSICAL_SCORE * along).clamp(-20.0, 20.0);
    }
    params
}

/// The threshold of a network's probabilities at a sensitivity of `0 ..= 100`, above 0 and below 1; exactly `threshold`
/// at [`DEFAULT_SENSITIVITY`].
#[must_use]
pub fn learned_threshold(threshold: f32, sensitivity: f32) -> f32 {
    let along = along(sensitivity);
    if along == 0.0 {
        return threshold;
    }
    let log_odds = (threshold / (1.0 - threshold)).ln() - LEARNED_SCORE * along;
    rounded(1.0 / (1.0 + (-log_odds).exp())).clamp(0.004, 0.996)
}

/// -1 to 1.
fn along(sensitivity: f32) -> f32 {
    ((sensitivity - DEFAULT_SENSITIVITY) / DEFAULT_SENSITIVITY).clamp(-1.0, 1.0)
}

/// To what a command line shows without losing anything.
fn rounded(value: f32) -> f32 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_changes_nothing_and_every_step_is_valid() {
        let own = DetectParams::default();
        assert_eq!(classical_params(&own, DEFAULT_SENSITIVITY), own);
        assert_eq!(learned_threshold(0.37, DEFAULT_SENSITIVITY), 0.37);
        let mut last = (f32::INFINITY, f32::INFINITY);
        for step in 0..=100_u8 {
            let params = classical_params(&own, f32::from(step));
            params.validate().expect("in range");
            let threshold = learned_threshold(0.5, f32::from(step));
            assert!(params.lines.low < last.0 && threshold < last.1, "at {step}");
            last = (params.lines.low, threshold);
        }
        // 6 · 3 = 18 and 6 / 3 = 2; 1 / (1 + e^-3.9) = 0.980
        assert_eq!(classical_params(&own, 0.0).lines.low, 18.0);
        assert_eq!(classical_params(&own, 100.0).lines.low, 2.0);
        assert_eq!(learned_threshold(0.5, 0.0), 0.98);
    }
}
