//! What each verb does: a function from its arguments to an outcome, one file a verb.

mod bench;
mod completions;
mod damage;
mod evaluate;
mod man;
mod mask;
mod model;
mod restore;
mod serve;
mod train;
mod train_pixels;

use diffusion::train::pixelwise::PixelTask;

use crate::args::Command;
use crate::context::Context;
use crate::exit::Outcome;

/// Runs the verb.
///
/// # Errors
/// Whatever stops a verb as a whole; failures of single pictures are in the outcome.
pub(crate) fn run(command: Command, context: &Context) -> anyhow::Result<Outcome> {
    match command {
        Command::Restore(args) => restore::run(&args, context),
        Command::Mask(args) => mask::run(&args, context),
        Command::Damage(args) => damage::run(&args, context),
        Command::Train(args) => train::run(&args, context),
        Command::TrainDetector(args) => train_pixels::run(PixelTask::Detector, &args, context),
        Command::TrainRefiner(args) => train_pixels::run(PixelTask::Refiner, &args, context),
        Command::TrainAutoencoder(args) => train_pixels::run_autoencoder(&args, context),
        Command::Evaluate(args) => evaluate::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Model(args) => model::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Man(args) => man::run(&args, context),
    }
}
