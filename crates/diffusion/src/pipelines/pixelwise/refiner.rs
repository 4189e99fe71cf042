//! Restoration without a checkpoint: a classical fill, improved by a trained network where it was filled.

use std::path::Path;

use candle_core::Device;
use imaging::composite::composite;
use imaging::fill::{FillOptions, FillReport};
use imaging::{Image, Mask, Observer, Plane, Rect, Repainter};
use serde_json::Value;

use super::networks::scaled_planes;
use super::tiles::{answer, tiles};
use crate::carried;
use crate::checkpoint::SafetensorsFile;
use crate::error::Result;
use crate::models::PixelUnet;

/// The longest side of a tile's core. Tiles without damage cost nothing, so they are small.
const SIDE: usize = 256;
/// What is seen around it.
const MARGIN: usize = 64;

/// A network that improves on the biharmonic fill, which it was trained on.
#[derive(Clone, Debug)]
pub struct Refiner {
    unet: PixelUnet,
}

impl Refiner {
    /// Loads a network that `photomend train-refiner` wrote.
    ///
    /// # Errors
    /// [`crate::DiffusionError::Checkpoint`] if the file is none, and those of reading it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_file(SafetensorsFile::open(path)?)
    }

    /// The network that the program carries.
    ///
    /// # Errors
    /// None of a whole program.
    pub fn carried() -> Result<Self> {
        Self::of_file(carried::refiner()?)
    }

    fn of_file(file: SafetensorsFile) -> Result<Self> {
        Ok(Self { unet: PixelUnet::from_file(file, "refiner", &Device::Cpu)? })
    }
}

impl Repainter for Refiner {
    fn name(&self) -> &'static str {
        "refined"
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> imaging::Result<FillReport> {
        // 1. the fill of all that is damaged
        let damage = weights.binarized(1);
        let mut filled = image.clone();
        let report = FillOptions::default().repaint(&mut filled, &damage, observer)?;

        // 2. what the network adds to it, where there is damage
        let jobs: Vec<_> = tiles(image.size(), SIDE, MARGIN)
            .into_iter()
            .filter_map(|mut tile| {
                // No more of it than is damaged.
                tile.core = damaged_part(&damage, tile.core)?;
                tile.seen = tile.core.grown(MARGIN, image.width(), image.height());
                Some(tile)
            })
            .collect();
        let total = jobs.len() as u64;
        let mut painted = Vec::with_capacity(jobs.len());
        for (at, tile) in jobs.into_iter().enumerate() {
            observer.progress("refine", at as u64, total);
            observer.check()?;
            let [red, green, blue] = scaled_planes(&filled, tile.seen);
            let hole = mask_values(&damage, tile.seen);
            let added = answer(&self.unet, tile, &[&red, &green, &blue, &hole])?;
            painted.push((tile.core, refined(&filled, tile.core, &added)?));
        }
        observer.progress("refine", total, total);

        // 3. into the picture, inside the mask only
        for (core, planes) in &painted {
            composite(image, *core, planes, weights)?;
        }
        Ok(report)
    }

    fn is_heavy(&self) -> bool {
        true
    }

    fn parameters(&self) -> Value {
        serde_json::json!({})
    }
}

/// The smallest rectangle in `rect` with all its damaged pixels.
fn damaged_part(damage: &Mask, rect: Rect) -> Option<Rect> {
    let part = Mask::from_plane(damage.plane().crop(rect)).bounding_box()?;
    Some(Rect::new(rect.x + part.x, rect.y + part.y, part.width, part.height))
}

/// 1 where the picture is damaged.
fn mask_values(damage: &Mask, rect: Rect) -> Vec<f32> {
    damage.plane().crop(rect).into_vec().into_iter().map(|weight| f32::from(weight > 0)).collect()
}

/// The filled picture with what is added, as planes in `[0, 1]`, one a colour channel.
fn refined(filled: &Image, core: Rect, added: &[f32]) -> imaging::Result<Vec<Plane<f32>>> {
    let mut planes = filled.color_planes(core);
    let is_grey = planes.len() == 1;
    for (channel, plane) in planes.iter_mut().enumerate() {
        for (value, added) in plane.data_mut().iter_mut().zip(added.chunks_exact(3)) {
            let added =
                if is_grey { (added[0] + added[1] + added[2]) / 3.0 } else { added[channel] };
            *value = (*value + 0.5 * added).clamp(0.0, 1.0);
        }
    }
    Ok(planes)
}
