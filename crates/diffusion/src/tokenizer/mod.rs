//! CLIP's tokenizer: a prompt to the ids that the text encoder takes.
//!
//! Follows `CLIPTokenizer` of transformers 5: NFC, white space to single spaces, lower case, CLIP's own split into
//! words, byte-level byte-pair encoding with `</w>` at the end of a word. Like it, and unlike OpenAI's original, it
//! neither repairs mojibake nor unescapes HTML entities. The steps are those of the `tokenizers` crate; a `tokenizer.json`
//! gives its vocabulary, merges and added tokens, never another pipeline.

mod files;
mod vocabulary;
mod write;

use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{self, Lowercase, NFC, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use crate::error::{DiffusionError, Result};
use files::Settings;
use vocabulary::Vocabulary;

pub use write::{write_clip_tokenizer, write_small_tokenizer};

/// How CLIP cuts a text into words; everything between the matches is dropped.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// What a prompt becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// Start, the prompt, end, padding: always [`ClipTokenizer::max_length`] ids.
    pub ids: Vec<u32>,
    /// The end of the prompt that did not fit, as it was written; `None` if all of it did.
    pub truncated: Option<String>,
}

/// Turns prompts into ids. Cheap to share, slow (tens of milliseconds) to make.
#[derive(Clone)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    max_length: usize,
}

impl std::fmt::Debug for ClipTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { start, end, pad, max_length, .. } = self;
        let tokens = self.tokenizer.get_vocab_size(true);
        write!(
            f,
            "ClipTokenizer {{ tokens: {tokens}, start: {start}, end: {end}, pad: {pad}, max_length: {max_length} }}"
        )
    }
}

impl ClipTokenizer {
    /// Reads a `tokenizer` folder as diffusers writes it: `tokenizer.json`, or `vocab.json` and `merges.txt`; and where
    /// there are any, `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
    ///
    /// # Errors
    /// [`DiffusionError::Io`] if a file cannot be read, [`DiffusionError::Checkpoint`] if one is not what it should be.
    pub fn open(folder: &Path) -> Result<Self> {
        let (vocabulary, settings) = files::read_folder(folder)?;
        Self::build(folder, vocabulary, &settings)
    }

    /// Reads a vocabulary and its merges, with the special tokens of Stable Diffusion 1.
    ///
    /// # Errors
    /// Those of [`ClipTokenizer::open`].
    pub fn from_files(vocab: &Path, merges: &Path) -> Result<Self> {
        Self::build(vocab, files::read_vocabulary(vocab, merges)?, &Settings::default())
    }

    /// CLIP's own vocabulary, padded with the end token: what Stable Diffusion 1 uses, for checkpoints without a tokenizer.
    ///
    /// # Errors
    /// None: the vocabulary is part of the crate.
    pub fn built_in() -> Result<Self> {
        Self::built_in_padded_with("<|endoftext|>")
    }

    /// CLIP's own vocabulary, padded with `!` (id 0): what Stable Diffusion 2 uses, for checkpoints without a tokenizer.
    ///
    /// # Errors
    /// None: the vocabulary is part of the crate.
    pub fn built_in_sd2() -> Result<Self> {
        Self::built_in_padded_with("!")
    }

    fn built_in_padded_with(pad: &str) -> Result<Self> {
        Self::built_in_vocabulary(pad, Vocabulary::clip()?)
    }

    /// CLIP's vocabulary with its first `merges` alone, as [`write_small_tokenizer`] writes it.
    ///
    /// # Errors
    /// None: the vocabulary is part of the crate.
    pub fn built_in_of(merges: usize) -> Result<Self> {
        Self::built_in_vocabulary("<|endoftext|>", Vocabulary::clip_of(merges)?)
    }

    fn built_in_vocabulary(pad: &str, vocabulary: Vocabulary) -> Result<Self> {
        let settings = Settings::stable_diffusion(pad);
        Self::build(Path::new("built-in vocabulary"), vocabulary, &settings)
    }

    fn build(origin: &Path, vocabulary: Vocabulary, settings: &Settings) -> Result<Self> {
        let failed = |error: tokenizers::Error| {
            DiffusionError::checkpoint(origin, format!("expected a CLIP vocabulary: {error}"))
        };
        let model = BPE::builder()
            .vocab_and_merges(vocabulary.ids, vocabulary.merges)
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .unk_token(settings.unknown.content.clone())
            .build()
            .map_err(failed)?;
        let mut tokenizer = Tokenizer::new(model);

        let spaces = ReplacePattern::Regex(r"\s+".to_owned());
        let normalizer = normalizers::Sequence::new(vec![
            NFC.into(),
            Replace::new(spaces, " ").map_err(failed)?.into(),
            Lowercase.into(),
        ]);
        let words = SplitPattern::Regex(WORDS.to_owned());
        let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(failed)?;
        let pieces = Sequence::new(vec![words.into(), ByteLevel::new(false, true, true).into()]);
        tokenizer.with_normalizer(Some(normalizer)).map_err(failed)?;
        tokenizer.with_pre_tokenizer(Some(pieces));
        tokenizer.add_tokens(settings.added()).map_err(failed)?;

        let id = |content: &str| {
            tokenizer.token_to_id(content).ok_or_else(|| {
                DiffusionError::checkpoint(
                    origin,
                    format!("expected a token {content:?}, found none"),
                )
            })
        };
        let (start, end) = (id(&settings.start.content)?, id(&settings.end.content)?);
        let pad = id(&settings.pad.content)?;
        Ok(Self { tokenizer, start, end, pad, max_length: settings.max_length })
    }

    /// How many ids a prompt becomes: 77 for every Stable Diffusion.
    #[must_use]
    pub const fn max_length(&self) -> usize {
        self.max_length
    }

    /// The ids of `prompt`, cut and padded to [`ClipTokenizer::max_length`].
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if the vocabulary has no way to write the prompt (never for the built-in ones).
    pub fn encode(&self, prompt: &str) -> Result<TokenIds> {
        let encoding = self.tokenizer.encode(prompt, false).map_err(|error| {
            DiffusionError::argument("prompt", "text that the tokenizer can write", error)
        })?;
        // Start and end take a place each.
        let room = self.max_length - 2;
        let tokens = encoding.get_ids();
        let truncated = encoding.get_offsets().get(room).map(|&(from, _)| {
            // A token may begin inside a character, whose offset is then the character's own.
            prompt.get(from..).unwrap_or_default().to_owned()
        });

        let mut ids = Vec::with_capacity(self.max_length);
        ids.push(self.start);
        ids.extend_from_slice(&tokens[..tokens.len().min(room)]);
        ids.push(self.end);
        ids.resize(self.max_length, self.pad);
        Ok(TokenIds { ids, truncated })
    }
}
