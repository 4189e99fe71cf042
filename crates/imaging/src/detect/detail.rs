//! Whether a picture has more pixels than detail, as scans finer than the print have, and enlarged copies.

use super::channels;
use crate::error::Result;
use crate::image::{ColorType, Image, Samples};
use crate::imgproc::{Interpolation, laplacian, resize};
use crate::plane::Plane;

/// One pixel in so many is sharper than what is compared.
const RARE: u64 = 1000;
/// A picture that has detail at its own size is more than this many times as sharp as its copy of half the size. Of 79 photographs
/// with damage none is below 0.65; at twice their size they are at 0.35 to 0.46, with noise and JPEG's losses or not.
const SHARP: f64 = 0.5;
/// Below this, in grey levels of 8 bits, nothing can be said of sharpness.
const FAINT: u16 = 12;
/// The shorter side that is left at least.
const LEAST_SIDE: usize = 256;

/// The colours of a picture in 8 bits, as often halved in size as costs no detail; `None` if that is never.
///
/// # Errors
/// None of a valid picture.
pub fn reduced_to_detail(image: &Image) -> Result<Option<Image>> {
    let (width, height) = size_of_detail(image.luma8())?;
    if (width, height) == image.size() {
        return Ok(None);
    }
    // Means, which take noise away too: with Lanczos' window a third more of the cracks is missed.
    let planes = channels(image)?
        .iter()
        .map(|plane| resize(plane, width, height, Interpolation::Area))
        .collect::<Result<Vec<_>>>()?;
    let color = if planes.len() == 1 { ColorType::Gray } else { ColorType::Rgb };
    let pixels =
        (0..width * height).flat_map(|at| planes.iter().map(move |plane| plane.data()[at]));
    let samples = pixels.collect();
    Image::new(width, height, color, Samples::U8(samples)).map(Some)
}

/// The size to which a picture of this luma can be halved.
fn size_of_detail(mut luma: Plane<u8>) -> Result<(usize, usize)> {
    let mut sharp = sharpness(&luma);
    loop {
        let (width, height) = luma.size();
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        if half_width.min(half_height) < LEAST_SIDE {
            return Ok((width, height));
        }
        let half = resize(&luma, half_width, half_height, Interpolation::Area)?;
        let sharp_half = sharpness(&half);
        if sharp_half < FAINT || f64::from(sharp) >= SHARP * f64::from(sharp_half) {
            return Ok((width, height));
        }
        (luma, sharp) = (half, sharp_half);
    }
}

/// The Laplacian's magnitude that one pixel in [`RARE`] has at least.
fn sharpness(luma: &Plane<u8>) -> u16 {
    rare_magnitude(laplacian(luma).data().iter().map(|value| value.unsigned_abs()))
}

/// What one of [`RARE`] magnitudes of differences is at least.
pub(super) fn rare_magnitude(magnitudes: impl Iterator<Item = u16>) -> u16 {
    // Four times a byte at most.
    let mut counts = [0_u64; 4 * 255 + 1];
    magnitudes.for_each(|value| counts[usize::from(value).min(4 * 255)] += 1);
    let rare = counts.iter().sum::<u64>() / RARE;
    let mut above = 0;
    let sharper = counts.iter().rev().position(|&count| {
        above += count;
        above > rare
    });
    sharper.map_or(0, |from_top| (counts.len() - 1 - from_top) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of random tones, with sharp edges.
    fn blocks(width: usize, height: usize) -> Plane<u8> {
        Plane::from_fn(width, height, |x, y| {
            let block = (x / 7 + 31 * (y / 5)) as u32;
            (block.wrapping_mul(2_654_435_761) >> 24) as u8
        })
    }

    fn enlarged(plane: &Plane<u8>, factor: usize) -> Plane<u8> {
        let (width, height) = plane.size();
        resize(plane, factor * width, factor * height, Interpolation::Linear).expect("a size")
    }

    #[test]
    fn sharp_pictures_stay_as_they_are() {
        assert_eq!(size_of_detail(blocks(701, 600)).expect("halves"), (701, 600));
    }

    #[test]
    fn enlarged_ones_are_halved_as_often_as_they_were_doubled() {
        let original = blocks(300, 270);
        for factor in [2, 4] {
            let luma = enlarged(&original, factor);
            assert_eq!(size_of_detail(luma).expect("halves"), (300, 270), "{factor}");
        }
    }

    #[test]
    fn a_sharp_scratch_keeps_a_soft_picture() {
        let mut luma = enlarged(&blocks(300, 270), 2);
        for y in 0..luma.height() {
            luma.set(y / 2 + 100, y, 255);
        }
        assert_eq!(size_of_detail(luma).expect("halves"), (600, 540));
    }

    #[test]
    fn small_and_even_pictures_stay_as_they_are() {
        let small = enlarged(&blocks(250, 200), 2);
        assert_eq!(size_of_detail(small).expect("halves"), (500, 400));
        let even = Plane::from_fn(800, 600, |x, y| ((x + y) / 8) as u8);
        assert_eq!(size_of_detail(even).expect("halves"), (800, 600));
        let flat = Plane::filled(1, 3000, 9);
        assert_eq!(size_of_detail(flat).expect("halves"), (1, 3000));
    }

    #[test]
    fn the_copy_has_the_colours_in_eight_bits() {
        let plane = enlarged(&blocks(300, 270), 2);
        let samples =
            plane.data().iter().flat_map(|&v| [257 * u16::from(v), 0, 65535, 9]).collect();
        let image = Image::new(600, 540, ColorType::Rgba, Samples::U16(samples)).expect("valid");
        let copy = reduced_to_detail(&image).expect("halves").expect("a copy");
        let red = resize(&plane, 300, 270, Interpolation::Area).expect("a size");
        let expected = red.data().iter().flat_map(|&value| [value, 0, 255]).collect();
        assert_eq!(copy.size(), (300, 270));
        assert_eq!(copy.samples(), &Samples::U8(expected));
    }
}
