//! The shapes that morphology works with.

use crate::error::{ImagingError, Result};
use crate::mask::Mask;

/// The largest element accepted, in pixels across.
const MAX_SIZE: usize = 4095;

/// A stretch of an element: `length` pixels from `(dx, dy)` on, relative to the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementRun {
    pub(super) dx: isize,
    pub(super) dy: isize,
    pub(super) length: usize,
}

/// A set of pixels around an anchor in the middle: the neighbourhood of a morphological operation.
///
/// Width and height are odd. As in OpenCV, dilation does not reflect the element, which matters for
/// elements that are not symmetric about their anchor: opening by such an element shifts the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructuringElement {
    width: usize,
    height: usize,
    runs: Vec<ElementRun>,
}

impl StructuringElement {
    /// A full rectangle, as `getStructuringElement(MORPH_RECT)`.
    ///
    /// # Errors
    /// `Argument` if a side is even, zero or above 4095.
    pub fn rect(width: usize, height: usize) -> Result<Self> {
        Self::from_rows(width, height, |_| Some((0, width)))
    }

    /// A full square.
    ///
    /// # Errors
    /// `Argument` if the side is even, zero or above 4095.
    pub fn square(side: usize) -> Result<Self> {
        Self::rect(side, side)
    }

    /// The ellipse inscribed in a rectangle, as `getStructuringElement(MORPH_ELLIPSE)`.
    ///
    /// # Errors
    /// `Argument` if a side is even, zero or above 4095.
    pub fn ellipse(width: usize, height: usize) -> Result<Self> {
        let (a, b) = ((width / 2) as f64, (height / 2) as f64);
        Self::from_rows(width, height, |y| {
            let dy = y as f64 - b;
            let share = if b > 0.0 { (b * b - dy * dy) / (b * b) } else { 0.0 };
            let reach = (a * share.sqrt()).round_ties_even() as usize;
            Some((width / 2 - reach, width / 2 + reach + 1))
        })
    }

    /// A disc, the ellipse of equal sides.
    ///
    /// # Errors
    /// `Argument` if the diameter is even, zero or above 4095.
    pub fn disc(diameter: usize) -> Result<Self> {
        Self::ellipse(diameter, diameter)
    }

    /// A horizontal and a vertical line through the anchor, as `getStructuringElement(MORPH_CROSS)`.
    ///
    /// # Errors
    /// `Argument` if a side is even, zero or above 4095.
    pub fn cross(width: usize, height: usize) -> Result<Self> {
        Self::from_rows(width, height, |y| {
            Some(if y == height / 2 { (0, width) } else { (width / 2, width / 2 + 1) })
        })
    }

    /// A digital line through the anchor, symmetric about it and one pixel thin.
    ///
    /// `length` is the distance covered, in pixels, along `angle`, in degrees counter-clockwise from
    /// the positive x axis: at 45° a line of length 21 spans 15 columns and 15 rows. The line has one
    /// pixel for each step along its longer axis, at the nearest position on the other.
    ///
    /// # Errors
    /// `Argument` if the length is zero or above 4095, or the angle is not finite.
    pub fn line(length: usize, angle: f64) -> Result<Self> {
        if length == 0 || length > MAX_SIZE {
            let expected = format!("1 to {MAX_SIZE}");
            return Err(ImagingError::argument("line length", expected, length));
        }
        if !angle.is_finite() {
            return Err(ImagingError::argument("line angle", "a finite number of degrees", angle));
        }
        let reach = (length - 1) as f64 / 2.0;
        let (sin, cos) = angle.to_radians().sin_cos();
        // Halves go away from zero, so that both ends match; the slack makes 3 · sin 30° a half
        // whatever its last bit. y points down.
        let nearest = |v: f64| ((v.abs() + 0.5 + 1e-9).floor() as isize) * v.signum() as isize;
        let (x, y) = (nearest(reach * cos), nearest(-reach * sin));
        let steps = x.abs().max(y.abs());
        let at = |end: isize, step: isize| {
            if steps == 0 { 0 } else { nearest(step as f64 * end as f64 / steps as f64) }
        };
        let (rx, ry) = (x.unsigned_abs(), y.unsigned_abs());
        let mut mask = Mask::empty(2 * rx + 1, 2 * ry + 1);
        for step in -steps..=steps {
            let column = (rx as isize + at(x, step)) as usize;
            let row = (ry as isize + at(y, step)) as usize;
            mask.plane_mut().set(column, row, Mask::DAMAGED);
        }
        Self::from_mask(&mask)
    }

