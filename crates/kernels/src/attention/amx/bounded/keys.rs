//! Keys and values as the tiles read them.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::super::pack::{Form, PackTiles};
use super::super::{Features, TILE};
use crate::attention::Attention;
use crate::attention::heads::{Head, Sizes, View};
use crate::buffer::Aligned;
use crate::output::Target;
use crate::simd::amx::SIDE;
use crate::simd::dispatch;

/// Keys in a chunk: two tiles of scores, the depth of one tile of weights.
const CHUNK: usize = 32;
/// Chunks in a block, over which weighted values stay in tiles.
pub(super) const BLOCK: usize = 4;

/// Keys and values of a head as right factors, chunk by chunk, zeros where a head ends before a tile does.
pub(in super::super) struct Keys {
    keys: Aligned<bf16>,
    values: Aligned<bf16>,
    /// The length of each chunk's longest key.
    lengths: Vec<f32>,
    pub(super) features: Features,
    /// Chunks of a head, and those that its blocks have.
    pub(super) chunks: usize,
    padded: usize,
}

impl Keys {
    pub(in super::super) fn new(
        op: &Attention,
        sizes: &Sizes,
        k: &View<'_, bf16>,
        v: &View<'_, bf16>,
    ) -> Self {
        let chunks = sizes.keys.div_ceil(CHUNK);
        let padded = chunks.next_multiple_of(BLOCK);
        let Features { deep, .. } = Features::new(sizes.d);
        // One feature more, for the sums.
        let features = Features { deep, along: (sizes.d + 1).div_ceil(SIDE) };
        let steps = [2 * features.deep * TILE, features.along * TILE];
        let mut lengths = vec![0.0; sizes.all_heads() * padded];
        let room = |step: usize| -> Aligned<bf16> {
            // SAFETY: tiles of all chunks are written below.
            unsafe { Aligned::uninitialised(sizes.all_heads() * padded * step) }
        };
        let [mut keys, mut values] = steps.map(room);
        let to = [Target::new(keys.as_mut_ptr()), Target::new(values.as_mut_ptr())];
        lengths.par_chunks_mut(BLOCK).enumerate().for_each(|(block, lengths)| {
            let per_head = padded / BLOCK;
            let (at, first) = (block / per_head, block % per_head * BLOCK);
            let heads = [k.head(sizes, at), v.head(sizes, at)];
            for (chunk, length) in lengths.iter_mut().enumerate() {
                let start = ((first + chunk) * CHUNK).min(sizes.keys);
                let rows = start..(start + CHUNK).min(sizes.keys);
                // SAFETY: attention on tiles is for tiers with these instructions.
                *length = unsafe { longest(&heads[0], rows.clone()) };
                let count = rows.len();
                let forms = [Form::RowsRight, Form::FeaturesRight];
                for (((head, form), to), step) in heads.iter().zip(forms).zip(to).zip(steps) {
                    // SAFETY: the tiles of this chunk, which is this task's; any bytes are numbers.
                    let to = unsafe {
                        let to = to.at((block * BLOCK + chunk) * step);
                        std::slice::from_raw_parts_mut(to, step)
                    };
                    // What rows and features do not fill.
                    to.fill(bf16::ZERO);
                    let (head, rows) = (*head, rows.clone());
                    dispatch(op.tier, PackTiles { head, rows, form, negate: false, to });
                    if form == Form::FeaturesRight {
                        // The feature that is 1.
                        let tile = &mut to[sizes.d / SIDE * TILE..][..TILE];
                        for key in 0..count {
                            tile[(key % 16 * SIDE + sizes.d % SIDE) * 2 + key / 16] = bf16::ONE;
                        }
                    }
                }
            }
        });
        Self { keys, values, lengths, features, chunks, padded }
    }

    /// The first tile of a head's chunk.
    pub(super) fn keys(&self, at: usize, chunk: usize) -> *const bf16 {
        let step = 2 * self.features.deep * TILE;
        self.keys.as_slice()[(at * self.padded + chunk) * step..].as_ptr()
    }

    /// The first tile of a head's block.
    pub(super) fn values(&self, at: usize, block: usize) -> *const bf16 {
        let step = BLOCK * self.features.along * TILE;
        self.values.as_slice()[(at * self.padded / BLOCK + block) * step..].as_ptr()
    }

    /// The length of a head's longest key.
    pub(super) fn longest(&self, at: usize) -> f32 {
        self.lengths[at * self.padded..][..self.padded].iter().fold(0.0, |a, &b| a.max(b))
    }
}

/// The length of the longest of some rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn longest(head: &Head<'_, bf16>, rows: Range<usize>) -> f32 {
    let mut most = 0.0;
    for row in rows {
        most = length(head.row(row)).max(most);
    }
    most
}

/// The length of a row, or slightly more: infinite, not to be lost in a maximum, if a number is none.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn length(row: &[bf16]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for numbers in row.chunks(32) {
        let mask = ((1_u64 << numbers.len()) - 1) as u32;
        // SAFETY: only what is in the slice is read, and both types are 512 bits.
        let numbers: __m512bh =
            unsafe { std::mem::transmute(_mm512_maskz_loadu_epi16(mask, numbers.as_ptr().cast())) };
        sum = _mm512_dpbf16_ps(sum, numbers, numbers);
    }
    let length = 1.0001 * _mm512_reduce_add_ps(sum).sqrt();
    if length.is_nan() { f32::INFINITY } else { length }
}
