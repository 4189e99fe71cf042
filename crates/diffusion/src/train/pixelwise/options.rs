//! The settings of a run of a network that works on the picture's own pixels.

use std::path::PathBuf;

use imaging::damage::DamageRecipe;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DiffusionError, Result};
use crate::models::PixelUnetConfig;
use crate::train::lr_schedule::LrScheduler;
use crate::train::options::{OptimizerOptions, check_range};

/// What the network learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelTask {
    /// To find damage: a picture in, or its luma alone, the logit of being damaged out.
    #[default]
    Detector,
    /// To improve on a classical fill: the filled picture and the mask in, what to add to the picture out.
    Refiner,
    /// To give pictures back through the latents of a checkpoint's autoencoder.
    Autoencoder,
}

impl PixelTask {
    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detector => "detector",
            Self::Refiner => "refiner",
            Self::Autoencoder => "autoencoder",
        }
    }

    /// Channels in and out; a detector may also take one.
    #[must_use]
    pub const fn channels(self) -> (usize, usize) {
        match self {
            Self::Detector => (3, 1),
            Self::Refiner => (4, 3),
            Self::Autoencoder => (3, 3),
        }
    }

    /// The network that is trained if no other is asked for; an autoencoder's is that of the checkpoint.
    #[must_use]
    pub fn default_network(self) -> Option<PixelUnetConfig> {
        let (in_channels, out_channels) = self.channels();
        let (widths, blocks, norm_num_groups) = match self {
            Self::Detector => (vec![16, 32, 64, 96, 160], vec![1, 2, 2, 3, 3], Some(8)),
            // What it adds is in proportion to the contrast that it sees, which norms would hide.
            Self::Refiner => (vec![32, 48, 64, 96, 128], vec![1, 1, 1, 1, 2], None),
            Self::Autoencoder => return None,
        };
        Some(PixelUnetConfig { in_channels, out_channels, widths, blocks, norm_num_groups })
    }
}

/// Where the pages come from that crops are cut from: photographs at random scales, damaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageOptions {
    /// A folder of clean photographs.
    pub clean: PathBuf,
    /// Also take the photographs in folders inside it. Default: false.
    pub recursive: bool,
    /// Photographs that are held back and judged by. Default: 8.
    pub held_out: usize,
    /// The shortest and the longest that a photograph's longer side becomes, in pixels (log-uniform). Default: 400 to 1600.
    pub longest_side: [usize; 2],
    /// The strongest enlargement on the way to that, at least 1. Default: 1.5.
    pub enlarged: f64,
    /// The share of pages that are turned by a quarter. Default: 0.25.
    pub turned: f64,
    /// The share of pages with other colours than the photograph's. Default: 0.5.
    pub recoloured: f64,
    /// The longest side of a page, which is cut from the photograph. Default: 768.
    pub page_side: usize,
    /// Pages that a step's crops are drawn from. Default: 16.
    pub pages: u64,
    /// Steps between new pages. Default: 1.
    pub steps_per_page: u64,
    /// The side of a crop in pixels. Default: 128.
    pub crop: usize,
    /// The kinds of damage, as [`DamageRecipe::parse`] reads them. Default: structural.
    pub damage: String,
    /// From the lightest to the worst, within `0 ..= 1`. Default: 0 to 1.
    pub severity: [f32; 2],
    /// The share of pages without damage, which teach what is none; for the detector. Default: 0.2.
    pub undamaged: f64,
    /// The share of pages that look like old prints ([`age`](imaging::damage::age)). Default: 0.5.
    pub aged: f64,
    /// The share of pages with things drawn in that look like damage and are none
    /// ([`draw_decoys`](imaging::damage::draw_decoys)). Default: 0.2.
    pub decoys: f64,
    /// The share of pages with a few [things that people make](imaging::damage::DecoyKind::Objects) drawn in, of which
    /// landscapes have none. Default: 0.4.
    pub objects: f64,
    /// The share of damaged pages whose damage has its opposite tones, dark for light; for the detector. Default: 0.25.
    pub reversed: f64,
    /// The share of pages that are softened, or enlarged by up to 2.2, made grey, noisy, sharpened and compressed after they are
    /// damaged, each of it at times, as files of scans are; for the detector. Default: 0.6.
    pub scanned: f64,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self {
            clean: PathBuf::new(),
            recursive: false,
            held_out: 8,
            longest_side: [400, 1600],
            enlarged: 1.5,
            turned: 0.25,
            recoloured: 0.5,
            page_side: 768,
            pages: 16,
            steps_per_page: 1,
            crop: 128,
            damage: "structural".to_owned(),
            severity: [0.0, 1.0],
            undamaged: 0.2,
            aged: 0.5,
            decoys: 0.2,
            objects: 0.4,
            reversed: 0.25,
            scanned: 0.6,
        }
    }
}

impl PageOptions {
    /// What pages are damaged with.
    ///
    /// # Errors
    /// Those of [`DamageRecipe::parse`].
    pub(super) fn recipe(&self) -> Result<DamageRecipe> {
        let [low, high] = self.severity;
        // What only changes the whole picture is nothing to find or to repaint.
        let mut recipe = DamageRecipe::parse(&self.damage)?.with_always_masked(true);
        recipe.severity = low..=high;
        recipe.check()?;
        Ok(recipe)
    }

