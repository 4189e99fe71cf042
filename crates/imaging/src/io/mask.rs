//! Mask files: white where damaged, black where kept, grey where blended.

use std::path::Path;

use super::format::Format;
use super::{ReadOptions, WriteOptions, read_with_format, write_image};
use crate::error::{ImagingError, Result};
use crate::image::Samples;
use crate::mask::Mask;
use crate::plane::Plane;

/// Weights from this on count as damaged in a file whose values cannot be trusted.
const LOSSY_THRESHOLD: u8 = 128;

/// Reads a mask file: 0 = keep, 255 = replace, between = blend weight.
///
/// Colour counts by its luma, 16 bits are scaled to 8, alpha multiplies (what is transparent is kept), and the
/// orientation is applied. In a JPEG file, whose values are off by the compression, weights from 128 on become 255 and
/// the others 0; so a mask read from JPEG is hard.
///
/// # Errors
/// As [`read_image`](super::read_image).
pub fn read_mask(path: &Path, options: &ReadOptions) -> Result<Mask> {
    let (image, format) = read_with_format(path, options)?;
    let mut weights = image.luma8();
    if image.color().has_alpha() {
        let channels = image.color().channels();
        match image.samples() {
            Samples::U8(values) => multiply(&mut weights, values, channels, u32::from),
            Samples::U16(values) => {
                multiply(&mut weights, values, channels, |value| (u32::from(value) + 128) / 257);
            }
        }
    }
    let mask = Mask::from_plane(weights);
    Ok(if format == Format::Jpeg { mask.binarized(LOSSY_THRESHOLD) } else { mask })
}

fn multiply<T: Copy>(
    weights: &mut Plane<u8>,
    values: &[T],
    channels: usize,
    to_8_bits: impl Fn(T) -> u32,
) {
    let alphas = values.iter().skip(channels - 1).step_by(channels);
    for (weight, &alpha) in weights.data_mut().iter_mut().zip(alphas) {
        *weight = ((u32::from(*weight) * to_8_bits(alpha) + 127) / 255) as u8;
    }
}

/// Writes a mask as an 8-bit grey PNG, TIFF or WebP file, told by the extension.
///
/// # Errors
/// As [`write_image`](super::write_image); [`ImagingError::Encode`] for JPEG, which would change the weights.
pub fn write_mask(path: &Path, mask: &Mask, options: &WriteOptions) -> Result<()> {
    if Format::from_path(path) == Some(Format::Jpeg) {
        return Err(ImagingError::Encode {
            path: path.to_path_buf(),
            reason: "expected PNG, TIFF or WebP for a mask, found JPEG, which changes values"
                .to_owned(),
        });
    }
    // One copy of the weights, small beside any image.
    let image = mask.to_image().map_err(|_| ImagingError::Encode {
        path: path.to_path_buf(),
        reason: format!("a mask of {}×{} pixels", mask.width(), mask.height()),
    })?;
    write_image(path, &image, options)
}
