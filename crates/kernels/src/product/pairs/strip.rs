//! A strip of rows times a panel of columns in vector registers, and what both engines read.

use std::arch::x86_64::*;

use half::bf16;

use super::{STEP, TILE};
use crate::product::packed::{PAIR_COLUMNS, PAIR_DEPTH};

/// Steps of the depth that lie one after the other in the strip's rows.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The first row of each tile.
    pub(super) tiles: [*const bf16; 2],
    /// Bytes between rows of a tile.
    pub(super) stride: usize,
    pub(super) steps: usize,
    pub(super) weights: *const bf16,
}

/// A strip of one or two tiles of rows times a panel: 32 rows of 32 sums.
///
/// # Safety
/// The runs can be read and the sums written; the processor has AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn on_registers(
    runs: &(impl Iterator<Item = Run> + Clone),
    tiles: usize,
    sums: *mut f32,
    accumulate: bool,
) {
    /// Rows at a time: with two registers of columns, 16 sums.
    const ROWS: usize = 8;
    for part in 0..tiles * TILE / ROWS {
        // SAFETY: the caller's word.
        unsafe {
            let at = |r: usize, v: usize| sums.add((part * ROWS + r) * PAIR_COLUMNS + v * TILE);
            let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
            if accumulate {
                for r in 0..ROWS {
                    for v in 0..2 {
                        totals[r][v] = _mm512_loadu_ps(at(r, v));
                    }
                }
            }
            for run in runs.clone() {
                let tile = run.tiles[part * ROWS / TILE].cast::<u8>();
                let mut rows = [tile; ROWS];
                for r in 0..ROWS {
                    rows[r] = tile.add((part * ROWS % TILE + r) * run.stride);
                }
                for pair in 0..run.steps * (PAIR_DEPTH / 2) {
                    let b = run.weights.add(pair / 16 * STEP + pair % 16 * 32);
                    let mut columns = [_mm512_setzero_si512(); 2];
                    for v in 0..2 {
                        columns[v] = _mm512_loadu_si512(b.add(v * STEP / 2).cast());
                    }
                    for r in 0..ROWS {
                        let pair = rows[r].cast::<i32>().add(pair).read_unaligned();
                        let row = bh(_mm512_set1_epi32(pair));
                        for v in 0..2 {
                            totals[r][v] = _mm512_dpbf16_ps(totals[r][v], row, bh(columns[v]));
                        }
                    }
                }
            }
            for r in 0..ROWS {
                for v in 0..2 {
                    _mm512_storeu_ps(at(r, v), totals[r][v]);
                }
            }
        }
    }
}

/// The same bits as pairs of bf16.
#[inline(always)]
fn bh(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes without invalid values.
    unsafe { std::mem::transmute(bits) }
}
