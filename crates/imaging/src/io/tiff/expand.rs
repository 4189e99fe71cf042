//! Turns the kinds of samples that only TIFF files have into grey or RGB with or without alpha.

use std::io::{Read, Seek};

use super::tag;
use crate::image::{ColorType, Image, Samples, TiffAlpha};
use crate::io::decode::{Failure, cmyk_to_rgb, reserved, ycbcr_to_rgb};
use crate::io::ifd::{Directory, Structure};

/// The colours of a palette image.
pub(super) struct Palette(Vec<[u8; 3]>);

impl Palette {
    /// Reads the colour map for samples of `bits` bits.
    pub(super) fn read<R: Read + Seek>(
        structure: &mut Structure<R>,
        directory: &Directory,
        bits: u64,
    ) -> Result<Self, Failure> {
        let entry = directory.get(tag::COLOR_MAP);
        let entry = entry.ok_or_else(|| Failure::reason("a palette image without a palette"))?;
        let values = structure.integers(entry, 3 << 8)?;
        let colors = 1 << bits;
        if values.len() != 3 * colors {
            return Err(Failure::Reason(format!(
                "expected a palette of {colors} colours, found {} values",
                values.len()
            )));
        }
        // The map has 16 bits a value; some writers put 8 there.
        let shift = if values.iter().all(|&value| value < 256) { 0 } else { 8 };
        let value = |channel: usize, i: usize| (values[channel * colors + i] >> shift) as u8;
        Ok(Self((0..colors).map(|i| [0, 1, 2].map(|channel| value(channel, i))).collect()))
    }

    /// The colours that the samples stand for; grey if the palette holds nothing else.
    pub(super) fn apply(&self, samples: &Samples) -> Result<(ColorType, Samples), Failure> {
        let Samples::U8(indices) = samples else {
            return Err(Failure::reason("a palette of 16 bits"));
        };
        let color = |index: u8| self.0.get(usize::from(index)).copied().unwrap_or_default();
        if self.0.iter().all(|&[r, g, b]| r == g && g == b) {
            let values = indices.iter().map(|&index| color(index)[0]).collect();
            return Ok((ColorType::Gray, Samples::U8(values)));
        }
        let mut values = reserved(indices.len() * 3)?;
        values.extend(indices.iter().flat_map(|&index| color(index)));
        Ok((ColorType::Rgb, Samples::U8(values)))
    }
}

/// Samples of 1, 2 or 4 bits, rows padded to whole bytes, as one byte each: stretched to `0 ..= 255` or as they are.
pub(super) fn expand_bits(
    samples: &Samples,
    (width, height): (usize, usize),
    bits: u64,
    stretch: bool,
) -> Result<Samples, Failure> {
    let Samples::U8(packed) = samples else {
        return Err(Failure::reason("packed samples of 16 bits"));
    };
    let bits = bits as usize;
    let stride = (width * bits).div_ceil(8);
    if packed.len() != stride * height {
        return Err(Failure::reason("rows of another length than the width asks for"));
    }
    let mask = (1_u8 << bits) - 1;
    let factor = if stretch { 255 / mask } else { 1 };
    let mut values = reserved(width * height)?;
    for row in packed.chunks_exact(stride) {
        let value = |x: usize| (row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask) * factor;
        values.extend((0..width).map(value));
    }
    Ok(Samples::U8(values))
}

/// Samples stored plane after plane, pixel after pixel.
pub(super) fn interleaved(samples: Samples, planes: usize) -> Result<Samples, Failure> {
    fn weave<T: Copy>(values: &[T], planes: usize) -> Result<Vec<T>, Failure> {
        let pixels = values.len() / planes;
        let mut woven = reserved(pixels * planes)?;
        for i in 0..pixels {
            woven.extend((0..planes).map(|plane| values[plane * pixels + i]));
        }
        Ok(woven)
    }
    Ok(match samples {
        Samples::U8(values) => Samples::U8(weave(&values, planes)?),
        Samples::U16(values) => Samples::U16(weave(&values, planes)?),
    })
}

/// Grey that is stored as darkness.
pub(super) fn invert(mut samples: Samples, channels: usize) -> Samples {
    match &mut samples {
        Samples::U8(values) => {
            values.iter_mut().step_by(channels).for_each(|value| *value = !*value);
        }
        Samples::U16(values) => {
            values.iter_mut().step_by(channels).for_each(|value| *value = !*value);
        }
    }
    samples
}

