//! Which pixels are damaged.

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::image::{ColorType, Image, Samples};
use crate::plane::Plane;

/// Damage, pixel by pixel: 0 = keep, 255 = replace, between = blend weight in 255ths.
///
/// A *hard* mask holds only 0 and 255; a *soft* mask is what compositing uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(Plane<u8>);

impl Mask {
    /// The value of a damaged pixel in a hard mask.
    pub const DAMAGED: u8 = 255;

    /// A mask that keeps everything.
    #[must_use]
    pub fn empty(width: usize, height: usize) -> Self {
        Self(Plane::filled(width, height, 0))
    }

    /// A mask over existing weights.
    #[must_use]
    pub const fn from_plane(plane: Plane<u8>) -> Self {
        Self(plane)
    }

    /// A hard mask, damaged where `damaged(x, y)`.
    #[must_use]
    pub fn from_fn(
        width: usize,
        height: usize,
        mut damaged: impl FnMut(usize, usize) -> bool,
    ) -> Self {
        Self(Plane::from_fn(width, height, |x, y| if damaged(x, y) { Self::DAMAGED } else { 0 }))
    }

    /// The weights.
    #[must_use]
    pub const fn plane(&self) -> &Plane<u8> {
        &self.0
    }

    /// The weights, to change.
    pub const fn plane_mut(&mut self) -> &mut Plane<u8> {
        &mut self.0
    }

    /// The weights themselves.
    #[must_use]
    pub fn into_plane(self) -> Plane<u8> {
        self.0
    }

    /// Columns.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.0.width()
    }

    /// Rows.
    #[must_use]
    pub const fn height(&self) -> usize {
        self.0.height()
    }

    /// Width and height.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        self.0.size()
    }

    /// True if nothing is to be replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.data().iter().all(|&weight| weight == 0)
    }

    /// Pixels with a weight above 0.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.data().iter().filter(|&&weight| weight > 0).count()
    }

    /// The share of pixels with a weight above 0, in `0 ..= 1`; 0 for a mask without pixels.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        self.count() as f64 / self.0.data().len().max(1) as f64
    }

    /// A picture to look at or to store: the weights as 8-bit grey.
    ///
    /// # Errors
    /// As [`Image::new`], for a mask without pixels.
    pub fn to_image(&self) -> Result<Image> {
        let weights = Samples::U8(self.0.data().to_vec());
        Image::new(self.width(), self.height(), ColorType::Gray, weights)
    }

    /// The smallest rectangle around the pixels with a weight above 0; `None` for an empty mask.
    #[must_use]
    pub fn bounding_box(&self) -> Option<Rect> {
        let mut columns: Option<(usize, usize)> = None;
        let mut rows: Option<(usize, usize)> = None;
        for (y, row) in self.0.rows().enumerate() {
            let Some(first) = row.iter().position(|&weight| weight > 0) else { continue };
            let last = row.iter().rposition(|&weight| weight > 0).unwrap_or(first);
            columns = Some(columns.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
            rows = Some(rows.map_or((y, y), |(top, _)| (top, y)));
        }
        let ((left, right), (top, bottom)) = (columns?, rows?);
        Some(Rect::new(left, top, right - left + 1, bottom - top + 1))
    }

    /// The hard mask of the pixels whose weight is at least `threshold`.
    #[must_use]
    pub fn binarized(&self, threshold: u8) -> Self {
        Self(self.0.map(|weight| if weight >= threshold { Self::DAMAGED } else { 0 }))
    }

    /// Adds every pixel of `other`: the larger weight wins.
    ///
    /// # Errors
    /// [`ImagingError::Size`] if the sizes differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        ImagingError::check_size("mask to merge", self.size(), other.size())?;
        for (weight, &more) in self.0.data_mut().iter_mut().zip(other.0.data()) {
            *weight = (*weight).max(more);
        }
        Ok(())
    }
}
