//! What follows a strip's product, done while the next strip is multiplied.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use half::bf16;

use super::whole::WholeRows;
use super::{LINE, STRIP};
use crate::product::Call;
use crate::product::packed::PAIR_COLUMNS;
use crate::simd::Simd;

/// A strip whose product is done.
pub(super) struct Strip<'a> {
    /// Rows of the output.
    pub(super) targets: &'a [usize],
    pub(super) columns: Range<usize>,
    /// 32 rows of 32 columns.
    pub(super) sums: *const f32,
    /// Rows that are finished.
    pub(super) done: usize,
    /// The rows addressed together, if they can be.
    pub(super) whole: Option<WholeRows>,
}

/// What is left to do to the strip before, and memory to fetch.
pub(super) struct Finishing<'a, S> {
    pub(super) simd: S,
    pub(super) call: &'a Call<'a, bf16>,
    pub(super) strip: Option<Strip<'a>>,
    pub(super) ahead: *const bf16,
    /// Lines of 64 bytes to fetch a step.
    pub(super) lines: usize,
}

impl<S: Simd> Finishing<'_, S> {
    /// Finishes rows up to `end`.
    ///
    /// # Safety
    /// The sums are stored, and the output is there ([`Epilogue::finish`](crate::product::Epilogue::finish)).
    #[inline(always)]
    unsafe fn rows(&mut self, end: usize) {
        let Some(strip) = &mut self.strip else { return };
        let end = end.min(strip.targets.len());
        if strip.done < end {
            let rows = strip.done..end;
            strip.done = end;
            if let Some(whole) = &strip.whole {
                // SAFETY: the caller's word.
                unsafe { whole.finish(self.simd, strip.sums, rows) };
                return;
            }
            let sums = strip.sums.wrapping_add(rows.start * PAIR_COLUMNS);
            let targets = &strip.targets[rows];
            let columns = strip.columns.clone();
            // SAFETY: the caller's word.
            unsafe { self.call.epilogue.finish(self.simd, targets, columns, sums, PAIR_COLUMNS) };
        }
    }

    /// Finishes all rows.
    ///
    /// # Safety
    /// That of `rows`.
    #[inline(always)]
    pub(super) unsafe fn rest(&mut self) {
        // SAFETY: the caller's word.
        unsafe { self.rows(STRIP) };
        self.strip = None;
    }

    /// Brings the rows to the share of `of` parts that `part` is, and fetches some lines.
    ///
    /// # Safety
    /// That of `rows`.
    #[inline(always)]
    pub(super) unsafe fn work(&mut self, part: usize, of: usize) {
        for _ in 0..self.lines {
            // SAFETY: a prefetch may point anywhere.
            unsafe {
                _mm_prefetch::<_MM_HINT_T1>(self.ahead.cast());
            }
            self.ahead = self.ahead.wrapping_add(LINE);
        }
        // SAFETY: the caller's word.
        unsafe { self.rows(STRIP * part / of) };
    }
}
