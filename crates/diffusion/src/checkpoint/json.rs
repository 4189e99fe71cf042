//! Small JSON files of a checkpoint: configurations and shard indices.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{DiffusionError, Result};

/// The largest configuration that is read, in bytes; real ones have a few thousand.
const MAX_CONFIG: u64 = 1 << 20;

/// The largest shard index that is read, in bytes; that of SD 1.5 has 100 thousand.
const MAX_INDEX: u64 = 64 << 20;

/// Reads a configuration: a JSON object.
pub(super) fn read_config(path: &Path) -> Result<Value> {
    read_object(path, MAX_CONFIG).map(Value::Object)
}

/// Reads a shard index: a JSON object.
pub(super) fn read_index(path: &Path) -> Result<Map<String, Value>> {
    read_object(path, MAX_INDEX)
}

fn read_object(path: &Path, limit: u64) -> Result<Map<String, Value>> {
    let file = super::elements::FileBytes::open(path)?;
    if file.len() > limit {
        return Err(DiffusionError::checkpoint(
            path,
            format!("expected a JSON file of at most {limit} bytes, found {}", file.len()),
        ));
    }
    let mut bytes = vec![0; file.len() as usize];
    file.read_at(0, &mut bytes)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => {
            Err(DiffusionError::checkpoint(path, "expected a JSON object, found another value"))
        }
        Err(error) => Err(DiffusionError::checkpoint(path, format!("expected JSON: {error}"))),
    }
}

/// The string at `key`, if it is one.
pub(super) fn string<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Value::as_str)
}
