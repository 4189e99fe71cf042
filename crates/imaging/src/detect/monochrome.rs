//! Pictures whose colours say no more than their brightness does.

use super::channels;
use super::detail::rare_magnitude;
use crate::error::Result;
use crate::image::Image;

/// Up to so many grey levels of 8 bits a pixel's colours differ from those of its brightness by rounding and compression alone.
const SAME: u16 = 20;

/// True for grey pictures, and for toned ones: pixels of a brightness all have one colour, but for one in a thousand.
///
/// # Errors
/// None of a valid picture.
pub fn is_monochrome(image: &Image) -> Result<bool> {
    let channels = channels(image)?;
    let [red, _, blue] = channels.as_slice() else { return Ok(true) };
    let luma = image.luma8();
    // Green follows from the others.
    let pixels = || {
        let pixels = luma.data().iter().zip(red.data()).zip(blue.data());
        pixels.map(|((&luma, &red), &blue)| {
            (usize::from(luma), [red, blue].map(|value| i32::from(value) - i32::from(luma)))
        })
    };

    // 1. the colour of each brightness
    let mut sums = [[0_i64; 3]; 256];
    for (luma, colors) in pixels() {
        let [count, red, blue] = &mut sums[luma];
        *count += 1;
        *red += i64::from(colors[0]);
        *blue += i64::from(colors[1]);
    }
    let tones = sums.map(|[count, red, blue]| [red, blue].map(|sum| (sum / count.max(1)) as i32));

    // 2. how far pixels are from it
    let differences = pixels().map(|(luma, colors)| {
        let [red, blue] = [0, 1].map(|at| colors[at].abs_diff(tones[luma][at]));
        red.max(blue) as u16
    });
    Ok(rare_magnitude(differences) <= SAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::compress;
    use crate::{ColorType, Samples};

    const SIZE: (usize, usize) = (160, 120);

    /// A picture whose pixels are made of random tones of blocks.
    fn picture(pixel: impl Fn(u8) -> [u8; 3]) -> Image {
        let tone = |x: usize, y: usize| {
            ((x / 7 + 131 * (y / 5)) as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
        };
        let (width, height) = SIZE;
        let samples =
            (0..width * height).flat_map(|at| pixel(tone(at % width, at / width))).collect();
        Image::new(width, height, ColorType::Rgb, Samples::U8(samples)).expect("a picture")
    }

    /// Brown in the shadows, white in the lights.
    fn brown(tone: u8) -> [u8; 3] {
        let power = |power| (255.0 * (f32::from(tone) / 255.0).powf(power)).round() as u8;
        [power(0.8), power(1.0), power(1.3)]
    }

    #[test]
    fn grey_and_toned_pictures_are() {
        assert!(is_monochrome(&picture(|tone| [tone; 3])).expect("valid"));
        let mut toned = picture(brown);
        assert!(is_monochrome(&toned).expect("valid"));
        compress(&mut toned, 0.85);
        assert!(is_monochrome(&toned).expect("valid"));
        let one = Image::new(2, 1, ColorType::GrayAlpha, Samples::U16(vec![0, 1, 2, 3]));
        assert!(is_monochrome(&one.expect("a picture")).expect("valid"));
    }

    #[test]
    fn coloured_ones_are_not() {
        // Two colours of every brightness.
        let turned = |tone: u8| {
            let [red, green, blue] = brown(tone);
            if tone.is_multiple_of(2) { [red, green, blue] } else { [blue, green, red] }
        };
        assert!(!is_monochrome(&picture(turned)).expect("valid"));
    }

    #[test]
    fn a_coloured_scratch_on_a_grey_print_is_a_colour() {
        let mut image = picture(|tone| [tone; 3]);
        let width = SIZE.0;
        if let Samples::U8(samples) = image.samples_mut() {
            (0..SIZE.1).for_each(|y| samples[3 * (y * width + 40)] ^= 0x80);
        }
        assert!(!is_monochrome(&image).expect("valid"));
    }
}
