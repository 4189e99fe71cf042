//! Finds damage: cracks, scratches, creases, tears and missing paint.

use serde::Serialize;

use crate::error::Result;
use crate::image::Image;
use crate::mask::Mask;
use crate::observer::Observer;

/// Which kind of picture the parameters are tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// Photographs and their scans.
    #[default]
    Photo,
    /// Paintings: craquelure wanted, brush strokes not.
    Painting,
}

/// Every parameter of [`detect`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DetectParams {}

impl DetectParams {
    /// The parameters of a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let _ = preset;
        todo!("scaffold")
    }
}

impl Default for DetectParams {
    fn default() -> Self {
        Self::preset(Preset::Photo)
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The damaged pixels themselves, hard, before dilation.
    pub core: Mask,
    /// `core` dilated: hard; what `photomend mask` writes.
    pub mask: Mask,
    /// Coverage, components, widths.
    pub stats: DetectionStats,
}

/// What was found, in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DetectionStats {}

/// Finds the damage in a picture.
///
/// # Errors
/// `Argument` for a parameter out of range; `Cancelled`.
pub fn detect(image: &Image, params: &DetectParams, observer: &dyn Observer) -> Result<Detection> {
    let _ = (image, params, observer);
    todo!("scaffold")
}

/// The blend weights for a hard mask: 255 on `core`, falling to 0 inside `mask`, 0 outside it.
///
/// # Errors
/// `Size` if the masks differ in size.
pub fn feather(core: &Mask, mask: &Mask, sigma: f32) -> Result<Mask> {
    let _ = (core, mask, sigma);
    todo!("scaffold")
}
