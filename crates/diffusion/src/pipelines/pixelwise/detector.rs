//! Finding damage with a trained network, and what the classical detector finds and measures as a second witness.

use std::path::Path;

use imaging::detect::{
    DetectParams, Detection, DetectionStats, LossCandidates, Palette, detect_with_candidates,
    reduced_to_detail,
};
use imaging::imgproc::{
    Connectivity, Interpolation, StructuringElement, component_runs, dilate, resize,
};
use imaging::{Detector, Image, Mask, Observer, Plane, Quiet, Rect};
use serde::Serialize;
use serde_json::Value;

use super::judge::{Judge, Known};
use super::levels::{Said, level, log_odds};
use super::networks::{Network, Networks, is_large};
use super::tiles::{Tile, ask_all, tiles};
use crate::carried;
use crate::checkpoint::SafetensorsFile;
use crate::error::{DiffusionError, Result};

/// The longest side of a tile's core. With its margins it is as large as the crops that the carried network learned from: its
/// norms look at all of what is seen, and in tiles much larger than its crops a network found a tenth less.
const SIDE: usize = 320;
/// What is seen around it.
const MARGIN: usize = 32;
/// How far a pixel is from what was found when it still counts as found.
const NEAR: usize = 2;

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

/// A network that finds damage of every kind, or two that know more together and one that judges what they say.
#[derive(Clone, Debug)]
pub struct LearnedDetector {
    networks: Networks,
    /// Has the last word, if there is one.
    judge: Option<Judge>,
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
        Ok(Self { networks, judge: None, params: LearnedDetectParams::default() })
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
        let judge = Some(Judge::of_file(carried::judge()?)?);
        Ok(Self { networks, judge, params: LearnedDetectParams::default() })
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
    /// at its defaults, or that it lies in a region that together they take for a loss; of the carried networks, as the judge
    /// corrects that for single pixels. Alpha is ignored; the network takes
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
        let witnesses = self.ask(image, observer)?;
        let regions = witnesses.regions()?;
        let known = witnesses.known(&regions);
        let probable = match &self.judge {
            Some(judge) if !is_large(image) => judge.probabilities(image, &known, observer)?,
            _ => known.probabilities(),
        };
        Ok((probable, witnesses.classical.stats.noise))
    }

    /// What a judge is shown of each pixel but for luma, to train one: the log-odds by the network that sees colours and by
    /// the one that sees luma, 16 levels to 1 and 128 for even odds; above 0 where the classical detector found something within 2
    /// pixels; how probably the pixel lies in a whole loss, 0 to 255; and its colour's [evidence](Palette::evidence), 24 levels to 1
    /// and 128 for none.
    ///
    /// # Errors
    /// Those of the tensor operations, and `Cancelled`.
    pub fn witnesses(&self, image: &Image, observer: &dyn Observer) -> Result<Vec<[u8; 5]>> {
        let witnesses = self.ask(image, observer)?;
        let regions = witnesses.regions()?;
        let known = witnesses.known(&regions);
        let palette = Palette::of(image, &known.probabilities())?;
        Ok(known.bytes(image, &palette))
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
        let witnesses = self.ask(image, observer)?;
        let log_odds = witnesses.reduced()?;
        Ok((witnesses.candidates, log_odds))
    }

    fn ask(&self, image: &Image, observer: &dyn Observer) -> Result<Witnesses> {
        let params = DetectParams { dilate: NEAR, ..DetectParams::default() };
        let (classical, candidates) = detect_with_candidates(image, &params, &Quiet(observer))?;
        Ok(Witnesses { classical, candidates, said: self.said(image, observer)? })
    }

    /// What the networks say of each pixel, in levels.
    fn said(&self, image: &Image, observer: &dyn Observer) -> Result<Said<Plane<u8>>> {
        let (width, height) = image.size();
        let networks = self.networks.asked_of(image)?;
        let tiles = tiles(image.size(), SIDE, MARGIN);
        let found = ask_all(&tiles, ("detect", observer), |tile| {
            let levels = |logits: &Vec<f32>| logits.iter().map(|&l| level(l)).collect::<Vec<_>>();
            Ok(networks.logits(image, tile)?.map(levels))
        })?;
        let plane = || Plane::filled(width, height, 0_u8);
        let mut said =
            Said { first: plane(), color: networks.are_two().then(plane), joined: plane() };
        for (Tile { core, .. }, found) in tiles.iter().zip(&found) {
            put(&mut said.first, *core, &found.first);
            put(&mut said.joined, *core, &found.joined);
            if let (Some(to), Some(levels)) = (&mut said.color, &found.color) {
                put(to, *core, levels);
            }
        }
        Ok(said)
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
    said: Said<Plane<u8>>,
}

impl Witnesses {
    /// The networks' log-odds, at the size of the candidates.
    fn reduced(&self) -> Result<Plane<f32>> {
        let (width, height) = self.candidates.size();
        Ok(resize(&self.said.joined, width, height, Interpolation::Area)?.map(log_odds))
    }

    /// How probable it is that each pixel lies in a loss, as a whole region, 0 to 255.
    fn regions(&self) -> Result<Plane<u8>> {
        Ok(self.candidates.probabilities(&self.reduced()?)?)
    }

    const fn known<'a>(&'a self, regions: &'a Plane<u8>) -> Known<'a> {
        Known { said: &self.said, seen: self.classical.mask.plane(), regions }
    }
}

/// Rows of a part of a picture into their places.
fn put(plane: &mut Plane<u8>, part: Rect, levels: &[u8]) {
    for (row, y) in levels.chunks_exact(part.width).zip(part.y..) {
        plane.row_mut(y)[part.x..part.right()].copy_from_slice(row);
    }
}
