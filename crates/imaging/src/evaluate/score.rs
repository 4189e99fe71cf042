//! The scores of one picture.

use serde::Serialize;

use crate::error::Result;
use crate::image::Image;
use crate::mask::Mask;
use crate::metrics::{
    SsimWindow, box_ssim, delta_e, masked_delta_e, masked_psnr, psnr, ssim, ssimulacra2,
};

/// Pictures with more pixels have no SSIMULACRA 2 score: it takes some 130 bytes a pixel.
const MOST_SSIMULACRA2_PIXELS: usize = 24_000_000;

/// A figure that pictures are scored by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Peak signal-to-noise ratio, dB.
    Psnr,
    /// PSNR over the damaged pixels alone, dB.
    MaskedPsnr,
    /// Structural similarity.
    Ssim,
    /// Structural similarity inside the damage's bounding box.
    BoxSsim,
    /// Mean colour difference ΔE2000.
    DeltaE,
    /// Mean ΔE2000 over the damaged pixels alone.
    MaskedDeltaE,
    /// The perceptual score SSIMULACRA 2.
    Ssimulacra2,
}

impl Metric {
    /// All of them, in the order of every table.
    pub const ALL: [Self; 7] = [
        Self::Psnr,
        Self::MaskedPsnr,
        Self::Ssim,
        Self::BoxSsim,
        Self::DeltaE,
        Self::MaskedDeltaE,
        Self::Ssimulacra2,
    ];

    /// The name in files: "masked_psnr".
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Psnr => "psnr",
            Self::MaskedPsnr => "masked_psnr",
            Self::Ssim => "ssim",
            Self::BoxSsim => "box_ssim",
            Self::DeltaE => "delta_e",
            Self::MaskedDeltaE => "masked_delta_e",
            Self::Ssimulacra2 => "ssimulacra2",
        }
    }

    /// The name in tables, with its unit.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Psnr => "PSNR (dB)",
            Self::MaskedPsnr => "PSNR, damaged pixels (dB)",
            Self::Ssim => "SSIM",
            Self::BoxSsim => "SSIM, damage's bounding box",
            Self::DeltaE => "ΔE2000",
            Self::MaskedDeltaE => "ΔE2000, damaged pixels",
            Self::Ssimulacra2 => "SSIMULACRA 2",
        }
    }

    /// Decimals that are worth showing.
    #[must_use]
    pub const fn decimals(self) -> usize {
        match self {
            Self::Ssim | Self::BoxSsim => 4,
            _ => 2,
        }
    }

    /// True if smaller is better.
    #[must_use]
    pub const fn smaller_is_better(self) -> bool {
        matches!(self, Self::DeltaE | Self::MaskedDeltaE)
    }

    /// By how much `restored` is better than `damaged`: positive is better for every metric. Two infinite scores
    /// have no difference.
    #[must_use]
    pub fn gain(self, damaged: f64, restored: f64) -> f64 {
        if damaged == restored {
            0.0
        } else if self.smaller_is_better() {
            damaged - restored
        } else {
            restored - damaged
        }
    }
}

/// What one picture scores against its clean version. `None` where a metric is not defined: without a mask or
/// with an empty one, or for a picture too small (or, for SSIMULACRA 2, too large: above 24 megapixels).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores([Option<f64>; 7]);

impl Scores {
    /// Scores `test` against `clean`; `mask` says where the damage truly is.
    ///
    /// # Errors
    /// [`ImagingError::Size`](crate::ImagingError::Size) or
    /// [`ImagingError::Argument`](crate::ImagingError::Argument) if they cannot be compared.
    pub fn new(
        clean: &Image,
        test: &Image,
        mask: Option<&Mask>,
        window: SsimWindow,
    ) -> Result<Self> {
        let large_enough = clean.width().min(clean.height()) >= window.side();
        let small_enough = clean.width() * clean.height() <= MOST_SSIMULACRA2_PIXELS;
        let masked = |score: fn(&Image, &Image, &Mask) -> Result<Option<f64>>| {
            mask.map_or(Ok(None), |mask| score(clean, test, mask))
        };
        Ok(Self([
            Some(psnr(clean, test)?),
            masked(masked_psnr)?,
            if large_enough { Some(ssim(clean, test, window)?) } else { None },
            match mask {
                Some(mask) if large_enough => box_ssim(clean, test, mask, window)?,
                _ => None,
            },
            Some(delta_e(clean, test)?),
            masked(masked_delta_e)?,
            if small_enough { ssimulacra2(clean, test)? } else { None },
        ]))
    }

    /// One of the scores.
    #[must_use]
    pub const fn get(&self, metric: Metric) -> Option<f64> {
        self.0[metric as usize]
    }
}
