//! Writes CLIP's own tokenizer as files that diffusers and transformers read.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::vocabulary::Vocabulary;
use crate::error::{DiffusionError, Result};

/// Writes `vocab.json`, `merges.txt` and the settings of Stable Diffusion 1, or of 2 if `open_clip`, into a folder.
///
/// # Errors
/// [`DiffusionError::Io`] if a file cannot be written.
pub fn write_clip_tokenizer(folder: &Path, open_clip: bool) -> Result<()> {
    write(folder, &Vocabulary::clip()?, open_clip)
}

/// [`write_clip_tokenizer`] of Stable Diffusion 1 with the first `merges` of CLIP's merges alone, for small text encoders:
/// a vocabulary of 514 + `merges` tokens.
///
/// # Errors
/// As there.
pub fn write_small_tokenizer(folder: &Path, merges: usize) -> Result<()> {
    write(folder, &Vocabulary::clip_of(merges)?, false)
}

fn write(folder: &Path, vocabulary: &Vocabulary, open_clip: bool) -> Result<()> {
    // In the order of the ids, as upstream's files are; a map of strings would sort them.
    let mut tokens: Vec<_> = vocabulary.ids.iter().collect();
    tokens.sort_by_key(|(_, id)| **id);
    let tokens: Vec<_> =
        tokens.into_iter().map(|(token, id)| format!("{}:{id}", json!(token))).collect();
    let mut merges = String::from("#version: 0.2\n");
    for (left, right) in &vocabulary.merges {
        writeln!(merges, "{left} {right}").expect("writing to a string does not fail");
    }
    let pad = if open_clip { "!" } else { "<|endoftext|>" };
    let special = json!({
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    });
    let mut config = special.clone();
    config["tokenizer_class"] = json!("CLIPTokenizer");
    config["model_max_length"] = json!(77);
    config["do_lower_case"] = json!(true);
    config["add_prefix_space"] = json!(false);
    for (name, text) in [
        ("vocab.json", format!("{{{}}}", tokens.join(","))),
        ("merges.txt", merges),
        ("tokenizer_config.json", config.to_string()),
        ("special_tokens_map.json", special.to_string()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| DiffusionError::io(&path, "write", source))?;
    }
    Ok(())
}
