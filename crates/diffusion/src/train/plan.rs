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
}

impl Plan {
    pub(super) fn new(set: &TrainingSet, options: &TrainOptions) -> Self {
        let batch_size = options.optimizer.batch_size;
        let accumulation = options.optimizer.gradient_accumulation_steps;
        let seed = sub_seed(options.run.seed, "order");
        // As many batches in every epoch: a picture's bucket does not change.
        let batches = set.epoch_batches(0, batch_size, seed).len();
        let steps_per_epoch = batches.div_ceil(accumulation).max(1) as u64;
        let total_steps = options
            .run
            .max_steps
            .unwrap_or_else(|| options.run.epochs.saturating_mul(steps_per_epoch));
        Self { batch_size, accumulation, seed, steps_per_epoch, total_steps }
    }

    /// The epoch of a step (from 0), and its batches.
    pub(super) fn step(&self, set: &TrainingSet, step: u64) -> (u64, Vec<Vec<usize>>) {
        let epoch = step / self.steps_per_epoch;
        let batches = set.epoch_batches(epoch, self.batch_size, self.seed);
        let at = (step % self.steps_per_epoch) as usize;
        let own = batches.into_iter().skip(at * self.accumulation).take(self.accumulation);
        (epoch, own.collect())
    }
}
