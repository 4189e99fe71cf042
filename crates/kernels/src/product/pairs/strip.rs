//! A strip of rows times a panel of columns, on tiles or in registers.

use std::arch::x86_64::*;

use half::bf16;

use super::{STEP, TILE};
use crate::product::packed::{PAIR_COLUMNS, PAIR_DEPTH};
use crate::simd::amx::{tile_dot_bf16, tile_load, tile_store, tile_zero};

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

/// A strip times a panel.
pub(super) struct Product<'a> {
    pub(super) runs: &'a [Run],
    /// Two tiles of rows, not one.
    pub(super) both: bool,
    /// 32 rows of 32 columns.
    pub(super) sums: *mut f32,
    pub(super) accumulate: bool,
    /// What to fetch meanwhile, and how many lines of it a step.
    pub(super) ahead: *const bf16,
    pub(super) lines: usize,
}

/// Bytes between rows of the sums.
const SUMS_STRIDE: usize = PAIR_COLUMNS * 4;
/// Bytes between rows of a packed tile.
const TILE_STRIDE: usize = 64;

impl Product<'_> {
    /// # Safety
    /// The runs can be read and the sums written; this thread's tiles are configured.
    pub(super) unsafe fn on_tiles(&self) {
        let [left, right] = [self.sums, self.sums.wrapping_add(TILE)];
        let [low_left, low_right] =
            [left, right].map(|sums| sums.wrapping_add(TILE * PAIR_COLUMNS));
        let mut ahead = self.ahead.cast::<i8>();
        // SAFETY: the caller's word; prefetches may point anywhere.
        unsafe {
            if self.accumulate {
                tile_load!(0, left, SUMS_STRIDE);
                tile_load!(1, right, SUMS_STRIDE);
                if self.both {
                    tile_load!(2, low_left, SUMS_STRIDE);
                    tile_load!(3, low_right, SUMS_STRIDE);
                }
            } else {
                tile_zero!(0);
                tile_zero!(1);
                tile_zero!(2);
                tile_zero!(3);
            }
            for run in self.runs {
                let ([mut upper, mut lower], mut b) = (run.tiles, run.weights);
                for _ in 0..run.steps {
                    tile_load!(4, upper, run.stride);
                    tile_load!(6, b, TILE_STRIDE);
                    tile_load!(7, b.wrapping_add(STEP / 2), TILE_STRIDE);
                    tile_dot_bf16!(0, 4, 6);
                    tile_dot_bf16!(1, 4, 7);
                    if self.both {
                        tile_load!(5, lower, run.stride);
                        tile_dot_bf16!(2, 5, 6);
                        tile_dot_bf16!(3, 5, 7);
                    }
                    for _ in 0..self.lines {
                        _mm_prefetch::<_MM_HINT_T1>(ahead);
                        ahead = ahead.wrapping_add(64);
                    }
                    upper = upper.wrapping_add(PAIR_DEPTH);
                    lower = lower.wrapping_add(PAIR_DEPTH);
                    b = b.wrapping_add(STEP);
                }
            }
            tile_store!(0, left, SUMS_STRIDE);
            tile_store!(1, right, SUMS_STRIDE);
            if self.both {
                tile_store!(2, low_left, SUMS_STRIDE);
                tile_store!(3, low_right, SUMS_STRIDE);
            }
        }
    }

    /// # Safety
    /// The runs can be read and the sums written; the processor has AVX-512 with bf16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn on_registers(&self) {
        /// Rows at a time: with two registers of columns, 16 sums.
        const ROWS: usize = 8;
        for part in 0..(if self.both { 2 * TILE / ROWS } else { TILE / ROWS }) {
            // SAFETY: the caller's word.
            unsafe {
                let at =
                    |r: usize, v: usize| self.sums.add((part * ROWS + r) * PAIR_COLUMNS + v * TILE);
                let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                if self.accumulate {
                    for r in 0..ROWS {
                        for v in 0..2 {
                            sums[r][v] = _mm512_loadu_ps(at(r, v));
                        }
                    }
                }
                for run in self.runs {
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
                                sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, bh(columns[v]));
                            }
                        }
                    }
                }
                for r in 0..ROWS {
                    for v in 0..2 {
                        _mm512_storeu_ps(at(r, v), sums[r][v]);
                    }
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
