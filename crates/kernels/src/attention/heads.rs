//! Where the rows of a head lie in the tensors of a call.

use std::sync::OnceLock;

use candle_core::{Layout, Result, bail};

use crate::output::Target;
use crate::panel::{Element, Matrix};
use crate::simd::Real;

/// A number that activations are stored in.
pub(super) trait Number: Real + Element {}

impl<T: Real + Element> Number for T {}

/// Sizes of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) heads: usize,
    /// Features of a head.
    pub(super) d: usize,
}

impl Sizes {
    /// Heads of all images. Head `at` is number `at % heads` of image `at / heads`.
    pub(super) const fn all_heads(&self) -> usize {
        self.batch * self.heads
    }
    /// Features of all heads of an image.
    pub(super) const fn inner(&self) -> usize {
        self.heads * self.d
    }
    /// Queries of a head in an array that holds whole registers and tiles of them.
    pub(super) const fn padded_queries(&self) -> usize {
        self.queries.next_multiple_of(32)
    }
}

/// A tensor `(b, n, heads · d)` whose features are neighbours; images and rows may be any distance apart.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    values: &'a [T],
    rows: usize,
    image_stride: usize,
    row_stride: usize,
}

impl<'a, T: Number> View<'a, T> {
    /// # Errors
    /// If the layout has not three dimensions, or features that are not neighbours.
    pub(super) fn new(values: &'a [T], layout: &Layout) -> Result<Self> {
        let (&[_, rows, inner], &[image_stride, row_stride, step]) =
            (layout.dims(), layout.stride())
        else {
            bail!("attention: expected three dimensions, found {:?}", layout.dims());
        };
        if step != 1 && inner > 1 {
            bail!("attention: features {step} numbers apart");
        }
        let values = values.get(layout.start_offset()..).unwrap_or_default();
        Ok(Self { values, rows, image_stride, row_stride })
    }

    pub(super) fn head(&self, sizes: &Sizes, at: usize) -> Head<'a, T> {
        let start = at / sizes.heads * self.image_stride + at % sizes.heads * sizes.d;
        let values = self.values.get(start..).unwrap_or_default();
        Head { values, rows: self.rows, d: sizes.d, stride: self.row_stride }
    }
}

/// The rows of one head: `(rows, d)`.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T> {
    values: &'a [T],
    pub(super) rows: usize,
    pub(super) d: usize,
    stride: usize,
}

impl<'a, T: Number> Head<'a, T> {
    /// Spans are rows, depths are features.
    pub(super) fn by_rows(&self) -> Matrix<'a, T> {
        Matrix::new(self.values, (self.rows, self.stride), (self.d, 1))
    }
    /// Spans are features, depths are rows.
    pub(super) fn by_features(&self) -> Matrix<'a, T> {
        Matrix::new(self.values, (self.d, 1), (self.rows, self.stride))
    }
    /// The features of a row.
    pub(super) fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..][..self.d]
    }
}

impl<T> Target<T> {
    /// A row of a head in a contiguous `(b, rows, heads · d)`.
    ///
    /// # Safety
    /// The array is such an output, and has the head and the row.
    pub(super) unsafe fn row(&self, rows: usize, sizes: &Sizes, at: usize, row: usize) -> *mut T {
        let (image, head) = (at / sizes.heads, at % sizes.heads);
        // SAFETY: inside the output, by the caller's word.
        unsafe { self.at((image * rows + row) * sizes.inner() + head * sizes.d) }
    }
}

/// What the forward pass leaves for the backward pass: log₂ of each query's sum of exponentials, `(heads of all
/// images, padded queries)`.
pub(super) type Logs = OnceLock<Vec<f32>>;
