//! PNG files, by the `png` crate.

use std::io::{BufRead, Seek, Write};

use ::png::text_metadata::ITXtChunk;
use ::png::{
    BitDepth, Decoder, DeflateCompression, Encoder, Filter, PixelDimensions, Transformations, Unit,
};

use super::decode::{Decoded, Failure, Limits, reserved, usable_icc, zeroed};
use super::{exif, xmp};
use crate::image::{ColorType, Image, Metadata, Resolution, Samples};

/// Deflate stores at most 1032 bytes in one.
const DEFLATE_RATIO: u64 = 1032;
/// Photographs with grain gain 3 % in size at 8 bits and nothing at 16 from higher levels, which take 3 times as long.
const DEFLATE_LEVEL: u8 = 1;
/// Memory for chunks other than pixels.
const CHUNK_BYTES: usize = 64 << 20;
const INCHES_A_METRE: f64 = 0.0254;
const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
/// Bytes of compressed pixels in one chunk.
const IDAT_BYTES: usize = 256 << 10;

impl From<::png::DecodingError> for Failure {
    fn from(error: ::png::DecodingError) -> Self {
        match error {
            ::png::DecodingError::IoError(error) => error.into(),
            error => Self::reason(error),
        }
    }
}

impl From<::png::EncodingError> for Failure {
    fn from(error: ::png::EncodingError) -> Self {
        match error {
            ::png::EncodingError::IoError(error) => Self::Io(error),
            error => Self::reason(error),
        }
    }
}

/// Decodes a PNG file; of an animation, the still image.
///
/// Palettes and depths below 8 are expanded; a transparent colour becomes alpha.
pub(super) fn decode<R: BufRead + Seek>(reader: R, limits: Limits) -> Result<Decoded, Failure> {
    let mut decoder = Decoder::new_with_limits(reader, ::png::Limits { bytes: CHUNK_BYTES });
    decoder.set_transformations(Transformations::EXPAND);

    // 1. the header, then what the file claims to hold
    let info = decoder.read_header_info()?;
    let (width, height) = (info.width, info.height);
    limits.check_size(width.into(), height.into())?;
    let raw = info.raw_row_length() as u64 * u64::from(height);
    limits.check_claim(raw, DEFLATE_RATIO)?;
    let mut reader = decoder.read_info()?;
    let (color, depth) = reader.output_color_type();
    let color = match color {
        ::png::ColorType::Grayscale => ColorType::Gray,
        ::png::ColorType::GrayscaleAlpha => ColorType::GrayAlpha,
        ::png::ColorType::Rgb => ColorType::Rgb,
        ::png::ColorType::Rgba => ColorType::Rgba,
        ::png::ColorType::Indexed => {
            return Err(Failure::reason("a palette image without a palette"));
        }
    };
    let bytes = reader.output_buffer_size().ok_or_else(|| Failure::reason("too many pixels"))?;

    // 2. the pixels
    let samples = if depth != BitDepth::Sixteen {
        let mut values = zeroed(bytes)?;
        reader.next_frame(&mut values)?;
        Samples::U8(values)
    } else if reader.info().interlaced {
        let mut values: Vec<u8> = zeroed(bytes)?;
        reader.next_frame(&mut values)?;
        let (pairs, _) = values.as_chunks();
        let mut samples = reserved(pairs.len())?;
        samples.extend(pairs.iter().map(|&pair| u16::from_be_bytes(pair)));
        Samples::U16(samples)
    } else {
        let mut samples = reserved(bytes / 2)?;
        while let Some(row) = reader.next_row()? {
            let (pairs, _) = row.data().as_chunks();
            samples.extend(pairs.iter().map(|&pair| u16::from_be_bytes(pair)));
        }
        Samples::U16(samples)
    };

    // 3. the metadata, some of which may follow the pixels; when that part is damaged, the pixels still count
    let _ = reader.finish();
    let info = reader.info();
    let exif = info.exif_metadata.as_ref().map(|data| exif::strip_prefix(data).to_vec());
    let packet = info.utf8_text.iter().find(|chunk| chunk.keyword == XMP_KEYWORD);
    let metadata = Metadata {
        icc_profile: info.icc_profile.as_ref().and_then(|profile| usable_icc(profile.to_vec())),
        resolution: info
            .pixel_dims
            .filter(|dims| dims.unit == Unit::Meter)
            .and_then(|dims| exif::sensible(an_inch(dims.xppu), an_inch(dims.yppu)))
            .or_else(|| exif.as_deref().and_then(exif::resolution)),
        xmp: packet
            .and_then(|chunk| chunk.get_text().ok())
            .filter(|text| text.len() <= xmp::MAX_BYTES)
            .map(String::into_bytes),
        ..Metadata::default()
    };
    let orientation = exif.as_deref().map_or(1, exif::orientation);
    let metadata = Metadata { exif, ..metadata };
    let (width, height) = (width as usize, height as usize);
    Ok(Decoded { width, height, color, samples, orientation, metadata })
}

