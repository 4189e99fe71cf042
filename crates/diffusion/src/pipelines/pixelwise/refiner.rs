//! Restoration without a checkpoint: a classical fill, improved by a trained network where it was filled.

use std::path::Path;

use candle_core::Device;
use imaging::composite::composite;
use imaging::fill::{FillOptions, FillReport};
use imaging::{Image, Mask, Observer, Plane, Rect, Repainter};
use serde_json::Value;

use super::networks::scaled_planes;
use super::tiles::{answer, ask_all, tiles_of};
use crate::carried;
use crate::checkpoint::SafetensorsFile;
use crate::error::Result;
use crate::models::PixelUnet;

/// The longest side of a tile's core: larger ones cost memory, smaller ones see more of the picture twice.
const SIDE: usize = 448;
/// What is seen around it.
const MARGIN: usize = 48;

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
        let tiles = tiles_of(&damage, SIDE, MARGIN);
        let painted = ask_all(&tiles, ("refine", observer), |tile| {
            let [red, green, blue] = scaled_planes(&filled, tile.seen);
            let hole = mask_values(&damage, tile.seen);
            let added = answer(&self.unet, tile, &[&red, &green, &blue, &hole])?;
            Ok(refined(&filled, tile.core, &added)?)
        })?;

        // 3. into the picture, inside the mask only
        for (tile, planes) in tiles.iter().zip(&painted) {
            composite(image, tile.core, planes, weights)?;
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
