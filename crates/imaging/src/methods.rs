//! Ways to find and to repaint damage, those of this crate and others.

use std::fmt::Debug;

use serde_json::Value;

use crate::detect::{DetectParams, Detection, detect};
use crate::error::Result;
use crate::fill::{FillMethod, FillOptions, FillReport, fill};
use crate::image::Image;
use crate::mask::Mask;
use crate::observer::Observer;

/// A way to find damage.
pub trait Detector: Debug + Send + Sync {
    /// Finds the damage in a picture.
    ///
    /// # Errors
    /// [`ImagingError::Argument`](crate::ImagingError::Argument) for a parameter out of range, `Cancelled`, and whatever else
    /// the way can fail with.
    fn detect(&self, image: &Image, observer: &dyn Observer) -> Result<Detection>;

    /// Its parameters, as reports show them.
    fn parameters(&self) -> Value;
}

/// The classical detector.
impl Detector for DetectParams {
    fn detect(&self, image: &Image, observer: &dyn Observer) -> Result<Detection> {
        detect(image, self, observer)
    }

    fn parameters(&self) -> Value {
        // Numbers and names: always JSON.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A way to repaint damage.
pub trait Repainter: Debug + Send + Sync {
    /// What tables and folders call it: "biharmonic".
    fn name(&self) -> &str;

    /// Repaints `image` where `weights` is above 0, blended by the weight; every other sample keeps its bits, and all of
    /// them on an error or a stop.
    ///
    /// # Errors
    /// [`ImagingError::Size`](crate::ImagingError::Size) if mask and image differ, `Cancelled`, and whatever else the way
    /// can fail with.
    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> Result<FillReport>;

    /// True if a single picture keeps all threads busy, or takes much memory.
    fn is_heavy(&self) -> bool {
        false
    }

    /// Its parameters, as reports show them.
    fn parameters(&self) -> Value;
}

/// Classical inpainting.
impl Repainter for FillOptions {
    fn name(&self) -> &str {
        match self.method {
            FillMethod::Telea => "telea",
            FillMethod::Biharmonic => "biharmonic",
        }
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> Result<FillReport> {
        fill(image, weights, self, observer)
    }

    fn parameters(&self) -> Value {
        match self.method {
            FillMethod::Telea => serde_json::json!({ "radius_px": self.radius }),
            FillMethod::Biharmonic => serde_json::json!({}),
        }
    }
}
