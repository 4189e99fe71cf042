//! The forward pass on tiles where scores are bounded: without maxima.
//!
//! No score is larger than the query's length times that of the longest key (Cauchy and Schwarz). Where that bound is so
//! small that no weight `2^(score - bound)` can be less than the least normal number, it serves in place of the maximum:
//! nothing is scaled again, and keys need no blocks. Scores are `(queries, keys)` here, rows of them become rows of
//! weights, and an additional feature of the values, which is 1, sums the weights.
//!
//! While the vector registers turn a chunk's scores into weights, row by row, the tiles multiply: queries with the next
//! chunk's keys, and the weights of the block before with its values. Only one port does arithmetic while tiles are at
//! work, so that exponentials are computed as 16-bit integers, two in the place of one.

mod keys;

use std::arch::x86_64::*;

use half::bf16;

pub(super) use self::keys::Keys;
use self::keys::{BLOCK, length};
use super::exponential::{OFFSET, minus_exp2};
use super::forward::WIDTH;
use super::pack::{Form, PackTiles};
use super::work::{Job, Sums, Work};
use super::{Features, ROW_BYTES, TILE};
use crate::attention::heads::{Sizes, View};
use crate::attention::pack::Scratch;
use crate::attention::{Attention, LOG2_E};
use crate::output::Target;
use crate::simd::amx::{SIDE, Tiles};
use crate::simd::dispatch;

/// Numbers of f32 in a tile.
const SUMS: usize = SIDE * SIDE;
/// The largest bound of a score, in units of log₂: weights reach from 2⁻¹²⁵ to 1.
const MOST: f32 = 62.0;

/// A panel of queries of one head.
pub(super) struct Panel<'a> {
    pub(super) op: &'a Attention,
    pub(super) sizes: &'a Sizes,
    pub(super) q: &'a View<'a, bf16>,
    pub(super) at: usize,
    /// The first query.
    pub(super) first: usize,
    pub(super) keys: &'a Keys,
}

