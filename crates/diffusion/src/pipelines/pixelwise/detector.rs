//! Finding damage with a trained network, and what the classical detector finds and measures as a second witness.

use std::path::Path;

use imaging::detect::{
    DetectParams, Detection, DetectionStats, LossCandidates, detect_with_candidates,
    reduced_to_detail,
};
use imaging::imgproc::{
    Connectivity, Interpolation, StructuringElement, component_runs, dilate, resize,
};
use imaging::{Detector, Image, Mask, Observer, Plane, Quiet};
use serde::Serialize;
use serde_json::Value;

use super::networks::{Network, Networks};
use super::tiles::{Tile, ask_all, tiles};
use crate::carried;
use crate::checkpoint::SafetensorsFile;
use crate::error::{DiffusionError, Result};

/// The longest side of a tile's core. With its margins it is as large as the crops that the carried network learned from: its
/// norms look at all of what is seen, and in tiles much larger than its crops a network found a tenth less.
const SIDE: usize = 320;
/// What is seen around it.
const MARGIN: usize = 32;
/// What is added to the networks' log-odds where the classical detector has found something within [`NEAR`] pixels, and what
/// where it has not: the networks must be 5 % sure there, 66 % elsewhere, for even odds. Chosen on photographs that are
/// neither samples nor learned from (`docs/models.md`).
const SEEN: f32 = 2.944;
const UNSEEN: f32 = -0.65;
/// How far a pixel is from what was found when it still counts as found.
const NEAR: usize = 2;
/// Levels of a byte to 1 in log-odds, which it holds from −8 to 8.
const LEVELS: f32 = 16.0;

/// What counts as found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LearnedDetectParams {
    /// The least probability of being damaged, above 0 and below 1: lower finds more. Default: 0.5.
    pub threshold: f32,
    /// Connected pieces of fewer pixels are left out. Default: 8.
    pub min_area: usize,
    /// What is found is grown by a disc of this radius in pixels. Default: 0, as what the network finds has a rim already.
    pub dilate: usize,
}

impl Default for LearnedDetectParams {
    fn default() -> Self {
        Self { threshold: 0.5, min_area: 8, dilate: 0 }
    }
}

/// A network that finds damage of every kind, or two that know more together.
#[derive(Clone, Debug)]
pub struct LearnedDetector {
    networks: Networks,
    params: LearnedDetectParams,
}

impl LearnedDetector {
    /// Loads a network that `photomend train-detector` wrote.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the file is none, and those of reading it.
    pub fn open(path: &Path) -> Result<Self> {
        let network = Network::of_file(SafetensorsFile::open(path)?)?;
        let networks = Networks { network, luma: None };
        Ok(Self { networks, params: LearnedDetectParams::default() })
    }

    /// The networks that the program carries.
    ///
    /// # Errors
    /// None of a whole program.
    pub fn carried() -> Result<Self> {
        let networks = Networks {
            network: Network::of_file(carried::detector()?)?,
            luma: Some(Network::of_file(carried::luma_detector()?)?),
        };
        Ok(Self { networks, params: LearnedDetectParams::default() })
    }

    /// With other parameters.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for one out of range.
    pub fn with_params(self, params: LearnedDetectParams) -> Result<Self> {
        params.validate()?;
        Ok(Self { params, ..self })
    }

    /// What counts as found.
    #[must_use]
    pub const fn params(&self) -> LearnedDetectParams {
        self.params
    }

    /// How probable it is that each pixel is damaged, 0 to 255, by what the network says and what the classical detector finds
    /// at its defaults, or that it lies in a region that together they take for a loss. Alpha is ignored; the network takes
    /// 16-bit values as they are. A picture that has more pixels than detail is looked at in a sharp copy
    /// ([`reduced_to_detail`]), in 8 bits: the network knows sharp damage only.
    ///
    /// # Errors
    /// Those of the tensor operations, and `Cancelled`.
    pub fn probabilities(&self, image: &Image, observer: &dyn Observer) -> Result<Plane<u8>> {
        Ok(self.look(image, observer)?.0)
    }

    /// The [`LearnedDetector::probabilities`] of a picture, and its noise, or that of the copy that was looked at, as the
    /// classical detector measured it.
    fn look(&self, image: &Image, observer: &dyn Observer) -> Result<(Plane<u8>, f32)> {
        let Some(small) = reduced_to_detail(image)? else {
            return self.look_at_every_pixel(image, observer);
        };
        let (probable, noise) = self.look_at_every_pixel(&small, observer)?;
        let (width, height) = image.size();
        let enlarged = resize(&probable, width, height, Interpolation::Linear)?;
        // The rims of damage are as much softer as the picture is larger than its copy (docs/models.md).
        let rim = StructuringElement::disc(2 * width.div_ceil(small.width()) + 1)?;
        Ok((dilate(&enlarged, &rim), noise))
    }

