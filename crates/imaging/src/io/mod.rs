//! Image files in and out: formats, metadata, limits, and outputs that appear whole or not at all.
//!
//! PNG, JPEG, WebP and TIFF, 8 and 16 bits, grey and RGB, with and without alpha. A picture is told by its content
//! when it is read and by the file's extension when it is written. What else files hold is expanded to the nearest of
//! these (palettes, 1 to 4 bits, CMYK, YCbCr) or refused by name (floating point, L*a*b*); never silently reduced.
//! Of several pages or frames the first is read.
//!
//! Carried along, across formats too: ICC profile, EXIF, XMP, resolution. The orientation is applied to the pixels and
//! then reset.

mod atomic;
mod decode;
mod exif;
mod format;
mod ifd;
mod jpeg;
mod list;
mod mask;
mod orientation;
mod png;
mod tiff;
mod webp;
mod xmp;

use std::any::Any;
use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use self::decode::{Decoded, Failure, Limits};
use crate::error::{ImagingError, Result};
use crate::image::{Image, Metadata};

pub(crate) use self::atomic::create_folder;
pub use self::atomic::{WriteSeek, write_atomically};
pub use self::format::Format;
pub use self::list::list_images;
pub use self::mask::{read_mask, write_mask};

/// How image files are read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Images with more pixels are refused from their header, before decoding. Default: 300 million.
    pub max_pixels: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { max_pixels: 300_000_000 }
    }
}

/// How image files are written.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Replace a file that exists. Default: false, an existing file is an error.
    pub force: bool,
    /// JPEG quality, `1 ..= 100`. Default: `None`, the quality of the file that the image was read from, else 95.
    pub jpeg_quality: Option<u8>,
}

/// Reads a PNG, JPEG, WebP or TIFF file, orientation applied.
///
/// # Errors
/// [`ImagingError::Io`] if the file cannot be read, [`ImagingError::TooLarge`] if its header states more pixels than
/// allowed, [`ImagingError::Decode`] if it is damaged or of another kind; each names the file.
pub fn read_image(path: &Path, options: &ReadOptions) -> Result<Image> {
    read_with_format(path, options).map(|(image, _)| image)
}

/// The width and height that an image file's header states, before any orientation is applied.
///
/// # Errors
/// As [`read_image`], as far as the header tells.
pub fn read_size(path: &Path) -> Result<(u64, u64)> {
    // No image passes a limit of no pixels, so that the decoders stop after the header.
    match read_image(path, &ReadOptions { max_pixels: 0 }) {
        Err(ImagingError::TooLarge { width, height, .. }) => Ok((width, height)),
        Ok(image) => Ok((image.width() as u64, image.height() as u64)),
        Err(error) => Err(error),
    }
}

/// As [`read_image`], and tells the file's format.
///
/// # Errors
/// As [`read_image`].
pub fn read_with_format(path: &Path, options: &ReadOptions) -> Result<(Image, Format)> {
    let fail = |source| ImagingError::io(path, "read", source);
    // 1. what it is; folders, and devices that could keep a reader waiting forever, are not opened
    let about = path.metadata().map_err(fail)?;
    if about.is_dir() {
        return Err(fail(Error::new(
            ErrorKind::IsADirectory,
            "expected an image file, found a folder",
        )));
    }
    if !about.is_file() {
        let reason = "expected an image file, found a device or pipe";
        return Err(fail(Error::new(ErrorKind::InvalidInput, reason)));
    }
    let mut reader = BufReader::with_capacity(64 << 10, File::open(path).map_err(fail)?);
    let mut signature = Vec::new();
    reader
        .by_ref()
        .take(Format::SIGNATURE_BYTES as u64)
        .read_to_end(&mut signature)
        .map_err(fail)?;
    reader.seek(SeekFrom::Start(0)).map_err(fail)?;
    let refuse = |reason| ImagingError::Decode { path: path.to_path_buf(), reason };
    let Some(format) = Format::from_bytes(&signature) else {
        let found = format::describe_foreign(&signature);
        return Err(refuse(format!("expected a PNG, JPEG, WebP or TIFF image, found {found}")));
    };

    // 2. the stored pixels
    let limits = Limits { max_pixels: options.max_pixels, file_bytes: about.len() };
    // The decoders are other people's. No file is known that makes them panic, but only the tests vouch for that,
    // and a batch must go on when one does. They hold no state beyond this call, so that a panic can be told as what
    // it is: a file that cannot be decoded.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Png => png::decode(reader, limits),
        Format::Jpeg => jpeg::decode(reader, limits),
        Format::WebP => webp::decode(reader, limits),
        Format::Tiff => tiff::decode(reader, limits),
    }))
    .unwrap_or_else(|panic| {
        Err(Failure::Reason(format!("the decoder failed: {}", message(&*panic))))
    });
    let decoded = decoded.map_err(|failure| match failure {
        Failure::Io(source) => fail(source),
        Failure::Reason(reason) => refuse(format!("{}: {reason}", format.name())),
        Failure::TooLarge { width, height } => ImagingError::TooLarge {
            path: path.to_path_buf(),
            width,
            height,
            limit: options.max_pixels,
        },
    })?;

    // 3. the picture as it is to be seen
    let image = oriented(decoded).map_err(|error| refuse(error.to_string()))?;
    Ok((image, format))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic")
}

