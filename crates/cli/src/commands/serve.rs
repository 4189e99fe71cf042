//! `photomend serve`: builds what restores, opens the server, and stops it on Ctrl-C.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use server::{Config, Limits, Server};

use crate::args::ServeArgs;
use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::serving::PageEngine;

/// Between two looks whether Ctrl-C was pressed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &ServeArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. settings, then everything that they name
    let config = config(args)?;
    config.check().map_err(|error| exit::usage(error.to_string()))?;
    let engine = Arc::new(PageEngine::new(args, context)?);
    let server = Server::open(config, engine)?;

    // 2. where it is
    context.note(&format!("pictures are kept in {}", server.data().display()));
    context.print(&format!("{}\n", server.url()))?;

    // 3. until somebody has had enough, which is no failure
    let (stopper, cancel) = (server.stopper(), context.cancel().clone());
    std::thread::spawn(move || {
        while !cancel.is_set() {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        stopper.stop();
    });
    server.run()?;
    Ok(Outcome::Done)
}

fn config(args: &ServeArgs) -> anyhow::Result<Config> {
    let mut config = Config::new(match &args.data {
        Some(folder) => folder.clone(),
        None => default_data()?,
    });
    (config.host, config.port) = (args.host, args.port);
    config.names.clone_from(&args.allow_host);
    let given = args.token.clone().or_else(|| std::env::var("PHOTOMEND_TOKEN").ok());
    config.token = match given.filter(|token| !token.is_empty()) {
        None if !args.host.is_loopback() => Some(server::random_token()?),
        token => token,
    };
    config.keep = Duration::from_secs_f64(args.keep * 3600.0);
    config.limits = Limits {
        upload_bytes: 1_000_000 * u64::from(args.max_upload),
        pixels: args.read.options().max_pixels,
        queue: usize::from(args.queue),
        job_time: Duration::from_secs(60 * u64::from(args.max_minutes)),
        ..Limits::default()
    };
    Ok(config)
}

/// Where programs keep what is worth a while: each system has a folder of each user for that.
fn default_data() -> anyhow::Result<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let folder = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home.map(|home| home.join("Library/Application Support"))
    } else {
        set("XDG_STATE_HOME").or_else(|| home.map(|home| home.join(".local/state")))
    };
    match folder {
        Some(folder) => Ok(folder.join("photomend")),
        None => Err(exit::usage("expected a folder to keep pictures in: --data DIR")),
    }
}
