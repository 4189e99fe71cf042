//! How progress is judged: an interface, because restoring pictures is the pipelines' business, which training does not know.

use std::sync::Arc;

use candle_core::Device;
use imaging::{Image, Observer, Repainter};

use super::data::TripletPaths;
use super::settings::TrainOptions;
use crate::components::{Autoencoder, PromptEmbeds};
use crate::error::Result;
use crate::models::UNet2DConditionModel;
use crate::schedulers::SchedulerConfig;

/// A model in training, and the pictures to judge it by.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// As it would be saved now.
    pub unet: &'a UNet2DConditionModel,
    /// The base's.
    pub vae: &'a Autoencoder,
    /// The run's prompt.
    pub prompts: &'a PromptEmbeds,
    /// The base's.
    pub scheduler: &'a SchedulerConfig,
    /// The pictures that are held back.
    pub triplets: &'a [TripletPaths],
    /// The settings of the run.
    pub options: &'a TrainOptions,
    /// Where to compute.
    pub device: &'a Device,
    /// What restoration starts from.
    pub fill: &'a Arc<dyn Repainter>,
}

/// Means over pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeanScores {
    /// In dB.
    pub psnr: f64,
    /// Over damaged pixels, in dB.
    pub masked_psnr: f64,
    /// −1 to 1.
    pub ssim: f64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Restored against clean.
    pub scores: MeanScores,
    /// Damaged against clean.
    pub before: MeanScores,
    /// Comparison sheets of the first few, with a name each.
    pub sheets: Vec<(String, Image)>,
}

/// Restores pictures with a model in training.
pub trait Validator {
    /// # Errors
    /// Those of reading the pictures and of restoring them; `Cancelled`.
    fn validate(&self, subject: &Subject<'_>, observer: &dyn Observer) -> Result<Validation>;
}
