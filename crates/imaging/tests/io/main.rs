//! Image files in and out.

#[path = "../common/mod.rs"]
mod common;

mod hostile_files;
mod parity;
mod round_trips;