/// Pixels an inch from pixels a metre; a whole number if one would have been stored like this.
fn an_inch(a_metre: u32) -> f64 {
    let exact = f64::from(a_metre) * INCHES_A_METRE;
    if a_metre_of(exact.round()) == a_metre { exact.round() } else { exact }
}

fn a_metre_of(an_inch: f64) -> u32 {
    (an_inch / INCHES_A_METRE).round() as u32
}

/// Encodes a PNG file of the image's colour type and depth.
pub(super) fn encode<W: Write>(writer: W, image: &Image) -> Result<(), Failure> {
    let metadata = &image.metadata;
    let too_large = |_| Failure::reason("PNG files have at most 2147483647 pixels a side");
    let (width, height) = (i32::try_from(image.width()), i32::try_from(image.height()));
    let (width, height) = (width.map_err(too_large)? as u32, height.map_err(too_large)? as u32);
    let mut info = ::png::Info::with_size(width, height);
    info.color_type = match image.color() {
        ColorType::Gray => ::png::ColorType::Grayscale,
        ColorType::GrayAlpha => ::png::ColorType::GrayscaleAlpha,
        ColorType::Rgb => ::png::ColorType::Rgb,
        ColorType::Rgba => ::png::ColorType::Rgba,
    };
    info.bit_depth = match image.samples() {
        Samples::U8(_) => BitDepth::Eight,
        Samples::U16(_) => BitDepth::Sixteen,
    };
    info.icc_profile = metadata.icc_profile.as_deref().map(Into::into);
    info.exif_metadata = metadata.exif.as_deref().map(Into::into);
    info.pixel_dims = metadata.resolution.map(|Resolution { x, y }| PixelDimensions {
        xppu: a_metre_of(x),
        yppu: a_metre_of(y),
        unit: Unit::Meter,
    });
    let packet = metadata.xmp.as_ref().and_then(|packet| std::str::from_utf8(packet).ok());
    info.utf8_text.extend(packet.map(|packet| ITXtChunk::new(XMP_KEYWORD, packet)));

    let mut encoder = Encoder::with_info(writer, info)?;
    encoder.set_deflate_compression(DeflateCompression::Level(DEFLATE_LEVEL));
    encoder.set_filter(Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer_with_size(IDAT_BYTES)?;
    match image.samples() {
        Samples::U8(values) => stream.write_all(values)?,
        Samples::U16(values) => {
            let mut bytes = Vec::new();
            for row in values.chunks(image.width() * image.color().channels()) {
                bytes.clear();
                bytes.extend(row.iter().flat_map(|value| value.to_be_bytes()));
                stream.write_all(&bytes)?;
            }
        }
    }
    stream.finish()?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_in_whole_inches_survive_the_metre() {
        for dpi in [1, 72, 96, 150, 300, 600, 1200, 2400, 4800] {
            assert_eq!(an_inch(a_metre_of(f64::from(dpi))), f64::from(dpi));
        }
        assert_eq!(an_inch(10_000), 254.0);
        assert!((an_inch(10_010) - 254.254).abs() < 1e-9);
    }
}
