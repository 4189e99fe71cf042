//! The scales of a line chart, linear and logarithmic, with labelled ticks.

use super::axis::Axis;

/// Ranges that are smaller, in relation to their place, are drawn as if all values were equal.
const FLAT: f64 = 1e-6;
/// Spans of at least so many decades have ticks at powers of ten only.
const DECADES: f64 = 2.5;
/// Values from this share of the highest on begin near 0, as do steps that are counted from 1.
const NEAR: f64 = 0.05;

/// A range of values and where it is labelled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Values inside the range, and their labels.
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale that begins and ends at round numbers, with about `wanted` steps.
    pub(super) fn round(low: f64, high: f64, wanted: usize) -> Self {
        let (low, high) = spread(low, high);
        let axis = Axis::new(low, high, wanted);
        let ticks = linear_ticks(axis.low, axis.high, axis.step);
        Self { low: axis.low, high: axis.high, log: false, ticks }
    }

    /// A scale that begins and ends with the values, or at 0 if they begin near it, with about `wanted` steps.
    /// `whole`: no ticks between integers.
    pub(super) fn snug(low: f64, high: f64, wanted: usize, whole: bool) -> Self {
        let low = if low > 0.0 && low < NEAR * high { 0.0 } else { low };
        let (low, high) = if whole && low == high && low.abs() < 1e9 {
            (low - 0.5, high + 0.5)
        } else {
            spread(low, high)
        };
        let step = Axis::new(low, high, wanted).step;
        let step = if whole { step.max(1.0) } else { step };
        Self { low, high, log: false, ticks: linear_ticks(low, high, step) }
    }

    /// A logarithmic scale over values above 0, with a little room at both ends.
    pub(super) fn log(low: f64, high: f64, wanted: usize) -> Self {
        let (from, to) = (low.log10(), high.log10());
        let room = if to - from > FLAT { (to - from) * 0.04 } else { 0.05 };
        let (from, to) = (from - room, to + room);
        let (low, high) = (10_f64.powf(from), 10_f64.powf(to));
        let span = to - from;
        let ticks = if span < 0.9 {
            linear_ticks(low, high, Axis::new(low, high, wanted).step)
        } else {
            let factors: &[f64] = if span < DECADES { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let stride = if span < DECADES { 1 } else { (span / wanted as f64).ceil() as i32 };
            let (first, last) = (from.floor() as i32, to.ceil() as i32);
            (first..=last)
                .filter(|decade| decade.rem_euclid(stride) == 0)
                .flat_map(|decade| factors.iter().map(move |factor| (decade, *factor)))
                .map(|(decade, factor)| (factor * 10_f64.powi(decade), decade))
                .filter(|(value, _)| (low..=high).contains(value))
                .map(|(value, decade)| (value, label(value, 10_f64.powi(decade), value)))
                .collect()
        };
        Self { low: from, high: to, log: true, ticks }
    }

    /// Where the ticks are, as shares of the scale, and their labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().map(|(value, label)| (self.share(*value), label.as_str()))
    }

    /// The share of the scale below `value`, clamped to `0 ..= 1`.
    pub(super) fn share(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// True if `value` is inside the range.
    pub(super) fn contains(&self, value: f64) -> bool {
        let value = if self.log { value.log10() } else { value };
        (self.low..=self.high).contains(&value)
    }
}

/// The range, or one around it if its ends are too close to tell apart.
fn spread(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > (size * FLAT).max(1e-290) {
        return (low, high);
    }
    let middle = low / 2.0 + high / 2.0;
    let room = if size > 1e-280 { size * 0.1 } else { 0.5 };
    (middle - room, middle + room)
}

/// The multiples of `step` from `low` to `high`.
fn linear_ticks(low: f64, high: f64, step: f64) -> Vec<(f64, String)> {
    let slack = step * 1e-6;
    let (first, last) = (((low - slack) / step).ceil(), ((high + slack) / step).floor());
    let count = (last - first).max(-1.0) as usize + usize::from(last >= first);
    let size = low.abs().max(high.abs());
    (0..count)
        .map(|i| (first + i as f64) * step)
        .map(|value| (value, label(value, step, size)))
        .collect()
}