    fn validate(&self) -> Result<()> {
        self.recipe()?;
        for (name, share) in [
            ("turned", self.turned),
            ("recoloured", self.recoloured),
            ("undamaged", self.undamaged),
            ("aged", self.aged),
            ("decoys", self.decoys),
            ("objects", self.objects),
            ("reversed", self.reversed),
            ("scanned", self.scanned),
        ] {
            check_range(name, share, 0.0, 1.0)?;
        }
        check_range("enlarged", self.enlarged, 1.0, 8.0)?;
        let [low, high] = self.longest_side;
        for (name, value, least, most) in [
            ("longest_side", low, 64, high),
            ("longest_side", high, low, 20_000),
            ("page_side", self.page_side, 64, 4096),
            ("crop", self.crop, 16, self.page_side),
            ("pages", self.pages as usize, 1, 1000),
            ("steps_per_page", self.steps_per_page as usize, 1, 1_000_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(DiffusionError::argument(name, format!("{least} to {most}"), value));
            }
        }
        Ok(())
    }
}

/// Every setting of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelTrainOptions {
    /// What is learnt.
    pub task: PixelTask,
    /// The seed of everything random.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Steps between checkpoints to resume from; 0 for none but at the end.
    pub save_every: u64,
    /// Checkpoints that are kept, at least 1.
    pub keep: usize,
    /// Steps between validations; 0 for one at the end.
    pub validate_every: u64,
    /// A network of the same shape to start from, in place of random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// The checkpoint whose autoencoder is trained: a path or an id on the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How weights are changed.
    pub optimizer: OptimizerOptions,
    /// The pages.
    pub pages: PageOptions,
    /// The network of a detector or refiner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<PixelUnetConfig>,
}

impl PixelTrainOptions {
    /// The settings for a task. The carried networks were trained with tools/models/train.py, on pages made with these.
    #[must_use]
    pub fn new(task: PixelTask) -> Self {
        Self {
            task,
            seed: 0,
            steps: 20_000,
            save_every: 500,
            keep: 2,
            validate_every: 1000,
            start_from: None,
            model: None,
            optimizer: OptimizerOptions {
                learning_rate: 1e-3,
                lr_scheduler: LrScheduler::Cosine,
                warmup_steps: 200,
                beta2: 0.99,
                weight_decay: 1e-4,
                batch_size: if task == PixelTask::Detector { 2 } else { 16 },
                ema_decay: 0.998,
                gradient_checkpointing: false,
                ..OptimizerOptions::default()
            },
            pages: match task {
                PixelTask::Detector => PageOptions { crop: 384, ..PageOptions::default() },
                PixelTask::Refiner => {
                    PageOptions { decoys: 0.1, aged: 0.4, objects: 0.2, ..PageOptions::default() }
                }
                PixelTask::Autoencoder => PageOptions {
                    undamaged: 0.7,
                    decoys: 0.0,
                    aged: 0.4,
                    objects: 0.2,
                    ..PageOptions::default()
                },
            },
            network: task.default_network(),
        }
    }

    /// # Errors
    /// [`DiffusionError::Argument`] for a setting outside its range, or settings that exclude each other.
    pub fn validate(&self) -> Result<()> {
        self.pages.validate()?;
        self.optimizer.validate()?;
        let factor = match self.task {
            PixelTask::Detector | PixelTask::Refiner => self.validate_network()?,
            // Whatever an autoencoder shrinks by, of those that there are.
            PixelTask::Autoencoder => 8,
        };
        if !self.pages.crop.is_multiple_of(factor) {
            return Err(DiffusionError::argument(
                "crop",
                format!("a multiple of {factor}, by which the network shrinks it"),
                self.pages.crop,
            ));
        }
        if self.task == PixelTask::Autoencoder && self.pages.held_out == 0 {
            let expected = "at least 1: the latents' scale is measured on them";
            return Err(DiffusionError::argument("held_out", expected, 0));
        }
        if self.steps == 0 || self.keep == 0 {
            return Err(DiffusionError::argument("steps, keep", "at least 1", 0));
        }
        Ok(())
    }

    /// The network of a detector or refiner.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if there is none.
    pub(super) fn network(&self) -> Result<&PixelUnetConfig> {
        let missing = || DiffusionError::argument("network", "its widths and blocks", "none");
        self.network.as_ref().ok_or_else(missing)
    }

    /// By how much the network shrinks pictures.
    fn validate_network(&self) -> Result<usize> {
        let network = self.network()?;
        network.validate()?;
        let (channels_in, channels_out) = self.task.channels();
        let is_luma = self.task == PixelTask::Detector && network.in_channels == 1;
        let fits = is_luma || network.in_channels == channels_in;
        if !fits || network.out_channels != channels_out {
            let found = format!("{} and {}", network.in_channels, network.out_channels);
            let luma = if self.task == PixelTask::Detector { ", or 1 in (luma)" } else { "" };
            let expected = format!("{channels_in} in and {channels_out} out{luma}");
            return Err(DiffusionError::argument("network channels", expected, found));
        }
        Ok(network.down_factor())
    }

    /// What a resumed run must agree on: not how often it saves and judges.
    pub(super) fn identity(&self) -> Value {
        let fixed = Self {
            save_every: 0,
            keep: 1,
            validate_every: 0,
            start_from: None,
            model: None,
            pages: PageOptions { clean: PathBuf::new(), ..self.pages.clone() },
            // Schedules that end at 0 depend on where the end is.
            steps: match self.optimizer.lr_scheduler {
                LrScheduler::Linear | LrScheduler::Cosine => self.steps,
                LrScheduler::Constant | LrScheduler::ConstantWithWarmup => 1,
            },
            ..self.clone()
        };
        // Numbers, strings and lists: always JSON.
        serde_json::to_value(fixed).unwrap_or_default()
    }
}
