//! Image files in and out: formats, metadata, limits, and outputs that appear whole or not at all.

use std::path::Path;

use crate::error::Result;
use crate::image::Image;
use crate::mask::Mask;

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
/// `Io`, `TooLarge` or `Decode`, naming the file.
pub fn read_image(path: &Path, options: &ReadOptions) -> Result<Image> {
    let _ = (path, options);
    todo!("scaffold")
}

/// Reads a mask file.
///
/// # Errors
/// As [`read_image`].
pub fn read_mask(path: &Path, options: &ReadOptions) -> Result<Mask> {
    let _ = (path, options);
    todo!("scaffold")
}

/// Writes an image in the format that the file name's extension names.
///
/// # Errors
/// `Io` or `Encode`, naming the file; nothing is left half-written.
pub fn write_image(path: &Path, image: &Image, options: &WriteOptions) -> Result<()> {
    let _ = (path, image, options);
    todo!("scaffold")
}

/// Writes a mask as an 8-bit grey image.
///
/// # Errors
/// As [`write_image`].
pub fn write_mask(path: &Path, mask: &Mask, options: &WriteOptions) -> Result<()> {
    let _ = (path, mask, options);
    todo!("scaffold")
}
