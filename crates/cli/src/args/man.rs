//! `photomend man`.

use std::path::PathBuf;

use clap::Args;

/// Writes the man pages: photomend.1 and one for each verb.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder to write them to; made if it is missing, older pages in it are replaced
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}
