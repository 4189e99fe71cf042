//! The text encoder of Stable Diffusion: CLIP's text transformer (Radford et al. 2021), as transformers'
//! `CLIPTextModel`.
//!
//! SD 1 has quick GELU and 12 layers, SD 2 GELU and 23: its checkpoint leaves the last layer out, so that the
//! "penultimate" state that SD 2 was trained on is the last one here.

use candle_core::{DType, Device, Module, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{self, MAX_CHANNELS, MAX_LAYERS, OtherSettings};
use crate::error::{DiffusionError, Result};
use crate::nn::{
    Activation, AttentionOptions, Embedding, LayerNorm, Linear, Params, attention, compute_dtype,
};

const CLASS: &str = "CLIPTextModel";

/// `config.json` of the text encoder; absent keys have transformers' defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Tokens.
    pub vocab_size: usize,
    /// Features of a token.
    pub hidden_size: usize,
    /// Features inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Longest prompt, in tokens.
    pub max_position_embeddings: usize,
    /// "`quick_gelu`" (SD 1) or "gelu" (SD 2).
    pub hidden_act: String,
    /// Added to the variance in norms.
    pub layer_norm_eps: f64,
    /// What else the file says.
    #[serde(flatten)]
    pub other: OtherSettings,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
            other: OtherSettings::new(),
        }
    }
}

impl ClipTextConfig {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key that does not fit.
    pub fn from_json(json: &Value) -> Result<Self> {
        config::from_json(CLASS, json)
    }

    /// Checks that a network can be built from it.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let check = |key, value, max| config::check_count(CLASS, key, value, max);
        check("vocab_size", self.vocab_size, 1 << 24)?;
        check("hidden_size", self.hidden_size, MAX_CHANNELS)?;
        check("intermediate_size", self.intermediate_size, MAX_CHANNELS)?;
        check("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?;
        check("num_attention_heads", self.num_attention_heads, self.hidden_size)?;
        check("max_position_embeddings", self.max_position_embeddings, MAX_CHANNELS)?;
        config::check_eps(CLASS, "layer_norm_eps", self.layer_norm_eps)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(DiffusionError::argument(
                format!("{CLASS}: num_attention_heads"),
                format!("a divisor of hidden_size, {}", self.hidden_size),
                self.num_attention_heads,
            ));
        }
        self.activation().map(drop)
    }

    fn activation(&self) -> Result<Activation> {
        Activation::from_name("CLIPTextModel: hidden_act", &self.hidden_act)
    }
}

/// Causal self-attention and two linear layers, each behind a norm and added to its input.
#[derive(Clone, Debug)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

