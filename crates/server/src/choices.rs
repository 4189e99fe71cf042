//! What a client chooses for one restoration.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::sensitivity::DEFAULT_SENSITIVITY;

/// How a picture is restored. What a client leaves out has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choices {
    /// Which mask is used.
    pub mask: MaskChoice,
    /// How much the detection finds, `0 ..= 100`. Default: 50, the detector's own setting.
    pub sensitivity: u8,
    /// The name of one of [`About::methods`](crate::About::methods). Default: [`About::method`](crate::About::method).
    pub method: Option<String>,
    /// Pixels to grow the mask by, `0 ..= 100`. Default: 1.
    pub grow: u16,
    /// Standard deviation in pixels of the mask's soft edge, `0 ..= 50`. Default: 0.
    pub feather: f32,
    /// LoRAs by name with their weights. Default: those of the server, as they are.
    pub loras: Option<Vec<LoraChoice>>,
    /// What the picture shows, up to 2000 characters.
    pub prompt: Option<String>,
    /// What must not appear, up to 2000 characters.
    pub negative_prompt: Option<String>,
    /// Steps at strength 1, `1 ..= 1000`.
    pub steps: Option<u16>,
    /// How much of the fill is painted over, above 0 to 1. Default: by the width of the damage.
    pub strength: Option<f64>,
    /// How strongly the prompts lead, `0 ..= 100`.
    pub guidance: Option<f64>,
    /// The seed of all noise, below 2⁵³. Default: that of the server.
    pub seed: Option<u64>,
}

/// Which mask a restoration uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskChoice {
    /// What the detector finds.
    #[default]
    Detected,
    /// What the client has put.
    Own,
}

/// A LoRA and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraChoice {
    /// One of the names in [`About::loras`](crate::About::loras).
    pub name: String,
    /// The factor on the LoRA's own scale, `-4 ..= 4`; 0 leaves it out.
    pub weight: f64,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            mask: MaskChoice::default(),
            sensitivity: DEFAULT_SENSITIVITY as u8,
            method: None,
            grow: imaging::restore::DETECTED_DILATE as u16,
            feather: 0.0,
            loras: None,
            prompt: None,
            negative_prompt: None,
            steps: None,
            strength: None,
            guidance: None,
            seed: None,
        }
    }
}

/// The most characters of a prompt: far more than a text encoder sees.
const MAX_PROMPT: usize = 2000;

impl Choices {
    /// `Ok` if every number is in its range.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let within = |name: &str, expected: &str, fits: bool, found: &dyn std::fmt::Display| {
            let message = || format!("{name}: expected {expected}, found {found}");
            if fits { Ok(()) } else { Err(Problem::unacceptable(message())) }
        };
        let Self { sensitivity, grow, feather, .. } = self;
        within("sensitivity", "0 to 100", *sensitivity <= 100, sensitivity)?;
        within("grow", "0 to 100 pixels", *grow <= 100, grow)?;
        within("feather", "0 to 50 pixels", (0.0..=50.0).contains(feather), feather)?;
        if let Some(steps) = self.steps {
            within("steps", "1 to 1000", (1..=1000).contains(&steps), &steps)?;
        }
        if let Some(strength) = self.strength {
            let fits = strength > 0.0 && strength <= 1.0;
            within("strength", "above 0 and up to 1", fits, &strength)?;
        }
        if let Some(guidance) = self.guidance {
            within("guidance", "0 to 100", (0.0..=100.0).contains(&guidance), &guidance)?;
        }
        if let Some(seed) = self.seed {
            within("seed", "below 2^53", seed < 1 << 53, &seed)?;
        }
        for (name, text) in [("prompt", &self.prompt), ("negative_prompt", &self.negative_prompt)] {
            let length = text.as_ref().map_or(0, |text| text.chars().count());
            within(name, "up to 2000 characters", length <= MAX_PROMPT, &length)?;
            let control = text.as_ref().is_some_and(|text| text.chars().any(char::is_control));
            within(name, "text without control characters", !control, &"some")?;
        }
        for LoraChoice { weight, .. } in self.loras.iter().flatten() {
            within("weight", "-4 to 4", (-4.0..=4.0).contains(weight), weight)?;
        }
        let loras = self.loras.as_ref().map_or(0, Vec::len);
        within("loras", "up to 32", loras <= 32, &loras)
    }
}
