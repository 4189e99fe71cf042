//! Decodes TIFF files: the first directory is read here, its pixels by the `tiff` crate.

use std::io::{BufRead, Read, Seek, SeekFrom};

use ::tiff::decoder::{Decoder, DecodingResult, Limits as TiffLimits};

use super::expand::{
    Palette, expand_bits, ink_to_light, interleaved, invert, luma_chroma_to_light,
};
use super::tag;
use crate::image::{ColorType, Metadata, Samples, TiffAlpha, TiffCoding, TiffCompression};
use crate::io::decode::{Decoded, Failure, Limits, MAX_ICC_BYTES, reserved, usable_icc};
use crate::io::exif::{self, Fields};
use crate::io::ifd::{Directory, Structure};
use crate::io::{jpeg, xmp};

const COMPRESSION_JPEG: u64 = 7;

/// The meaning of the samples, TIFF's `PhotometricInterpretation`.
const WHITE_IS_ZERO: u64 = 0;
const BLACK_IS_ZERO: u64 = 1;
const RGB: u64 = 2;
const PALETTE: u64 = 3;
const TRANSPARENCY_MASK: u64 = 4;
const CMYK: u64 = 5;
const YCBCR: u64 = 6;

/// Decodes the first picture of a TIFF file.
pub(in crate::io) fn decode<R: BufRead + Seek>(
    mut reader: R,
    limits: Limits,
) -> Result<Decoded, Failure> {
    // 1. what the directory says
    let mut structure = Structure::open(&mut reader)?;
    let directory = structure.directory(structure.first)?;
    let layout = Layout::read(&mut structure, &directory)?;
    layout.check(limits)?;
    let palette = match layout.photometric {
        PALETTE => Some(Palette::read(&mut structure, &directory, layout.bits)?),
        _ => None,
    };
    let metadata = read_metadata(&mut structure, &directory, &layout);
    let orientation = exif::orientation_in(&mut structure, &directory).unwrap_or(1);
    if layout.compression == COMPRESSION_JPEG {
        check_jpeg_frames(&mut structure, &directory, &layout)?;
    }
    let patches = layout.patches(&structure, &directory);

    // 2. the samples as stored
    let position = reader.seek(SeekFrom::Start(0))?;
    let mut decoder = Decoder::new(Patched { inner: reader, position, patches })?;
    let mut tiff_limits = TiffLimits::default();
    let bytes = layout.raw_bytes() as usize;
    drop(reserved::<u8>(bytes)?); // an error here, where the decoder would end the process
    tiff_limits.decoding_buffer_size = bytes;
    tiff_limits.intermediate_buffer_size = usize::try_from(limits.file_bytes).unwrap_or(usize::MAX);
    tiff_limits.ifd_value_size = MAX_ICC_BYTES;
    decoder = decoder.with_limits(tiff_limits);
    let mut stored = DecodingResult::U8(Vec::new());
    let planes = decoder.read_image_to_buffer(&mut stored)?.planes;
    let mut samples = match stored {
        DecodingResult::U8(values) => Samples::U8(values),
        DecodingResult::U16(values) => Samples::U16(values),
        _ => return Err(Failure::reason("expected samples of 8 or 16 bits")),
    };

    // 3. the samples as colours
    let (width, height) = (layout.width as usize, layout.height as usize);
    if layout.bits < 8 {
        samples = expand_bits(&samples, (width, height), layout.bits, palette.is_none())?;
    }
    if planes > 1 {
        samples = interleaved(samples, planes)?;
    }
    let expected = width * height * layout.samples;
    if samples.len() != expected {
        return Err(Failure::Reason(format!(
            "expected {expected} samples, found {}",
            samples.len()
        )));
    }
    let (color, samples) = match (layout.photometric, layout.samples) {
        (WHITE_IS_ZERO, 1) => (ColorType::Gray, invert(samples, 1)),
        (WHITE_IS_ZERO, 2) => (ColorType::GrayAlpha, invert(samples, 2)),
        (BLACK_IS_ZERO | TRANSPARENCY_MASK, 1) => (ColorType::Gray, samples),
        (BLACK_IS_ZERO, 2) => (ColorType::GrayAlpha, samples),
        (RGB, 3) => (ColorType::Rgb, samples),
        (RGB, 4) => (ColorType::Rgba, samples),
        (CMYK, 4) => (ColorType::Rgb, ink_to_light(samples)?),
        (YCBCR, 3) => (ColorType::Rgb, luma_chroma_to_light(samples)?),
        (PALETTE, 1) => match palette {
            Some(palette) => palette.apply(&samples)?,
            None => return Err(Failure::reason("a palette image without a palette")),
        },
        _ => return Err(layout.unsupported()),
    };
    Ok(Decoded { width, height, color, samples, orientation, metadata })
}

/// How the pixels are stored.
#[derive(Debug)]
struct Layout {
    width: u64,
    height: u64,
    /// Bits a sample, the same for all.
    bits: u64,
    /// Samples a pixel.
    samples: usize,
    compression: u64,
    photometric: u64,
    /// 1: unsigned integers.
    sample_format: u64,
    /// `ExtraSamples`, if there is exactly one.
    extra: Option<u64>,
    /// Width and height of a tile.
    tile: Option<(u64, u64)>,
    fill_order: u64,
}

