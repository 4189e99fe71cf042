//! Synthetic damage on clean photographs, with the mask that goes with it.
//!
//! [`damage`] takes a clean picture, a [`DamageRecipe`] and a seed, and gives the picture as it might look
//! after a hard life, at the same size, depth and colour type, with the exact mask of what was changed.
//!
//! Pages to learn from are made in three steps, each by itself and each with the same seed if wanted: [`age`] lets the
//! picture look like an old print or scan, [`draw_decoys`] adds what looks like damage and belongs to the picture, and
//! [`damage`] damages the result. Only the last is in the mask.
//!
//! # What the mask marks
//! Every pixel that *structural* damage changed: where it covers at least 4 % of the pixel or lightens or
//! darkens it by at least 2 %, and the crests of creases. Weaker traces are not painted at all, so without
//! global kinds every pixel outside the mask is bit-identical to the clean picture. *Global* kinds (blur, grain,
//! fading; [`DamageKind::is_global`]) change the whole picture and are never in the mask.
//!
//! # Sizes and severity
//! All sizes grow with the square root of the picture's area, so that a thumbnail and a scan of the same
//! print look alike. Severity 0 is the slightest damage of a kind, 1 the worst.
//!
//! # Seeds
//! The bytes depend on the picture, the recipe and the seed alone: not on the number of threads, and not on
//! the platform. Each part draws from its own PCG32 stream; the stream's seed is
//! `mix(seed ⊕ mix(fnv1a64(name)))` with SplitMix64's `mix` and the part's name: `recipe` for the choice of
//! kinds and severities, `medium` for paper and light, and each kind's own name; `age`; and those of the decoys.

mod age;
mod blob;
mod blur;
mod canvas;
mod cracks;
mod craquelure;
mod dataset;
mod decoys;
mod dust;
mod exposed;
mod fading;
mod folds;
mod grain;
mod kind;
mod losses;
mod material;
mod network;
mod noise_rows;
mod occlusion;
mod painter;
mod pixel;
mod random;
mod recipe;
mod scratches;
mod stains;
mod stroke;
mod tears;

pub use age::{age, compress};
pub use dataset::{Dataset, DatasetOptions, Triplet, make_dataset};
pub use decoys::{DecoyKind, DecoyOptions, draw_decoys};
pub use kind::DamageKind;
pub use recipe::DamageRecipe;

use canvas::Canvas;
use random::Random;

use crate::error::Result;
use crate::image::Image;
use crate::mask::Mask;

/// A damaged picture.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// The picture, of the clean one's size, depth and colour type, with its metadata.
    pub image: Image,
    /// The hard mask of the structural damage.
    pub mask: Mask,
    /// What was applied, in that order, with the severity in `0 ..= 1`.
    pub applied: Vec<(DamageKind, f32)>,
}

/// Damages a copy of `clean`; the module's documentation says how. Alpha is never changed.
///
/// # Errors
/// [`ImagingError::Argument`](crate::ImagingError::Argument) if the recipe makes no sense
/// ([`DamageRecipe::check`]).
pub fn damage(clean: &Image, recipe: &DamageRecipe, seed: u64) -> Result<Damaged> {
    recipe.check()?;
    let applied = recipe.draw(&mut Random::new(seed, "recipe"));
    let mut canvas = Canvas::new(clean.clone(), seed);
    for &(kind, severity) in &applied {
        let mut random = Random::new(seed, kind.name());
        let apply = match kind {
            DamageKind::Blur => blur::apply,
            DamageKind::Grain => grain::apply,
            DamageKind::Fading => fading::apply,
            DamageKind::Stains => stains::apply,
            DamageKind::Craquelure => craquelure::apply,
            DamageKind::Cracks => cracks::apply,
            DamageKind::Folds => folds::apply,
            DamageKind::Scratches => scratches::apply,
            DamageKind::Losses => losses::apply,
            DamageKind::Tears => tears::apply,
            DamageKind::Occlusion => occlusion::apply,
            DamageKind::Dust => dust::apply,
        };
        apply(&mut canvas, &mut random, severity);
    }
    let (image, mask) = canvas.finish();
    Ok(Damaged { image, mask, applied })
}
