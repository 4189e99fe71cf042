//! What the decoders share: their result, their errors, and the limits that keep hostile files cheap.

use std::io::Error;

use crate::image::{ColorType, Metadata, Samples};

/// Why a file cannot be decoded or encoded; the caller knows its path.
#[derive(Debug)]
pub(super) enum Failure {
    /// The system failed.
    Io(Error),
    /// The content is at fault.
    Reason(String),
    /// More pixels than allowed.
    TooLarge { width: u64, height: u64 },
}

impl Failure {
    pub(super) fn reason(reason: impl std::fmt::Display) -> Self {
        Self::Reason(reason.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::reason("the file ends too early"),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::Other => Self::reason(error),
            _ => Self::Io(error),
        }
    }
}

/// A picture as its file stores it, before its orientation is applied.
pub(super) struct Decoded {
    pub width: usize,
    pub height: usize,
    pub color: ColorType,
    pub samples: Samples,
    /// EXIF orientation, `1 ..= 8`.
    pub orientation: u8,
    pub metadata: Metadata,
}

/// What a file may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub max_pixels: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

impl Limits {
    /// Checks a size from a header, before anything of that size is allocated.
    pub(super) fn check_size(self, width: u64, height: u64) -> Result<(), Failure> {
        match width.checked_mul(height) {
            Some(0) => {
                Err(Failure::Reason(format!("{width}×{height} pixels, an image without pixels")))
            }
            Some(pixels) if pixels <= self.max_pixels && pixels <= isize::MAX as u64 / 16 => Ok(()),
            _ => Err(Failure::TooLarge { width, height }),
        }
    }

    /// Checks that a file of this length can hold `raw_bytes` of pixels, compressed at most `ratio` times.
    ///
    /// A few bytes may claim any size; so no memory is spent on a claim that cannot be true.
    pub(super) fn check_claim(self, raw_bytes: u64, ratio: u64) -> Result<(), Failure> {
        if raw_bytes / ratio <= self.file_bytes {
            Ok(())
        } else {
            Err(Failure::Reason(format!(
                "the file is cut off: {} bytes cannot hold {raw_bytes} bytes of pixels",
                self.file_bytes
            )))
        }
    }
}

/// `length` zeros, or an error where the system would end the process.
pub(super) fn zeroed<T: Copy + Default>(length: usize) -> Result<Vec<T>, Failure> {
    drop(reserved::<T>(length)?);
    // Asked for anew, because zeros fresh from the system cost nothing until they are touched.
    Ok(vec![T::default(); length])
}

/// An empty vector with room for `length` values, or an error where the system would end the process.
pub(super) fn reserved<T>(length: usize) -> Result<Vec<T>, Failure> {
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| {
        Failure::Reason(format!(
            "there is no memory for {length} values of {} bytes",
            size_of::<T>()
        ))
    })?;
    Ok(values)
}

/// More bytes than this are not taken for an ICC profile. JPEG files cannot hold more.
pub(super) const MAX_ICC_BYTES: usize = 255 * 65_519;

/// The ICC profile if it is one, and of a colour space that pixels can have here.
pub(super) fn usable_icc(profile: Vec<u8>) -> Option<Vec<u8>> {
    // Header of 128 bytes: the colour space at 16, the signature at 36.
    let valid = (128..=MAX_ICC_BYTES).contains(&profile.len())
        && &profile[36..40] == b"acsp"
        && (&profile[16..20] == b"RGB " || &profile[16..20] == b"GRAY");
    valid.then_some(profile)
}

/// Sixteen bits from four planes of ink, `0` = none: `(1 − c)(1 − k)` for each of red, green and blue.
pub(super) fn cmyk_to_rgb<const MAX: u64>([c, m, y, k]: [u64; 4]) -> [u64; 3] {
    [c, m, y].map(|ink| ((MAX - ink) * (MAX - k) + MAX / 2) / MAX)
}

/// Red, green and blue from full-range ITU-R BT.601 luma and chroma, as in JFIF.
pub(super) fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_claims_beyond_the_limits_are_refused() {
        let limits = Limits { max_pixels: 100, file_bytes: 10 };
        assert!(limits.check_size(10, 10).is_ok());
        assert!(matches!(
            limits.check_size(101, 1),
            Err(Failure::TooLarge { width: 101, height: 1 })
        ));
        assert!(matches!(limits.check_size(u64::MAX, 2), Err(Failure::TooLarge { .. })));
        assert!(matches!(limits.check_size(0, 7), Err(Failure::Reason(_))));
        assert!(limits.check_claim(10_000, 1000).is_ok());
        assert!(limits.check_claim(20_000, 1000).is_err());
        assert!(zeroed::<u16>(usize::MAX / 4).is_err());
    }

    #[test]
    fn ink_and_luma_become_light() {
        assert_eq!(cmyk_to_rgb::<255>([0, 0, 0, 0]), [255; 3]);
        assert_eq!(cmyk_to_rgb::<255>([0, 255, 0, 0]), [255, 0, 255]);
        assert_eq!(cmyk_to_rgb::<255>([9, 9, 9, 255]), [0; 3]);
        assert_eq!(ycbcr_to_rgb([128, 128, 128]), [128; 3]);
        assert_eq!(ycbcr_to_rgb([76, 85, 255]), [254, 0, 0]); // 76 − 43 · −0.344 − 127 · 0.714 < 0
    }
}
