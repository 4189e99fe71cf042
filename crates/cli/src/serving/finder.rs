//! Finding damage at any sensitivity.

use std::path::PathBuf;

use diffusion::pipelines::pixelwise::{LearnedDetectParams, LearnedDetector};
use imaging::detect::DetectParams;
use imaging::{Detector, Image, Mask, Observer, Plane};
use server::{classical_params, learned_threshold};

use crate::args::{DetectionArgs, PresetArg};

/// What finds damage for the page.
#[derive(Debug)]
pub(super) enum Finder {
    /// The classical way: looks at the picture for each sensitivity.
    Classical(DetectParams),
    /// A network: looks once.
    Learned(PathBuf, Box<LearnedDetector>),
}

impl Finder {
    /// What the arguments ask for.
    pub(super) fn new(args: &DetectionArgs, preset: PresetArg) -> anyhow::Result<Self> {
        if let Some((path, network)) = args.network(None)? {
            return Ok(Self::Learned(path.to_path_buf(), Box::new(network)));
        }
        let params = args.params(preset);
        params.validate().map_err(|error| crate::exit::usage(error.to_string()))?;
        Ok(Self::Classical(params))
    }

    /// What people read.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Classical(_) => "classical".to_owned(),
            Self::Learned(path, _) => {
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        }
    }

    pub(super) fn evidence(
        &self,
        image: &Image,
        observer: &dyn Observer,
    ) -> imaging::Result<Option<Plane<u8>>> {
        match self {
            Self::Classical(_) => Ok(None),
            Self::Learned(_, network) => Ok(Some(network.probabilities(image, observer)?)),
        }
    }

    pub(super) fn detect(
        &self,
        image: &Image,
        evidence: Option<&Plane<u8>>,
        sensitivity: f32,
        observer: &dyn Observer,
    ) -> imaging::Result<Mask> {
        match (self, evidence) {
            (Self::Classical(params), _) => {
                Ok(classical_params(params, sensitivity).detect(image, observer)?.mask)
            }
            (Self::Learned(_, network), Some(seen)) => {
                // What is found does not depend on the noise, which is only reported.
                Ok(at(network, sensitivity)?.found(seen, 0.0)?.mask)
            }
            (Self::Learned(_, network), None) => {
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
