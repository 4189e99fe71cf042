//! The files of a tokenizer folder, as transformers reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use super::vocabulary::Vocabulary;
use crate::error::{DiffusionError, Result};

/// A tokenizer's files are a few MB; anything larger is something else.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The context of CLIP's text encoders, for folders that do not say.
const CLIP_MAX_LENGTH: usize = 77;

/// What a folder says beside its vocabulary.
pub(super) struct Settings {
    pub(super) start: AddedToken,
    pub(super) end: AddedToken,
    pub(super) unknown: AddedToken,
    pub(super) pad: AddedToken,
    /// Tokens that are matched whole before anything else, as textual inversion adds them.
    others: Vec<AddedToken>,
    pub(super) max_length: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let end = special("<|endoftext|>");
        Self {
            start: special("<|startoftext|>"),
            unknown: end.clone(),
            pad: end.clone(),
            end,
            others: Vec::new(),
            max_length: CLIP_MAX_LENGTH,
        }
    }
}

impl Settings {
    /// Those of the checkpoints: start and end are recognised in any case, because text is put in lower case first.
    pub(super) fn stable_diffusion(pad: &str) -> Self {
        let start = special("<|startoftext|>").normalized(true);
        let end = special("<|endoftext|>").normalized(true);
        Self { start, unknown: end.clone(), pad: special(pad), end, ..Self::default() }
    }

    /// Every token that is matched whole, in the order in which transformers adds them: the last one of a text counts.
    pub(super) fn added(&self) -> Vec<AddedToken> {
        let mut tokens = self.others.clone();
        for token in [&self.start, &self.end, &self.unknown, &self.pad] {
            if !self.others.iter().any(|other| other.content == token.content) {
                tokens.push(token.clone());
            }
        }
        tokens
    }
}

/// A token given as its text alone.
fn special(content: &str) -> AddedToken {
    AddedToken::from(content, true)
}

/// A token as the files write it.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Full {
        content: String,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        single_word: bool,
        normalized: Option<bool>,
        #[serde(default)]
        special: bool,
    },
}

impl Token {
    fn added(self) -> AddedToken {
        match self {
            Self::Text(content) => special(&content),
            Self::Full { content, lstrip, rstrip, single_word, normalized, special } => {
                AddedToken {
                    content,
                    single_word,
                    lstrip,
                    rstrip,
                    normalized: normalized.unwrap_or(!special),
                    special,
                }
            }
        }
    }
}

/// `special_tokens_map.json`, and the same keys of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct SpecialTokens {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    pad_token: Option<Token>,
}

impl SpecialTokens {
    /// The tokens given here, and the others' where there is none.
    fn or(self, others: Self) -> Self {
        Self {
            bos_token: self.bos_token.or(others.bos_token),
            eos_token: self.eos_token.or(others.eos_token),
            unk_token: self.unk_token.or(others.unk_token),
            pad_token: self.pad_token.or(others.pad_token),
        }
    }
}

/// `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct Config {
    #[serde(flatten)]
    special_tokens: SpecialTokens,
    /// By id, which is not used: tokens have the id of the vocabulary or the next one.
    added_tokens_decoder: Option<BTreeMap<String, Token>>,
    /// 77 for CLIP; transformers writes 1e30 for "none".
    model_max_length: Option<f64>,
}

/// `tokenizer.json`.
#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Joined(String),
}

