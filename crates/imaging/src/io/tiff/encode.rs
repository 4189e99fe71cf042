//! Encodes TIFF files strip by strip; strips are compressed on all threads.
//!
//! The `tiff` crate's image encoder compresses on one thread and knows no grey with alpha, so that only its
//! directories and compressors are used. The bytes do not depend on the number of threads.

use std::io::{Seek, Write};

use ::tiff::encoder::compression::{
    CompressionAlgorithm, Deflate, DeflateLevel, Lzw, Uncompressed,
};
use ::tiff::encoder::{
    DirectoryEncoder, Rational, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard,
};
use ::tiff::tags::{Tag, Type};
use ::tiff::{Directory, TiffError};
use rayon::prelude::*;

use super::tag;
use crate::image::{ColorType, Image, Samples, TiffAlpha, TiffCoding, TiffCompression};
use crate::io::decode::Failure;
use crate::io::exif::{self, Field, Fields, fraction};
use crate::io::ifd::unit_bytes;

/// Bytes of samples in a strip, about.
const STRIP_BYTES: usize = 256 << 10;
/// Strips that are compressed before they are written.
const BATCH: usize = 32;
/// Files may grow longer than this only as BigTIFF, whose positions have 64 bits. Leaves room for metadata.
const CLASSIC_BYTES: u64 = 0xf000_0000;

const INCH: u16 = 2;
const HORIZONTAL_PREDICTOR: u16 = 2;

/// Encodes a TIFF file; BigTIFF if the samples could make it longer than 4 GB.
///
/// The compression is that of the TIFF file that the image came from, otherwise deflate.
pub(in crate::io) fn encode<W: Write + Seek>(writer: W, image: &Image) -> Result<(), Failure> {
    let bytes = image.samples().len() as u64 * u64::from(image.samples().bits() / 8);
    if bytes < CLASSIC_BYTES {
        encode_as::<W, TiffKindStandard>(writer, image)
    } else {
        encode_as::<W, TiffKindBig>(writer, image)
    }
}

fn encode_as<W: Write + Seek, K: TiffKind>(writer: W, image: &Image) -> Result<(), Failure> {
    let too_large = |_| Failure::reason("TIFF files have at most 4294967295 pixels a side");
    let width = u32::try_from(image.width()).map_err(too_large)?;
    let height = u32::try_from(image.height()).map_err(too_large)?;
    let metadata = &image.metadata;
    let TiffCoding { compression, alpha } = metadata.tiff.unwrap_or(TiffCoding {
        compression: TiffCompression::Deflate,
        alpha: TiffAlpha::Unassociated,
    });
    let mut encoder = TiffEncoder::<W, K>::new_generic(writer)?;

    // 1. the directories that the first one points to
    let fields = metadata.exif.as_deref().and_then(Fields::of_exif).unwrap_or_default();
    let mut exif_fields = fields.exif;
    let mut pointers = Vec::new();
    if !fields.interoperability.is_empty() {
        let at = write_directory(&mut encoder, &fields.interoperability)?;
        exif_fields.push(Field::pointer(exif::INTEROPERABILITY_POINTER, at));
    }
    if !exif_fields.is_empty() {
        let at = write_directory(&mut encoder, &exif_fields)?;
        pointers.push(Field::pointer(exif::EXIF_POINTER, at));
    }
    if !fields.gps.is_empty() {
        let at = write_directory(&mut encoder, &fields.gps)?;
        pointers.push(Field::pointer(exif::GPS_POINTER, at));
    }

    // 2. the strips
    let mut directory = encoder.image_directory()?;
    let strips = Strips::of(image, compression);
    let (offsets, lengths) = strips.write(&mut directory)?;

    // 3. the first directory
    let bits = u16::from(image.samples().bits());
    let channels = image.color().channels();
    let photometric: u16 = if image.color().color_channels() == 1 { 1 } else { 2 };
    let compression_code: u16 = match compression {
        TiffCompression::None => 1,
        TiffCompression::Lzw => 5,
        TiffCompression::Deflate => 8,
    };
    directory.write_tag(Tag::ImageWidth, width)?;
    directory.write_tag(Tag::ImageLength, height)?;
    directory.write_tag(Tag::BitsPerSample, &vec![bits; channels][..])?;
    directory.write_tag(Tag::Compression, compression_code)?;
    directory.write_tag(Tag::PhotometricInterpretation, photometric)?;
    directory.write_tag(Tag::Orientation, 1_u16)?;
    directory.write_tag(Tag::SamplesPerPixel, channels as u16)?;
    directory.write_tag(Tag::RowsPerStrip, strips.rows as u32)?;
    directory.write_tag(Tag::PlanarConfiguration, 1_u16)?;
    if strips.predicted() {
        directory.write_tag(Tag::Predictor, HORIZONTAL_PREDICTOR)?;
    }
    if image.color().has_alpha() {
        let meaning: u16 = match alpha {
            TiffAlpha::Unspecified => 0,
            TiffAlpha::Associated => 1,
            TiffAlpha::Unassociated => 2,
        };
        directory.write_tag(Tag::ExtraSamples, meaning)?;
    }
    directory.write_tag(Tag::SampleFormat, &vec![1_u16; channels][..])?;
    if let Some(resolution) = metadata.resolution {
        let [x, y] = [resolution.x, resolution.y].map(|value| {
            let (n, d) = fraction(value);
            Rational { n, d }
        });
        directory.write_tag(Tag::XResolution, x)?;
        directory.write_tag(Tag::YResolution, y)?;
        directory.write_tag(Tag::ResolutionUnit, INCH)?;
    }
    if let Some(profile) = &metadata.icc_profile {
        write_bytes(&mut directory, tag::ICC_PROFILE, Type::UNDEFINED, profile)?;
    }
    if let Some(packet) = &metadata.xmp {
        write_bytes(&mut directory, tag::XMP, Type::BYTE, packet)?;
    }
    for field in fields.main.iter().chain(&pointers) {
        write_field(&mut directory, field)?;
    }
    if size_of::<K::OffsetType>() == 8 {
        directory.write_tag(Tag::StripOffsets, &offsets[..])?;
        directory.write_tag(Tag::StripByteCounts, &lengths[..])?;
    } else {
        let narrow = |values: &[u64]| {
            values.iter().map(|&value| u32::try_from(value)).collect::<Result<Vec<_>, _>>()
        };
        directory.write_tag(Tag::StripOffsets, &narrow(&offsets).map_err(TiffError::from)?[..])?;
        directory
            .write_tag(Tag::StripByteCounts, &narrow(&lengths).map_err(TiffError::from)?[..])?;
    }
    directory.finish()?;
    Ok(())
}

