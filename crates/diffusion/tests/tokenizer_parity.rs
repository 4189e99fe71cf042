//! The ids of transformers' CLIPTokenizer, for prompts of every kind and each form of tokenizer folder.

mod common;

use diffusion::tokenizer::ClipTokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    ids: Vec<u32>,
    /// How many ids there are before cutting and padding.
    whole: usize,
}

#[derive(Deserialize)]
struct Clip {
    prompts: Vec<String>,
    sd1: Vec<Case>,
    sd2: Vec<Case>,
}

#[derive(Deserialize)]
struct Folder {
    prompts: Vec<String>,
    cases: Vec<Case>,
}

fn compare(name: &str, tokenizer: &ClipTokenizer, prompts: &[String], cases: &[Case]) {
    assert_eq!(prompts.len(), cases.len());
    for (prompt, case) in prompts.iter().zip(cases) {
        let found = tokenizer.encode(prompt).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.ids, case.ids, "{name}: {prompt:?}");
        assert_eq!(found.ids.len(), tokenizer.max_length());
        assert_eq!(
            found.truncated.is_some(),
            case.whole > tokenizer.max_length(),
            "{name}: {prompt:?}"
        );
        let tail = found.truncated.unwrap_or_default();
        assert!(prompt.ends_with(&tail), "{name}: {tail:?} does not end {prompt:?}");
    }
}

#[test]
fn parity_of_the_built_in_vocabulary() {
    let fixture: Clip = common::json("tokenizer/clip.json");
    let (sd1, sd2) = (ClipTokenizer::built_in().unwrap(), ClipTokenizer::built_in_sd2().unwrap());
    compare("sd1", &sd1, &fixture.prompts, &fixture.sd1);
    compare("sd2", &sd2, &fixture.prompts, &fixture.sd2);
}

#[test]
fn parity_of_every_form_of_folder() {
    for name in ["legacy", "inversion", "unknown_bytes", "bare", "saved", "saved_inversion"] {
        let fixture: Folder = common::json(&format!("tokenizer/{name}.json"));
        let folder = common::fixtures().join("tokenizer").join(name);
        let tokenizer = ClipTokenizer::open(&folder).unwrap();
        compare(name, &tokenizer, &fixture.prompts, &fixture.cases);
    }
}
