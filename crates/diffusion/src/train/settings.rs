//! A whole run in one place: what `run.toml` says, and what a resumed run must agree on.

use std::path::PathBuf;

use candle_core::DType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::{CropPolicy, DataOptions};
use super::lr_schedule::LrScheduler;
use super::objective::ObjectiveOptions;
use super::options::{NetworkOptions, OptimizerOptions};
use crate::components::MaskShrink;
use crate::error::{DiffusionError, Result};

/// Every setting of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// The frozen model.
    pub base: BaseOptions,
    /// The pictures.
    pub data: DataOptions,
    /// What is trained.
    pub network: NetworkOptions,
    /// The loss.
    pub objective: ObjectiveOptions,
    /// How weights are changed.
    pub optimizer: OptimizerOptions,
    /// How long, and what is written on the way.
    pub run: RunOptions,
    /// How progress is judged.
    pub validation: ValidationOptions,
}

/// The model that is trained on top of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BaseOptions {
    /// A diffusers folder, a single file, or an id on the hub.
    pub model: String,
    /// Prefer this variant of a folder's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What frozen weights are stored in.
    pub dtype: BaseDtype,
}

/// What frozen weights are stored in; what is trained is always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseDtype {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16: half the memory.
    Bf16,
    /// Half precision: half the memory.
    F16,
}

impl BaseDtype {
    /// The same as a dtype of tensors.
    #[must_use]
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// How long a run is, and what it writes on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// The seed of everything random. Default: 0.
    pub seed: u64,
    /// Passes over the pictures. Default: 10.
    pub epochs: u64,
    /// Optimizer steps in place of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Steps between checkpoints to resume from; 0 for none but at the end. Default: 100.
    pub save_every: u64,
    /// Checkpoints that are kept, at least 1. Default: 2.
    pub keep: usize,
    /// Keep latents and prompts on disk where they can come again. Default: true.
    pub cache: bool,
    /// Where to; `cache` in the output folder if `None`. May be shared by runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_folder: Option<PathBuf>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 10,
            max_steps: None,
            save_every: 100,
            keep: 2,
            cache: true,
            cache_folder: None,
        }
    }
}

/// How a run's progress is judged: by restoring pictures that it does not train on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationOptions {
    /// Steps between validations; 0 for one at the start and one at the end. Default: 0.
    pub every: u64,
    /// A folder of triplets to restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triplets: Option<PathBuf>,
    /// Triplets of the training set to hold back and restore. Default: 0.
    pub held_out: usize,
    /// Denoising steps of each restoration. Default: 20.
    pub steps: usize,
    /// Guidance; 1 for none. Default: 1.
    pub guidance: f64,
    /// The side of the windows, in the network's pixels; the training resolution if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_size: Option<usize>,
    /// Comparison sheets written at each validation. Default: 4.
    pub images: usize,
}

impl Default for ValidationOptions {
    fn default() -> Self {
        Self {
            every: 0,
            triplets: None,
            held_out: 0,
            steps: 20,
            guidance: 1.0,
            window_size: None,
            images: 4,
        }
    }
}

impl ValidationOptions {
    /// True if there is anything to restore.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.triplets.is_some() || self.held_out > 0
    }
}

impl TrainOptions {
    /// The recipe that this program is measured against: AdamW at 1e-5, constant, without clipping, 5 epochs in f32; MSE
    /// over the damage alone; whole pictures, neither flipped nor cropped to the damage; masks shrunk as diffusers shrinks
    /// them; a LoRA of rank 4 on the attention.
    #[must_use]
    pub fn baseline() -> Self {
        Self {
            data: DataOptions {
                flip: false,
                crop: CropPolicy::Center,
                buckets: false,
                ..DataOptions::default()
            },
            network: NetworkOptions { rank: 4, ..NetworkOptions::default() },
            objective: ObjectiveOptions {
                unmasked_weight: 0.0,
                snr_gamma: 0.0,
                prompt_dropout: 0.0,
                mask_shrink: MaskShrink::Nearest,
                ..ObjectiveOptions::default()
            },
            optimizer: OptimizerOptions {
                learning_rate: 1e-5,
                lr_scheduler: LrScheduler::Constant,
                max_grad_norm: 0.0,
                ..OptimizerOptions::default()
            },
            run: RunOptions { epochs: 5, ..RunOptions::default() },
            ..Self::default()
        }
    }

