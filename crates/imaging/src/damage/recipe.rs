//! Which damage, how many kinds of it, and how much.

use std::ops::RangeInclusive;

use super::kind::DamageKind;
use super::random::Random;
use crate::error::{ImagingError, Result};

/// What to damage a picture with.
///
/// For each picture the number of kinds is drawn from `mix`, then that many different kinds in proportion to
/// their weights, and for each of them a severity from `severity`, all uniformly.
#[derive(Clone, Debug, PartialEq)]
pub struct DamageRecipe {
    weights: [f32; DamageKind::ALL.len()],
    /// How many kinds meet on one picture. Those without weight are never used, so fewer may be.
    pub mix: RangeInclusive<usize>,
    /// From the lightest to the worst, within `0 ..= 1`; 0 is slight damage, not none.
    pub severity: RangeInclusive<f32>,
    /// Whether each picture has damage in its mask: if only global kinds were drawn although the recipe has
    /// structural ones, the last of them makes way for a structural one, drawn by weight. Default: false.
    ///
    /// Of the remaining pictures only those that are too small for what was drawn can have an empty mask.
    pub always_masked: bool,
}

impl Default for DamageRecipe {
    /// [`DamageRecipe::mixed`].
    fn default() -> Self {
        Self::mixed()
    }
}

