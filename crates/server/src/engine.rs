//! What finds and repaints damage: brought by the caller, so that this crate knows no models.

use imaging::{Image, Mask, Observer, Plane};
use serde::Serialize;

use crate::choices::{Choices, LoraChoice};

/// Finds and repaints damage as the command line does.
///
/// Calls come from one restoration and one detection at a time, which may be at the same time.
pub trait Engine: std::fmt::Debug + Send + Sync + 'static {
    /// What there is to choose from.
    fn about(&self) -> About;

    /// How probable it is that each pixel is damaged, 0 to 255, from which [`Engine::detect`] then finds the damage at any
    /// sensitivity; `None` if this engine has to look at the picture for each.
    ///
    /// # Errors
    /// Whatever the detector can fail with, and `Cancelled`.
    fn evidence(
        &self,
        image: &Image,
        observer: &dyn Observer,
    ) -> imaging::Result<Option<Plane<u8>>>;

    /// The damage at a sensitivity of `0 ..= 100`, 50 being the detector's own setting; before it is grown and softened.
    /// `evidence` is what [`Engine::evidence`] gave for this picture.
    ///
    /// # Errors
    /// Whatever the detector can fail with, and `Cancelled`.
    fn detect(
        &self,
        image: &Image,
        evidence: Option<&Plane<u8>>,
        sensitivity: f32,
        observer: &dyn Observer,
    ) -> imaging::Result<Mask>;

    /// `Ok` if the choices name things that there are.
    ///
    /// # Errors
    /// [`imaging::ImagingError::Argument`] naming the first that is not.
    fn check(&self, choices: &Choices) -> imaging::Result<()>;

    /// Repaints `image` where `weights` is above 0, blended by the weight; every other sample keeps its bits.
    ///
    /// # Errors
    /// Whatever the method can fail with, and `Cancelled`.
    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        choices: &Choices,
        observer: &dyn Observer,
    ) -> imaging::Result<()>;

    /// The command line, word by word, that does the same to a file called `input`, with the mask in `mask` unless it is
    /// detected.
    fn command(&self, choices: &Choices, input: &str, mask: Option<&str>) -> Vec<String>;
}

/// What there is to choose from, and what is chosen if nothing is.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The program's version.
    pub version: String,
    /// What finds damage, in a few words.
    pub detector: String,
    /// Ways to repaint, in the order that people should see.
    pub methods: Vec<Method>,
    /// The name of the one that is taken if none is chosen.
    pub method: String,
    /// LoRAs of the model, with the weights that they have if none are chosen.
    pub loras: Vec<LoraChoice>,
    /// What the picture shows.
    pub prompt: String,
    /// What must not appear.
    pub negative_prompt: String,
    /// Steps at strength 1.
    pub steps: u16,
    /// How much of the fill is painted over; `None` for automatic.
    pub strength: Option<f64>,
    /// How strongly the prompts lead.
    pub guidance: f64,
    /// The seed of all noise.
    pub seed: u64,
}

/// A way to repaint.
#[derive(Clone, Debug, Serialize)]
pub struct Method {
    /// What choices call it.
    pub name: String,
    /// What people read.
    pub label: String,
    /// True if prompts, steps, strength, guidance, seed and LoRAs matter to it.
    pub is_model: bool,
}
