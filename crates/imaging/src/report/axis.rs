//! Round numbers for axes and histograms.

/// Values from at or below the data's minimum to at or above its maximum, at steps of 1, 2, 2.5 or 5 times a power of ten.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) step: f64,
}

impl Axis {
    /// An axis over `low ..= high` with about `wanted` steps.
    pub(crate) fn new(low: f64, high: f64, wanted: usize) -> Self {
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
        let step = round_step((high - low) / wanted.max(1) as f64);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// An axis over whole numbers from 0, for counts.
    pub(crate) fn counts(high: usize, wanted: usize) -> Self {
        let axis = Self::new(0.0, high.max(1) as f64, wanted);
        if axis.step < 1.0 { Self { low: 0.0, high: high.max(1) as f64, step: 1.0 } } else { axis }
    }

    /// Where the ticks are.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|i| self.low + i as f64 * self.step)
    }

    /// The share of the axis below `value`, clamped to `0 ..= 1`.
    pub(crate) fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// A tick's label, with the decimals that the step needs and a true minus sign.
    pub(crate) fn label(&self, value: f64) -> String {
        let decimals = (0..4).find(|&d| is_whole(self.step * 10_f64.powi(d))).unwrap_or(4) as usize;
        let value = if value.abs() < self.step * 1e-6 { 0.0 } else { value };
        format!("{value:.decimals$}").replace('-', "−")
    }
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-6 * value.abs().max(1e-3)
}

fn round_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= raw * (1.0 - 1e-9))
        .unwrap_or(10.0);
    factor * power
}

/// Bins of equal, round width over all of the given values, shared so that layers can be compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bins {
    pub(crate) low: f64,
    pub(crate) width: f64,
    pub(crate) count: usize,
}

impl Bins {
    /// Bins by Freedman and Diaconis' rule, `2 · IQR / ∛n` of the narrowest layer, rounded, but some 5 to 30 of them.
    ///
    /// `None` if there are no values. All must be finite.
    pub(crate) fn new(layers: &[&[f64]]) -> Option<Self> {
        let mut wanted = f64::INFINITY;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for layer in layers.iter().filter(|layer| !layer.is_empty()) {
            let mut sorted = layer.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let quartile = |quarters: usize| sorted[(sorted.len() - 1) * quarters / 4];
            let range = quartile(3) - quartile(1);
            wanted = wanted.min(2.0 * range / (sorted.len() as f64).cbrt());
            low = low.min(quartile(0));
            high = high.max(quartile(4));
        }
        if low > high {
            return None;
        }
        let span = (high - low).max(1e-3 * high.abs()).max(1e-6);
        let width = round_step(wanted.clamp(span / 30.0, span / 5.0));
        let first = (low / width).floor() * width;
        let count = (((high - first) / width).floor() as usize + 1).clamp(1, 64);
        Some(Self { low: first, width, count })
    }

    pub(crate) fn high(&self) -> f64 {
        self.low + self.count as f64 * self.width
    }

    /// How many values fall into each bin.
    pub(crate) fn counts(&self, values: &[f64]) -> Vec<usize> {
        let mut counts = vec![0; self.count];
        for value in values {
            let bin = ((value - self.low) / self.width).max(0.0) as usize;
            counts[bin.min(self.count - 1)] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_data() {
        let axis = Axis::new(-0.3, 11.2, 6);
        assert_eq!((axis.low, axis.high, axis.step), (-2.0, 12.0, 2.0));
        assert_eq!(axis.ticks().map(|tick| axis.label(tick)).nth(1).as_deref(), Some("0"));
        assert_eq!(axis.label(-2.0), "−2");
        let fine = Axis::new(0.81, 0.97, 5);
        assert_eq!(fine.label(fine.low), "0.80");
        let flat = Axis::new(5.0, 5.0, 5);
        assert!(flat.low < 5.0 && flat.high > 5.0);
        assert_eq!(Axis::counts(2, 5).ticks().count(), 3);
    }

    #[test]
    fn every_value_falls_into_a_bin() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i) * 0.37 - 4.0).collect();
        let bins = Bins::new(&[&values]).expect("50 values");
        assert_eq!(bins.counts(&values).iter().sum::<usize>(), 50);
        assert!(bins.low <= -4.0 && bins.high() > 49.0 * 0.37 - 4.0);
        assert_eq!(Bins::new(&[&[]]), None);
        let one = Bins::new(&[&[3.0]]).expect("one value");
        assert_eq!(one.counts(&[3.0]).iter().sum::<usize>(), 1);
    }
}
