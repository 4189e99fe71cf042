//! Which pictures each step of a run takes: a function of the step's number.

use super::data::TrainingSet;
use super::settings::TrainOptions;
use crate::random::sub_seed;

/// Which pictures each step takes.
pub(super) struct Plan {
    batch_size: usize,
    accumulation: usize,
    seed: u64,
    steps_per_epoch: u64,
    pub(super) total_steps: u64,
    /// The epoch that the last step was in, and its batches.
    current: (u64, Vec<Vec<usize>>),
}

impl Plan {
    pub(super) fn new(set: &TrainingSet, options: &TrainOptions) -> Self {
        let batch_size = options.optimizer.batch_size;
        let accumulation = options.optimizer.gradient_accumulation_steps;
        let seed = sub_seed(options.run.seed, "order");
        // As many batches in every epoch: a picture's bucket does not change.
        let batches = set.epoch_batches(0, batch_size, seed);
        let steps_per_epoch = batches.len().div_ceil(accumulation).max(1) as u64;
        let total_steps = options
            .run
            .max_steps
            .unwrap_or_else(|| options.run.epochs.saturating_mul(steps_per_epoch));
        let current = (0, batches);
        Self { batch_size, accumulation, seed, steps_per_epoch, total_steps, current }
    }

    /// The epoch of a step (from 0), and its batches.
    pub(super) fn step(&mut self, set: &TrainingSet, step: u64) -> (u64, &[Vec<usize>]) {
        let epoch = step / self.steps_per_epoch;
        if self.current.0 != epoch {
            self.current = (epoch, set.epoch_batches(epoch, self.batch_size, self.seed));
        }
        let batches = &self.current.1;
        let start = (step % self.steps_per_epoch) as usize * self.accumulation;
        let end = (start + self.accumulation).min(batches.len());
        (epoch, &batches[start.min(end)..end])
    }
}