impl Panel<'_> {
    /// Writes the panel's outputs, or returns false if its scores may be too large.
    ///
    /// # Safety
    /// The tier is available, outputs have the sizes' shapes, and this panel of them is this task's.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi2")]
    pub(super) unsafe fn run(&self, out: Target<bf16>, logs: Option<Target<f32>>) -> bool {
        let Self { op, sizes, q, at, first, keys } = *self;
        let Features { deep, along } = keys.features;
        let rows = first..(first + WIDTH).min(sizes.queries);
        let head = q.head(sizes, at);
        let scale = op.scale.abs() * LOG2_E;
        let longest = scale * keys.longest(at);
        let mut shifts = [0.0; WIDTH];
        for (shift, row) in shifts.iter_mut().zip(rows.clone()) {
            *shift = -longest * length(head.row(row));
        }
        // Not a number is not in the range.
        if !shifts.iter().all(|shift| (-MOST..=0.0).contains(shift)) {
            return false;
        }
        let columns = along.next_multiple_of(2);
        let mut scratch = Scratch::take();
        let [queries, scores, weights, sums] = scratch.arrays([
            2 * deep * TILE / 2,
            2 * 2 * 2 * SUMS,
            2 * BLOCK * 2 * TILE / 2,
            columns * 2 * SUMS,
        ]);
        // SAFETY: the arrays have the sizes that are used here, and so have the packed keys and values.
        unsafe {
            let queries = queries.cast::<bf16>();
            let weights = weights.cast::<bf16>();
            let to = std::slice::from_raw_parts_mut(queries, 2 * deep * TILE);
            to.fill(bf16::ZERO);
            let form = Form::Rows;
            dispatch(
                op.tier,
                PackTiles { head, rows: rows.clone(), form, negate: op.scale < 0.0, to },
            );
            sums.write_bytes(0, columns * 2 * SUMS);
            let scores = [scores, scores.add(4 * SUMS)];
            let weights = [weights, weights.add(BLOCK * 2 * TILE)];
            let scale = _mm512_set1_ps(scale);
            let mut work = Work::new(Tiles::configure());
            // One after the other: a column's two, then the next one's.
            let tiles = |start: *mut f32, wide: bool| Sums {
                start,
                lower: SUMS,
                right: 2 * SUMS,
                row_bytes: ROW_BYTES,
                tall: true,
                wide,
            };
            let scores_of = |chunk: usize| Job {
                a: queries,
                a_lower: deep * TILE,
                a_step: TILE,
                b: keys.keys(at, chunk),
                b_right: deep * TILE,
                b_step: TILE,
                depth: deep,
                sums: tiles(scores[chunk % 2], true),
                accumulate: false,
            };
            // Two columns of tiles of a block's weighted values, or the last one.
            let values_of = |block: usize, pair: usize| Job {
                a: weights[block % 2],
                a_lower: TILE,
                a_step: 2 * TILE,
                b: keys.values(at, block).wrapping_add(2 * pair * TILE),
                b_right: TILE,
                b_step: along * TILE,
                depth: (keys.chunks - block * BLOCK).min(BLOCK),
                sums: tiles(sums.wrapping_add(2 * pair * 2 * SUMS), 2 * pair + 1 < along),
                accumulate: true,
            };
            let pairs = along.div_ceil(2);
            work.all([scores_of(0)]);
            work.store();
            for (row, shift) in shifts.iter_mut().enumerate() {
                *shift = aligned(scores[0].add(row * SIDE), scale, *shift) + OFFSET;
            }
            let offsets = shifts;
            for chunk in 0..keys.chunks {
                work.store();
                let (block, within) = (chunk / BLOCK, chunk % BLOCK);
                // What the tiles do meanwhile: the next scores, and some columns of the block before.
                let next = usize::from(chunk + 1 < keys.chunks);
                let columns = if block > 0 {
                    within * pairs / BLOCK..(within + 1) * pairs / BLOCK
                } else {
                    0..0
                };
                let steps = next * deep + columns.len() * BLOCK;
                let (mut number, mut done) = (0, 0);
                let from = scores[chunk % 2];
                let to = weights[block % 2].add(within * 2 * TILE);
                for row in (0..WIDTH).step_by(2) {
                    while done * WIDTH < steps * (row + 1) {
                        if !work.is_idle() {
                            work.step();
                        } else if number < next {
                            work.start(scores_of(chunk + 1));
                            number += 1;
                        } else {
                            work.start(values_of(block - 1, columns.start + number - next));
                            number += 1;
                        }
                        done += 1;
                    }
                    weigh(from, row, &offsets, scale, to);
                }
            }
            let last = (keys.chunks - 1) / BLOCK;
            let within = keys.chunks - last * BLOCK;
            // Columns of the block before that fell to chunks which are not there.
            if last > 0 {
                for pair in within * pairs / BLOCK..pairs {
                    work.all([values_of(last - 1, pair)]);
                }
            }
            for pair in 0..pairs {
                work.all([values_of(last, pair)]);
            }
            work.store();
            drop(work);
            let logs = logs.map(|logs| logs.at(at * sizes.padded_queries() + first));
            for row in 0..rows.len() {
                let tiles = sums.add(row / SIDE * SUMS + row % SIDE * SIDE);
                let total = *tiles.add(sizes.d / SIDE * 2 * SUMS + sizes.d % SIDE);
                // Weights are negative, and so is their sum.
                let inverse = _mm512_set1_ps(1.0 / total);
                let to = out.row(sizes.queries, sizes, at, first + row);
                for start in (0..sizes.d).step_by(SIDE) {
                    let x = _mm512_loadu_ps(tiles.add(start / SIDE * 2 * SUMS));
                    let x: __m256i =
                        std::mem::transmute(_mm512_cvtneps_pbh(_mm512_mul_ps(x, inverse)));
                    let mask = ((1_u32 << (sizes.d - start).min(SIDE)) - 1) as u16;
                    _mm256_mask_storeu_epi16(to.add(start).cast(), mask, x);
                }
                if let Some(logs) = logs {
                    *logs.add(row) = (-total).log2() - (offsets[row] - OFFSET);
                }
            }
        }
        true
    }
}

/// A shift at most one lower than `shift`, such that the largest score of a row of the first chunk becomes an integer:
/// numbers just below a power of two, as the weights of scores just below the largest are then, are rounded the least.
///
/// # Safety
/// There are a row of scores, and one two tiles further.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn aligned(scores: *const f32, scale: __m512, shift: f32) -> f32 {
    // SAFETY: the caller's word.
    let (low, high) = unsafe { (_mm512_load_ps(scores), _mm512_load_ps(scores.add(2 * SUMS))) };
    let most = _mm512_reduce_max_ps(_mm512_mul_ps(_mm512_max_ps(low, high), scale));
    (shift + most).floor() - most
}

/// Weights `-2^(scale · score + shift)` of two rows of a chunk's scores, rounded to nearest, where `offsets` are
/// [`OFFSET`] above the shifts. Pairs are those of keys `i` and `16 + i`.
///
/// # Safety
/// There are a chunk of scores, and room for its weights from a cache line on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
unsafe fn weigh(
    scores: *const f32,
    row: usize,
    offsets: &[f32; WIDTH],
    scale: __m512,
    to: *mut bf16,
) {
    for row in row..row + 2 {
        let offset = _mm512_set1_ps(offsets[row]);
        // SAFETY: the caller's word.
        let (low, high) = unsafe {
            let at = scores.add(row * SIDE);
            (_mm512_load_ps(at), _mm512_load_ps(at.add(2 * SUMS)))
        };
        let low = _mm512_castps_si512(_mm512_fmadd_ps(low, scale, offset));
        let high = _mm512_castps_si512(_mm512_fmadd_ps(high, scale, offset));
        let weights = minus_exp2(low, high);
        // SAFETY: the caller's word.
        unsafe { _mm512_store_si512(to.add(row * 2 * SIDE).cast(), weights) };
    }
}
