//! Damage for clean pictures, and holes for masks, drawn while training.

use imaging::damage::{DamageKind, DamageRecipe, damage};
use imaging::{ColorType, Image, Mask, Samples};

use crate::error::Result;
use crate::random::sub_seed;

/// How often damage is drawn again when none of it is to be seen.
const ATTEMPTS: u64 = 8;

/// A picture that was damaged.
pub(super) struct Drawn {
    pub(super) image: Image,
    /// Where it is to be repainted; never empty.
    pub(super) mask: Mask,
    /// True if all of it was changed, so that the mask is everywhere and hiding it would leave nothing to restore.
    pub(super) everywhere: bool,
    /// What it was damaged with, in the order of application.
    pub(super) kinds: Vec<DamageKind>,
}

/// Damages `clean`. Kinds that change the whole picture put the mask everywhere, whatever they meet with.
///
/// # Errors
/// As [`damage`], if the recipe makes no sense.
pub(super) fn damaged(clean: &Image, recipe: &DamageRecipe, seed: u64) -> Result<Drawn> {
    // Slight damage may miss a small picture altogether; severe losses hardly do.
    let severe = DamageRecipe::only(DamageKind::Losses).with_severity(1.0..=1.0);
    let recipes = (0..2 * ATTEMPTS).map(|at| if at < ATTEMPTS { recipe } else { &severe });
    for (attempt, recipe) in recipes.enumerate() {
        let drawn = damage(clean, recipe, sub_seed(seed, &format!("attempt {attempt}")))?;
        let kinds: Vec<_> = drawn.applied.iter().map(|(kind, _)| *kind).collect();
        if kinds.iter().any(|kind| kind.is_global()) {
            let mask = whole(clean);
            return Ok(Drawn { image: drawn.image, mask, everywhere: true, kinds });
        }
        if !drawn.mask.is_empty() {
            let (image, mask) = (drawn.image, drawn.mask);
            return Ok(Drawn { image, mask, everywhere: false, kinds });
        }
    }
    // A picture too small to carry damage is to be painted as it is.
    let (image, mask) = (clean.clone(), whole(clean));
    Ok(Drawn { image, mask, everywhere: true, kinds: Vec::new() })
}

fn whole(image: &Image) -> Mask {
    Mask::from_fn(image.width(), image.height(), |_, _| true)
}

/// Holes in the shapes of structural damage, for a picture of `width × height` pixels. They may be none.
///
/// # Errors
/// As [`damage`], if the severity makes no sense.
pub(super) fn holes(
    (width, height): (usize, usize),
    severity: [f32; 2],
    seed: u64,
) -> Result<Mask> {
    let grey = Samples::U8(vec![128; width * height]);
    let grey = Image::new(width, height, ColorType::Gray, grey)?;
    let recipe =
        DamageRecipe::structural().with_mix(1..=2).with_severity(severity[0]..=severity[1]);
    Ok(damage(&grey, &recipe, seed)?.mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(side: usize) -> Image {
        let samples = Samples::U8(vec![100; side * side]);
        Image::new(side, side, ColorType::Gray, samples).expect("a picture")
    }

    #[test]
    fn something_is_always_damaged_however_small_and_slight() {
        let slight = DamageRecipe::only(DamageKind::Dust).with_severity(0.0..=0.0);
        for seed in 0..20 {
            let drawn = damaged(&grey(8), &slight, seed).expect("a sound recipe");
            assert!(!drawn.mask.is_empty(), "{seed}");
        }
    }

    #[test]
    fn what_changes_the_whole_picture_is_masked_everywhere() {
        let recipe = DamageRecipe::of(&[(DamageKind::Blur, 1.0), (DamageKind::Cracks, 1.0)]);
        let drawn = damaged(&grey(32), &recipe.with_mix(2..=2), 5).expect("a sound recipe");
        assert!(drawn.everywhere);
        assert_eq!(drawn.mask.count(), 32 * 32);
        assert_eq!(drawn.kinds, [DamageKind::Blur, DamageKind::Cracks]);
        let cracks = DamageRecipe::only(DamageKind::Cracks);
        let drawn = damaged(&grey(64), &cracks, 5).expect("a sound recipe");
        assert!(!drawn.everywhere && drawn.mask.count() < 64 * 64);
    }
}
