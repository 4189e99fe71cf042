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
    write_page(&program, &args.output)?;
    for verb in program.get_subcommands() {
        write_page(verb, &args.output)?;
    }
    context.status(&format!("man pages → {}", args.output.display()));
    Ok(Outcome::Done)
}

fn write_page(command: &Command, folder: &Path) -> imaging::Result<()> {
    let page = Man::new(command.clone());
    let path = folder.join(page.get_filename());
    write_atomically(&path, true, |writer| {
        page.render(writer).map_err(|error| ImagingError::io(&path, "write", error))
    })
}
