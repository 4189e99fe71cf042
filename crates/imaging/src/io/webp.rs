//! WebP files, by the `image-webp` crate. Written lossless.
//!
//! WebP has no grey: a grey picture is stored as colour, compressed as well, and comes back as colour.

use std::io::{BufRead, Read, Seek, SeekFrom, Write};

use image_webp::{DecodingError, EncodingError, WebPDecoder, WebPEncoder};

use super::decode::{Decoded, Failure, Limits, MAX_ICC_BYTES, usable_icc, zeroed};
use super::{exif, xmp};
use crate::image::{ColorType, Image, Metadata, Samples};

/// Pixels a side that a WebP file can have.
const MAX_SIDE: usize = 16_383;

impl From<DecodingError> for Failure {
    fn from(error: DecodingError) -> Self {
        match error {
            DecodingError::IoError(error) => error.into(),
            error => Self::reason(error),
        }
    }
}

impl From<EncodingError> for Failure {
    fn from(error: EncodingError) -> Self {
        match error {
            EncodingError::IoError(error) => Self::Io(error),
            error => Self::reason(error),
        }
    }
}

/// Decodes a WebP file; of an animation, the first frame.
pub(super) fn decode<R: BufRead + Seek>(mut reader: R, limits: Limits) -> Result<Decoded, Failure> {
    check_frames(&mut reader, limits)?;
    reader.seek(SeekFrom::Start(0))?;
    let mut decoder = WebPDecoder::new(reader)?;
    decoder.set_memory_limit(MAX_ICC_BYTES);
    let (width, height) = decoder.dimensions();
    limits.check_size(width.into(), height.into())?;

    let bytes = decoder.output_buffer_size().ok_or_else(|| Failure::reason("too many pixels"))?;
    let mut values = zeroed(bytes)?;
    decoder.read_image(&mut values)?;
    let color = if decoder.has_alpha() { ColorType::Rgba } else { ColorType::Rgb };

    // Damaged metadata is left out; the pixels count.
    let exif = decoder.exif_metadata().ok().flatten();
    let exif = exif.map(|data| exif::strip_prefix(&data).to_vec());
    let metadata = Metadata {
        icc_profile: decoder.icc_profile().ok().flatten().and_then(usable_icc),
        resolution: exif.as_deref().and_then(exif::resolution),
        xmp: decoder.xmp_metadata().ok().flatten().filter(|packet| packet.len() <= xmp::MAX_BYTES),
        ..Metadata::default()
    };
    let orientation = exif.as_deref().map_or(1, exif::orientation);
    let metadata = Metadata { exif, ..metadata };
    let (width, height) = (width as usize, height as usize);
    Ok(Decoded { width, height, color, samples: Samples::U8(values), orientation, metadata })
}

/// Checks the size of every frame. The decoder itself believes frames that claim to be larger than their canvas.
fn check_frames<R: Read + Seek>(reader: &mut R, limits: Limits) -> Result<(), Failure> {
    let mut at = 12;
    let mut canvas = None;
    while at + 8 <= limits.file_bytes {
        reader.seek(SeekFrom::Start(at))?;
        let mut head = Vec::new();
        reader.by_ref().take(18).read_to_end(&mut head)?;
        let [a, b, c, d, s0, s1, s2, s3, data @ ..] = &head[..] else { break };
        let bytes = u64::from(u32::from_le_bytes([*s0, *s1, *s2, *s3]));
        let size = match ([*a, *b, *c, *d], data) {
            // After the frame tag and the start code come 14 bits of width and 14 of height.
            ([b'V', b'P', b'8', b' '], [_, _, _, _, _, _, w0, w1, h0, h1]) => {
                let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
                Some((side(*w0, *w1), side(*h0, *h1)))
            }
            ([b'V', b'P', b'8', b'L'], [_, s0, s1, s2, s3, ..]) => {
                let bits = u64::from(u32::from_le_bytes([*s0, *s1, *s2, *s3]));
                Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
            }
            ([b'V', b'P', b'8', b'X'], [_, _, _, _, w0, w1, w2, h0, h1, h2]) => {
                let side = |bytes: [u8; 3]| {
                    u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])) + 1
                };
                Some((side([*w0, *w1, *w2]), side([*h0, *h1, *h2])))
            }
            _ => None,
        };
        if let Some((width, height)) = size {
            limits.check_size(width, height)?;
            let (across, down) = *canvas.get_or_insert((width, height));
            if width > across || height > down {
                return Err(Failure::Reason(format!(
                    "a frame of {width}×{height} pixels on a canvas of {across}×{down}"
                )));
            }
        }
        // The frames of an animation lie inside chunks, behind 16 bytes.
        let inside = head.starts_with(b"ANMF");
        at += 8 + if inside { 16 } else { bytes + bytes % 2 };
    }
    Ok(())
}

/// Encodes a lossless WebP file. The resolution travels in the EXIF data, the only place for it.
pub(super) fn encode<W: Write>(writer: W, image: &Image) -> Result<(), Failure> {
    let (width, height) = image.size();
    if width.max(height) > MAX_SIDE {
        return Err(Failure::Reason(format!(
            "WebP files have at most {MAX_SIDE} pixels a side, the image is {width}×{height}; write PNG or TIFF"
        )));
    }
    let Samples::U8(values) = image.samples() else {
        return Err(Failure::reason(
            "WebP files have 8 bits a channel, the image has 16; write PNG or TIFF",
        ));
    };
    let color = match image.color() {
        ColorType::Gray => image_webp::ColorType::L8,
        ColorType::GrayAlpha => image_webp::ColorType::La8,
        ColorType::Rgb => image_webp::ColorType::Rgb8,
        ColorType::Rgba => image_webp::ColorType::Rgba8,
    };
    let metadata = &image.metadata;
    let mut encoder = WebPEncoder::new(writer);
    // A profile for grey does not fit the colour that grey is stored as.
    let profile =
        metadata.icc_profile.as_ref().filter(|profile| profile.get(16..20) != Some(b"GRAY"));
    encoder.set_icc_profile(profile.cloned().unwrap_or_default());
    encoder.set_exif_metadata(exif_with_resolution(metadata).unwrap_or_default());
    encoder.set_xmp_metadata(metadata.xmp.clone().unwrap_or_default());
    encoder.encode(values, width as u32, height as u32, color)?;
    Ok(())
}

fn exif_with_resolution(metadata: &Metadata) -> Option<Vec<u8>> {
    let Some(resolution) = metadata.resolution else { return metadata.exif.clone() };
    let data = metadata.exif.as_deref();
    if data.and_then(exif::resolution) == Some(resolution) {
        return metadata.exif.clone();
    }
    let mut fields = data.and_then(exif::Fields::of_exif).unwrap_or_default();
    fields.set_resolution(resolution);
    Some(fields.to_bytes())
}
