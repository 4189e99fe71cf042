//! JPEG files: segments by hand, pixels by `zune-jpeg` (through the `image` crate) and `jpeg-encoder`.

mod segments;

use std::io::{BufRead, Cursor, Seek, Write};

use image::ImageDecoder;
use image::codecs::jpeg::JpegDecoder;
use jpeg_encoder::{
    ChromaSubsamplingMethod, Encoder, EncodingError, PixelDensity, PixelDensityUnit,
    QuantizationTableType, SamplingFactor,
};

pub(super) use self::segments::frame_size;
use self::segments::{Segments, XMP_MARKER};
use super::decode::{Decoded, Failure, Limits, reserved, usable_icc, zeroed};
use super::{exif, orientation, xmp};
use crate::image::{ColorType, Image, Metadata, Resolution, Samples};

/// Pixels a side that a JPEG file can have.
const MAX_SIDE: usize = 65_535;
/// Bytes that one segment holds beside its length.
const SEGMENT_BYTES: usize = 65_533;
/// Each block of 64 pixels takes at least one bit.
pub(super) const PIXELS_A_BYTE: u64 = 512;
/// The quality when neither the caller nor the input says otherwise.
const DEFAULT_QUALITY: u8 = 95;

/// Decodes a JPEG file. Grey stays grey; everything else becomes RGB.
pub(super) fn decode<R: BufRead + Seek>(mut reader: R, limits: Limits) -> Result<Decoded, Failure> {
    // 1. the segments
    let mut data = reserved(limits.file_bytes as usize)?;
    reader.read_to_end(&mut data)?;
    let segments = Segments::parse(&data)?;
    let frame = segments.frame;
    limits.check_size(frame.width.into(), frame.height.into())?;
    limits.check_claim(u64::from(frame.width) * u64::from(frame.height), PIXELS_A_BYTE)?;
    if !segments.complete {
        return Err(Failure::reason("the file is cut off: there is no end-of-image marker"));
    }
    let exif = segments.exif.map(<[u8]>::to_vec);
    let orientation = exif.as_deref().map_or(1, exif::orientation);
    // Profiles for ink do not fit the RGB that such images are turned into.
    let icc_profile = segments.icc_profile().and_then(usable_icc);
    let mut coding = segments.coding();
    if let Some(coding) = &mut coding
        && orientation::swaps_axes(orientation)
    {
        coding.transpose();
    }
    let metadata = Metadata {
        icc_profile,
        resolution: segments.resolution.or_else(|| exif.as_deref().and_then(exif::resolution)),
        xmp: segments.xmp.map(<[u8]>::to_vec).filter(|packet| packet.len() <= xmp::MAX_BYTES),
        jpeg: coding,
        exif,
        tiff: None,
    };

    // 2. the pixels
    let decoder = JpegDecoder::new(Cursor::new(&data)).map_err(Failure::reason)?;
    let color = match decoder.color_type() {
        image::ColorType::L8 => ColorType::Gray,
        image::ColorType::Rgb8 => ColorType::Rgb,
        other => return Err(Failure::Reason(format!("unexpected pixels of type {other:?}"))),
    };
    let (width, height) = decoder.dimensions();
    if (width, height) != (frame.width.into(), frame.height.into()) {
        return Err(Failure::reason("several frames of different sizes"));
    }
    let (width, height) = (width as usize, height as usize);
    let mut values = zeroed(width * height * color.channels())?;
    decoder.read_image(&mut values).map_err(Failure::reason)?;
    Ok(Decoded { width, height, color, samples: Samples::U8(values), orientation, metadata })
}

impl From<EncodingError> for Failure {
    fn from(error: EncodingError) -> Self {
        match error {
            EncodingError::IoError(error) => Self::Io(error),
            error => Self::reason(error),
        }
    }
}

/// Encodes a JPEG file.
///
/// Without `quality` the quantisation tables and the chroma subsampling are those of the JPEG file that the image
/// came from, so that what was not changed is rounded to what it was; for an image from elsewhere the quality is 95.
/// A chosen or assumed quality goes with full chroma.
pub(super) fn encode<W: Write>(
    writer: W,
    image: &Image,
    quality: Option<u8>,
) -> Result<(), Failure> {
    let (width, height) = image.size();
    if width.max(height) > MAX_SIDE {
        return Err(Failure::Reason(format!(
            "JPEG files have at most {MAX_SIDE} pixels a side, the image is {width}×{height}; write PNG or TIFF"
        )));
    }
    if let Some(quality) = quality.filter(|quality| !(1..=100).contains(quality)) {
        return Err(Failure::Reason(format!("the JPEG quality is 1 to 100, found {quality}")));
    }
    let Samples::U8(values) = image.samples() else {
        return Err(Failure::reason(
            "JPEG files have 8 bits a channel, the image has 16; write PNG or TIFF",
        ));
    };
    let color = match image.color() {
        ColorType::Gray => jpeg_encoder::ColorType::Luma,
        ColorType::Rgb => jpeg_encoder::ColorType::Rgb,
        ColorType::GrayAlpha | ColorType::Rgba => {
            return Err(Failure::reason(
                "JPEG files have no transparency, the image has; write PNG or TIFF",
            ));
        }
    };

    // 1. the coding
    let metadata = &image.metadata;
    let mut encoder = Encoder::new(writer, quality.unwrap_or(DEFAULT_QUALITY));
    encoder.set_sampling_factor(SamplingFactor::F_1_1);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder.set_optimized_huffman_tables(true);
    if let (None, Some(coding)) = (quality, &metadata.jpeg) {
        let [luma, chroma] = [coding.luma, coding.chroma]
            .map(|table| QuantizationTableType::Custom(Box::new(table.map(u16::from))));
        encoder.set_quantization_tables(luma, chroma);
        let (across, down) = coding.chroma_step;
        let factor = SamplingFactor::from_factors(across, down).unwrap_or(SamplingFactor::F_1_1);
        encoder.set_sampling_factor(factor);
        encoder.set_progressive(coding.progressive);
    }

    // 2. the metadata
    if let Some(Resolution { x, y }) = metadata.resolution {
        let whole = |value: f64| value.round().clamp(1.0, f64::from(u16::MAX)) as u16;
        let density = (whole(x), whole(y));
        encoder.set_density(PixelDensity { density, unit: PixelDensityUnit::Inches });
    }
    if let Some(data) = &metadata.exif {
        let room = SEGMENT_BYTES - 6;
        if data.len() <= room {
            encoder.add_exif_metadata(data)?;
        } else if let Some(mut fields) = exif::Fields::of_exif(data) {
            fields.shrink(room);
            encoder.add_exif_metadata(&fields.to_bytes())?;
        }
    }
    // Longer packets would need the extended form, which only XMP's own tools read; what they hold beyond this is
    // history and thumbnails.
    if let Some(packet) = &metadata.xmp
        && packet.len() + XMP_MARKER.len() <= SEGMENT_BYTES
    {
        encoder.add_app_segment(1, [XMP_MARKER, packet].concat())?;
    }
    if let Some(profile) = &metadata.icc_profile {
        encoder.add_icc_profile(profile)?;
    }

    encoder.encode(values, width as u16, height as u16, color)?;
    Ok(())
}
