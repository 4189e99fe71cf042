//! `photomend serve`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{DetectionArgs, DiffusionArgs, FillArgs, NoiseSeed, PresetArg, ReadArgs, number_in};

/// Opens a local web page to restore photographs on: drop a picture, touch up the mask, compare before and after.
///
/// Prints the page's address and serves until Ctrl-C. Listens on this machine only, unless --host says otherwise; then a
/// token is needed, which is part of the address that is printed. Pictures and results stay in a folder of this
/// machine until nobody has used them for --keep hours.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The address to listen on; 0.0.0.0 is every network that this machine is in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,

    /// The port to listen on; 0 takes any free one
    #[arg(long, value_name = "N", default_value_t = 7860)]
    pub(crate) port: u16,

    /// What everyone who asks must know [default: the environment's PHOTOMEND_TOKEN; else none on this machine, and a random
    /// one beyond]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// A name that browsers may call this server by, beside localhost and addresses; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Where pictures and results are kept [default: a folder of this user's]
    #[arg(long, value_name = "DIR", help_heading = "Keeping")]
    pub(crate) data: Option<PathBuf>,

    /// Delete pictures and results that nobody has used for so long, 0.1 to 87600 hours
    #[arg(
        long, value_name = "HOURS", default_value = "72", help_heading = "Keeping",
        value_parser = number_in(0.1_f64..=87600.0)
    )]
    pub(crate) keep: f64,

    /// Refuse files that are larger, 1 to 100000 megabytes
    #[arg(
        long, value_name = "MB", default_value_t = 512, help_heading = "Limits",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(crate) max_upload: u32,

    /// Restorations that may wait, 1 to 10000
    #[arg(
        long, value_name = "N", default_value_t = 64, help_heading = "Limits",
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    pub(crate) queue: u16,

    /// Stop a restoration that takes longer, 1 to 100000 minutes
    #[arg(
        long, value_name = "MINUTES", default_value_t = 360, help_heading = "Limits",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(crate) max_minutes: u32,

    /// What the detection is tuned for
    #[arg(long, value_enum, value_name = "KIND", default_value_t, help_heading = "Mask")]
    pub(crate) preset: PresetArg,

    #[command(flatten)]
    pub(crate) fill: FillArgs,

    #[command(flatten)]
    pub(crate) diffusion: DiffusionArgs,

    #[command(flatten)]
    pub(crate) noise: NoiseSeed,

    #[command(flatten)]
    pub(crate) detection: DetectionArgs,

    #[command(flatten)]
    pub(crate) read: ReadArgs,
}
