//! Decoys: what looks like damage and belongs to the picture.
//!
//! A detector that learns from damage on clean pictures alone takes hair for scratches, branches for cracks and
//! bright windows for losses. Decoys are such things, drawn before the damage: they are part of the clean picture
//! and never in a mask. What sets them apart is what sets pictures apart: they taper, repeat, come in bundles, and
//! have colours of the scene. Their edges are as sharp, and their surfaces as grainy, as the picture they are
//! drawn on, measured in [`scene`].
//!
//! Sizes grow with the square root of the picture's area and seeds work as the [module above](super) says: the
//! choice of kinds is the part `decoys`, the measuring of the picture `decoys/scene`, the n-th decoy `decoys/KIND#n`.

mod branches;
mod brush;
mod fabric;
mod kind;
mod lattice;
mod line;
mod objects;
mod outlines;
mod panels;
mod quad;
mod scene;
mod sparkles;
mod strands;
mod text;
mod wires;

use std::ops::RangeInclusive;

pub use kind::DecoyKind;

use self::scene::Scene;
use super::random::Random;
use crate::error::{ImagingError, Result};
use crate::image::Image;

/// Which decoys are drawn, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoyOptions {
    /// The kinds to draw from, all alike. Default: [`DecoyKind::ALL`].
    pub kinds: Vec<DecoyKind>,
    /// How many decoys meet on one picture, drawn uniformly; a kind may come more than once. Default: 0 to 4.
    pub count: RangeInclusive<usize>,
}

impl Default for DecoyOptions {
    fn default() -> Self {
        Self { kinds: DecoyKind::ALL.to_vec(), count: 0..=4 }
    }
}

impl DecoyOptions {
    /// One decoy of one kind.
    #[must_use]
    pub fn only(kind: DecoyKind) -> Self {
        Self { kinds: vec![kind], count: 1..=1 }
    }

    /// Refuses options that make no sense.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] if `count` is empty or above 1000, or there is no kind to draw.
    pub fn check(&self) -> Result<()> {
        let (few, many) = (*self.count.start(), *self.count.end());
        if few > many || many > 1000 {
            let found = format!("{few}..{many}");
            return Err(ImagingError::argument("count", "fewest ≤ most ≤ 1000 decoys", found));
        }
        if many > 0 && self.kinds.is_empty() {
            return Err(ImagingError::argument("kinds", "a kind of decoy", "none"));
        }
        Ok(())
    }
}

/// Draws decoys on a copy of `image`, of the same size, depth and colour type; alpha is never changed.
///
/// The bytes depend on the picture, the options and the seed alone.
///
/// # Errors
/// [`ImagingError::Argument`] if the options make no sense ([`DecoyOptions::check`]).
pub fn draw_decoys(image: &Image, options: &DecoyOptions, seed: u64) -> Result<Image> {
    options.check()?;
    let mut random = Random::new(seed, "decoys");
    let (few, many) = (*options.count.start(), *options.count.end());
    let count = few + random.below(many - few + 1);
    if count == 0 {
        return Ok(image.clone());
    }
    let mut scene = Scene::new(image, seed);
    for number in 1..=count {
        let kind = options.kinds[random.below(options.kinds.len())];
        let mut random = Random::new(seed, &format!("decoys/{kind}#{number}"));
        scene.focus(&mut random);
        let draw = match kind {
            DecoyKind::Hair => strands::hair,
            DecoyKind::Grass => strands::grass,
            DecoyKind::Branches => branches::draw,
            DecoyKind::Wires => wires::draw,
            DecoyKind::Text => text::draw,
            DecoyKind::Brush => brush::draw,
            DecoyKind::Lattice => lattice::draw,
            DecoyKind::Panels => panels::draw,
            DecoyKind::Outlines => outlines::draw,
            DecoyKind::Fabric => fabric::draw,
            DecoyKind::Sparkles => sparkles::draw,
            DecoyKind::Objects => objects::draw,
        };
        draw(&mut scene, &mut random);
    }
    Ok(scene.finish())
}