/// Writes a directory that is not in the chain of pictures and returns its position.
fn write_directory<W: Write + Seek, K: TiffKind>(
    encoder: &mut TiffEncoder<W, K>,
    fields: &[Field],
) -> Result<u32, Failure> {
    let mut directory = encoder.extra_directory()?;
    for field in fields {
        write_field(&mut directory, field)?;
    }
    let position = directory.finish_with_offsets()?.pointer.0;
    u32::try_from(position).map_err(|_| Failure::reason("more than 4 GB of EXIF data"))
}

fn write_field<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    field: &Field,
) -> Result<(), Failure> {
    let Some(kind) = Type::from_u16(field.kind) else { return Ok(()) };
    let mut bytes = field.bytes.clone();
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(unit_bytes(field.kind)).for_each(<[u8]>::reverse);
    }
    write_bytes(directory, field.tag, kind, &bytes)
}

fn write_bytes<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    tag: u16,
    kind: Type,
    bytes: &[u8],
) -> Result<(), Failure> {
    let entry = directory.write_entry_bytes(kind, bytes)?;
    let tag = Tag::from_u16_exhaustive(tag);
    directory.extend_from(&Directory::from_iter([(tag, entry)]));
    Ok(())
}

/// The samples, divided into strips.
struct Strips<'a> {
    samples: &'a Samples,
    color: ColorType,
    /// Samples a row.
    stride: usize,
    /// Rows a strip.
    rows: usize,
    compression: TiffCompression,
}

impl<'a> Strips<'a> {
    fn of(image: &'a Image, compression: TiffCompression) -> Self {
        let samples = image.samples();
        let stride = image.width() * image.color().channels();
        let row_bytes = stride * usize::from(samples.bits() / 8);
        let rows = (STRIP_BYTES / row_bytes).clamp(1, image.height());
        Self { samples, color: image.color(), stride, rows, compression }
    }

    /// Differences of neighbours compress better; without compression they are of no use.
    fn predicted(&self) -> bool {
        self.compression != TiffCompression::None
    }

    /// Writes every strip; returns their positions and lengths.
    fn write<W: Write + Seek, K: TiffKind>(
        &self,
        directory: &mut DirectoryEncoder<'_, W, K>,
    ) -> Result<(Vec<u64>, Vec<u64>), Failure> {
        let strip = self.rows * self.stride;
        let count = self.samples.len().div_ceil(strip);
        let (mut offsets, mut lengths) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for first in (0..count).step_by(BATCH) {
            let batch: Vec<_> = (first..(first + BATCH).min(count))
                .into_par_iter()
                .map(|i| self.packed(i * strip..((i + 1) * strip).min(self.samples.len())))
                .collect::<std::io::Result<_>>()?;
            for bytes in batch {
                lengths.push(bytes.len() as u64);
                offsets.push(directory.write_data(&bytes[..])?);
            }
        }
        Ok((offsets, lengths))
    }

    /// A range of the samples as the bytes of a strip.
    fn packed(&self, range: std::ops::Range<usize>) -> std::io::Result<Vec<u8>> {
        let channels = self.color.channels();
        let mut bytes = Vec::with_capacity(range.len() * usize::from(self.samples.bits() / 8));
        match self.samples {
            Samples::U8(values) => {
                bytes.extend_from_slice(&values[range]);
                if self.predicted() {
                    for row in bytes.chunks_exact_mut(self.stride) {
                        for i in (channels..row.len()).rev() {
                            row[i] = row[i].wrapping_sub(row[i - channels]);
                        }
                    }
                }
            }
            Samples::U16(values) => {
                for row in values[range].chunks_exact(self.stride) {
                    let (start, rest) = row.split_at(channels.min(row.len()));
                    bytes.extend(start.iter().flat_map(|value| value.to_ne_bytes()));
                    if self.predicted() {
                        let differences = rest.iter().zip(row).map(|(a, b)| a.wrapping_sub(*b));
                        bytes.extend(differences.flat_map(u16::to_ne_bytes));
                    } else {
                        bytes.extend(rest.iter().flat_map(|value| value.to_ne_bytes()));
                    }
                }
            }
        }
        let mut packed = Vec::new();
        match self.compression {
            TiffCompression::None => Uncompressed.write_to(&mut packed, &bytes)?,
            TiffCompression::Lzw => Lzw.write_to(&mut packed, &bytes)?,
            TiffCompression::Deflate => {
                // Higher levels take 3 times as long and gain 2 % at 8 bits, nothing at 16.
                Deflate::with_level(DeflateLevel::Fast).write_to(&mut packed, &bytes)?
            }
        };
        Ok(packed)
    }
}
