//! `photomend model pull`.

use diffusion::checkpoint::hub::{self, HubOptions};
use serde::Serialize;

use crate::args::ModelPullArgs;
use crate::context::Context;
use crate::exit::Outcome;

#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    path: String,
    revision: &'a str,
    commit: &'a str,
    files: &'a [String],
    downloaded_bytes: u64,
    offline_because: Option<&'a str>,
}

pub(super) fn run(args: &ModelPullArgs, context: &Context) -> anyhow::Result<Outcome> {
    let options = HubOptions {
        revision: args.revision.clone(),
        variant: args.variant.clone(),
        ..HubOptions::from_env()
    };
    let pulled = hub::pull(&args.id, &options, context)?;
    if let Some(reason) = &pulled.offline_because {
        context.note(&format!("{}: {reason}; this is what the cache has", args.id));
    }
    let path = pulled.path.display().to_string();
    if args.json.json {
        context.print_json(&Report {
            id: &args.id,
            path,
            revision: &args.revision,
            commit: &pulled.commit,
            files: &pulled.files,
            downloaded_bytes: pulled.downloaded_bytes,
            offline_because: pulled.offline_because.as_deref(),
        })?;
    } else {
        context.print(&format!("{path}\n"))?;
    }
    Ok(Outcome::Done)
}
