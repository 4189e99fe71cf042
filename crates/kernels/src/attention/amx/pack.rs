//! Heads of bf16 as packed tiles.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;

use super::TILE;
use crate::attention::heads::Head;
use crate::product::transpose16;
use crate::simd::{Kernel, Simd};

/// What a tile holds; groups of features follow each other within groups of rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 16 rows of 32 features: a left factor with rows along, features deep.
    Rows,
    /// 16 pairs of features of 16 rows: a right factor with rows along, features deep.
    RowsRight,
    /// 16 features of 32 rows: a left factor with features along, rows deep.
    Features,
    /// 16 pairs of rows `i` and `16 + i` of 16 features: a right factor with features along, rows deep.
    FeaturesRight,
}

impl Form {
    /// Rows and features of a tile.
    const fn size(self) -> (usize, usize) {
        match self {
            Self::Rows | Self::RowsRight => (16, 32),
            Self::Features | Self::FeaturesRight => (32, 16),
        }
    }
}

/// Packs rows of a head, zeros beyond them and beyond the features. The room is whole tiles.
pub(super) struct PackTiles<'a> {
    pub(super) head: Head<'a, bf16>,
    pub(super) rows: Range<usize>,
    pub(super) form: Form,
    /// True to change all signs.
    pub(super) negate: bool,
    pub(super) to: &'a mut [bf16],
}

impl Kernel for PackTiles<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { head, rows, form, negate, to } = self;
        let (row_step, feature_step) = form.size();
        let transposed = matches!(form, Form::RowsRight | Form::Features);
        let signs = if negate { 0x8000_8000_u32 as i32 } else { 0 };
        let mut tiles = to.chunks_exact_mut(TILE);
        for first in rows.clone().step_by(row_step) {
            let group = first..(first + row_step).min(rows.end);
            for feature in (0..head.d).step_by(feature_step) {
                let Some(to) = tiles.next() else { return };
                let features = feature..(feature + feature_step).min(head.d);
                let to = to.as_mut_ptr().cast::<u32>();
                // SAFETY: what is packed as tiles is so on a tier with AVX-512; a tile has 16 lines.
                unsafe {
                    let mut lines = [_mm512_setzero_si512(); 16];
                    for (i, line) in lines.iter_mut().enumerate() {
                        let numbers = if feature_step == 32 {
                            neighbours(part(&head, group.start + i, &group, &features))
                        } else {
                            let rows = if form == Form::FeaturesRight {
                                [group.start + i, group.start + 16 + i]
                            } else {
                                [group.start + 2 * i, group.start + 2 * i + 1]
                            };
                            let [row, next] = rows.map(|row| part(&head, row, &group, &features));
                            pairs(row, next)
                        };
                        *line = _mm512_xor_si512(numbers, _mm512_set1_epi32(signs));
                    }
                    if transposed {
                        transpose16(&mut lines);
                    }
                    for (i, line) in lines.into_iter().enumerate() {
                        _mm512_storeu_si512(to.add(16 * i).cast(), line);
                    }
                }
            }
        }
    }
}

/// Features of a row; none if the row is not in the group.
#[inline(always)]
fn part<'a>(
    head: &Head<'a, bf16>,
    row: usize,
    group: &Range<usize>,
    features: &Range<usize>,
) -> &'a [bf16] {
    if row < group.end { &head.row(row)[features.clone()] } else { &[] }
}

/// At most 32 numbers, zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn neighbours(numbers: &[bf16]) -> __m512i {
    let mask = ((1_u64 << numbers.len().min(32)) - 1) as u32;
    // SAFETY: only what is in the slice is read.
    unsafe { _mm512_maskz_loadu_epi16(mask, numbers.as_ptr().cast()) }
}

/// Pairs of at most 16 numbers and as many others, zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pairs(low: &[bf16], high: &[bf16]) -> __m512i {
    let widened = [low, high].map(|numbers| {
        let mask = ((1_u32 << numbers.len().min(16)) - 1) as u16;
        // SAFETY: only what is in the slice is read.
        let numbers = unsafe { _mm256_maskz_loadu_epi16(mask, numbers.as_ptr().cast()) };
        _mm512_cvtepu16_epi32(numbers)
    });
    _mm512_or_si512(widened[0], _mm512_slli_epi32::<16>(widened[1]))
}