impl Layout {
    fn read<R: Read + Seek>(
        structure: &mut Structure<R>,
        directory: &Directory,
    ) -> Result<Self, Failure> {
        let mut first = |tag, default: Option<u64>| match directory.get(tag) {
            Some(entry) => Ok(structure.integer(entry)?),
            None => default.ok_or_else(|| Failure::Reason(format!("the tag {tag} is missing"))),
        };
        let tile = match (first(tag::TILE_WIDTH, Some(0))?, first(tag::TILE_HEIGHT, Some(0))?) {
            (0, 0) => None,
            size => Some(size),
        };
        let mut layout = Self {
            width: first(tag::WIDTH, None)?,
            height: first(tag::HEIGHT, None)?,
            bits: first(tag::BITS, Some(1))?,
            samples: first(tag::SAMPLES, Some(1))? as usize,
            compression: first(tag::COMPRESSION, Some(1))?,
            photometric: first(tag::PHOTOMETRIC, None)?,
            sample_format: first(tag::SAMPLE_FORMAT, Some(1))?,
            extra: None,
            tile,
            fill_order: first(tag::FILL_ORDER, Some(1))?,
        };
        if let Some(entry) = directory.get(tag::EXTRA_SAMPLES)
            && entry.count == 1
        {
            layout.extra = Some(structure.integer(entry)?);
        }
        Ok(layout)
    }

    fn raw_bytes(&self) -> u64 {
        (self.width * self.bits * self.samples as u64).div_ceil(8).saturating_mul(self.height)
    }

    /// Refuses what is not read here, naming it, and what costs more than it can be worth.
    fn check(&self, limits: Limits) -> Result<(), Failure> {
        limits.check_size(self.width, self.height)?;
        let found = match self.sample_format {
            1 => None,
            2 => Some("signed integers"),
            3 => Some("floating-point numbers"),
            _ => Some("samples of an unknown kind"),
        };
        if let Some(found) = found {
            let bits = self.bits;
            return Err(Failure::Reason(format!(
                "expected unsigned integers of 8 or 16 bits, found {found} of {bits} bits"
            )));
        }
        let compression = match self.compression {
            1 | 4 | 5 | 7 | 8 | 32_773 | 32_946 => None,
            2 => Some("CCITT modified Huffman"),
            3 => Some("CCITT group 3"),
            6 => Some("old-style JPEG"),
            34_712 => Some("JPEG 2000"),
            34_887 => Some("LERC"),
            34_925 => Some("LZMA"),
            50_000 => Some("Zstandard"),
            50_001 => Some("WebP"),
            50_002 => Some("JPEG XL"),
            _ => Some("unknown"),
        };
        if let Some(name) = compression {
            return Err(Failure::Reason(format!(
                "expected no, LZW, deflate, PackBits, JPEG or CCITT group 4 compression, found {name} ({})",
                self.compression
            )));
        }
        let few_bits = matches!(self.bits, 1 | 2 | 4) && self.samples == 1;
        let supported = match (self.photometric, self.samples) {
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 1 | 2) => few_bits || matches!(self.bits, 8 | 16),
            (TRANSPARENCY_MASK, 1) => few_bits || self.bits == 8,
            (PALETTE, 1) => few_bits || self.bits == 8,
            (RGB, 3 | 4) | (CMYK, 4) => matches!(self.bits, 8 | 16),
            (YCBCR, 3) => self.bits == 8,
            _ => false,
        };
        if !supported {
            return Err(self.unsupported());
        }
        if self.fill_order == 2 && self.compression != COMPRESSION_JPEG {
            return Err(Failure::reason(
                "expected the usual order of bits, found them reversed (FillOrder 2)",
            ));
        }
        if let Some((across, down)) = self.tile {
            // Tiles may reach over the edge, but a tile as large as the limit allows no picture.
            limits.check_size(across, down)?;
            if across > self.width.max(4096).next_multiple_of(256)
                || down > self.height.max(4096).next_multiple_of(256)
            {
                return Err(Failure::Reason(format!(
                    "implausible tiles of {across}×{down} pixels"
                )));
            }
        }
        // What a byte of compressed data can at most stand for. CCITT says much with little.
        let ratio = match self.compression {
            1 => 1,
            32_773 => 64,
            5 => 4096,
            8 | 32_946 => 1032,
            COMPRESSION_JPEG => jpeg::PIXELS_A_BYTE * self.samples as u64,
            _ => 1 << 20,
        };
        limits.check_claim(self.raw_bytes(), ratio)
    }

    fn unsupported(&self) -> Failure {
        let meaning = match self.photometric {
            WHITE_IS_ZERO | BLACK_IS_ZERO => "grey",
            RGB => "RGB",
            PALETTE => "palette",
            TRANSPARENCY_MASK => "transparency mask",
            CMYK => "CMYK",
            YCBCR => "YCbCr",
            8..=10 => "L*a*b*",
            32_803 => "raw sensor",
            32_844 | 32_845 => "LogLuv",
            _ => "unknown",
        };
        Failure::Reason(format!(
            "expected grey or RGB with or without alpha, palette, CMYK or YCbCr of 8 or 16 bits, \
             found {} {meaning} samples a pixel of {} bits",
            self.samples, self.bits
        ))
    }

    /// Bytes of the directory to show to the decoder in another value than the file has.
    ///
    /// It refuses palettes, inverts only some kinds of white-is-zero pixels, and drops a fourth sample of unspecified
    /// meaning. Told that the pixels are black-is-zero, and that the sample is alpha, it hands them over as stored.
    fn patches<R: Read + Seek>(
        &self,
        structure: &Structure<R>,
        directory: &Directory,
    ) -> Vec<(u64, u8)> {
        let mut patches = Vec::new();
        let mut patch = |tag, value: u8| {
            let Some(entry) = directory.get(tag).filter(|entry| [3, 4].contains(&entry.kind))
            else {
                return;
            };
            let bytes = if entry.kind == 3 { 2 } else { 4 };
            for i in 0..bytes {
                let last = if structure.big_endian() { bytes - 1 } else { 0 };
                patches.push((entry.at + i, if i == last { value } else { 0 }));
            }
        };
        if matches!(self.photometric, WHITE_IS_ZERO | PALETTE | TRANSPARENCY_MASK) {
            patch(tag::PHOTOMETRIC, BLACK_IS_ZERO as u8);
        }
        if self.photometric == RGB && self.samples == 4 && self.extra.is_some() {
            patch(tag::EXTRA_SAMPLES, 2);
        }
        patches
    }

    fn coding(&self) -> Option<TiffCoding> {
        let compression = match self.compression {
            1 => TiffCompression::None,
            5 => TiffCompression::Lzw,
            _ => TiffCompression::Deflate,
        };
        let alpha = match self.extra {
            Some(0) => TiffAlpha::Unspecified,
            Some(1) => TiffAlpha::Associated,
            _ => TiffAlpha::Unassociated,
        };
        Some(TiffCoding { compression, alpha })
    }
}

