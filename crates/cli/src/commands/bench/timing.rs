//! How a stage is timed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use imaging::{ImagingError, Observer};

use super::memory::PeakMemory;
use crate::args::Stage;
use crate::context::Context;

/// Runs of a stage if nobody says how many.
const DEFAULT_RUNS: u16 = 5;

/// Then no run begins after this time, in seconds.
const DEFAULT_BUDGET: f64 = 20.0;

/// Runs stages, takes medians, and watches the memory.
pub(super) struct Timer<'a> {
    runs: u16,
    budget: f64,
    memory: RefCell<PeakMemory>,
    /// The shortest run of each stage, in seconds.
    fastest: RefCell<BTreeMap<String, f64>>,
    pub(super) context: &'a Context,
}

impl<'a> Timer<'a> {
    /// `repeat` runs of each stage; without it, a few.
    pub(super) fn new(repeat: Option<u16>, context: &'a Context) -> Self {
        let budget = if repeat.is_some() { f64::INFINITY } else { DEFAULT_BUDGET };
        let runs = repeat.unwrap_or(DEFAULT_RUNS);
        Self { runs, budget, memory: RefCell::default(), fastest: RefCell::default(), context }
    }

    pub(super) const fn most_runs(&self) -> u16 {
        self.runs
    }

    /// What the stages have held so far, and the shortest run of each by the name that `--only` takes.
    pub(super) fn finish(self) -> (PeakMemory, BTreeMap<String, f64>) {
        (self.memory.into_inner(), self.fastest.into_inner())
    }

    /// The median of what `measure` returns, in seconds.
    pub(super) fn median(
        &self,
        stage: Stage,
        measure: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<f64> {
        self.memory.borrow_mut().begin();
        let seconds = self.runs_of(stage, measure)?;
        self.memory.borrow_mut().end(stage);
        Ok(seconds)
    }

    /// The median time of `work`, which runs once more before, untimed: the first run of a model touches all of
    /// its memory. If that one took the whole budget, it counts.
    pub(super) fn median_warm(
        &self,
        stage: Stage,
        mut work: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let mut timed = || {
            let started = Instant::now();
            work()?;
            Ok(started.elapsed().as_secs_f64())
        };
        self.memory.borrow_mut().begin();
        self.check(stage, 0)?;
        let first = timed()?;
        let seconds = if first > self.budget {
            self.note(stage, &[first]);
            first
        } else {
            self.runs_of(stage, timed)?
        };
        self.memory.borrow_mut().end(stage);
        Ok(seconds)
    }

    fn runs_of(
        &self,
        stage: Stage,
        mut measure: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut seconds = Vec::new();
        for run in 0..self.runs {
            if run > 0 && started.elapsed().as_secs_f64() > self.budget {
                break;
            }
            self.check(stage, run)?;
            seconds.push(measure()?);
        }
        self.note(stage, &seconds);
        Ok(median(&mut seconds))
    }

    fn note(&self, stage: Stage, seconds: &[f64]) {
        let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        self.fastest.borrow_mut().insert(stage.name(), fastest);
    }

    /// Shows which run of a stage it is; an error if the user asked to stop.
    fn check(&self, stage: Stage, run: u16) -> anyhow::Result<()> {
        if self.context.cancelled() {
            return Err(ImagingError::Cancelled.into());
        }
        Observer::progress(self.context, stage.label(), u64::from(run), u64::from(self.runs));
        Ok(())
    }
}

/// The middle value; the mean of the middle two of an even number. There is at least one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0]), 2.0);
    }
}
