//! What pictures training sees, and how it looks at them.

use std::path::PathBuf;

use imaging::damage::DamageRecipe;
use imaging::io::ReadOptions;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::components::{DEFAULT_PROMPT, Shown};
use crate::error::{DiffusionError, Result};

/// The longest side that buckets are planned for, in pixels.
const MAX_RESOLUTION: usize = 8192;

/// Where in a picture the network looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropPolicy {
    /// Another place each epoch, near a random damaged pixel and with at least one in sight, at a random scale between
    /// the whole picture and single pixels (log-uniform). Never enlarged more than needed to cover. Clean pictures,
    /// which are damaged after the crop, are looked at anywhere.
    #[default]
    Damage,
    /// One place for each picture: as much of it as the shape allows, where that holds most damaged pixels. For clean
    /// pictures, which have none yet, the middle.
    Fixed,
    /// As much of the picture as the shape allows, from the middle. Triplets without damage there are refused.
    Center,
}

/// What the network sees of the picture beside the mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskedImage {
    /// The damaged picture with the masked pixels hidden: what restoration shows.
    #[default]
    Damaged,
    /// The clean picture with the masked pixels hidden.
    Clean,
    /// The damaged picture with nothing hidden.
    Whole,
    /// The damaged picture with the masked pixels filled, by [`TrainingSet::with_fill`](super::TrainingSet::with_fill).
    Filled,
}

impl MaskedImage {
    /// What restoration is to show a network that was trained so.
    #[must_use]
    pub const fn shown(self) -> Shown {
        match self {
            Self::Damaged | Self::Clean => Shown::Grey,
            Self::Whole => Shown::Damage,
            Self::Filled => Shown::Filled,
        }
    }
}

/// What pictures training sees, and how it looks at them. Exactly one of `triplets` and `clean` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataOptions {
    /// A folder with `clean/`, `damaged/` and `mask/`, as `photomend damage` writes it, folders inside these included.
    /// Files that belong together have the same name up to the extension, and the same size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triplets: Option<PathBuf>,
    /// A folder of clean photographs, which are damaged while training, differently in each epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<PathBuf>,
    /// Also take the pictures in folders inside `clean`. Default: false.
    pub recursive: bool,
    /// Take the first pictures in the order of their names only; at least 1. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// How often each picture is seen in an epoch, `1 ..= 10000`, each time with its own crop, mirroring and damage.
    /// Default: 1.
    pub repeats: usize,
    /// From the lightest to the worst damage of clean pictures and extra masks, within `0 ..= 1`. Default: 0.3 to 0.8.
    pub severity: [f32; 2],
    /// The fewest and the most conditions that meet on a clean picture, at least 1. Default: 1 to 2.
    pub mix: [usize; 2],
    /// What the network is to paint. Default: [`DEFAULT_PROMPT`].
    pub prompt: String,
    /// Take the prompt from `NAME.txt` beside the clean picture `NAME.png`, if that is there and says something.
    /// Default: false.
    pub captions: bool,
    /// End the prompts of clean pictures with what they were damaged by: ", restored from cracks and folds".
    /// Default: true.
    pub condition_words: bool,
    /// Pixels on a side of a square, a multiple of 8, `8 ..= 8192`; other shapes have about as many pixels.
    /// Default: 512.
    pub resolution: usize,
    /// Look at each picture in a shape near its own rather than in squares. Default: true.
    pub buckets: bool,
    /// The sides of shapes are multiples of this number of pixels, itself a multiple of 8. No more than a quarter of
    /// the resolution is used of it, so that small resolutions have more than one shape too. Default: 64.
    pub bucket_step: usize,
    /// Where the network looks. Default: near damage.
    pub crop: CropPolicy,
    /// Mirror every second picture, left to right. Default: true.
    pub flip: bool,
    /// What the network sees of the picture beside the mask. Default: the damaged picture.
    ///
    /// Where clean pictures meet damage that changes all of the picture (blur, grain, fading), the whole picture is to
    /// be repainted, and hiding it would leave nothing to restore; there the network sees the damaged picture whole.
    pub masked_image: MaskedImage,
    /// The probability that holes in the shapes of damage are masked beside the true damage, in `0 ..= 1`. Default: 0.
    pub extra_masks: f64,
    /// Pictures with more pixels are refused. Default: what reading pictures allows ([`ReadOptions`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// What clean pictures are damaged with. Default: [`Condition::defaults`].
    // Last: TOML wants tables after plain values.
    pub conditions: Vec<Condition>,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self {
            triplets: None,
            clean: None,
            recursive: false,
            limit: None,
            repeats: 1,
            severity: [0.3, 0.8],
            mix: [1, 2],
            prompt: DEFAULT_PROMPT.to_owned(),
            captions: false,
            condition_words: true,
            resolution: 512,
            buckets: true,
            bucket_step: 64,
            crop: CropPolicy::default(),
            flip: true,
            masked_image: MaskedImage::default(),
            extra_masks: 0.0,
            max_pixels: None,
            conditions: Condition::defaults(),
        }
    }
}

