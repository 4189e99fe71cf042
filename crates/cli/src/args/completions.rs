//! `photomend completions`.

use clap::Args;
use clap_complete::Shell;

/// Prints a script that completes the command line in a shell.
///
/// For example: photomend completions bash > ~/.local/share/bash-completion/completions/photomend
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}
