//! What happens to scores between the products: vectors of 16 queries.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;

use super::TILE;
use super::forward::{STRIP, WIDTH};
use crate::attention::forward::fill_bias;
use crate::attention::{Attention, LOG2_E};

/// The larger of `max` and all scores of a query.
///
/// # Safety
/// There are `count` rows of scores.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn maxima(scores: *const f32, count: usize, max: [__m512; 2]) -> [__m512; 2] {
    // Maxima of even and odd rows: each waits for the one before.
    let mut halves = [max; 2];
    for row in 0..count {
        for v in 0..2 {
            // SAFETY: the caller's word.
            let score = unsafe { _mm512_loadu_ps(scores.add(row * WIDTH + 16 * v)) };
            halves[row % 2][v] = _mm512_max_ps(halves[row % 2][v], score);
        }
    }
    std::array::from_fn(|v| _mm512_max_ps(halves[0][v], halves[1][v]))
}

/// Weights `2^(scale · score + shift)` of a strip of at least one key, rounded into two right tiles, and their sums
/// before that. Keys beyond `count` weigh nothing.
///
/// # Safety
/// There are a strip of scores and room for the tiles, which start on cache lines.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(super) unsafe fn weigh(
    scores: *const f32,
    count: usize,
    scale: __m512,
    shift: [__m512; 2],
    total: &mut [__m512; 2],
    to: *mut bf16,
) {
    let least = _mm512_set1_ps(-126.0);
    let mut sums = *total;
    for pair in 0..STRIP / 2 {
        for v in 0..2 {
            let mut both = [_mm512_setzero_ps(); 2];
            for (half, weight) in both.iter_mut().enumerate() {
                let key = 2 * pair + half;
                if key < count {
                    // SAFETY: the caller's word.
                    let score = unsafe { _mm512_loadu_ps(scores.add(key * WIDTH + 16 * v)) };
                    let power = _mm512_fmadd_ps(score, scale, shift[v]);
                    *weight = exp2(_mm512_max_ps(least, power));
                    sums[v] = _mm512_add_ps(sums[v], *weight);
                }
            }
            // SAFETY: the caller's word.
            unsafe {
                let row = to.add(v * TILE + pair * 32);
                _mm512_store_si512(row.cast(), pairs(both[0], both[1]));
            }
        }
    }
    *total = sums;
}

/// Multiplies rows of 32 columns by one number a column.
///
/// # Safety
/// There are so many rows.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn fade_sums(sums: *mut f32, rows: usize, factors: [__m512; 2]) {
    let one = _mm512_set1_ps(1.0);
    if factors.iter().all(|&factors| _mm512_cmpeq_ps_mask(factors, one) == u16::MAX) {
        return;
    }
    for row in 0..rows {
        for (v, &factors) in factors.iter().enumerate() {
            // SAFETY: the caller's word.
            unsafe {
                let at = sums.add(row * WIDTH + 16 * v);
                _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), factors));
            }
        }
    }
}

/// Scales the first of two blocks of scores, and adds the bias; the second block is room to work in.
///
/// # Safety
/// Both are blocks of scores.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_bias(
    op: &Attention,
    bias: &[f32],
    all_keys: usize,
    queries: &Range<usize>,
    keys: Range<usize>,
    [scores, room]: [*mut f32; 2],
) {
    let scale = _mm512_set1_ps(op.scale.abs() * LOG2_E);
    let count = keys.len();
    // SAFETY: the caller's word.
    unsafe {
        fill_bias(bias, all_keys, queries, keys, room, WIDTH);
        for at in (0..count * WIDTH).step_by(16) {
            let (score, bias) = (_mm512_loadu_ps(scores.add(at)), _mm512_loadu_ps(room.add(at)));
            _mm512_storeu_ps(scores.add(at), _mm512_fmadd_ps(score, scale, bias));
        }
    }
}

/// `max + log₂ total`.
///
/// # Safety
/// 16 numbers can be written at `to`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn write_logs(max: __m512, total: __m512, to: *mut f32) {
    let (mut maxima, mut totals) = ([0.0; 16], [0.0_f32; 16]);
    // SAFETY: both arrays have 16 numbers; the rest is the caller's word.
    unsafe {
        _mm512_storeu_ps(maxima.as_mut_ptr(), max);
        _mm512_storeu_ps(totals.as_mut_ptr(), total);
        for lane in 0..16 {
            *to.add(lane) = maxima[lane] + totals[lane].log2();
        }
    }
}

/// `2ˣ` for `x ≥ -126` within 9e-5 of itself, a twentieth of what rounding to bf16 does.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn exp2(x: __m512) -> __m512 {
    let r = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
    // The minimax polynomial of 2ʳ on [0, 1] that is 1 at 0.
    let p = _mm512_fmadd_ps(_mm512_set1_ps(7.706_704e-2), r, _mm512_set1_ps(2.276_45e-1));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.951_167_6e-1));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0));
    _mm512_scalef_ps(p, x)
}

/// A row of 16 pairs of bf16 from both numbers of each pair, rounded to nearest, ties away from zero.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn pairs(first: __m512, second: __m512) -> __m512i {
    // Half a unit is added and what is below the unit dropped. The conversion takes as long as these four instructions
    // and leaves the numbers in another order.
    let half = _mm512_set1_epi32(0x8000);
    let low = _mm512_srli_epi32::<16>(_mm512_add_epi32(_mm512_castps_si512(first), half));
    let high = _mm512_add_epi32(_mm512_castps_si512(second), half);
    // low | high & mask
    _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi32(0xffff_0000_u32 as i32))
}
