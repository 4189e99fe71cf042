//! Finding damage at any sensitivity.

use diffusion::pipelines::pixelwise::{LearnedDetectParams, LearnedDetector};
use imaging::{Detector, Image, Mask, Observer, Plane};
use server::{classical_params, learned_threshold};

use crate::args::{CLASSICAL, DetectionArgs, DetectorChoice, LEARNED, PresetArg};

/// What finds damage for the page: a network looks at a picture once, the classical detector for each sensitivity.
#[derive(Debug)]
pub(super) struct Finder(pub(super) DetectorChoice);

impl Finder {
    /// What the arguments ask for.
    pub(super) fn new(args: &DetectionArgs, preset: PresetArg) -> anyhow::Result<Self> {
        args.choice(preset, None).map(Self)
    }

    /// What people read.
    pub(super) fn label(&self) -> String {
        match &self.0 {
            DetectorChoice::Classical(_) => CLASSICAL.to_owned(),
            DetectorChoice::Learned(None, _) => LEARNED.to_owned(),
            DetectorChoice::Learned(Some(path), _) => {
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        }
    }

    pub(super) fn evidence(
        &self,
        image: &Image,
        observer: &dyn Observer,
    ) -> imaging::Result<Option<Plane<u8>>> {
        match &self.0 {
            DetectorChoice::Classical(_) => Ok(None),
            DetectorChoice::Learned(_, network) => {
                Ok(Some(network.probabilities(image, observer)?))
            }
        }
    }

    pub(super) fn detect(
        &self,
        image: &Image,
        evidence: Option<&Plane<u8>>,
        sensitivity: f32,
        observer: &dyn Observer,
    ) -> imaging::Result<Mask> {
        match (&self.0, evidence) {
            (DetectorChoice::Classical(params), _) => {
                Ok(classical_params(params, sensitivity).detect(image, observer)?.mask)
            }
            (DetectorChoice::Learned(_, network), Some(seen)) => {
                // What is found does not depend on the noise, which is only reported.
                Ok(at(network, sensitivity)?.found(seen, 0.0)?.mask)
            }
            (DetectorChoice::Learned(_, network), None) => {
                Ok(at(network, sensitivity)?.detect(image, observer)?.mask)
            }
        }
    }
}

/// The network with the threshold that a sensitivity means.
fn at(network: &LearnedDetector, sensitivity: f32) -> imaging::Result<LearnedDetector> {
    let params = network.params();
    let threshold = learned_threshold(params.threshold, sensitivity);
    Ok(network.clone().with_params(LearnedDetectParams { threshold, ..params })?)
}
