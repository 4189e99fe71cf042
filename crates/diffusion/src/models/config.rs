//! What the configurations of all models share: parsing, limits, and refusing what is not supported.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{DiffusionError, Result};

/// Keys of a configuration that a model has no field for.
pub(super) type OtherSettings = BTreeMap<String, Value>;

/// One value for every block, or a list with a value for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected one value or a list of values")]
pub enum OneOrMany<T> {
    /// The same for every block.
    One(T),
    /// In the order of the blocks.
    Many(Vec<T>),
}

impl<T: Copy> OneOrMany<T> {
    /// A list of `len` values.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] about `key` if a list has another length.
    pub(super) fn expand(&self, key: &str, len: usize) -> Result<Vec<T>> {
        match self {
            Self::One(value) => Ok(vec![*value; len]),
            Self::Many(values) if values.len() == len => Ok(values.clone()),
            Self::Many(values) => Err(DiffusionError::argument(
                key,
                format!("one value or {len}, one a block"),
                format!("{} values", values.len()),
            )),
        }
    }
}

/// Parses `config.json` as it is, naming the key that does not fit.
pub(super) fn from_json<T: DeserializeOwned>(class: &str, json: &Value) -> Result<T> {
    let error = match T::deserialize(json) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    // serde does not say which key it was at: the one that fails alone.
    let culprit = json.as_object().and_then(|object| {
        object.iter().find_map(|(key, value)| {
            let error = T::deserialize(json!({ key: value })).err()?;
            Some((format!("{class}: {key}"), error, value.to_string()))
        })
    });
    let (name, error, found) =
        culprit.unwrap_or_else(|| (class.to_owned(), error, "another form of JSON".to_owned()));
    let mut found: String = found.chars().take(80).collect();
    if found.is_empty() {
        found.push_str("nothing");
    }
    Err(DiffusionError::argument(name, format!("a value of config.json ({error})"), found))
}

/// An error if a setting of `table` is neither absent, null nor the value given there, the only one supported.
pub(super) fn refuse_unsupported(
    class: &str,
    settings: &OtherSettings,
    table: &[(&str, Value)],
) -> Result<()> {
    for (key, default) in table {
        let same = |value: &Value| {
            value.is_null()
                || value == default
                || matches!((value.as_f64(), default.as_f64()), (Some(a), Some(b)) if a == b)
        };
        if let Some(value) = settings.get(*key).filter(|value| !same(value)) {
            let expected = format!("{default} (nothing else is supported)");
            return Err(DiffusionError::argument(format!("{class}: {key}"), expected, value));
        }
    }
    Ok(())
}

/// An error unless `1 <= value <= max`.
pub(super) fn check_count(class: &str, key: &str, value: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(DiffusionError::argument(format!("{class}: {key}"), format!("1 to {max}"), value))
}

/// Widest layer that a configuration may ask for; products of two widths stay far from overflow.
pub(super) const MAX_CHANNELS: usize = 1 << 20;
/// Most layers of a block, or blocks of a transformer.
pub(super) const MAX_LAYERS: usize = 256;
/// Most resolutions of a network.
pub(super) const MAX_BLOCKS: usize = 16;

/// Checks the widths of a network with a block for each, and that the norm's groups divide them.
pub(super) fn check_widths(class: &str, key: &str, widths: &[usize], groups: usize) -> Result<()> {
    check_count(class, &format!("length of {key}"), widths.len(), MAX_BLOCKS)?;
    check_count(class, "norm_num_groups", groups, MAX_CHANNELS)?;
    for width in widths {
        check_count(class, key, *width, MAX_CHANNELS)?;
        if !width.is_multiple_of(groups) {
            let expected = format!("multiples of norm_num_groups, {groups}");
            return Err(DiffusionError::argument(format!("{class}: {key}"), expected, width));
        }
    }
    Ok(())
}

/// An error unless every block type is `supported`, and there is one a width.
pub(super) fn check_block_types(
    class: &str,
    key: &str,
    types: &[String],
    blocks: usize,
    supported: &[&str],
) -> Result<()> {
    let name = || format!("{class}: {key}");
    if types.len() != blocks {
        return Err(DiffusionError::argument(name(), format!("{blocks} types"), types.len()));
    }
    match types.iter().find(|block| !supported.contains(&block.as_str())) {
        Some(block) => Err(DiffusionError::argument(name(), supported.join(" or "), block)),
        None => Ok(()),
    }
}

/// An error unless `eps` is a number that a variance can be added to.
pub(super) fn check_eps(class: &str, key: &str, eps: f64) -> Result<()> {
    if eps.is_finite() && eps >= 0.0 {
        return Ok(());
    }
    Err(DiffusionError::argument(format!("{class}: {key}"), "a number of at least 0", eps))
}
