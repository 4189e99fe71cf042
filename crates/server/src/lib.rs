//! The local page of photomend: an HTTP API, one job runner, and a page that uses them.
//!
//! Pictures are uploaded to a data folder, damage is found and shown, masks are touched up, restorations are queued and
//! run one after another, results are kept until they expire. What finds and repaints damage is an [`Engine`] that the
//! caller brings, so that results are those of the command line.
//!
//! - [`Config`]: where to listen, where to keep pictures, and every limit;
//! - [`Server::open`] checks all of it and takes over what an earlier run left; [`Server::run`] serves until told to stop;
//! - the API is described by [`OPENAPI`], which is served as `/api/openapi.json`.
//!
//! Nothing from a request becomes a path: pictures and jobs have random ids, which are parsed before they name a folder.

mod choices;
mod config;
mod connections;
mod detection;
mod engine;
mod error;
mod guard;
mod ids;
mod jobs;
mod problem;
mod routes;
mod sensitivity;
mod server;
mod store;
mod views;
mod workbench;

pub use crate::choices::{Choices, LoraChoice, MaskChoice};
pub use crate::config::{Config, Limits};
pub use crate::engine::{About, Engine, Method};
pub use crate::error::{Result, ServerError};
pub use crate::guard::random_token;
pub use crate::routes::{OPENAPI, operations};
pub use crate::sensitivity::{DEFAULT_SENSITIVITY, classical_params, learned_threshold};
pub use crate::server::{Server, Stop};