impl DataOptions {
    /// Refuses options that make no sense. Files are not looked at.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`], or [`DiffusionError::Imaging`] about the conditions, severity or mix, with the
    /// option's name, what it may be and what it is.
    pub fn validate(&self) -> Result<()> {
        let refuse = |name: &str, expected: &str, found: String| {
            Err(DiffusionError::argument(name, expected, found))
        };
        match (&self.triplets, &self.clean) {
            (None, None) => {
                return refuse("data", "a folder of triplets or of clean pictures", "none".into());
            }
            (Some(_), Some(_)) => {
                return refuse("data", "triplets or clean pictures", "both".into());
            }
            _ => {}
        }
        if self.limit == Some(0) {
            return refuse("limit", "at least 1 picture", "0".into());
        }
        if !(1..=10_000).contains(&self.repeats) {
            return refuse("repeats", "1 to 10000", self.repeats.to_string());
        }
        if !(8..=MAX_RESOLUTION).contains(&self.resolution) || !self.resolution.is_multiple_of(8) {
            let expected = format!("a multiple of 8, 8 to {MAX_RESOLUTION} pixels");
            return refuse("resolution", &expected, self.resolution.to_string());
        }
        if self.bucket_step == 0 || !self.bucket_step.is_multiple_of(8) {
            return refuse(
                "bucket step",
                "a multiple of 8, at least 8 pixels",
                self.bucket_step.to_string(),
            );
        }
        if !(0.0..=1.0).contains(&self.extra_masks) {
            return refuse("extra masks", "a probability, 0 to 1", self.extra_masks.to_string());
        }
        for (index, condition) in self.conditions.iter().enumerate() {
            if self.conditions[..index].iter().any(|other| other.kind == condition.kind) {
                return refuse("conditions", "each kind once", format!("{} twice", condition.kind));
            }
        }
        Ok(self.recipe().check()?)
    }

    /// The damage that clean pictures meet.
    pub(super) fn recipe(&self) -> DamageRecipe {
        let weights: Vec<_> = self.conditions.iter().map(|one| (one.kind, one.weight)).collect();
        DamageRecipe::of(&weights)
            .with_mix(self.mix[0]..=self.mix[1])
            .with_severity(self.severity[0]..=self.severity[1])
    }

    /// How files are read.
    pub(super) fn read_options(&self) -> ReadOptions {
        let mut read = ReadOptions::default();
        if let Some(max_pixels) = self.max_pixels {
            read.max_pixels = max_pixels;
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> DataOptions {
        DataOptions { triplets: Some("set".into()), ..DataOptions::default() }
    }

    #[test]
    fn options_go_to_a_file_and_back() {
        let options = DataOptions { limit: Some(3), crop: CropPolicy::Fixed, ..valid() };
        let text = serde_json::to_string(&options).expect("plain values");
        assert!(text.contains(r#""crop":"fixed""#) && !text.contains("max_pixels"), "{text}");
        assert_eq!(serde_json::from_str::<DataOptions>(&text).expect("what was written"), options);
        let few: DataOptions = serde_json::from_str(r#"{"triplets": "set"}"#).expect("defaults");
        assert_eq!(few, valid());
        assert!(serde_json::from_str::<DataOptions>(r#"{"triplet": "set"}"#).is_err());
    }

    #[test]
    fn senseless_options_are_refused_by_name() {
        valid().validate().expect("defaults make sense");
        let cases: [(DataOptions, &str); 13] = [
            (DataOptions::default(), "data"),
            (DataOptions { clean: Some("a".into()), ..valid() }, "data"),
            (DataOptions { limit: Some(0), ..valid() }, "limit"),
            (DataOptions { repeats: 0, ..valid() }, "repeats"),
            (DataOptions { resolution: 0, ..valid() }, "resolution"),
            (DataOptions { resolution: 100, ..valid() }, "resolution"),
            (DataOptions { resolution: usize::MAX - 7, ..valid() }, "resolution"),
            (DataOptions { bucket_step: 0, ..valid() }, "bucket step"),
            (DataOptions { extra_masks: f64::NAN, ..valid() }, "extra masks"),
            (DataOptions { severity: [0.5, 0.2], ..valid() }, "severity"),
            (DataOptions { mix: [0, 1], ..valid() }, "mix"),
            (DataOptions { conditions: Vec::new(), ..valid() }, "weights"),
            (
                DataOptions {
                    conditions: [Condition::defaults(), Condition::defaults()].concat(),
                    ..valid()
                },
                "conditions",
            ),
        ];
        for (options, name) in cases {
            let error = options.validate().expect_err(name).to_string();
            assert!(error.starts_with(name), "{name}: {error}");
        }
    }
}
