//! `photomend man`: the pages come from the argument definitions.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use imaging::ImagingError;
use imaging::io::write_atomically;

use crate::args::{Cli, ManArgs};
use crate::context::Context;
use crate::exit::Outcome;
use crate::outputs;

pub(crate) fn run(args: &ManArgs, context: &Context) -> anyhow::Result<Outcome> {
    outputs::make_folder(&args.output)?;
    // Building gives each verb the name that its page has: photomend-restore.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    write_pages(&program, &args.output)?;
    context.status(&format!("man pages → {}", args.output.display()));
    Ok(Outcome::Done)
}

/// The page of a verb, and those of its own verbs.
fn write_pages(command: &Command, folder: &Path) -> imaging::Result<()> {
    write_page(command, folder)?;
    let mut verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    verbs.try_for_each(|verb| write_pages(verb, folder))
}

fn write_page(command: &Command, folder: &Path) -> imaging::Result<()> {
    let page = Man::new(command.clone());
    let path = folder.join(page.get_filename());
    write_atomically(&path, true, |writer| {
        page.render(writer).map_err(|error| ImagingError::io(&path, "write", error))
    })
}
