//! `photomend completions`: the script comes from the argument definitions.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::context::Context;
use crate::exit::Outcome;

pub(crate) fn run(args: &CompletionsArgs, context: &Context) -> anyhow::Result<Outcome> {
    // Into memory first: the generator panics if its writer fails, as a closed pipe does.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "photomend", &mut script);
    context.print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