    /// # Errors
    /// [`DiffusionError::Argument`] for a setting outside its range, or settings that exclude each other.
    pub fn validate(&self) -> Result<()> {
        self.data.validate()?;
        self.network.validate()?;
        self.objective.validate()?;
        self.optimizer.validate()?;
        let most = 100_000_000;
        for (name, value) in
            [("epochs", self.run.epochs), ("max_steps", self.run.max_steps.unwrap_or(1))]
        {
            if !(1..=most).contains(&value) {
                return Err(DiffusionError::argument(name, format!("1 to {most}"), value));
            }
        }
        if self.run.keep == 0 {
            return Err(DiffusionError::argument("keep", "at least 1", 0));
        }
        if !(1..=1000).contains(&self.validation.steps) {
            return Err(DiffusionError::argument(
                "validation steps",
                "1 to 1000",
                self.validation.steps,
            ));
        }
        if self.network.full && self.base.dtype != BaseDtype::F32 {
            return Err(DiffusionError::argument(
                "dtype",
                "f32, as training every weight needs all its digits",
                format!("{:?}", self.base.dtype).to_lowercase(),
            ));
        }
        Ok(())
    }

    /// What a resumed run must agree on. It may be longer, and write or validate at other times.
    pub(super) fn identity(&self) -> Value {
        let mut this = self.clone();
        let fixed = RunOptions { seed: self.run.seed, ..RunOptions::default() };
        let decays =
            matches!(this.optimizer.lr_scheduler, LrScheduler::Linear | LrScheduler::Cosine);
        // Schedules that end at 0 depend on where the end is.
        this.run = if decays {
            RunOptions { epochs: self.run.epochs, max_steps: self.run.max_steps, ..fixed }
        } else {
            fixed
        };
        // Where the pictures lie is no matter: their contents are compared.
        (this.data.triplets, this.data.clean) = (None, None);
        this.validation = ValidationOptions {
            held_out: self.validation.held_out,
            ..ValidationOptions::default()
        };
        // Numbers, strings and lists: always JSON.
        serde_json::to_value(this).unwrap_or_default()
    }
}

/// The first setting in which two identities differ: its name, and both values.
pub(super) fn first_difference(before: &Value, now: &Value) -> Option<(String, String, String)> {
    fn walk(path: &str, before: &Value, now: &Value) -> Option<(String, String, String)> {
        if let (Value::Object(before), Value::Object(now)) = (before, now) {
            let keys: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
            return keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = &Value::Null;
                walk(&path, before.get(key).unwrap_or(null), now.get(key).unwrap_or(null))
            });
        }
        (before != now).then(|| (path.to_owned(), before.to_string(), now.to_string()))
    }
    walk("", before, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_may_be_longer_but_not_another() {
        let options = TrainOptions::default();
        let mut longer = options.clone();
        longer.run.epochs = 99;
        longer.validation.every = 5;
        assert_eq!(first_difference(&options.identity(), &longer.identity()), None);
        let mut other = options.clone();
        other.optimizer.learning_rate = 1e-3;
        let (name, before, now) = first_difference(&options.identity(), &other.identity()).unwrap();
        assert_eq!(
            (name.as_str(), before.as_str(), now.as_str()),
            ("optimizer.learning_rate", "0.0001", "0.001")
        );
        // A cosine that ends elsewhere is another run.
        longer.optimizer.lr_scheduler = LrScheduler::Cosine;
        let mut shorter = longer.clone();
        shorter.run.epochs = 3;
        assert!(first_difference(&longer.identity(), &shorter.identity()).is_some());
    }
}
