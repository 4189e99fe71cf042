//! The server from outside, on loopback: one module an area.

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod description;
mod expiry;
mod flow;
mod limits;
mod malformed;
mod page;
mod restart;
mod safety;
mod schema;
