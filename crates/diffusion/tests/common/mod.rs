//! Where fixtures lie and how they are read.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

/// `PHOTOMEND_FIXTURES`, or the fixtures in the repository; it holds a folder for each area.
pub(crate) fn fixtures() -> PathBuf {
    std::env::var_os("PHOTOMEND_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")),
        PathBuf::from,
    )
}

/// A JSON fixture, by its path in [`fixtures`].
pub(crate) fn json<T: DeserializeOwned>(path: &str) -> T {
    let path = fixtures().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
