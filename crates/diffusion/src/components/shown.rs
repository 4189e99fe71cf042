//! What the network is shown of the picture, beside the mask and the noise.

use std::fmt;
use std::str::FromStr;

use crate::error::{DiffusionError, Result};
use crate::lora::LoraSet;

/// What the network is shown of the picture where it is to be repainted: what becomes `masked_image_latents`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Mid-grey, as in diffusers: what inpainting checkpoints were trained with.
    #[default]
    Grey,
    /// The fill, for networks that were trained to improve on one.
    Filled,
    /// The damage itself, for networks that were trained to undo what covers a picture without hiding it (motion blur, fading,
    /// stains).
    Damage,
}

impl Shown {
    /// The key of the note in a LoRA's header that says what it was trained with.
    pub const NOTE: &str = "photomend_shown";

    const ALL: [Self; 3] = [Self::Grey, Self::Filled, Self::Damage];

    /// `grey`, `filled` or `damage`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Filled => "filled",
            Self::Damage => "damage",
        }
    }

    /// What the first of the LoRAs that says so was trained with.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] with the file, if its note is none of the names.
    pub fn of_loras(loras: &LoraSet) -> Result<Option<Self>> {
        let mut notes = loras.files().iter().filter_map(|(file, _)| {
            let note = file.metadata().get(Self::NOTE)?;
            Some(note.parse().map_err(|error: DiffusionError| {
                DiffusionError::checkpoint(file.path(), format!("{}: {error}", Self::NOTE))
            }))
        });
        notes.next().transpose()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Shown {
    type Err = DiffusionError;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|shown| shown.name() == text)
            .ok_or_else(|| DiffusionError::argument("shown", "grey, filled or damage", text))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lora::LoraFile;

    fn loras(notes: &[Option<&str>]) -> LoraSet {
        let mut set = LoraSet::default();
        for note in notes {
            let note = note.map(|note| (Shown::NOTE.to_owned(), note.to_owned()));
            let metadata: BTreeMap<_, _> = note.into_iter().collect();
            let file = LoraFile::from_modules("some.safetensors", Vec::new());
            set.push(file.with_metadata(metadata), 1.0).expect("a finite weight");
        }
        set
    }

    #[test]
    fn the_first_note_counts() {
        assert_eq!(Shown::of_loras(&loras(&[])).expect("no note"), None);
        let two = loras(&[None, Some("filled"), Some("damage")]);
        assert_eq!(Shown::of_loras(&two).expect("a known note"), Some(Shown::Filled));
        let error = Shown::of_loras(&loras(&[Some("rain")])).expect_err("an unknown note");
        let error = error.to_string();
        assert!(error.contains("some.safetensors") && error.contains("rain"), "{error}");
    }
}
