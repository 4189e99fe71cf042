//! A picture at its own bit depth, with what its file said about it.

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::plane::Plane;

/// The meaning of a pixel's channels, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColorType {
    /// Grey.
    Gray,
    /// Grey, alpha.
    GrayAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
}

impl ColorType {
    /// Values a pixel, alpha included.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Values a pixel without alpha: 1 or 3. These come first.
    #[must_use]
    pub const fn color_channels(self) -> usize {
        match self {
            Self::Gray | Self::GrayAlpha => 1,
            Self::Rgb | Self::Rgba => 3,
        }
    }

    /// True if the last channel is alpha.
    #[must_use]
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::GrayAlpha | Self::Rgba)
    }

    /// What reports call it: "gray", "gray+alpha", "rgb" or "rgb+alpha".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::GrayAlpha => "gray+alpha",
            Self::Rgb => "rgb",
            Self::Rgba => "rgb+alpha",
        }
    }
}

/// Interleaved channel values at the depth of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// `0 ..= 255`.
    U8(Vec<u8>),
    /// `0 ..= 65535`.
    U16(Vec<u16>),
}

impl Samples {
    /// Values stored.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
        }
    }

    /// True if nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest value a channel can have: 255 or 65535.
    #[must_use]
    pub const fn max_value(&self) -> u16 {
        match self {
            Self::U8(_) => u8::MAX as u16,
            Self::U16(_) => u16::MAX,
        }
    }

    /// Bits a channel: 8 or 16.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        match self {
            Self::U8(_) => 8,
            Self::U16(_) => 16,
        }
    }
}

/// Pixels an inch, across and down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolution {
    /// Pixels an inch across.
    pub x: f64,
    /// Pixels an inch down.
    pub y: f64,
}

/// What a file says beside its pixels, carried from the input to the output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The ICC profile, as stored.
    pub icc_profile: Option<Vec<u8>>,
    /// EXIF as a TIFF structure (without the `Exif\0\0` prefix). Its orientation is 1: it has been applied.
    pub exif: Option<Vec<u8>>,
    /// The scan resolution.
    pub resolution: Option<Resolution>,
    /// The XMP packet. Its orientation, if it states one, is 1.
    pub xmp: Option<Vec<u8>>,
    /// How the pixels of a JPEG file were coded, so that they can be coded in the same way.
    pub jpeg: Option<JpegCoding>,
    /// How the pixels of a TIFF file were stored, so that they can be stored in the same way.
    pub tiff: Option<TiffCoding>,
}

/// How a JPEG file codes its pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JpegCoding {
    /// Quantisation of the luma, 8 rows of 8 coefficients.
    pub luma: [u8; 64],
    /// Quantisation of the chroma.
    pub chroma: [u8; 64],
    /// Pixels to one chroma value, across and down: 1 or 2.
    pub chroma_step: (u8, u8),
    /// Stored coarse to fine.
    pub progressive: bool,
}

impl JpegCoding {
    /// Exchanges rows and columns, as a picture's quarter turn does.
    pub(crate) fn transpose(&mut self) {
        for table in [&mut self.luma, &mut self.chroma] {
            for y in 0..8 {
                for x in 0..y {
                    table.swap(8 * y + x, 8 * x + y);
                }
            }
        }
        self.chroma_step = (self.chroma_step.1, self.chroma_step.0);
    }
}

/// How a TIFF file stores its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TiffCoding {
    /// The compression.
    pub compression: TiffCompression,
    /// The meaning of the alpha channel, if there is one.
    pub alpha: TiffAlpha,
}

/// A lossless compression of TIFF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TiffCompression {
    /// None.
    None,
    /// LZW.
    Lzw,
    /// Deflate (zip).
    Deflate,
}

/// What the additional channel of a TIFF file is, TIFF's `ExtraSamples`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TiffAlpha {
    /// Not said.
    Unspecified,
    /// Opacity, colours already multiplied by it.
    Associated,
    /// Opacity, colours as they are.
    Unassociated,
}

