//! From prompts to what the UNet is conditioned on.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::LoadOptions;
use crate::checkpoint::{Checkpoint, Component};
use crate::error::Result;
use crate::models::{ClipTextConfig, ClipTextModel};
use crate::tokenizer::ClipTokenizer;

/// What to ask for when the caller has no wish of his own, in restoring as in training.
pub const DEFAULT_PROMPT: &str = "a well preserved photograph, sharp, natural, intact";

/// What a prompt becomes: the text encoder's output.
#[derive(Clone, Debug)]
pub struct PromptEmbeds {
    /// Of the prompt, `(1, 77, d)`.
    pub positive: Tensor,
    /// Of the negative prompt, `(1, 77, d)`; what guidance leads away from.
    pub negative: Tensor,
    /// The parts of the prompts past what the encoder reads, if any.
    pub truncated: Vec<String>,
}

/// Tokenizer and text encoder.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: ClipTokenizer,
    model: ClipTextModel,
    device: Device,
    dtype: DType,
}

impl TextEncoder {
    /// Loads both, with the adapters that the options have for the text encoder.
    ///
    /// # Errors
    /// Those of reading the checkpoint.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let config = ClipTextConfig::from_json(&checkpoint.config(Component::TextEncoder)?)?;
        let params = options
            .params(checkpoint, Component::TextEncoder)?
            .with_adapters(Arc::clone(&options.text_encoder_adapters));
        Ok(Self {
            tokenizer: tokenizer(checkpoint)?,
            model: ClipTextModel::load(&config, &params)?,
            device: options.device.clone(),
            dtype: options.compute_dtype(),
        })
    }

    /// What the UNet is conditioned on, and the part of the text past what the encoder reads, if any.
    ///
    /// # Shapes
    /// - returns: `(1, 77, d)`
    ///
    /// # Errors
    /// Those of the tokenizer and of the tensor operations.
    pub fn encode(&self, text: &str) -> Result<(Tensor, Option<String>)> {
        let tokens = self.tokenizer.encode(text)?;
        let input_ids = Tensor::new(tokens.ids.as_slice(), &self.device)?.unsqueeze(0)?; // (1, 77)
        Ok((self.model.forward(&input_ids)?.to_dtype(self.dtype)?, tokens.truncated))
    }
}

/// Encodes the prompts with the checkpoint's text encoder, which is dropped again.
///
/// # Errors
/// Those of reading the checkpoint and of the tensor operations.
pub fn encode_prompts(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    prompt: &str,
    negative_prompt: &str,
) -> Result<PromptEmbeds> {
    let encoder = TextEncoder::load(checkpoint, options)?;
    let (positive, first) = encoder.encode(prompt)?;
    let (negative, second) = encoder.encode(negative_prompt)?;
    let truncated = [first, second].into_iter().flatten().collect();
    Ok(PromptEmbeds { positive, negative, truncated })
}

/// The checkpoint's tokenizer; single files have none, but the vocabulary is always CLIP's, or its
/// beginning.
fn tokenizer(checkpoint: &Checkpoint) -> Result<ClipTokenizer> {
    let files = checkpoint.tokenizer_files();
    let folder = files.tokenizer.as_deref().or(files.vocab.as_deref()).and_then(Path::parent);
    match folder {
        Some(folder) => ClipTokenizer::open(folder),
        None if files.open_clip => ClipTokenizer::built_in_sd2(),
        None => match files.first_merges {
            Some(merges) => ClipTokenizer::built_in_of(merges),
            None => ClipTokenizer::built_in(),
        },
    }
}