/// Applies the orientation and brings the metadata in line with it.
fn oriented(decoded: Decoded) -> Result<Image> {
    let Decoded { width, height, color, samples, orientation, mut metadata } = decoded;
    let (samples, size) =
        orientation::apply(samples, (width, height), color.channels(), orientation);
    if orientation::swaps_axes(orientation)
        && let Some(resolution) = &mut metadata.resolution
    {
        std::mem::swap(&mut resolution.x, &mut resolution.y);
    }
    metadata = Metadata {
        exif: metadata.exif.and_then(|data| exif::normalize(data, size)),
        xmp: metadata.xmp.map(xmp::normalize),
        ..metadata
    };
    let mut image = Image::new(size.0, size.1, color, samples)?;
    image.metadata = metadata;
    Ok(image)
}

/// Writes an image in the format that the file name's extension names.
///
/// Depth and colour type stay; a format that cannot hold them is an error. The file appears whole or not at all.
///
/// # Errors
/// [`ImagingError::Io`] or [`ImagingError::Encode`], naming the file.
pub fn write_image(path: &Path, image: &Image, options: &WriteOptions) -> Result<()> {
    let refuse = |reason| ImagingError::Encode { path: path.to_path_buf(), reason };
    let Some(format) = Format::from_path(path) else {
        let found = path.extension().map_or_else(
            || "none".to_owned(),
            |extension| format!("“.{}”", extension.to_string_lossy()),
        );
        let reason = format!("expected an extension .png, .jpg, .webp or .tif, found {found}");
        return Err(refuse(reason));
    };
    let straight = if format == Format::Tiff { None } else { tiff::unmultiplied(image) };
    let image = straight.as_ref().unwrap_or(image);
    write_atomically(path, options.force, |writer| {
        let result = match format {
            Format::Png => png::encode(writer, image),
            Format::Jpeg => jpeg::encode(writer, image, options.jpeg_quality),
            Format::WebP => webp::encode(writer, image),
            Format::Tiff => tiff::encode(writer, image),
        };
        result.map_err(|failure| match failure {
            Failure::Io(source) => ImagingError::io(path, "write", source),
            Failure::Reason(reason) => refuse(reason),
            Failure::TooLarge { .. } => refuse("too many pixels".to_owned()),
        })
    })
}

/// A PNG file in memory, of the image's colour type and depth, with its metadata.
///
/// # Errors
/// [`ImagingError::Numeric`] if the image has more pixels a side than PNG files can hold.
pub fn encode_png(image: &Image) -> Result<Vec<u8>> {
    let straight = tiff::unmultiplied(image);
    let mut file = Vec::new();
    png::encode(&mut file, straight.as_ref().unwrap_or(image)).map_err(|failure| {
        let reason = match failure {
            Failure::Io(source) => source.to_string(),
            Failure::Reason(reason) => reason,
            Failure::TooLarge { .. } => "too many pixels".to_owned(),
        };
        ImagingError::Numeric { what: "PNG file in memory", reason }
    })?;
    Ok(file)
}
