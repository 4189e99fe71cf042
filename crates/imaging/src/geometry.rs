//! Integer rectangles on the pixel grid.

use serde::Serialize;

/// A rectangle of whole pixels: columns `x .. x + width`, rows `y .. y + height`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rect {
    /// Leftmost column.
    pub x: usize,
    /// Topmost row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Rect {
    /// The rectangle with this corner and size.
    #[must_use]
    pub const fn new(x: usize, y: usize, width: usize, height: usize) -> Self {
        Self { x, y, width, height }
    }

    /// One past the last column.
    #[must_use]
    pub const fn right(&self) -> usize {
        self.x + self.width
    }

    /// One past the last row.
    #[must_use]
    pub const fn bottom(&self) -> usize {
        self.y + self.height
    }

    /// Pixels inside.
    #[must_use]
    pub const fn area(&self) -> usize {
        self.width * self.height
    }

    /// True if the two share at least one pixel.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.x < other.right()
            && other.x < self.right()
            && self.y < other.bottom()
            && other.y < self.bottom()
    }

    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, bottom) = (self.right().max(other.right()), self.bottom().max(other.bottom()));
        Self::new(x, y, right - x, bottom - y)
    }

    /// Grown by `margin` pixels on every side, then clipped to a `width × height` image.
    #[must_use]
    pub fn grown(&self, margin: usize, width: usize, height: usize) -> Self {
        let (x, y) = (self.x.saturating_sub(margin), self.y.saturating_sub(margin));
        let right = (self.right() + margin).min(width);
        let bottom = (self.bottom() + margin).min(height);
        Self::new(x, y, right - x, bottom - y)
    }
}
