//! Tokenizer folders that are damaged, hostile or of another kind; properties of every encoding.

use std::fs;
use std::path::Path;

use diffusion::tokenizer::ClipTokenizer;
use proptest::prelude::*;

const VOCAB: &str = r#"{"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}"#;
const MERGES: &str = "#version: 0.2\na b</w>\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file in it");
    }
    folder
}

fn error(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    ClipTokenizer::open(folder.path()).expect_err("a damaged folder").to_string()
}

#[test]
fn smallest_folder() {
    let folder = folder(&[("vocab.json", VOCAB), ("merges.txt", MERGES)]);
    let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
    let ids = tokenizer.encode("AB a zb").unwrap().ids;
    // start, "ab</w>", "a</w>", "z" unknown, "b</w>", then the end token to 77.
    assert_eq!(ids[..6], [5, 4, 2, 6, 3, 6]);
    assert_eq!(ids.len(), 77);
}

#[test]
fn damaged_folders_say_what_is_wrong() {
    let vocab = ("vocab.json", VOCAB);
    let merges = ("merges.txt", MERGES);
    let config = |text| [vocab, merges, ("tokenizer_config.json", text)];
    assert!(error(&[]).contains("vocab.json: cannot read"));
    assert!(error(&[vocab]).contains("merges.txt: cannot read"));
    assert!(error(&[("vocab.json", "[1, 2"), merges]).contains("expected a CLIP tokenizer's JSON"));
    assert!(error(&[("vocab.json", r#"{"a": -1}"#), merges]).contains("vocab.json"));
    assert!(error(&[vocab, ("merges.txt", "a b c\n")]).contains("line 1: expected two tokens"));
    assert!(error(&[vocab, ("merges.txt", "#version\na\n")]).contains("line 2"));
    // The joined token is longer than any in the vocabulary: the `tokenizers` crate would index past its buffer.
    let long = "<|startoftext|> <|endoftext|>";
    assert!(error(&[vocab, ("merges.txt", long)]).contains("is not in the vocabulary"));
    assert!(error(&config("{")).contains("tokenizer_config.json"));
    assert!(error(&config(r#"{"model_max_length": 1}"#)).contains("above 2, found 1"));
    assert!(error(&config(r#"{"model_max_length": -77.5}"#)).contains("found -77.5"));
    assert!(error(&config(r#"{"bos_token": ""}"#)).contains("expected a token \"\""));
    assert!(
        error(&[("tokenizer.json", r#"{"model": {"type": "Unigram", "vocab": []}}"#)])
            .contains("tokenizer.json")
    );
    let unpaired = r#"{"model": {"vocab": {"a": 0}, "merges": ["aa"]}}"#;
    assert!(error(&[("tokenizer.json", unpaired)]).contains("expected two tokens, found \"aa\""));
}

#[test]
fn no_limit_means_the_text_encoder_s() {
    let config =
        ("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#);
    let folder = folder(&[("vocab.json", VOCAB), ("merges.txt", MERGES), config]);
    assert_eq!(ClipTokenizer::open(folder.path()).unwrap().max_length(), 77);
}

#[test]
fn truncation_keeps_the_prompt_s_own_text() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    // "photo" is one token; 75 of them fit.
    let fits = "photo ".repeat(75);
    assert_eq!(tokenizer.encode(&fits).unwrap().truncated, None);
    let long = format!("{fits}Ångström  in   SPRING");
    assert_eq!(
        tokenizer.encode(&long).unwrap().truncated.as_deref(),
        Some("Ångström  in   SPRING")
    );
    assert_eq!(
        tokenizer.encode(&fits).unwrap().ids[..76],
        tokenizer.encode(&long).unwrap().ids[..76]
    );
}

#[test]
fn a_missing_folder_is_named() {
    let error = ClipTokenizer::open(Path::new("no/such/tokenizer")).unwrap_err().to_string();
    assert!(error.contains("no/such/tokenizer"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_text_becomes_77_ids(prompt in ".{0,400}") {
        static TOKENIZER: std::sync::OnceLock<ClipTokenizer> = std::sync::OnceLock::new();
        let tokenizer = TOKENIZER.get_or_init(|| ClipTokenizer::built_in().unwrap());
        let found = tokenizer.encode(&prompt).unwrap();
        prop_assert_eq!(found.ids.len(), 77);
        prop_assert_eq!(found.ids[0], 49_406);
        prop_assert!(found.ids.contains(&49_407));
        prop_assert!(found.ids.iter().all(|&id| id < 49_408));
        prop_assert!(prompt.ends_with(&found.truncated.unwrap_or_default()));
    }

    #[test]
    fn no_folder_panics(vocab in "\\PC{0,60}", merges in "\\PC{0,60}") {
        let folder = folder(&[("vocab.json", &vocab), ("merges.txt", &merges)]);
        let _ = ClipTokenizer::open(folder.path());
    }
}