impl DamageRecipe {
    /// The names that [`preset`](Self::preset) knows beside those of the kinds.
    pub const PRESETS: [&'static str; 4] = ["mixed", "structural", "photo", "painting"];

    /// Every kind, one to four at a time, those of old prints more often than the rest.
    #[must_use]
    pub fn mixed() -> Self {
        use DamageKind as K;
        Self::of(&[
            (K::Cracks, 3.0),
            (K::Scratches, 3.0),
            (K::Folds, 2.0),
            (K::Losses, 2.0),
            (K::Dust, 2.0),
            (K::Tears, 1.5),
            (K::Stains, 1.5),
            (K::Fading, 1.5),
            (K::Craquelure, 1.0),
            (K::Grain, 1.0),
            (K::Blur, 0.5),
            (K::Occlusion, 0.7),
        ])
    }

    /// [`mixed`](Self::mixed) without the global kinds, so that all damage is in the mask.
    #[must_use]
    pub fn structural() -> Self {
        let mut recipe = Self::mixed();
        for kind in DamageKind::ALL.into_iter().filter(|kind| kind.is_global()) {
            recipe.weights[kind.index()] = 0.0;
        }
        recipe
    }

    /// What a crumpled album print has: cracks, folds, scratches, losses, dust, tears.
    #[must_use]
    pub fn photo() -> Self {
        use DamageKind as K;
        Self::of(&[
            (K::Cracks, 3.0),
            (K::Folds, 2.0),
            (K::Scratches, 2.0),
            (K::Losses, 1.5),
            (K::Dust, 2.0),
            (K::Tears, 1.0),
        ])
    }

    /// What a painting has: craquelure, losses to the ground, scratches, stains.
    #[must_use]
    pub fn painting() -> Self {
        use DamageKind as K;
        Self::of(&[(K::Craquelure, 4.0), (K::Losses, 2.0), (K::Scratches, 1.0), (K::Stains, 1.0)])
    }

    /// One kind alone.
    #[must_use]
    pub fn only(kind: DamageKind) -> Self {
        Self { mix: 1..=1, ..Self::of(&[(kind, 1.0)]) }
    }

    /// One to four of these kinds, by weight, severities 0.3 to 0.8. Weights below 0 or not finite are
    /// refused by [`check`](Self::check).
    #[must_use]
    pub fn of(weights: &[(DamageKind, f32)]) -> Self {
        let mut recipe = Self {
            weights: [0.0; DamageKind::ALL.len()],
            mix: 1..=4,
            severity: 0.3..=0.8,
            always_masked: false,
        };
        for &(kind, weight) in weights {
            recipe.weights[kind.index()] = weight;
        }
        recipe
    }

    /// The preset of that name: one of [`PRESETS`](Self::PRESETS), or a kind for that kind alone.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] with the names that are known.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "mixed" => Ok(Self::mixed()),
            "structural" => Ok(Self::structural()),
            "photo" => Ok(Self::photo()),
            "painting" => Ok(Self::painting()),
            _ => name.parse().map(Self::only).map_err(|_| {
                let kinds = DamageKind::ALL.map(DamageKind::name).join(", ");
                let presets = Self::PRESETS.join(", ");
                ImagingError::argument("damage", format!("{presets}, or a kind: {kinds}"), name)
            }),
        }
    }

    /// Reads kinds with weights, `cracks=2,losses=1` (a kind without a weight has weight 1), or one preset.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] for an unknown name, a weight that is not a number at least 0, a kind given
    /// twice, or weights that are all 0.
    pub fn parse(text: &str) -> Result<Self> {
        if Self::PRESETS.contains(&text) {
            return Self::preset(text);
        }
        let mut recipe = Self::of(&[]);
        let mut seen = [false; DamageKind::ALL.len()];
        for item in text.split(',') {
            let (name, weight) = item.split_once('=').unwrap_or((item, "1"));
            let kind: DamageKind = name.trim().parse()?;
            let refused = || {
                ImagingError::argument(
                    format!("weight of {kind}"),
                    "a number at least 0, once",
                    item.trim(),
                )
            };
            let weight: f32 = weight.trim().parse().map_err(|_| refused())?;
            if seen[kind.index()] || !weight.is_finite() || weight < 0.0 {
                return Err(refused());
            }
            seen[kind.index()] = true;
            recipe.weights[kind.index()] = weight;
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// The weight of a kind.
    #[must_use]
    pub fn weight(&self, kind: DamageKind) -> f32 {
        self.weights[kind.index()]
    }

    /// The same recipe with another weight for a kind.
    #[must_use]
    pub fn with_weight(mut self, kind: DamageKind, weight: f32) -> Self {
        self.weights[kind.index()] = weight;
        self
    }

    /// The same recipe with other severities.
    #[must_use]
    pub fn with_severity(mut self, severity: RangeInclusive<f32>) -> Self {
        self.severity = severity;
        self
    }

    /// The same recipe with another number of kinds on one picture.
    #[must_use]
    pub fn with_mix(mut self, mix: RangeInclusive<usize>) -> Self {
        self.mix = mix;
        self
    }

    /// The same recipe with [`always_masked`](Self::always_masked) set or not.
    #[must_use]
    pub const fn with_always_masked(mut self, always_masked: bool) -> Self {
        self.always_masked = always_masked;
        self
    }

    /// Refuses a recipe that makes no sense.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] if a weight is negative or not finite, all are 0, `mix` starts at 0 or is
    /// empty, or `severity` is empty or leaves `0 ..= 1`.
    pub fn check(&self) -> Result<()> {
        for kind in DamageKind::ALL {
            let weight = self.weight(kind);
            if !weight.is_finite() || weight < 0.0 {
                let name = format!("weight of {kind}");
                return Err(ImagingError::argument(name, "a number at least 0", weight));
            }
        }
        if self.weights.iter().all(|&weight| weight == 0.0) {
            return Err(ImagingError::argument("weights", "a kind with a weight above 0", "none"));
        }
        let (few, many) = (*self.mix.start(), *self.mix.end());
        if few == 0 || many < few {
            let found = format!("{few}..{many}");
            return Err(ImagingError::argument("mix", "1 ≤ fewest ≤ most kinds", found));
        }
        let (low, high) = (*self.severity.start(), *self.severity.end());
        // Written so that NaN fails.
        if !(low >= 0.0 && high >= low && high <= 1.0) {
            let found = format!("{low}..{high}");
            return Err(ImagingError::argument("severity", "0 ≤ lowest ≤ highest ≤ 1", found));
        }
        Ok(())
    }

    /// The kinds for one picture with their severities, in the order of application.
    pub(super) fn draw(&self, random: &mut Random) -> Vec<(DamageKind, f32)> {
        // There are no more kinds than that, whatever `mix` says.
        let few = (*self.mix.start()).min(DamageKind::ALL.len());
        let many = (*self.mix.end()).min(DamageKind::ALL.len());
        let count = few + random.below(many.saturating_sub(few) + 1);
        let mut weights = self.weights;
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let Some(index) = random.weighted(&weights) else { break };
            weights[index] = 0.0;
            let severity = random.range(*self.severity.start(), *self.severity.end());
            drawn.push((DamageKind::ALL[index], severity));
        }
        if self.always_masked && drawn.iter().all(|(kind, _)| kind.is_global()) {
            for kind in DamageKind::ALL.into_iter().filter(|kind| kind.is_global()) {
                weights[kind.index()] = 0.0;
            }
            if let (Some(index), Some(last)) = (random.weighted(&weights), drawn.last_mut()) {
                last.0 = DamageKind::ALL[index];
            }
        }
        drawn.sort_by_key(|&(kind, _)| kind);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_and_refused() {
        let recipe = DamageRecipe::parse("cracks=2, losses").unwrap();
        assert_eq!(recipe.weight(DamageKind::Cracks), 2.0);
        assert_eq!(recipe.weight(DamageKind::Losses), 1.0);
        assert_eq!(recipe.weight(DamageKind::Dust), 0.0);
        assert_eq!(DamageRecipe::parse("painting").unwrap(), DamageRecipe::painting());
        for text in ["", "cracks=", "cracks=-1", "cracks=NaN", "cracks=0", "cracks,cracks", "moths"]
        {
            assert!(DamageRecipe::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn presets_are_sound() {
        for name in DamageRecipe::PRESETS.into_iter().chain(DamageKind::ALL.map(DamageKind::name)) {
            DamageRecipe::preset(name).unwrap().check().unwrap();
        }
        assert!(DamageRecipe::preset("none").is_err());
        assert!(DamageRecipe::mixed().with_mix(0..=2).check().is_err());
        assert!(DamageRecipe::mixed().with_severity(0.5..=1.5).check().is_err());
        assert!(DamageRecipe::mixed().with_severity(f32::NAN..=1.0).check().is_err());
        assert!(DamageRecipe::mixed().with_weight(DamageKind::Dust, -1.0).check().is_err());
    }

    #[test]
    fn kinds_are_drawn_in_proportion() {
        let recipe = DamageRecipe::parse("cracks=3,dust=1").unwrap().with_mix(1..=1);
        let mut random = Random::new(2, "draw");
        let drawn: Vec<_> = (0..8000).flat_map(|_| recipe.draw(&mut random)).collect();
        let cracks = drawn.iter().filter(|(kind, _)| *kind == DamageKind::Cracks).count();
        assert_eq!(drawn.len(), 8000);
        assert!((cracks as f64 / 8000.0 - 0.75).abs() < 0.02, "{cracks}");
        assert!(drawn.iter().all(|(_, severity)| recipe.severity.contains(severity)));
    }

    #[test]
    fn a_structural_kind_replaces_the_last_of_global_ones_alone() {
        let recipe = DamageRecipe::parse("fading=50,grain=50,cracks=1").unwrap().with_mix(1..=2);
        let mut random = Random::new(4, "draw");
        let plain = (0..200).map(|_| recipe.draw(&mut random)).collect::<Vec<_>>();
        assert!(plain.iter().any(|drawn| drawn.iter().all(|(kind, _)| kind.is_global())));
        let masked = recipe.with_always_masked(true);
        for seed in 0..200 {
            let drawn = masked.draw(&mut Random::new(seed, "draw"));
            assert!(drawn.iter().any(|&(kind, _)| kind == DamageKind::Cracks), "{drawn:?}");
            assert!((1..=2).contains(&drawn.len()));
        }
        // Without a structural kind there is nothing to put in.
        let global = DamageRecipe::only(DamageKind::Blur).with_always_masked(true);
        assert_eq!(global.draw(&mut random)[0].0, DamageKind::Blur);
    }

    #[test]
    fn no_kind_is_drawn_twice_and_the_order_is_fixed() {
        let recipe = DamageRecipe::mixed().with_mix(20..=usize::MAX);
        let drawn = recipe.draw(&mut Random::new(3, "draw"));
        assert_eq!(drawn.iter().map(|&(kind, _)| kind).collect::<Vec<_>>(), DamageKind::ALL);
    }
}
