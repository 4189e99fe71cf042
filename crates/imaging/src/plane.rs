//! One channel of pixels.

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;

/// A `width × height` grid of values, row-major without padding between rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane<T> {
    width: usize,
    height: usize,
    data: Vec<T>,
}

impl<T: Copy> Plane<T> {
    /// A plane with every pixel set to `value`.
    #[must_use]
    pub fn filled(width: usize, height: usize, value: T) -> Self {
        Self { width, height, data: vec![value; width * height] }
    }

    /// A plane over existing row-major pixels.
    ///
    /// # Errors
    /// [`ImagingError::Argument`] if `data` does not hold exactly `width · height` values.
    pub fn from_vec(width: usize, height: usize, data: Vec<T>) -> Result<Self> {
        if data.len() != width * height {
            return Err(ImagingError::argument(
                "data",
                format!("{width}×{height} = {} values", width * height),
                data.len(),
            ));
        }
        Ok(Self { width, height, data })
    }

    /// A plane whose pixel at column `x`, row `y` is `f(x, y)`.
    #[must_use]
    pub fn from_fn(width: usize, height: usize, mut f: impl FnMut(usize, usize) -> T) -> Self {
        let mut data = Vec::with_capacity(width * height);
        for y in 0..height {
            data.extend((0..width).map(|x| f(x, y)));
        }
        Self { width, height, data }
    }

    /// Columns.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Width and height.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// All pixels, row by row.
    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All pixels, row by row, to change.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The pixels themselves.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }

    /// The pixel at column `x`, row `y`.
    ///
    /// # Panics
    /// If the position lies outside the plane.
    #[must_use]
    pub fn get(&self, x: usize, y: usize) -> T {
        debug_assert!(x < self.width);
        self.data[y * self.width + x]
    }

    /// Sets the pixel at column `x`, row `y`.
    ///
    /// # Panics
    /// If the position lies outside the plane.
    pub fn set(&mut self, x: usize, y: usize, value: T) {
        debug_assert!(x < self.width);
        self.data[y * self.width + x] = value;
    }

    /// Row `y`.
    #[must_use]
    pub fn row(&self, y: usize) -> &[T] {
        &self.data[y * self.width..(y + 1) * self.width]
    }

    /// Row `y`, to change.
    pub fn row_mut(&mut self, y: usize) -> &mut [T] {
        &mut self.data[y * self.width..(y + 1) * self.width]
    }

    /// Every row from the top. A plane without columns has no rows here.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[T]> + ExactSizeIterator {
        self.data.chunks_exact(self.width.max(1))
    }

    /// A copy of the pixels inside `rect`.
    ///
    /// # Panics
    /// If `rect` reaches outside the plane.
    #[must_use]
    pub fn crop(&self, rect: Rect) -> Self {
        let mut data = Vec::with_capacity(rect.area());
        for y in rect.y..rect.bottom() {
            data.extend_from_slice(&self.row(y)[rect.x..rect.right()]);
        }
        Self { width: rect.width, height: rect.height, data }
    }

    /// A plane with `f` applied to every pixel.
    #[must_use]
    pub fn map<U>(&self, f: impl FnMut(T) -> U) -> Plane<U> {
        Plane {
            width: self.width,
            height: self.height,
            data: self.data.iter().copied().map(f).collect(),
        }
    }
}