/// Cyan, magenta, yellow and black as red, green and blue, without regard to a profile.
pub(super) fn ink_to_light(samples: Samples) -> Result<Samples, Failure> {
    Ok(match samples {
        Samples::U8(values) => {
            let (pixels, _) = values.as_chunks::<4>();
            let mut light = reserved(pixels.len() * 3)?;
            light.extend(pixels.iter().flat_map(|pixel| {
                cmyk_to_rgb::<255>(pixel.map(u64::from)).map(|value| value as u8)
            }));
            Samples::U8(light)
        }
        Samples::U16(values) => {
            let (pixels, _) = values.as_chunks::<4>();
            let mut light = reserved(pixels.len() * 3)?;
            light.extend(pixels.iter().flat_map(|pixel| {
                cmyk_to_rgb::<65_535>(pixel.map(u64::from)).map(|value| value as u16)
            }));
            Samples::U16(light)
        }
    })
}

/// Luma and chroma as red, green and blue.
pub(super) fn luma_chroma_to_light(samples: Samples) -> Result<Samples, Failure> {
    let Samples::U8(mut values) = samples else {
        return Err(Failure::reason("luma and chroma of 16 bits"));
    };
    values.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = ycbcr_to_rgb(*pixel));
    Ok(Samples::U8(values))
}

/// The image with colours that are not multiplied by its alpha; `None` if they already are not.
///
/// Only TIFF files can say that colours are multiplied. Rounded; where nothing is visible the colours stay 0.
pub(in crate::io) fn unmultiplied(image: &Image) -> Option<Image> {
    let coding = image.metadata.tiff?;
    if coding.alpha != TiffAlpha::Associated || !image.color().has_alpha() {
        return None;
    }
    let mut image = image.clone();
    let channels = image.color().channels();
    match image.samples_mut() {
        Samples::U8(values) => {
            values.chunks_exact_mut(channels).for_each(|pixel| divide(pixel, 255));
        }
        Samples::U16(values) => {
            values.chunks_exact_mut(channels).for_each(|pixel| divide(pixel, 65_535));
        }
    }
    image.metadata.tiff = None;
    Some(image)
}

fn divide<T: Copy + Into<u64> + TryFrom<u64>>(pixel: &mut [T], max: u64) {
    let Some((alpha, colors)) = pixel.split_last_mut() else { return };
    let alpha: u64 = (*alpha).into();
    for color in colors {
        let value: u64 = (*color).into();
        let whole = (value * max + alpha / 2).checked_div(alpha).unwrap_or(0).min(max);
        *color = T::try_from(whole).unwrap_or(*color);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bits_are_stretched_row_by_row() {
        // 3 pixels of 2 bits: 0, 1, 2 | 3, 0, 3; the last two bits of each byte are padding
        let packed = Samples::U8(vec![0b00_01_10_11, 0b11_00_11_01]);
        let values = expand_bits(&packed, (3, 2), 2, true).unwrap();
        assert_eq!(values, Samples::U8(vec![0, 85, 170, 255, 0, 255]));
        let values = expand_bits(&packed, (3, 2), 2, false).unwrap();
        assert_eq!(values, Samples::U8(vec![0, 1, 2, 3, 0, 3]));
        assert!(expand_bits(&packed, (3, 3), 2, false).is_err());
    }

    #[test]
    fn planes_become_pixels() {
        let woven = interleaved(Samples::U16(vec![1, 2, 3, 4, 5, 6]), 3).unwrap();
        assert_eq!(woven, Samples::U16(vec![1, 3, 5, 2, 4, 6]));
    }

    #[test]
    fn multiplied_colours_are_divided() {
        let samples = Samples::U8(vec![64, 128, 0, 128, 9, 9, 9, 0]);
        let mut image = Image::new(2, 1, ColorType::Rgba, samples).unwrap();
        assert!(unmultiplied(&image).is_none());
        let compression = crate::image::TiffCompression::None;
        image.metadata.tiff =
            Some(crate::image::TiffCoding { compression, alpha: TiffAlpha::Associated });
        // 64 · 255 / 128 = 127.5
        let expected = Samples::U8(vec![128, 255, 0, 128, 0, 0, 0, 0]);
        assert_eq!(unmultiplied(&image).unwrap().samples(), &expected);
    }
}