/// A picture: interleaved samples, row-major, sRGB-encoded or as its ICC profile says.
///
/// Orientation has been applied: `(0, 0)` is the corner that a viewer shows at the top left.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    color: ColorType,
    samples: Samples,
    /// What the file said beside the pixels.
    pub metadata: Metadata,
}

impl Image {
    /// A picture over existing samples, `height · width · channels` of them.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] if the number of samples is another, or there is no pixel.
    pub fn new(width: usize, height: usize, color: ColorType, samples: Samples) -> Result<Self> {
        let expected = width * height * color.channels();
        if samples.len() != expected || expected == 0 {
            return Err(ImagingError::argument(
                "samples",
                format!("{width}×{height} pixels of {} values", color.channels()),
                format!("{} values", samples.len()),
            ));
        }
        Ok(Self { width, height, color, samples, metadata: Metadata::default() })
    }

    /// Columns.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Width and height.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// What a pixel's channels mean.
    #[must_use]
    pub const fn color(&self) -> ColorType {
        self.color
    }

    /// The channel values.
    #[must_use]
    pub const fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The channel values, to change. Their number and depth must stay.
    pub const fn samples_mut(&mut self) -> &mut Samples {
        &mut self.samples
    }

    /// The whole picture as a rectangle.
    #[must_use]
    pub const fn bounds(&self) -> Rect {
        Rect::new(0, 0, self.width, self.height)
    }

    /// Luma in 8 bits, rounded: OpenCV's `cvtColor(RGB2GRAY)`, `(4899 R + 9617 G + 1868 B + 8192) >> 14`.
    ///
    /// 16-bit values are first divided by 257 (so that 65535 becomes 255) and rounded. Alpha is ignored.
    #[must_use]
    pub fn luma8(&self) -> Plane<u8> {
        let channels = self.color.channels();
        let data = match &self.samples {
            Samples::U8(values) => luma8_of(values, channels, |value| value),
            Samples::U16(values) => {
                luma8_of(values, channels, |value| ((u32::from(value) + 128) / 257) as u8)
            }
        };
        Plane::from_vec(self.width, self.height, data)
            .expect("one luma value for each pixel of a valid image")
    }

    /// The colour channels (not alpha) inside `rect` as separate planes in `[0, 1]`.
    ///
    /// # Panics
    /// If `rect` reaches outside the picture.
    #[must_use]
    pub fn color_planes(&self, rect: Rect) -> Vec<Plane<f32>> {
        let scale = 1.0 / f32::from(self.samples.max_value());
        (0..self.color.color_channels())
            .map(|channel| match &self.samples {
                Samples::U8(values) => {
                    self.extract(values, rect, channel, |value| f32::from(value) * scale)
                }
                Samples::U16(values) => {
                    self.extract(values, rect, channel, |value| f32::from(value) * scale)
                }
            })
            .collect()
    }

    fn extract<T: Copy>(
        &self,
        values: &[T],
        rect: Rect,
        channel: usize,
        convert: impl Fn(T) -> f32,
    ) -> Plane<f32> {
        let channels = self.color.channels();
        let mut data = Vec::with_capacity(rect.area());
        for y in rect.y..rect.bottom() {
            let start = (y * self.width + rect.x) * channels;
            let row = &values[start..start + rect.width * channels];
            data.extend(row.iter().skip(channel).step_by(channels).map(|&value| convert(value)));
        }
        Plane::from_vec(rect.width, rect.height, data).expect("one value for each pixel of rect")
    }
}

fn luma8_of<T: Copy>(values: &[T], channels: usize, to_8_bits: impl Fn(T) -> u8) -> Vec<u8> {
    if channels < 3 {
        return values.iter().step_by(channels).map(|&value| to_8_bits(value)).collect();
    }
    values
        .chunks_exact(channels)
        .map(|pixel| {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|value| u32::from(to_8_bits(value)));
            ((4899 * r + 9617 * g + 1868 * b + 8192) >> 14) as u8
        })
        .collect()
}
