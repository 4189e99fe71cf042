//! `photomend man`: the pages come from the argument definitions.

use anyhow::Context as _;
use clap::CommandFactory;

use crate::args::{Cli, ManArgs};
use crate::context::Context;
use crate::exit::Outcome;
use crate::outputs;

pub(crate) fn run(args: &ManArgs, context: &Context) -> anyhow::Result<Outcome> {
    outputs::make_folder(&args.output)?;
    clap_mangen::generate_to(Cli::command(), &args.output)
        .with_context(|| format!("{}: cannot write the man pages", args.output.display()))?;
    context.status(&format!("Man pages written to {}", args.output.display()));
    Ok(Outcome::Done)
}
