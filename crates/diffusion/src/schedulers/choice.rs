//! Settings that are one of a few names.

use crate::error::{DiffusionError, Result};

/// A setting with names as diffusers writes them.
pub(super) trait Choice: Copy + 'static {
    /// Every name that is accepted.
    const NAMES: &'static [(&'static str, Self)];
}

/// The choice that `value` names; `default` if the key is absent.
pub(super) fn choose<T: Choice>(key: &str, value: Option<&str>, default: T) -> Result<T> {
    let Some(value) = value else { return Ok(default) };
    T::NAMES.iter().find(|(name, _)| *name == value).map(|&(_, choice)| choice).ok_or_else(|| {
        let names: Vec<_> = T::NAMES.iter().map(|&(name, _)| name).collect();
        DiffusionError::argument(key, format!("one of {}", names.join(", ")), value)
    })
}