    fn look_at_every_pixel(
        &self,
        image: &Image,
        observer: &dyn Observer,
    ) -> Result<(Plane<u8>, f32)> {
        let Witnesses { classical, candidates, levels } = self.ask(image, observer)?;

        // Whole regions, of which the network may know parts, then each pixel by itself.
        let mut probable = candidates.probabilities(&reduced(&levels, &candidates)?)?;
        let seen = classical.mask.plane().data();
        let [unseen_levels, seen_levels] = [UNSEEN, SEEN].map(probabilities_of_levels);
        for ((to, &level), &seen) in probable.data_mut().iter_mut().zip(levels.data()).zip(seen) {
            let of_level = if seen > 0 { &seen_levels } else { &unseen_levels };
            *to = (*to).max(of_level[usize::from(level)]);
        }
        Ok((probable, classical.stats.noise))
    }

    /// The regions of a picture that may be wide losses, and the network's log-odds that a pixel is damaged, of their size.
    ///
    /// # Errors
    /// Those of the tensor operations, and `Cancelled`.
    pub fn loss_candidates(
        &self,
        image: &Image,
        observer: &dyn Observer,
    ) -> Result<(LossCandidates, Plane<f32>)> {
        let Witnesses { candidates, levels, .. } = self.ask(image, observer)?;
        let log_odds = reduced(&levels, &candidates)?;
        Ok((candidates, log_odds))
    }

    fn ask(&self, image: &Image, observer: &dyn Observer) -> Result<Witnesses> {
        let params = DetectParams { dilate: NEAR, ..DetectParams::default() };
        let (classical, candidates) = detect_with_candidates(image, &params, &Quiet(observer))?;
        Ok(Witnesses { classical, candidates, levels: self.levels(image, observer)? })
    }

    /// What the network says of each pixel: levels whose [`log_odds`] are its logits.
    fn levels(&self, image: &Image, observer: &dyn Observer) -> Result<Plane<u8>> {
        let (width, height) = image.size();
        let mut levels = Plane::filled(width, height, 0_u8);
        let networks = self.networks.asked_of(image)?;
        let tiles = tiles(image.size(), SIDE, MARGIN);
        let found = ask_all(&tiles, ("detect", observer), |tile| {
            let logits = networks.logits(image, tile)?;
            let level = |logit: &f32| (LEVELS * logit + 128.0).round() as u8;
            Ok(logits.iter().map(level).collect::<Vec<_>>())
        })?;
        for (Tile { core, .. }, found) in tiles.iter().zip(found) {
            for (row, y) in found.chunks_exact(core.width).zip(core.y..) {
                levels.row_mut(y)[core.x..core.right()].copy_from_slice(row);
            }
        }
        Ok(levels)
    }

    /// What counts as found among the [`LearnedDetector::probabilities`] of a picture, whose noise goes into the figures as
    /// it is: one look at a picture serves every threshold.
    ///
    /// # Errors
    /// `Argument` if the dilation is out of range.
    pub fn found(&self, probabilities: &Plane<u8>, noise: f32) -> imaging::Result<Detection> {
        let params = &self.params;
        let least = (255.0 * params.threshold).round().clamp(1.0, 255.0) as u8;
        let likely = Mask::from_plane(probabilities.map(|p| if p >= least { 255 } else { 0 }));
        let pieces = component_runs(&likely, Connectivity::Eight);
        let core = pieces.select(|_, piece| piece.area >= params.min_area);
        let stats = DetectionStats { noise, ..DetectionStats::default() };
        Detection::of_core(core, params.dilate, &stats)
    }
}

impl Detector for LearnedDetector {
    fn detect(&self, image: &Image, observer: &dyn Observer) -> imaging::Result<Detection> {
        let (probabilities, noise) = self.look(image, observer)?;
        self.found(&probabilities, noise)
    }

    fn parameters(&self) -> Value {
        // Numbers: always JSON.
        serde_json::to_value(self.params).unwrap_or_default()
    }
}

impl LearnedDetectParams {
    /// # Errors
    /// [`DiffusionError::Argument`] for a parameter out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.threshold > 0.0 && self.threshold < 1.0) {
            let expected = "above 0 and below 1";
            return Err(DiffusionError::argument("threshold", expected, self.threshold));
        }
        Ok(())
    }
}

/// What the classical detector and the network say of a picture.
struct Witnesses {
    /// What was found, grown by [`NEAR`].
    classical: Detection,
    candidates: LossCandidates,
    levels: Plane<u8>,
}

/// The log-odds that levels stand for, at the size of the candidates.
fn reduced(levels: &Plane<u8>, candidates: &LossCandidates) -> Result<Plane<f32>> {
    let (width, height) = candidates.size();
    Ok(resize(levels, width, height, Interpolation::Area)?.map(log_odds))
}

/// The log-odds that a level stands for.
fn log_odds(level: u8) -> f32 {
    (f32::from(level) - 128.0) / LEVELS
}

/// How probable damage is at each level, 0 to 255, with the log-odds of the second witness.
fn probabilities_of_levels(witness: f32) -> [u8; 256] {
    std::array::from_fn(|level| {
        let odds = log_odds(level as u8) + witness;
        (255.0 / (1.0 + (-odds).exp())).round() as u8
    })
}