fn read_metadata<R: Read + Seek>(
    structure: &mut Structure<R>,
    directory: &Directory,
    layout: &Layout,
) -> Metadata {
    let mut bytes = |tag, limit| structure.bytes(directory.get(tag)?, limit).ok();
    let icc_profile = bytes(tag::ICC_PROFILE, MAX_ICC_BYTES as u64).and_then(usable_icc);
    let xmp = bytes(tag::XMP, xmp::MAX_BYTES as u64);
    let fields = Fields::collect(structure, directory).unwrap_or_default();
    Metadata {
        icc_profile,
        exif: (!fields.is_empty()).then(|| fields.to_bytes()),
        resolution: exif::resolution_in(structure, directory),
        xmp,
        jpeg: None,
        tiff: layout.coding(),
    }
}

/// Checks that no JPEG stream inside claims more pixels than its strip or tile has.
fn check_jpeg_frames<R: Read + Seek>(
    structure: &mut Structure<R>,
    directory: &Directory,
    layout: &Layout,
) -> Result<(), Failure> {
    /// Bytes in which a stream's frame header comes; more than any tables before it take.
    const HEAD: u64 = 8192;
    /// Strips or tiles of a picture.
    const MAX_CHUNKS: u64 = 1 << 20;
    let offsets = directory.get(tag::STRIP_OFFSETS).or_else(|| directory.get(tag::TILE_OFFSETS));
    let Some(offsets) = offsets else {
        return Err(Failure::reason("there are no strips or tiles"));
    };
    let (across, down) = layout.tile.unwrap_or((layout.width, layout.height));
    // Chroma is stored in blocks, so that the last rows may be made up to the next 16.
    let (across, down) = (across.next_multiple_of(16), down.next_multiple_of(16));
    for at in structure.integers(offsets, MAX_CHUNKS)? {
        let head = structure.up_to(at, HEAD)?;
        if let Some((width, height)) = jpeg::frame_size(&head)
            && (u64::from(width) > across || u64::from(height) > down)
        {
            return Err(Failure::Reason(format!(
                "a JPEG stream of {width}×{height} pixels in a strip or tile of {across}×{down}"
            )));
        }
    }
    Ok(())
}

/// A reader in which some bytes differ from the file's.
#[derive(Debug)]
struct Patched<R> {
    inner: R,
    position: u64,
    /// Position and value of each byte.
    patches: Vec<(u64, u8)>,
}

impl<R: Read + Seek> Read for Patched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let range = self.position..self.position + count as u64;
        for &(at, value) in self.patches.iter().filter(|(at, _)| range.contains(at)) {
            buffer[(at - range.start) as usize] = value;
        }
        self.position = range.end;
        Ok(count)
    }
}

impl<R: Seek> Seek for Patched<R> {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        self.position = self.inner.seek(position)?;
        Ok(self.position)
    }
}
