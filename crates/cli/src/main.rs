//! `photomend`: finds and repairs the damage in old photographs and artworks.
//!
//! Thin over the `imaging` library: parse the arguments, validate them and every input, run the job, and turn
//! the outcome into an exit code.

mod args;
mod batch;
mod commands;
mod context;
mod engine;
mod exit;
mod inputs;
mod masks;
mod outputs;
mod panics;
mod progress;
mod serving;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::context::Context;

#[global_allocator]
static ALLOCATOR: diffusion::Allocator = diffusion::Allocator;

fn main() -> ExitCode {
    let cli = Cli::parse();
    panics::install_hook();
    let outcome = panics::caught(|| commands::run(cli.command, &Context::new(&cli.global)?));
    exit::code(outcome)
}
