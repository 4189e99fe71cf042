//! SSIMULACRA 2, the perceptual score by J. Sneyers, computed by the `ssimulacra2` crate.

use super::{check_comparable, delta_e::linear};
use crate::error::{ImagingError, Result};
use crate::image::{Image, Samples};

/// The smallest side that the score is defined for.
const SMALLEST: usize = 8;

/// The SSIMULACRA 2 score: 100 for equal pictures, about 90 not told apart, 70 high, 50 medium and 30 low quality; may
/// be negative. `None` below 8×8 pixels, where it is not defined.
///
/// Grey is scored as red = green = blue; samples are taken as sRGB; alpha is ignored.
///
/// # Errors
/// What [`check_comparable`] says.
pub fn ssimulacra2(reference: &Image, test: &Image) -> Result<Option<f64>> {
    check_comparable(reference, test)?;
    if reference.width() < SMALLEST || reference.height() < SMALLEST {
        return Ok(None);
    }
    ssimulacra2::compute_frame_ssimulacra2(linear_rgb(reference)?, linear_rgb(test)?)
        .map(Some)
        .map_err(|error| ImagingError::Numeric { what: "SSIMULACRA 2", reason: error.to_string() })
}

fn linear_rgb(image: &Image) -> Result<ssimulacra2::LinearRgb> {
    let max = f64::from(image.samples().max_value());
    let table: Vec<f32> =
        (0..=image.samples().max_value()).map(|v| linear(f64::from(v) / max) as f32).collect();
    let channels = image.color().channels();
    let data = match image.samples() {
        Samples::U8(values) => convert(values, channels, &table),
        Samples::U16(values) => convert(values, channels, &table),
    };
    ssimulacra2::LinearRgb::new(data, image.width(), image.height())
        .map_err(|error| ImagingError::Numeric { what: "SSIMULACRA 2", reason: error.to_string() })
}

fn convert<T: Copy + Into<usize>>(values: &[T], channels: usize, table: &[f32]) -> Vec<[f32; 3]> {
    values
        .chunks_exact(channels)
        .map(|pixel| match *pixel {
            [r, g, b, ..] => [r, g, b].map(|value| table[value.into()]),
            _ => [table[pixel[0].into()]; 3],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ColorType;

    fn ramp(size: usize, add: u8) -> Image {
        let samples = (0..size * size).map(|i| (i % 199) as u8 + add * u8::from(i % 3 == 0));
        Image::new(size, size, ColorType::Gray, Samples::U8(samples.collect())).expect("square")
    }

    #[test]
    fn equal_is_100_and_noise_is_less() {
        let clean = ramp(40, 0);
        let score = |test: &Image| ssimulacra2(&clean, test).expect("comparable").expect("40 px");
        assert!((score(&clean) - 100.0).abs() < 1e-6);
        assert!(score(&ramp(40, 5)) < 100.0);
        assert!(score(&ramp(40, 50)) < score(&ramp(40, 5)));
    }

    #[test]
    fn too_small_is_none() {
        assert_eq!(ssimulacra2(&ramp(7, 0), &ramp(7, 0)).expect("comparable"), None);
    }
}
