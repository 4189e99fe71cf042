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
    match serde_json::from_slice(&without_python_constants(&bytes)) {
        Ok(Value::Object(mut map)) => {
            map.retain(|_, value| value != NOT_JSON);
            Ok(map)
        }
        Ok(_) => {
            Err(DiffusionError::checkpoint(path, "expected a JSON object, found another value"))
        }
        Err(error) => Err(DiffusionError::checkpoint(path, format!("expected JSON: {error}"))),
    }
}

/// What stands in for a value that JSON does not have, until its key is dropped.
const NOT_JSON: &str = "\u{0}not JSON";

/// Python writes infinities and NaN as bare words, which JSON does not know: diffusers' schedulers have a
/// `"lambda_min_clipped": -Infinity`. They are always the default of their key, which is therefore dropped.
fn without_python_constants(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut in_string = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"]
            .into_iter()
            .find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            out.extend_from_slice(br#""\u0000not JSON""#);
            at += word.len();
            continue;
        }
        if in_string && byte == b'\\' && at + 1 < bytes.len() {
            out.extend_from_slice(&rest[..2]);
            at += 2;
            continue;
        }
        in_string ^= byte == b'"';
        out.push(byte);
        at += 1;
    }
    out
}

/// The string at `key`, if it is one.
pub(super) fn string<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_infinity_is_dropped_outside_of_strings() {
        let text =
            br#"{"a": -Infinity, "b": "-Infinity \" NaN", "c": [1], "d": NaN, "e": Infinity}"#;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).expect("a small file");
        let config = read_config(&path).expect("an object");
        assert_eq!(config, serde_json::json!({"b": "-Infinity \" NaN", "c": [1]}));
    }
}
