//! The picture with its damage tinted, to look at.

use crate::error::{ImagingError, Result};
use crate::image::{ColorType, Image, Samples};
use crate::mask::Mask;

/// The tint of damaged pixels.
const TINT: [u32; 3] = [255, 32, 32];

/// `image` in 8-bit RGB with the masked pixels tinted red, by 70 % at full weight.
///
/// # Errors
/// `Size` if the mask differs from the image in size.
pub fn overlay(image: &Image, mask: &Mask) -> Result<Image> {
    ImagingError::check_size("mask", image.size(), mask.size())?;
    let channels = image.color().channels();
    let colours = image.color().color_channels();
    let mut out = Vec::with_capacity(mask.plane().data().len() * 3);
    let mut push = |index: usize, pixel: [u8; 3]| {
        let weight = u32::from(mask.plane().data()[index]) * 7 / 10;
        for (value, tint) in pixel.into_iter().zip(TINT) {
            out.push(((u32::from(value) * (255 - weight) + tint * weight + 127) / 255) as u8);
        }
    };
    match image.samples() {
        Samples::U8(values) => {
            for (index, pixel) in values.chunks_exact(channels).enumerate() {
                push(index, std::array::from_fn(|c| pixel[c.min(colours - 1)]));
            }
        }
        Samples::U16(values) => {
            let to_8_bits = |value: u16| ((u32::from(value) + 128) / 257) as u8;
            for (index, pixel) in values.chunks_exact(channels).enumerate() {
                push(index, std::array::from_fn(|c| to_8_bits(pixel[c.min(colours - 1)])));
            }
        }
    }
    Image::new(image.width(), image.height(), ColorType::Rgb, Samples::U8(out))
}
