//! TIFF and BigTIFF files, by the `tiff` crate.

mod decode;
mod encode;
mod expand;

pub(super) use self::decode::decode;
pub(super) use self::encode::encode;
pub(super) use self::expand::unmultiplied;

use super::decode::Failure;

impl From<::tiff::TiffError> for Failure {
    fn from(error: ::tiff::TiffError) -> Self {
        match error {
            ::tiff::TiffError::IoError(error) => error.into(),
            ::tiff::TiffError::LimitsExceeded => {
                Self::reason("a strip, tile or tag is implausibly large")
            }
            error => Self::reason(error),
        }
    }
}

/// Tags that are read and written here, beside those of [`super::exif`].
mod tag {
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const COLOR_MAP: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const EXTRA_SAMPLES: u16 = 338;
    pub(super) const SAMPLE_FORMAT: u16 = 339;
    pub(super) const XMP: u16 = 700;
    pub(super) const ICC_PROFILE: u16 = 34_675;
}
