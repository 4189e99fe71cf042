//! The last few rows of a row filter's result, kept for the column filter that follows.

/// A ring of rows: row `y` lives in slot `y mod rows` until row `y + rows` replaces it.
///
/// Rows are padded to a whole number of [`LANES`], so that vector loops need no remainder.
pub(super) struct RowRing<T> {
    stride: usize,
    rows: usize,
    data: Vec<T>,
}

/// Values that the filters' inner loops handle at a time; short enough to stay in registers.
pub(super) const LANES: usize = 64;

/// `width` rounded up to a multiple of [`LANES`].
pub(super) const fn padded(width: usize) -> usize {
    width.div_ceil(LANES) * LANES
}

impl<T: Copy + Default> RowRing<T> {
    /// A ring of `rows` rows of at least `width` values each.
    pub(super) fn new(width: usize, rows: usize) -> Self {
        let stride = padded(width);
        Self { stride, rows, data: vec![T::default(); stride * rows] }
    }

    /// Row `y`, padded.
    pub(super) fn row(&self, y: usize) -> &[T] {
        let slot = y % self.rows;
        &self.data[slot * self.stride..(slot + 1) * self.stride]
    }

    /// Row `y`, padded, to overwrite.
    pub(super) fn row_mut(&mut self, y: usize) -> &mut [T] {
        let slot = y % self.rows;
        &mut self.data[slot * self.stride..(slot + 1) * self.stride]
    }
}

/// The `LANES` values of `row` from `x` on.
#[inline(always)]
pub(super) fn block<T>(row: &[T], x: usize) -> &[T; LANES] {
    row[x..x + LANES].try_into().expect("the range is LANES long")
}