    /// The element of the pixels with a weight above 0; the anchor is the middle pixel.
    ///
    /// # Errors
    /// `Argument` if a side is even, zero or above 4095, or the mask is empty.
    pub fn from_mask(mask: &Mask) -> Result<Self> {
        let (width, height) = mask.size();
        let mut element = Self::from_rows(width, height, |_| None)?;
        for (y, row) in mask.plane().rows().enumerate() {
            let mut x = 0;
            while let Some(skip) = row[x..].iter().position(|&weight| weight > 0) {
                let start = x + skip;
                let length = row[start..].iter().take_while(|&&weight| weight > 0).count();
                element.push(y, start, start + length);
                x = start + length;
            }
        }
        if element.runs.is_empty() {
            return Err(ImagingError::argument(
                "structuring element",
                "at least one pixel",
                "none",
            ));
        }
        Ok(element)
    }

    /// An element with at most one stretch a row: `stretch(y)` is its first and past-last column.
    fn from_rows(
        width: usize,
        height: usize,
        stretch: impl Fn(usize) -> Option<(usize, usize)>,
    ) -> Result<Self> {
        for (name, size) in [("element width", width), ("element height", height)] {
            if size.is_multiple_of(2) || size > MAX_SIZE {
                let expected = format!("an odd number up to {MAX_SIZE}");
                return Err(ImagingError::argument(name, expected, size));
            }
        }
        let mut element = Self { width, height, runs: Vec::new() };
        for y in 0..height {
            if let Some((start, end)) = stretch(y) {
                element.push(y, start, end);
            }
        }
        Ok(element)
    }

    fn push(&mut self, y: usize, start: usize, end: usize) {
        self.runs.push(ElementRun {
            dx: start as isize - (self.width / 2) as isize,
            dy: y as isize - (self.height / 2) as isize,
            length: end - start,
        });
    }

    /// Width and height of the box around the anchor.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Pixels in it.
    #[must_use]
    pub fn area(&self) -> usize {
        self.runs.iter().map(|run| run.length).sum()
    }

    /// Its pixels as a hard mask of [`size`](Self::size).
    #[must_use]
    pub fn to_mask(&self) -> Mask {
        let mut mask = Mask::empty(self.width, self.height);
        for run in &self.runs {
            let y = (run.dy + (self.height / 2) as isize) as usize;
            let x = (run.dx + (self.width / 2) as isize) as usize;
            mask.plane_mut().row_mut(y)[x..x + run.length].fill(Mask::DAMAGED);
        }
        mask
    }

    /// The element mirrored about its anchor.
    #[must_use]
    pub fn reflected(&self) -> Self {
        let mirror = |run: &ElementRun| ElementRun {
            dx: 1 - run.dx - run.length as isize,
            dy: -run.dy,
            length: run.length,
        };
        Self { runs: self.runs.iter().rev().map(mirror).collect(), ..*self }
    }

    /// Its stretches, from the top, from left to right.
    pub(super) fn runs(&self) -> &[ElementRun] {
        &self.runs
    }

    /// True if every pixel of the box belongs to it.
    pub(super) fn is_rect(&self) -> bool {
        self.area() == self.width * self.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(element: &StructuringElement) -> Vec<String> {
        let mask = element.to_mask();
        let cell = |&weight: &u8| if weight > 0 { '#' } else { '.' };
        mask.plane().rows().map(|row| row.iter().map(cell).collect()).collect()
    }

    #[test]
    fn shapes() {
        let ellipse = StructuringElement::ellipse(5, 5).unwrap();
        assert_eq!(drawn(&ellipse), ["..#..", "#####", "#####", "#####", "..#.."]);
        let cross = StructuringElement::cross(3, 5).unwrap();
        assert_eq!(drawn(&cross), [".#.", ".#.", "###", ".#.", ".#."]);
        // Reach (7 − 1) / 2 = 3; at 30°: x = 2.6 → 3, y = 1.5 → 2 upwards.
        let line = StructuringElement::line(7, 30.0).unwrap();
        assert_eq!(drawn(&line), ["......#", "....##.", "...#...", ".##....", "#......"]);
        assert_eq!(drawn(&StructuringElement::line(3, 90.0).unwrap()), ["#", "#", "#"]);
        assert_eq!(drawn(&StructuringElement::line(1, 77.0).unwrap()), ["#"]);
    }

    #[test]
    fn lines_are_symmetric() {
        for angle in 0..180 {
            let line = StructuringElement::line(31, f64::from(angle)).unwrap();
            assert_eq!(line.reflected(), line, "{angle}°");
        }
    }

    #[test]
    fn bad_shapes_are_refused() {
        assert!(StructuringElement::rect(4, 3).is_err());
        assert!(StructuringElement::ellipse(3, 0).is_err());
        assert!(StructuringElement::cross(3, 4097).is_err());
        assert!(StructuringElement::line(0, 0.0).is_err());
        assert!(StructuringElement::line(5, f64::NAN).is_err());
        assert!(StructuringElement::from_mask(&Mask::empty(3, 3)).is_err());
    }
}
