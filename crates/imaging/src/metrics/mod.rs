//! How alike two pictures, or two masks, are.
//!
//! Every picture metric takes the reference first and the picture under test second, wants both at the same
//! size, depth and number of colour channels, and ignores alpha. The figures are scikit-image's.

mod bootstrap;
mod delta_e;
mod detection;
mod psnr;
mod ssim;
mod ssimulacra2;

pub use bootstrap::{Interval, mean_confidence};
pub use delta_e::{delta_e, masked_delta_e};
pub use detection::{DetectionScore, detection_score};
pub use psnr::{masked_psnr, mse, psnr};
pub use ssim::{SsimWindow, box_ssim, ssim};
pub use ssimulacra2::ssimulacra2;

use crate::error::{ImagingError, Result};
use crate::image::{Image, Samples};

/// The samples of two comparable pictures at their common depth.
enum Pair<'a> {
    U8(&'a [u8], &'a [u8]),
    U16(&'a [u16], &'a [u16]),
}

impl<'a> Pair<'a> {
    fn new(reference: &'a Image, test: &'a Image) -> Result<Self> {
        ImagingError::check_size("image to compare", reference.size(), test.size())?;
        let (expected, found) = (reference.color().color_channels(), test.color().color_channels());
        if expected != found {
            return Err(ImagingError::argument(
                "image to compare",
                format!("{expected} colour channel(s), as the reference"),
                found,
            ));
        }
        match (reference.samples(), test.samples()) {
            (Samples::U8(a), Samples::U8(b)) => Ok(Self::U8(a, b)),
            (Samples::U16(a), Samples::U16(b)) => Ok(Self::U16(a, b)),
            (a, b) => Err(ImagingError::argument(
                "image to compare",
                format!("{} bits a channel, as the reference", a.bits()),
                format!("{} bits", b.bits()),
            )),
        }
    }
}

/// `Ok` if two pictures agree in size, depth and colour channels, so that they can be compared.
///
/// # Errors
/// [`ImagingError::Size`] or [`ImagingError::Argument`], saying what differs.
pub fn check_comparable(reference: &Image, test: &Image) -> Result<()> {
    Pair::new(reference, test).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ColorType;

    #[test]
    fn what_cannot_be_compared_is_named() {
        let gray = Image::new(2, 1, ColorType::Gray, Samples::U8(vec![0; 2])).expect("2 px");
        let deep = Image::new(2, 1, ColorType::Gray, Samples::U16(vec![0; 2])).expect("2 px");
        let rgb = Image::new(2, 1, ColorType::Rgb, Samples::U8(vec![0; 6])).expect("2 px");
        let tall = Image::new(1, 2, ColorType::Gray, Samples::U8(vec![0; 2])).expect("2 px");
        let message = |test| check_comparable(&gray, test).expect_err("they differ").to_string();
        assert!(message(&deep).contains("found 16 bits"));
        assert!(message(&rgb).contains("expected 1 colour channel(s)"));
        assert!(message(&tall).contains("expected 2×1 pixels, found 1×2"));
    }
}
