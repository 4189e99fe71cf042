//! A vocabulary and its merges; CLIP's own is part of the crate.

use tokenizers::models::bpe::{Merges, Vocab};

use crate::error::{DiffusionError, Result};

/// Pairs of little-endian 16-bit ids; the first pair makes token 512. See `assets/clip_vocabulary.py`.
const CLIP_MERGES: &[u8] = include_bytes!("../../assets/clip_merges.bin");

/// Tokens with their ids, and the pairs of tokens that are joined, first come first.
pub(super) struct Vocabulary {
    pub(super) ids: Vocab,
    pub(super) merges: Merges,
}

impl Vocabulary {
    /// CLIP's: bytes, bytes that end a word, one token a merge, start and end; 49,408 in all.
    pub(super) fn clip() -> Result<Self> {
        Self::clip_of(usize::MAX)
    }

    /// CLIP's with its first merges alone: what they do not join stays in smaller pieces.
    pub(super) fn clip_of(most_merges: usize) -> Result<Self> {
        let letters = byte_letters();
        let mut tokens: Vec<String> = letters.iter().map(char::to_string).collect();
        tokens.extend(letters.iter().map(|letter| format!("{letter}</w>")));
        let (pairs, _) = CLIP_MERGES.as_chunks::<4>();
        let mut merges = Vec::with_capacity(pairs.len());
        for &[a, b, c, d] in pairs.iter().take(most_merges) {
            let token =
                |low, high| tokens.get(usize::from(u16::from_le_bytes([low, high]))).cloned();
            let (Some(left), Some(right)) = (token(a, b), token(c, d)) else {
                return Err(DiffusionError::checkpoint(
                    "built-in vocabulary",
                    "a merge of later tokens",
                ));
            };
            tokens.push(format!("{left}{right}"));
            merges.push((left, right));
        }
        tokens.extend(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
        Ok(Self { ids: tokens.into_iter().zip(0..).collect(), merges })
    }
}

/// The character that stands for each byte, in the order of their ids: printable bytes stand for themselves, the others
/// for the characters from U+0100 on. The order is GPT-2's `bytes_to_unicode`.
fn byte_letters() -> Vec<char> {
    let printable = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}');
    printable.chain('\u{100}'..='\u{143}').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_merges_keep_their_ids() {
        let (all, few) = (Vocabulary::clip().unwrap(), Vocabulary::clip_of(1000).unwrap());
        assert_eq!((few.merges.len(), few.ids.len()), (1000, 1514));
        let special = ["<|startoftext|>", "<|endoftext|>"];
        assert_eq!(special.map(|token| few.ids[token]), [1512, 1513]);
        for (token, id) in few.ids.iter().filter(|(token, _)| !special.contains(&token.as_str())) {
            assert_eq!(all.ids[token], *id);
        }
        assert_eq!(few.merges, all.merges[..1000]);
    }

    #[test]
    fn known_ids_of_clip() {
        let vocabulary = Vocabulary::clip().unwrap();
        assert_eq!(vocabulary.merges.len(), 48_894);
        // A token that two merges make would leave a hole.
        assert_eq!(vocabulary.ids.len(), 49_408);
        assert_eq!(vocabulary.ids["!"], 0);
        assert_eq!(vocabulary.ids["photo</w>"], 1125);
        assert_eq!(vocabulary.ids["<|startoftext|>"], 49_406);
        assert_eq!(vocabulary.ids["<|endoftext|>"], 49_407);
    }
}
