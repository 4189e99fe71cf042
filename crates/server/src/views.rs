//! Pictures for looking at: 8 bits, no alpha, JPEG, and not larger than what they are looked at with.

use std::path::Path;

use imaging::imgproc::{self, Interpolation};
use imaging::io::{WriteOptions, write_image};
use imaging::{ColorType, Image, Metadata, Plane, Result, Samples};
use serde::Deserialize;

/// The sizes that views come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ViewSize {
    /// For a list.
    Thumb,
    /// For a screen.
    #[default]
    Screen,
    /// Pixel for pixel, up to what browsers bear.
    Full,
}

/// The longer side of a view for a list, in pixels.
const THUMB_SIDE: usize = 256;

/// The longer side of a view for a screen, in pixels.
const SCREEN_SIDE: usize = 1600;

/// The longer side of what a first look for damage sees, in pixels.
pub(crate) const DRAFT_SIDE: usize = 800;

/// The most pixels of a full view: a browser holds four bytes for each.
const FULL_PIXELS: f64 = 40e6;

/// JPEG's own limit.
const FULL_SIDE: f64 = 16_384.0;

const QUALITY: u8 = 92;

impl ViewSize {
    /// As files call it, and requests.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Thumb => "thumb",
            Self::Screen => "screen",
            Self::Full => "full",
        }
    }

    /// Width and height of the view of a picture.
    pub(crate) fn of(self, (width, height): (usize, usize)) -> (usize, usize) {
        let longer = width.max(height) as f64;
        let scale = match self {
            Self::Thumb => THUMB_SIDE as f64 / longer,
            Self::Screen => SCREEN_SIDE as f64 / longer,
            Self::Full => (FULL_PIXELS / (width * height) as f64).sqrt().min(FULL_SIDE / longer),
        };
        shrunk((width, height), scale)
    }
}

/// Width and height times a scale of at most 1.
fn shrunk((width, height): (usize, usize), scale: f64) -> (usize, usize) {
    if scale >= 1.0 {
        return (width, height);
    }
    let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    (side(width), side(height))
}

/// The picture reduced so that its longer side is at most `side`, in 8 bits.
pub(crate) fn reduced(image: &Image, side: usize) -> Result<Image> {
    let scale = side as f64 / image.width().max(image.height()) as f64;
    viewable(image, shrunk(image.size(), scale))
}

/// Writes a view of the picture.
pub(crate) fn write_view(path: &Path, image: &Image, size: ViewSize) -> Result<()> {
    let view = viewable(image, size.of(image.size()))?;
    let options = WriteOptions { force: true, jpeg_quality: Some(QUALITY) };
    write_image(path, &view, &options)
}

/// The picture in 8 bits without alpha (over white), at a size that is not larger, with its ICC profile.
fn viewable(image: &Image, (width, height): (usize, usize)) -> Result<Image> {
    let channels = image.color().channels();
    let colours = image.color().color_channels();
    let mut planes = Vec::with_capacity(channels);
    for channel in 0..channels {
        let data = match image.samples() {
            Samples::U8(values) => values[channel..].iter().step_by(channels).copied().collect(),
            Samples::U16(values) => {
                let reduced = |&value: &u16| ((u32::from(value) + 128) / 257) as u8;
                values[channel..].iter().step_by(channels).map(reduced).collect()
            }
        };
        let plane = Plane::from_vec(image.width(), image.height(), data)?;
        planes.push(if plane.size() == (width, height) {
            plane
        } else {
            imgproc::resize(&plane, width, height, Interpolation::Area)?
        });
    }
    let alpha = if image.color().has_alpha() { planes.pop() } else { None };
    let mut samples = Vec::with_capacity(width * height * colours);
    for at in 0..width * height {
        let opacity = alpha.as_ref().map_or(255, |alpha| u32::from(alpha.data()[at]));
        samples.extend(planes.iter().map(|plane| {
            let value = u32::from(plane.data()[at]) * opacity + 255 * (255 - opacity);
            ((value + 127) / 255) as u8
        }));
    }
    let color = if colours == 1 { ColorType::Gray } else { ColorType::Rgb };
    let mut view = Image::new(width, height, color, Samples::U8(samples))?;
    view.metadata =
        Metadata { icc_profile: image.metadata.icc_profile.clone(), ..Metadata::default() };
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_never_larger_than_pictures() {
        assert_eq!(ViewSize::Screen.of((4000, 3000)), (1600, 1200));
        assert_eq!(ViewSize::Screen.of((300, 200)), (300, 200));
        assert_eq!(ViewSize::Full.of((4000, 3000)), (4000, 3000));
        let (width, height) = ViewSize::Full.of((20_000, 10_000));
        assert!(width * height <= 40_100_000 && width > height);
        assert_eq!(ViewSize::Full.of((100_000, 1)), (16_384, 1));
    }

    #[test]
    fn what_is_transparent_is_white_and_16_bits_become_8() {
        // Black at half opacity, and a value that is exactly 100 in 8 bits, opaque.
        let samples = Samples::U16(vec![0, 128 * 257, 100 * 257, 65_535]);
        let image = Image::new(2, 1, ColorType::GrayAlpha, samples).expect("two pixels");
        let view = reduced(&image, 9).expect("a view");
        // 0 · 128/255 + 255 · 127/255 = 127
        assert_eq!(view.samples(), &Samples::U8(vec![127, 100]));
    }
}
