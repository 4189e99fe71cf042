//! Puts repainted pixels into a picture and leaves every other sample as it was.

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::image::{Image, Samples};
use crate::mask::Mask;
use crate::plane::Plane;

/// Blends `fill` into the window `rect` of `image`, weighted by `mask`.
///
/// A sample whose weight is 0 keeps its bits; one whose weight is 255 becomes the fill, rounded to the image's
/// depth; between, `original · (1 − w/255) + fill · w/255`, rounded once. Alpha is never changed.
///
/// - `fill`: one plane a colour channel, each `rect.width × rect.height`, in `[0, 1]` (clamped)
/// - `mask`: weights for the whole image
///
/// # Errors
/// [`ImagingError::Size`] if the mask, a plane or the window does not fit the image;
/// [`ImagingError::Argument`] if the number of planes is not the number of colour channels.
pub fn composite(image: &mut Image, rect: Rect, fill: &[Plane<f32>], mask: &Mask) -> Result<()> {
    ImagingError::check_size("mask", image.size(), mask.size())?;
    if rect.right() > image.width() || rect.bottom() > image.height() {
        return Err(ImagingError::Size {
            what: format!("window at ({}, {})", rect.x, rect.y),
            expected: image.size(),
            found: (rect.right(), rect.bottom()),
        });
    }
    if fill.len() != image.color().color_channels() {
        return Err(ImagingError::argument(
            "fill",
            format!("{} planes, one a colour channel", image.color().color_channels()),
            fill.len(),
        ));
    }
    for plane in fill {
        ImagingError::check_size("fill", (rect.width, rect.height), plane.size())?;
    }

    let (width, channels) = (image.width(), image.color().channels());
    match image.samples_mut() {
        Samples::U8(samples) => {
            blend(samples, (width, channels), rect, fill, mask, 255.0, |value| value as u8);
        }
        Samples::U16(samples) => {
            blend(samples, (width, channels), rect, fill, mask, 65535.0, |value| value as u16);
        }
    }
    Ok(())
}

fn blend<T: Copy + Into<f32>>(
    samples: &mut [T],
    (width, channels): (usize, usize),
    rect: Rect,
    fill: &[Plane<f32>],
    mask: &Mask,
    max: f32,
    from_rounded: impl Fn(f32) -> T,
) {
    for y in 0..rect.height {
        let first = (rect.y + y) * width + rect.x;
        let weights = &mask.plane().data()[first..first + rect.width];
        let row = &mut samples[first * channels..(first + rect.width) * channels];
        for (x, (pixel, &weight)) in row.chunks_exact_mut(channels).zip(weights).enumerate() {
            if weight == 0 {
                continue;
            }
            for (sample, plane) in pixel.iter_mut().zip(fill) {
                let painted = plane.get(x, y).clamp(0.0, 1.0) * max;
                *sample = from_rounded(blended((*sample).into(), painted, weight));
            }
        }
    }
}

/// `original` and `painted`, in one unit, blended by a weight in 255ths and rounded.
pub(crate) fn blended(original: f32, painted: f32, weight: u8) -> f32 {
    let alpha = f32::from(weight) / 255.0;
    (original + alpha * (painted - original)).round()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ColorType;

    #[test]
    fn weight_0_keeps_bits_255_replaces_and_half_blends() {
        let samples = Samples::U16(vec![100, 200, 40_000, 1]);
        let mut image = Image::new(4, 1, ColorType::Gray, samples).expect("four grey pixels");
        let mut mask = Mask::empty(4, 1);
        mask.plane_mut().data_mut().copy_from_slice(&[0, 255, 51, 0]);
        let fill = [Plane::filled(4, 1, 1.0)];

        composite(&mut image, Rect::new(0, 0, 4, 1), &fill, &mask).expect("sizes agree");

        // 51 / 255 = 0.2: 40000 + 0.2 · (65535 − 40000) = 45107
        assert_eq!(image.samples(), &Samples::U16(vec![100, 65535, 45_107, 1]));
    }

    #[test]
    fn alpha_stays_where_colour_is_replaced() {
        let mut image =
            Image::new(1, 1, ColorType::Rgba, Samples::U8(vec![1, 2, 3, 77])).expect("one pixel");
        let mask = Mask::from_fn(1, 1, |_, _| true);
        let fill = [0.0, 0.5, 1.0].map(|value| Plane::filled(1, 1, value));

        composite(&mut image, Rect::new(0, 0, 1, 1), &fill, &mask).expect("sizes agree");

        assert_eq!(image.samples(), &Samples::U8(vec![0, 128, 255, 77]));
    }

    #[test]
    fn a_mask_of_another_size_is_named() {
        let mut image =
            Image::new(2, 1, ColorType::Gray, Samples::U8(vec![0, 0])).expect("two pixels");
        let error = composite(
            &mut image,
            Rect::new(0, 0, 1, 1),
            &[Plane::filled(1, 1, 0.0)],
            &Mask::empty(3, 1),
        )
        .expect_err("the mask is wider than the image");
        assert_eq!(error.to_string(), "mask: expected 2×1 pixels, found 3×1");
    }
}
