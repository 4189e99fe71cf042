//! A strided matrix as a side of a product, in any of the dtypes that numbers are stored in.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::PANEL_ROWS;
use crate::simd::Simd;

/// Depths converted at a time.
const CHUNK: usize = 64;

/// A number that products read as f32.
pub(crate) trait Element: Copy + Sync {
    /// True if no conversion is needed.
    const IS_F32: bool = false;
    /// Converts a slice; both have one length.
    fn convert(from: &[Self], to: &mut [f32]);
}

impl Element for f32 {
    const IS_F32: bool = true;
    #[inline(always)]
    fn convert(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn convert(from: &[Self], to: &mut [f32]) {
        for (from, to) in from.iter().zip(to) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }
}

impl Element for f16 {
    #[inline(always)]
    fn convert(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

/// `data[span · span_stride + depth · depth_stride]`.
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    span_stride: usize,
    depth_stride: usize,
}

impl<'a, T: Element> Matrix<'a, T> {
    /// A matrix of `spans` by `depths`.
    ///
    /// # Panics
    /// If the matrix does not fit into the data.
    pub(crate) fn new(
        data: &'a [T],
        (spans, span_stride): (usize, usize),
        (depths, depth_stride): (usize, usize),
    ) -> Self {
        if spans > 0 && depths > 0 {
            let last = (spans - 1) * span_stride + (depths - 1) * depth_stride;
            assert!(last < data.len(), "the matrix fits into its data");
        }
        Self { data, span_stride, depth_stride }
    }

    /// The 8 rows from `span.start` on, from depth `k` on, as f32 and zero beyond the span.
    #[inline(always)]
    fn rows(&self, span: &Range<usize>, k: usize, count: usize) -> [[f32; CHUNK]; PANEL_ROWS] {
        let mut rows = [[0.0; CHUNK]; PANEL_ROWS];
        for (row, i) in rows.iter_mut().zip(span.clone()) {
            let start = i * self.span_stride + k;
            T::convert(&self.data[start..start + count], &mut row[..count]);
        }
        rows
    }

    /// A panel whose depth is contiguous in memory: 8×8 transposes.
    ///
    /// # Safety
    /// That of [`Matrix::pack`].
    #[inline(always)]
    unsafe fn pack_transposed<S: Simd>(
        &self,
        simd: S,
        span: Range<usize>,
        depth: Range<usize>,
        width: usize,
        to: *mut f32,
    ) {
        for offset in (0..width).step_by(PANEL_ROWS) {
            let start = (span.start + offset).min(span.end);
            let eight = start..(start + PANEL_ROWS).min(span.end);
            for k in depth.clone().step_by(CHUNK) {
                let count = (depth.end - k).min(CHUNK);
                let whole = if count == CHUNK { CHUNK } else { count / 8 * 8 };
                // SAFETY: 8 rows of `count` numbers, either in the matrix or in a local copy; `to` by the caller's word.
                unsafe {
                    let to = to.add((k - depth.start) * width + offset);
                    let local;
                    let (from, stride) = if T::IS_F32 && eight.len() == PANEL_ROWS {
                        let first = &self.data[eight.start * self.span_stride + k..];
                        (first.as_ptr().cast::<f32>(), self.span_stride)
                    } else {
                        local = self.rows(&eight, k, count);
                        (local.as_flattened().as_ptr(), CHUNK)
                    };
                    for j in (0..whole).step_by(8) {
                        simd.transpose8(from.add(j), stride, to.add(j * width), width);
                    }
                    for j in whole..count {
                        for i in 0..PANEL_ROWS {
                            *to.add(j * width + i) = *from.add(i * stride + j);
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> Matrix<'_, T> {
    /// Fills a panel: number `i` of depth `k` goes to `to[(k - depth.start) · width + i]`, zeros where `i` exceeds the
    /// span.
    ///
    /// # Safety
    /// The span and depth are inside the matrix, the span is no longer than `width ≤ 48`, and
    /// `depth.len() · width + 16` numbers can be written at `to`.
    #[inline(always)]
    pub(crate) unsafe fn pack<S: Simd>(
        &self,
        simd: S,
        span: Range<usize>,
        depth: Range<usize>,
        width: usize,
        to: *mut f32,
    ) {
        if self.depth_stride == 1 {
            // SAFETY: the caller's word, passed on.
            unsafe { self.pack_transposed(simd, span, depth, width, to) };
            return;
        }
        // SAFETY: the caller vouches for `depth.len() · width` numbers.
        let to = unsafe { std::slice::from_raw_parts_mut(to, depth.len() * width) };
        for (k, row) in depth.zip(to.chunks_exact_mut(width)) {
            let start = span.start * self.span_stride + k * self.depth_stride;
            let (values, rest) = row.split_at_mut(span.len());
            if self.span_stride == 1 {
                T::convert(&self.data[start..start + span.len()], values);
            } else {
                for (i, value) in values.iter_mut().enumerate() {
                    let at = start + i * self.span_stride;
                    T::convert(&self.data[at..=at], std::slice::from_mut(value));
                }
            }
            rest.fill(0.0);
        }
    }
}
