//! `photomend model new`: a checkpoint to train from nothing.

use diffusion::checkpoint::{NewCheckpoint, write_new};

use crate::args::ModelNewArgs;
use crate::context::Context;
use crate::exit::Outcome;
use crate::outputs;

pub(super) fn run(args: &ModelNewArgs, context: &Context) -> anyhow::Result<Outcome> {
    outputs::make_parent(&args.output)?;
    write_new(&args.output, &NewCheckpoint::compact(), args.seed)?;
    context.status(&format!("random weights of seed {} → {}", args.seed, args.output.display()));
    Ok(Outcome::Done)
}