impl EncoderLayer {
    fn load(config: &ClipTextConfig, params: &Params) -> Result<Self> {
        let (d, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let (self_attn, mlp) = (params.pp("self_attn"), params.pp("mlp"));
        let proj = |name| Linear::load(d, d, true, &self_attn.pp(name));
        Ok(Self {
            layer_norm1: LayerNorm::load(d, eps, &params.pp("layer_norm1"))?,
            q_proj: proj("q_proj")?,
            k_proj: proj("k_proj")?,
            v_proj: proj("v_proj")?,
            out_proj: proj("out_proj")?,
            layer_norm2: LayerNorm::load(d, eps, &params.pp("layer_norm2"))?,
            fc1: Linear::load(d, inner, true, &mlp.pp("fc1"))?,
            fc2: Linear::load(inner, d, true, &mlp.pp("fc2"))?,
            heads: config.num_attention_heads,
            activation: config.activation()?,
        })
    }

    fn forward(&self, xs: &Tensor, causal: &Tensor) -> candle_core::Result<Tensor> {
        let normed = self.layer_norm1.forward(xs)?;
        let q = self.q_proj.forward(&normed)?;
        let k = self.k_proj.forward(&normed)?;
        let v = self.v_proj.forward(&normed)?;
        let options = AttentionOptions { bias: Some(causal), upcast: false };
        let attended = attention(&q, &k, &v, self.heads, options)?;
        let xs = self.out_proj.forward_add(&attended, xs)?;
        let hidden = self.fc1.forward(&self.layer_norm2.forward(&xs)?)?;
        self.fc2.forward_add(&self.activation.forward(&hidden)?, &xs)
    }
}

/// CLIP's text encoder.
#[derive(Clone, Debug)]
pub struct ClipTextModel {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    config: ClipTextConfig,
    dtype: DType,
    device: Device,
}

impl ClipTextModel {
    /// Loads the model; the names may begin with `text_model.` (transformers 4) or not.
    ///
    /// # Errors
    /// Those of [`ClipTextConfig::validate`] and [`Params::get`].
    pub fn load(config: &ClipTextConfig, params: &Params) -> Result<Self> {
        config.validate()?;
        let unprefixed = params.contains("embeddings.token_embedding.weight");
        let params = if unprefixed { params.clone() } else { params.pp("text_model") };
        let d = config.hidden_size;
        let (embeddings, layers) = (params.pp("embeddings"), params.pp("encoder.layers"));
        let tokens = embeddings.pp("token_embedding");
        let positions = embeddings.pp("position_embedding");
        let final_layer_norm = params.pp("final_layer_norm");
        Ok(Self {
            token_embedding: Embedding::load(config.vocab_size, d, &tokens)?,
            position_embedding: Embedding::load(config.max_position_embeddings, d, &positions)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| EncoderLayer::load(config, &layers.pp(i)))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::load(d, config.layer_norm_eps, &final_layer_norm)?,
            config: config.clone(),
            dtype: compute_dtype(&params),
            device: params.device().clone(),
        })
    }

    /// What the model was built from.
    #[must_use]
    pub const fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// The last hidden state after the final norm, which is what Stable Diffusion conditions on.
    ///
    /// # Shapes
    /// - `input_ids`: `(b, n)`, u32, `n` up to `max_position_embeddings` (77)
    /// - returns: `(b, n, hidden_size)`, f32 on CPU, the dtype of the weights on GPUs
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] and, for a token outside the vocabulary, [`DiffusionError::Argument`].
    pub fn forward(&self, input_ids: &Tensor) -> Result<Tensor> {
        let max = self.config.max_position_embeddings;
        if !matches!(*input_ids.dims(), [b, n] if b > 0 && n > 0 && n <= max) {
            let expected = format!("(b, n) with n up to {max}");
            return Err(DiffusionError::shape("input_ids", expected, input_ids.dims()));
        }
        self.forward_embeddings(&self.token_embedding.forward(input_ids)?)
    }

    /// As [`ClipTextModel::forward`], from token embeddings (before positions are added).
    ///
    /// # Shapes
    /// - `inputs_embeds`: `(b, n, hidden_size)`
    /// - returns: the same
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn forward_embeddings(&self, inputs_embeds: &Tensor) -> Result<Tensor> {
        let (max, d) = (self.config.max_position_embeddings, self.config.hidden_size);
        let n = match *inputs_embeds.dims() {
            [b, n, width] if b > 0 && n > 0 && n <= max && width == d => n,
            _ => {
                let expected = format!("(b, n, {d}) with n up to {max}");
                return Err(DiffusionError::shape("inputs_embeds", expected, inputs_embeds.dims()));
            }
        };
        let positions = self.position_embedding.first(n)?.to_dtype(self.dtype)?;
        let mut xs = inputs_embeds.to_dtype(self.dtype)?.broadcast_add(&positions)?;
        let causal: Vec<f32> = (0..n)
            .flat_map(|query| {
                (0..n).map(move |key| if key > query { f32::NEG_INFINITY } else { 0.0 })
            })
            .collect();
        let causal = Tensor::from_vec(causal, (n, n), &self.device)?;
        for layer in &self.layers {
            xs = layer.forward(&xs, &causal)?;
        }
        let xs = self.final_layer_norm.forward(&xs)?;
        // As all that leaves a network on the CPU.
        Ok(if self.device.is_cpu() { xs.to_dtype(DType::F32)? } else { xs })
    }
}
