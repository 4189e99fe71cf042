//! Which training timesteps are visited: numpy's `linspace`, `arange` and rounding, as diffusers uses them.

use super::SchedulerConfig;
use super::betas::num_train_timesteps;
use super::choice::{Choice, choose};
use crate::error::{DiffusionError, Result};

/// How timesteps are spread (`timestep_spacing`; table 2 of Lin et al. 2023).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestepSpacing {
    Linspace,
    Leading,
    Trailing,
}

impl Choice for TimestepSpacing {
    const NAMES: &'static [(&'static str, Self)] =
        &[("linspace", Self::Linspace), ("leading", Self::Leading), ("trailing", Self::Trailing)];
}

/// The numbers that timesteps are made from, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spacing {
    pub(super) kind: TimestepSpacing,
    pub(super) num_train_timesteps: usize,
    pub(super) num_inference_steps: usize,
    steps_offset: f64,
}

impl Spacing {
    /// # Errors
    /// [`DiffusionError::Argument`] if there are more steps than training timesteps, or none.
    pub(super) fn new(
        config: &SchedulerConfig,
        default: TimestepSpacing,
        num_inference_steps: usize,
    ) -> Result<Self> {
        let num_train_timesteps = num_train_timesteps(config)?;
        if !(1..=num_train_timesteps).contains(&num_inference_steps) {
            let expected = format!("1 to {num_train_timesteps}, the training timesteps");
            return Err(DiffusionError::argument("steps", expected, num_inference_steps));
        }
        let offset = config.steps_offset.unwrap_or(0);
        if offset >= num_train_timesteps {
            let expected = format!("below {num_train_timesteps}, the training timesteps");
            return Err(DiffusionError::argument("steps_offset", expected, offset));
        }
        Ok(Self {
            kind: choose("timestep_spacing", config.timestep_spacing.as_deref(), default)?,
            num_train_timesteps,
            num_inference_steps,
            steps_offset: offset as f64,
        })
    }

    /// Training timesteps between two inference steps.
    pub(super) const fn ratio(&self) -> i64 {
        (self.num_train_timesteps / self.num_inference_steps) as i64
    }

    /// Descending timesteps, whole numbers but for `linspace`.
    pub(super) fn fractional(&self) -> Vec<f64> {
        let (train, steps) = (self.num_train_timesteps, self.num_inference_steps);
        match self.kind {
            TimestepSpacing::Linspace => {
                let mut timesteps = linspace(0.0, (train - 1) as f64, steps);
                timesteps.reverse();
                timesteps
            }
            TimestepSpacing::Leading => {
                let ratio = (train / steps) as f64;
                (0..steps).rev().map(|i| i as f64 * ratio + self.steps_offset).collect()
            }
            TimestepSpacing::Trailing => self.trailing(train),
        }
    }

    /// Descending whole timesteps.
    pub(super) fn whole(&self) -> Vec<i64> {
        self.fractional().into_iter().map(|t| t.round_ties_even() as i64).collect()
    }

    /// The spread of the multi-step solvers: as if there were one step more, without the last timestep.
    /// `last_timestep` ends the timesteps in use.
    pub(super) fn whole_of_one_more(&self, last_timestep: usize) -> Vec<i64> {
        let steps = self.num_inference_steps;
        let timesteps = match self.kind {
            TimestepSpacing::Linspace => {
                let mut timesteps = linspace(0.0, last_timestep as f64 - 1.0, steps + 1);
                timesteps.reverse();
                timesteps.pop();
                timesteps
            }
            TimestepSpacing::Leading => {
                let ratio = (last_timestep / (steps + 1)) as f64;
                (1..=steps).rev().map(|i| i as f64 * ratio + self.steps_offset).collect()
            }
            TimestepSpacing::Trailing => self.trailing(last_timestep),
        };
        timesteps.into_iter().map(|t| t.round_ties_even() as i64).collect()
    }

    /// `numpy.arange(last, 0, -ratio).round() - 1`.
    ///
    /// Differs from diffusers on purpose for some step counts (61 and 103 are the first of 1000): rounding gives
    /// numpy one value too many there, and diffusers a last timestep of −1. Here it is left out.
    fn trailing(&self, last_timestep: usize) -> Vec<f64> {
        let ratio = self.num_train_timesteps as f64 / self.num_inference_steps as f64;
        let start = last_timestep as f64;
        // numpy steps by the difference of the first two values, which is not quite the ratio.
        let delta = (start - ratio) - start;
        (0..self.num_inference_steps)
            .map(|i| (start + i as f64 * delta).round_ties_even() - 1.0)
            .take_while(|&t| t >= 0.0)
            .collect()
    }
}

/// `numpy.linspace(start, stop, n)`.
pub(super) fn linspace(start: f64, stop: f64, n: usize) -> Vec<f64> {
    let step = (stop - start) / (n.max(2) - 1) as f64;
    let mut values: Vec<f64> = (0..n).map(|i| i as f64 * step + start).collect();
    if n > 1 {
        values[n - 1] = stop;
    }
    values
}

/// Timesteps as [`super::Scheduler::timesteps`] gives them.
pub(super) fn as_f64(timesteps: &[i64]) -> Vec<f64> {
    timesteps.iter().map(|&t| t as f64).collect()
}
