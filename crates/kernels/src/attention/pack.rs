//! Heads as packed panels of f32, and back.

use std::cell::Cell;
use std::ops::Range;

use super::heads::{Head, Number};
use crate::buffer::Buffer;
use crate::panel::PANEL_ROWS;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Zeros from a cache line on, whose pages are first touched by the tasks that fill them.
pub(super) struct Arena<T> {
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Number> Arena<T> {
    pub(super) fn new(len: usize) -> Self {
        let values = vec![T::default(); len + 64 / size_of::<T>()];
        let start = values.as_ptr().align_offset(64);
        Self { values, start, len }
    }
    pub(super) fn values(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }
    pub(super) fn values_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}

thread_local! {
    static SCRATCH: Cell<Buffer> = Cell::default();
}

/// Scratch memory of this thread, lent to a task and handed back when dropped.
#[derive(Default)]
pub(super) struct Scratch(Buffer);

impl Scratch {
    pub(super) fn take() -> Self {
        Self(SCRATCH.take())
    }

    /// Arrays of these lengths and a register more, each from a cache line on and holding anything.
    pub(super) fn arrays<const N: usize>(&mut self, lengths: [usize; N]) -> [*mut f32; N] {
        let lengths = lengths.map(|length| (length + MAX_LANES).next_multiple_of(16));
        let mut next = self.0.reserve(lengths.iter().sum());
        lengths.map(|length| {
            let array = next;
            // SAFETY: the buffer holds all of them.
            next = unsafe { next.add(length) };
            array
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH.set(std::mem::take(&mut self.0));
    }
}

/// Packs rows of a head as panels of [`PANEL_ROWS`], one after another: row `i`, feature `j` at `8 j + i`. The room has
/// all panels and a register more.
pub(super) struct PackRows<'a, T> {
    pub(super) head: Head<'a, T>,
    pub(super) rows: Range<usize>,
    pub(super) to: &'a mut [f32],
}

impl<T: Number> Kernel for PackRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { head, rows, to } = self;
        let matrix = head.by_rows();
        for start in rows.clone().step_by(PANEL_ROWS) {
            let span = start..(start + PANEL_ROWS).min(rows.end);
            let to = &mut to[(start - rows.start) * head.d..][..PANEL_ROWS * head.d + MAX_LANES];
            // SAFETY: inside the head, and the room is there.
            unsafe { matrix.pack(simd, span, 0..head.d, PANEL_ROWS, to.as_mut_ptr()) };
        }
    }
}

/// Packs rows of a head as panels of [`PANEL_ROWS`] features: row `i`, feature `j` of a panel at `8 i + j`. The room has
/// all panels and a register more.
pub(super) struct PackFeatures<'a, T> {
    pub(super) head: Head<'a, T>,
    pub(super) rows: Range<usize>,
    pub(super) to: &'a mut [f32],
}

impl<T: Number> Kernel for PackFeatures<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { head, rows, to } = self;
        let matrix = head.by_features();
        for start in (0..head.d).step_by(PANEL_ROWS) {
            let span = start..(start + PANEL_ROWS).min(head.d);
            let to = &mut to[start * rows.len()..][..PANEL_ROWS * rows.len() + MAX_LANES];
            // SAFETY: inside the head, and the room is there.
            unsafe {
                matrix.pack(simd, span, rows.clone(), PANEL_ROWS, to.as_mut_ptr());
            }
        }
    }
}

/// Packs rows of a head side by side, times `scale`: row `i`, feature `j` at `j · width + i`.
///
/// # Safety
/// The rows are in the head, and `d · width + 16` numbers can be written at `to`.
#[inline(always)]
pub(super) unsafe fn pack_columns<S: Simd, T: Number>(
    simd: S,
    head: &Head<'_, T>,
    rows: Range<usize>,
    width: usize,
    scale: f32,
    to: *mut f32,
) {
    // SAFETY: the caller's word; the width is a multiple of a register.
    unsafe {
        head.by_rows().pack(simd, rows, 0..head.d, width, to);
        if scale != 1.0 {
            for i in (0..head.d * width).step_by(S::LANES) {
                simd.store(to.add(i), simd.mul(simd.load(to.add(i)), simd.splat(scale)));
            }
        }
    }
}

/// Writes packed columns back as rows, `rows` of them: feature `j` of row `i` is read at `from + j · width + i` and
/// goes to `to(i) + j`.
///
/// # Safety
/// `from` can be read for `d` features rounded up to 8, `stage` written for 8 rows of as many and a register more,
/// and each `to` for `d`.
#[inline(always)]
pub(super) unsafe fn unpack_columns<S: Simd, T: Number>(
    simd: S,
    from: *const f32,
    width: usize,
    rows: usize,
    d: usize,
    stage: *mut f32,
    (to, stride): (*mut T, usize),
) {
    let stage_stride = d.next_multiple_of(8);
    for first in (0..rows).step_by(8) {
        // SAFETY: the caller's word.
        unsafe {
            for j in (0..d).step_by(8) {
                simd.transpose8(from.add(j * width + first), width, stage.add(j), stage_stride);
            }
            for i in 0..(rows - first).min(8) {
                write_row(simd, stage.add(i * stage_stride), to.add((first + i) * stride), d);
            }
        }
    }
}

/// Writes one row of f32 as numbers.
///
/// # Safety
/// `from` can be read for `d` rounded up to a register, and `to` written for `d`.
#[inline(always)]
pub(super) unsafe fn write_row<S: Simd, T: Number>(
    simd: S,
    from: *const f32,
    to: *mut T,
    d: usize,
) {
    let whole = d / S::LANES * S::LANES;
    // SAFETY: the caller's word.
    unsafe {
        for j in (0..whole).step_by(S::LANES) {
            T::store(simd, to.add(j), simd.load(from.add(j)));
        }
        if whole < d {
            T::store_first(simd, to.add(whole), simd.load(from.add(whole)), d - whole);
        }
    }
}

/// Packs rows of a head as rows of f32, `stride` apart, zero beyond the features.
///
/// # Safety
/// The rows are in the head, and `to` can be written for them; the stride is a multiple of a register.
#[inline(always)]
pub(super) unsafe fn pack_plain<S: Simd, T: Number>(
    simd: S,
    head: &Head<'_, T>,
    rows: Range<usize>,
    stride: usize,
    to: *mut f32,
) {
    for (i, row) in rows.enumerate() {
        for (j, numbers) in head.row(row).chunks(S::LANES).enumerate() {
            // SAFETY: the caller's word.
            unsafe { simd.store(to.add(i * stride + j * S::LANES), load(simd, numbers)) };
        }
    }
}

/// A register of at most as many numbers, zeros after them.
#[inline(always)]
pub(super) fn load<S: Simd, T: Number>(simd: S, numbers: &[T]) -> S::V {
    // SAFETY: the slice's length.
    unsafe {
        if numbers.len() >= S::LANES {
            T::load(simd, numbers.as_ptr())
        } else {
            T::load_first(simd, numbers.as_ptr(), numbers.len())
        }
    }
}
