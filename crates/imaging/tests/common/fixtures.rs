//! Where fixtures are.

use std::path::PathBuf;

/// The folder of an area's fixtures: below `PHOTOMEND_FIXTURES` if that is set, else the checked-in ones.
pub(crate) fn fixtures(area: &str) -> PathBuf {
    std::env::var_os("PHOTOMEND_FIXTURES")
        .map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")),
            PathBuf::from,
        )
        .join(area)
}
