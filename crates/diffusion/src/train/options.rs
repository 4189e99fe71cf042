//! The settings of a run, as `run.toml` holds them.

use serde::{Deserialize, Serialize};

use super::adamw::AdamWOptions;
use super::lr_schedule::LrScheduler;
use crate::error::{DiffusionError, Result};

/// An error about `name` unless `low ≤ value ≤ high`.
pub(super) fn check_range(name: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(DiffusionError::argument(name, format!("{low} to {high}"), value))
}

/// How the matrix down of a LoRA starts; the matrix up starts at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraInit {
    /// Normal with deviation 1 / r: PEFT's `init_lora_weights="gaussian"`, which diffusers' scripts use.
    #[default]
    Gaussian,
    /// Uniform within ±1 / √fan-in: PEFT's and kohya's default, `kaiming_uniform(a = √5)`.
    Kaiming,
}

/// What is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkOptions {
    /// Train every weight of the UNet and no LoRA. Default: false.
    pub full: bool,
    /// Rank of the LoRA. Default: 8.
    pub rank: usize,
    /// The LoRA's scale is alpha / rank; `None` for alpha = rank. Default: `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// The share of a layer's inputs that its LoRA does not see in a step, 0 to below 1. Default: 0.
    pub dropout: f64,
    /// How the LoRA starts.
    pub init: LoraInit,
    /// The UNet's layers that get a LoRA: those whose path is one of these or ends in a dot and one of these, as PEFT
    /// matches them. Default: `to_q`, `to_k`, `to_v`, `to_out.0`.
    pub target_modules: Vec<String>,
    /// The text encoder's layers, likewise; it is frozen if empty. Default: empty.
    pub text_encoder_target_modules: Vec<String>,
}

impl NetworkOptions {
    /// The projections of every attention of the UNet.
    pub const ATTENTION: [&'static str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];
    /// The UNet's convolutions, and the linear layers that stand for some of them in Stable Diffusion 2.
    pub const CONVOLUTIONS: [&'static str; 8] = [
        "conv1",
        "conv2",
        "conv_shortcut",
        "proj_in",
        "proj_out",
        "downsamplers.0.conv",
        "upsamplers.0.conv",
        "conv_in",
    ];
    /// The projections of every attention of the text encoder.
    pub const TEXT_ENCODER: [&'static str; 4] = ["q_proj", "k_proj", "v_proj", "out_proj"];

    /// The numerator of the LoRA's scale.
    #[must_use]
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(self.rank as f64)
    }

    /// # Errors
    /// [`DiffusionError::Argument`] for a setting outside its range, or settings that exclude each other.
    pub fn validate(&self) -> Result<()> {
        if !(1..=1024).contains(&self.rank) {
            return Err(DiffusionError::argument("rank", "1 to 1024", self.rank));
        }
        check_range("alpha", self.alpha(), 1e-6, 1e6)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(DiffusionError::argument("dropout", "0 to below 1", self.dropout));
        }
        if self.full && !self.text_encoder_target_modules.is_empty() {
            return Err(DiffusionError::argument(
                "text_encoder_target_modules",
                "none, as training every weight of the UNet leaves the text encoder as it is",
                self.text_encoder_target_modules.join(", "),
            ));
        }
        if !self.full
            && self.target_modules.is_empty()
            && self.text_encoder_target_modules.is_empty()
        {
            return Err(DiffusionError::argument("target_modules", "at least one name", "none"));
        }
        Ok(())
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            full: false,
            rank: 8,
            alpha: None,
            dropout: 0.0,
            init: LoraInit::default(),
            target_modules: Self::ATTENTION.map(str::to_owned).to_vec(),
            text_encoder_target_modules: Vec::new(),
        }
    }
}

/// How weights are changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerOptions {
    /// The learning rate at its highest. Default: 1e-4.
    pub learning_rate: f64,
    /// How it goes from step to step. Default: constant after the warm-up.
    pub lr_scheduler: LrScheduler,
    /// Steps of the warm-up. Default: 0.
    pub warmup_steps: u64,
    /// AdamW's decay of the first moment. Default: 0.9.
    pub beta1: f64,
    /// AdamW's decay of the second moment. Default: 0.999.
    pub beta2: f64,
    /// AdamW's weight decay. Default: 0.01.
    pub weight_decay: f64,
    /// AdamW's epsilon. Default: 1e-8.
    pub eps: f64,
    /// The greatest norm of all gradients together; 0 for no limit. Default: 1.
    pub max_grad_norm: f64,
    /// Samples that go through the network together. Default: 1.
    pub batch_size: usize,
    /// Batches whose gradients are added up for one step. Default: 1.
    pub gradient_accumulation_steps: usize,
    /// Compute activations again in the backward pass: a fraction of the memory for a third more time. Default: true.
    pub gradient_checkpointing: bool,
    /// The decay of an average of the weights, which is then what is saved; 0 for none. Default: 0.
    pub ema_decay: f64,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        let AdamWOptions { beta1, beta2, weight_decay, eps } = AdamWOptions::default();
        Self {
            learning_rate: 1e-4,
            lr_scheduler: LrScheduler::default(),
            warmup_steps: 0,
            beta1,
            beta2,
            weight_decay,
            eps,
            max_grad_norm: 1.0,
            batch_size: 1,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: true,
            ema_decay: 0.0,
        }
    }
}

impl OptimizerOptions {
    /// The optimizer's constants.
    #[must_use]
    pub const fn adamw(&self) -> AdamWOptions {
        let Self { beta1, beta2, weight_decay, eps, .. } = *self;
        AdamWOptions { beta1, beta2, weight_decay, eps }
    }

    /// # Errors
    /// [`DiffusionError::Argument`] for a setting outside its range.
    pub fn validate(&self) -> Result<()> {
        self.adamw().validate()?;
        check_range("learning_rate", self.learning_rate, 0.0, 10.0)?;
        check_range("max_grad_norm", self.max_grad_norm, 0.0, 1e9)?;
        if !(0.0..1.0).contains(&self.ema_decay) {
            return Err(DiffusionError::argument("ema_decay", "0 to below 1", self.ema_decay));
        }
        for (name, count) in [
            ("batch_size", self.batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
        ] {
            if !(1..=4096).contains(&count) {
                return Err(DiffusionError::argument(name, "1 to 4096", count));
            }
        }
        Ok(())
    }
}
