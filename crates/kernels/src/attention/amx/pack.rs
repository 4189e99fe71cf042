//! Heads of bf16 as packed tiles.

use std::ops::Range;

use half::bf16;

use super::TILE;
use crate::attention::heads::Head;
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
    /// 16 pairs of rows of 16 features: a right factor with features along, rows deep.
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

/// 16 rows of 16 pairs, as a tile lies in memory.
#[repr(align(64))]
struct Pairs([[u32; 16]; 16]);

impl Kernel for PackTiles<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { head, rows, form, negate, to } = self;
        let (row_step, feature_step) = form.size();
        let mut tiles = to.chunks_exact_mut(TILE);
        for first in rows.clone().step_by(row_step) {
            let group = first..(first + row_step).min(rows.end);
            for feature in (0..head.d).step_by(feature_step) {
                let Some(to) = tiles.next() else { return };
                let features = feature..(feature + feature_step).min(head.d);
                let mut pairs = Pairs([[0; 16]; 16]);
                for (i, pairs) in pairs.0.iter_mut().enumerate() {
                    *pairs = if feature_step == 32 {
                        let row: [u16; 32] = part(&head, group.start + i, &group, &features);
                        std::array::from_fn(|j| pair(row[2 * j], row[2 * j + 1]))
                    } else {
                        let (row, next) = (group.start + 2 * i, group.start + 2 * i + 1);
                        let row: [u16; 16] = part(&head, row, &group, &features);
                        let next: [u16; 16] = part(&head, next, &group, &features);
                        std::array::from_fn(|j| pair(row[j], next[j]))
                    };
                    if negate {
                        pairs.iter_mut().for_each(|pair| *pair ^= 0x8000_8000);
                    }
                }
                let from = pairs.0.as_ptr().cast::<f32>();
                let to = to.as_mut_ptr().cast::<f32>();
                // SAFETY: both are 16 rows of 16 numbers of 32 bits; what is moved as f32 is not computed with.
                unsafe {
                    if matches!(form, Form::Rows | Form::FeaturesRight) {
                        std::ptr::copy_nonoverlapping(from, to, TILE / 2);
                        continue;
                    }
                    for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
                        simd.transpose8(from.add(16 * i + j), 16, to.add(16 * j + i), 16);
                    }
                }
            }
        }
    }
}

/// Features of a row, zeros beyond them; all zero if the row is not in the group.
#[inline(always)]
fn part<const N: usize>(
    head: &Head<'_, bf16>,
    row: usize,
    group: &Range<usize>,
    features: &Range<usize>,
) -> [u16; N] {
    let mut part = [0; N];
    if row < group.end {
        let numbers = &head.row(row)[features.clone()];
        if let Ok(whole) = <&[bf16; N]>::try_from(numbers) {
            return whole.map(bf16::to_bits);
        }
        for (part, number) in part.iter_mut().zip(numbers) {
            *part = number.to_bits();
        }
    }
    part
}

#[inline(always)]
fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}