/// A number with the decimals that `step` needs, as `1.5e−5` on axes of very small or large `size`.
fn label(value: f64, step: f64, size: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    let text = if (0.001..1e6).contains(&size) {
        grouped(&format!("{value:.*}", decimals(step)))
    } else {
        // A product such as 0.3 / 3 may lie just below its power of ten.
        let exponent = (value.abs() * (1.0 + 1e-9)).log10().floor();
        let mantissa = value / 10_f64.powf(exponent);
        format!("{mantissa:.*}e{exponent}", decimals(mantissa))
    };
    text.replace('-', "−")
}

/// The decimals of `step`, and so of its multiples.
fn decimals(step: f64) -> usize {
    let is_whole = |value: f64| (value - value.round()).abs() < 1e-6 * value.abs().max(1e-3);
    (0..9).find(|&digits| is_whole(step * 10_f64.powi(digits))).unwrap_or(9) as usize
}

/// Thin spaces between the thousands of numbers with more than four digits.
fn grouped(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let digits = number[..whole].trim_start_matches('-').len();
    if digits < 5 {
        return number.to_owned();
    }
    let mut out = String::new();
    for (index, character) in number.char_indices() {
        let left = whole.saturating_sub(index);
        if left > 0 && left < digits && left.is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn linear_scales_are_round_or_snug() {
        assert_eq!(labels(&Scale::round(0.02, 0.31, 4)), ["0", "0.1", "0.2", "0.3", "0.4"]);
        let steps = Scale::snug(1.0, 2013.0, 5, true);
        assert_eq!(labels(&steps), ["0", "500", "1000", "1500", "2000"]);
        assert_eq!((steps.share(0.0), steps.share(2013.0)), (0.0, 1.0));
        assert_eq!(labels(&Scale::snug(0.0, 2.0, 8, true)), ["0", "1", "2"]);
        assert_eq!(labels(&Scale::snug(7.0, 7.0, 8, true)), ["7"]);
        let many = Scale::snug(0.0, 100_000.0, 2, true);
        assert_eq!(labels(&many), ["0", "50\u{2009}000", "100\u{2009}000"]);
    }

    #[test]
    fn small_and_large_numbers_have_exponents() {
        assert_eq!(labels(&Scale::round(0.0, 1e-4, 2)), ["0", "5e−5", "1e−4"]);
        assert_eq!(labels(&Scale::round(-3e7, 0.0, 3)), ["−3e7", "−2e7", "−1e7", "0"]);
        assert_eq!(label(-2.5e7, 5e6, 3e7), "−2.5e7");
        assert_eq!(label(1e-5, 1e-5, 1e-5), "1e−5");
    }

    #[test]
    fn logarithmic_scales_have_ticks_at_any_span() {
        assert_eq!(labels(&Scale::log(1e-6, 1.0, 4)), ["1e−6", "1e−4", "0.01", "1"]);
        assert_eq!(labels(&Scale::log(0.01, 0.3, 5)), ["0.01", "0.02", "0.05", "0.1", "0.2"]);
        assert!(labels(&Scale::log(0.10, 0.13, 5)).contains(&"0.11"));
        let scale = Scale::log(0.1, 10.0, 5);
        assert!((scale.share(1.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn any_range_has_ticks_and_finite_shares() {
        let values = [-1e300, -1.0, -1e-300, 0.0, 5e-324, 1e-4, 1.0, 1.0 + 1e-15, 1e9, 1e300];
        for (i, &low) in values.iter().enumerate() {
            for &high in &values[i..] {
                let mut scales = vec![Scale::round(low, high, 5), Scale::snug(low, high, 8, true)];
                if low >= f64::MIN_POSITIVE {
                    scales.push(Scale::log(low, high, 5));
                }
                for scale in scales {
                    assert!((1..40).contains(&scale.ticks.len()), "{low} {high}: {scale:?}");
                    for value in [low, high] {
                        assert!((0.0..=1.0).contains(&scale.share(value)), "{low} {high}");
                    }
                }
            }
        }
    }
}
