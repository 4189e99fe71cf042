//! One kind of damage that pictures meet in training, and the words that the prompt calls it by.

use imaging::damage::{DamageKind, DamageRecipe};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{DiffusionError, Result};

/// A kind of damage for training, how often it is drawn, and its name in prompts.
///
/// In a configuration file `kind` is one of [`DamageKind`]'s names; `weight` may be left out for 1, `words` for the
/// kind's [`default_words`](Self::default_words).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Condition {
    /// The kind.
    #[serde(serialize_with = "by_name")]
    pub kind: DamageKind,
    /// How often it is drawn, in proportion to the other conditions' weights; at least 0.
    pub weight: f32,
    /// What prompts call it; with empty words they do not mention it.
    pub words: String,
}

impl Condition {
    /// The condition with weight 1 and the kind's default words.
    #[must_use]
    pub fn new(kind: DamageKind) -> Self {
        Self { kind, weight: 1.0, words: Self::default_words(kind).to_owned() }
    }

    /// Cracks, scratches, tears, folds, losses, motion blur and heavy occlusion, each with weight 1.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        use DamageKind as K;
        [K::Cracks, K::Scratches, K::Tears, K::Folds, K::Losses, K::Blur, K::Occlusion]
            .map(Self::new)
            .to_vec()
    }

    /// What prompts call a kind unless told otherwise: its name, or more precise words.
    #[must_use]
    pub const fn default_words(kind: DamageKind) -> &'static str {
        match kind {
            DamageKind::Blur => "motion blur",
            DamageKind::Grain => "film grain",
            DamageKind::Occlusion => "heavy occlusion",
            other => other.name(),
        }
    }

    /// Reads kinds with weights, `cracks=2,losses,blur=0.5`; a kind without a weight has weight 1.
    ///
    /// # Errors
    /// [`DiffusionError::Imaging`] for an unknown kind, a weight that is not a number at least 0, a kind given twice,
    /// or weights that are all 0.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        // A preset's name would be read as a recipe, which has no order and no words.
        if let Some(preset) = DamageRecipe::PRESETS.into_iter().find(|preset| *preset == text) {
            let kinds = DamageKind::ALL.map(DamageKind::name).join(", ");
            return Err(DiffusionError::argument("conditions", format!("some of {kinds}"), preset));
        }
        let recipe = DamageRecipe::parse(text)?;
        let mut conditions = Vec::new();
        for item in text.split(',') {
            let name = item.split_once('=').map_or(item, |(name, _)| name);
            let kind: DamageKind = name.trim().parse()?;
            conditions.push(Self { weight: recipe.weight(kind), ..Self::new(kind) });
        }
        Ok(conditions)
    }
}

/// A condition as a file states it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    weight: Option<f32>,
    words: Option<String>,
}

impl TryFrom<Written> for Condition {
    type Error = imaging::ImagingError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let condition = Self::new(written.kind.parse()?);
        Ok(Self {
            kind: condition.kind,
            weight: written.weight.unwrap_or(condition.weight),
            words: written.words.unwrap_or(condition.words),
        })
    }
}

/// By reference, because serde asks for it.
fn by_name<S: Serializer>(kind: &DamageKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_refused() {
        let conditions = Condition::parse_list("cracks=2, losses,blur=0.5").expect("three kinds");
        let read: Vec<_> =
            conditions.iter().map(|one| (one.kind, one.weight, one.words.as_str())).collect();
        assert_eq!(
            read,
            [
                (DamageKind::Cracks, 2.0, "cracks"),
                (DamageKind::Losses, 1.0, "losses"),
                (DamageKind::Blur, 0.5, "motion blur"),
            ]
        );
        for text in ["", "moths", "cracks,cracks", "cracks=-1", "cracks=0", "cracks=NaN", "mixed"] {
            assert!(Condition::parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_may_leave_out_weight_and_words() {
        let read: Condition = serde_json::from_str(r#"{"kind": "occlusion"}"#).expect("a kind");
        assert_eq!(read, Condition::new(DamageKind::Occlusion));
        let written = serde_json::to_string(&read).expect("plain values");
        assert_eq!(written, r#"{"kind":"occlusion","weight":1.0,"words":"heavy occlusion"}"#);
        let error = serde_json::from_str::<Condition>(r#"{"kind": "moths"}"#).expect_err("no kind");
        assert!(error.to_string().contains("craquelure"), "{error}");
        assert!(serde_json::from_str::<Condition>(r#"{"kind": "dust", "wait": 1}"#).is_err());
    }
}