/// A `tokenizer` folder.
pub(super) fn read_folder(folder: &Path) -> Result<(Vocabulary, Settings)> {
    let config: Config =
        read_json_if_there(&folder.join("tokenizer_config.json"))?.unwrap_or_default();

    // 1. the vocabulary
    let joined: Option<TokenizerFile> = read_json_if_there(&folder.join("tokenizer.json"))?;
    let (vocabulary, mut file_tokens) = match joined {
        Some(file) => {
            let path = folder.join("tokenizer.json");
            let vocabulary = checked(&path, file.model.vocab, merges(&path, file.model.merges)?)?;
            (vocabulary, file.added_tokens)
        }
        None => {
            (read_vocabulary(&folder.join("vocab.json"), &folder.join("merges.txt"))?, Vec::new())
        }
    };

    // 2. added tokens: the configuration's list replaces the older files, which come one over the other otherwise
    let mut tokens = config.special_tokens;
    let mut others = Vec::new();
    if let Some(added) = config.added_tokens_decoder {
        let mut added: Vec<(Option<u32>, Token)> =
            added.into_iter().map(|(id, token)| (id.parse().ok(), token)).collect();
        added.sort_by_key(|(id, _)| *id);
        others.extend(added.into_iter().map(|(_, token)| token.added()));
    } else {
        let map = folder.join("special_tokens_map.json");
        tokens = read_json_if_there::<SpecialTokens>(&map)?.unwrap_or_default().or(tokens);
        let added: BTreeMap<String, u32> =
            read_json_if_there(&folder.join("added_tokens.json"))?.unwrap_or_default();
        let mut added: Vec<(u32, String)> =
            added.into_iter().map(|(token, id)| (id, token)).collect();
        added.sort();
        others.extend(added.into_iter().map(|(_, content)| AddedToken::from(content, false)));
        others.extend(file_tokens.drain(..).map(Token::added));
    }

    // 3. the special tokens, with the properties of the added token of the same text
    let mut settings = Settings::default();
    for (token, slot) in [
        (tokens.bos_token, &mut settings.start),
        (tokens.eos_token, &mut settings.end),
        (tokens.unk_token, &mut settings.unknown),
        (tokens.pad_token, &mut settings.pad),
    ] {
        if let Some(token) = token {
            *slot = token.added();
        }
    }
    settings.others = others;
    settings.max_length = max_length(folder, config.model_max_length)?;
    Ok((vocabulary, settings))
}

/// `vocab.json` and `merges.txt`.
pub(super) fn read_vocabulary(vocab: &Path, merges: &Path) -> Result<Vocabulary> {
    let ids: Vocab = parse_json(vocab, &read_text(vocab)?)?;
    let text = read_text(merges)?;
    let mut pairs = Merges::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"))
    {
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' '))
        else {
            let problem = format!("line {}: expected two tokens, found {line:?}", number + 1);
            return Err(DiffusionError::checkpoint(merges, problem));
        };
        pairs.push((left.to_owned(), right.to_owned()));
    }
    checked(merges, ids, pairs)
}

fn merges(path: &Path, merges: Vec<Merge>) -> Result<Merges> {
    let pair = |merge| match merge {
        Merge::Pair(left, right) => Ok((left, right)),
        Merge::Joined(text) => match text.split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => {
                let problem = format!("a merge: expected two tokens, found {text:?}");
                Err(DiffusionError::checkpoint(path, problem))
            }
        },
    };
    merges.into_iter().map(pair).collect()
}

/// A vocabulary whose merges are all of its own tokens, which the `tokenizers` crate takes for granted.
fn checked(path: &Path, ids: Vocab, merges: Merges) -> Result<Vocabulary> {
    for (left, right) in &merges {
        for token in [left, right, &format!("{left}{right}")] {
            if !ids.contains_key(token) {
                let problem =
                    format!("merge of {left:?} and {right:?}: {token:?} is not in the vocabulary");
                return Err(DiffusionError::checkpoint(path, problem));
            }
        }
    }
    Ok(Vocabulary { ids, merges })
}

fn max_length(folder: &Path, stated: Option<f64>) -> Result<usize> {
    match stated {
        None => Ok(CLIP_MAX_LENGTH),
        // "No limit": the text encoder has one all the same.
        Some(length) if length > 1e6 => Ok(CLIP_MAX_LENGTH),
        // Whole by the guard's last term, small by the arm above.
        Some(length) if length >= 3.0 && length.fract() == 0.0 => Ok(length as usize),
        Some(length) => {
            let problem =
                format!("model_max_length: expected a whole number above 2, found {length}");
            Err(DiffusionError::checkpoint(folder.join("tokenizer_config.json"), problem))
        }
    }
}

fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    parse_json(path, &read_text(path)?).map(Some)
}

fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        DiffusionError::checkpoint(path, format!("expected a CLIP tokenizer's JSON: {error}"))
    })
}

fn read_text(path: &Path) -> Result<String> {
    let length = fs::metadata(path).map_err(|e| DiffusionError::io(path, "read", e))?.len();
    if length > MAX_FILE_BYTES {
        let problem = format!("expected at most {MAX_FILE_BYTES} bytes, found {length}");
        return Err(DiffusionError::checkpoint(path, problem));
    }
    fs::read_to_string(path).map_err(|e| DiffusionError::io(path, "read", e))
}
