//! Addresses and what answers them. `openapi.json` beside this file describes every one below `/api`.

mod about;
mod assets;
mod files;
mod input;
mod jobs;
mod masks;
mod pictures;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, post, put};
use tokio::sync::{Semaphore, watch};

use crate::config::Limits;
use crate::engine::Engine;
use crate::guard::{Guard, guard};
use crate::jobs::Queue;
use crate::problem::Problem;
use crate::store::Store;
use crate::workbench::Workbench;

/// The description of the API, OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What every answer needs.
pub(crate) struct App {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) bench: Arc<Workbench>,
    pub(crate) limits: Limits,
    /// How long pictures are kept after their last use.
    pub(crate) keep: Duration,
    /// Uploads that may come in at the same time.
    pub(crate) uploads: Semaphore,
    /// Becomes true when the server stops: streams of events end then.
    pub(crate) stopping: watch::Receiver<bool>,
}

type Shared = Arc<App>;
type Operation = (&'static str, &'static str, fn() -> MethodRouter<Shared>);

/// Every operation of the API.
const OPERATIONS: [Operation; 23] = [
    ("GET", "/api/about", || get(about::about)),
    ("GET", "/api/openapi.json", || get(about::openapi)),
    ("GET", "/api/pictures", || get(pictures::list)),
    ("POST", "/api/pictures", || post(upload::upload)),
    ("GET", "/api/pictures/{picture}", || get(pictures::show)),
    ("DELETE", "/api/pictures/{picture}", || delete(pictures::remove)),
    ("GET", "/api/pictures/{picture}/original", || get(pictures::original)),
    ("GET", "/api/pictures/{picture}/view", || get(pictures::view)),
    ("GET", "/api/pictures/{picture}/detection", || get(masks::detection)),
    ("GET", "/api/pictures/{picture}/mask", || get(masks::show)),
    ("PUT", "/api/pictures/{picture}/mask", || put(masks::put)),
    ("DELETE", "/api/pictures/{picture}/mask", || delete(masks::remove)),
    ("POST", "/api/pictures/{picture}/command", || post(jobs::command)),
    ("POST", "/api/pictures/{picture}/jobs", || post(jobs::submit)),
    ("GET", "/api/jobs", || get(jobs::list)),
    ("GET", "/api/jobs/{job}", || get(jobs::show)),
    ("DELETE", "/api/jobs/{job}", || delete(jobs::remove)),
    ("POST", "/api/jobs/{job}/cancel", || post(jobs::cancel)),
    ("GET", "/api/jobs/{job}/events", || get(jobs::events)),
    ("GET", "/api/jobs/{job}/view", || get(jobs::view)),
    ("GET", "/api/jobs/{job}/mask", || get(jobs::mask)),
    ("GET", "/api/jobs/{job}/result", || get(jobs::result)),
    ("GET", "/api/jobs/{job}/comparison", || get(jobs::comparison)),
];

/// Method and address of every operation of the API, as [`OPENAPI`] writes them.
#[must_use]
pub fn operations() -> Vec<(&'static str, &'static str)> {
    OPERATIONS.iter().map(|&(method, path, _)| (method, path)).collect()
}

/// The whole site.
pub(crate) fn router(app: Shared, watchman: Guard) -> Router {
    let mut router = Router::new();
    for (_, path, answer) in OPERATIONS {
        router = router.route(path, answer());
    }
    router
        .merge(assets::router())
        .fallback(|| async { Problem::missing("address") })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .with_state(app)
        .layer(middleware::from_fn_with_state(Arc::new(watchman), guard))
}
