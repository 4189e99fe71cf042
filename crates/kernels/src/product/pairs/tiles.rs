//! Strips of rows times panels of columns on AMX tiles, one after the other without a pause.
//!
//! The tiles of a strip's sums are stored while those of the next strip start, and what follows a product is done to the
//! rows of the strip before between the steps of the next one: vector instructions wait for no tile then, and tiles for
//! no vector.

use super::finishing::Finishing;
use super::strip::Run;
use super::{STEP, TILE};
use crate::product::packed::{PAIR_COLUMNS, PAIR_DEPTH};
use crate::simd::Simd;
use crate::simd::amx::{Tiles, tile_dot_bf16, tile_load, tile_store, tile_zero};

/// Bytes between rows of the sums.
const SUMS_STRIDE: usize = PAIR_COLUMNS * 4;
/// Bytes between rows of a packed tile.
const TILE_STRIDE: usize = 64;

/// Where the sums of a strip belong.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// 32 rows of 32 columns.
    pub(super) at: *mut f32,
    /// Two tiles of rows, not one.
    pub(super) both: bool,
}

/// The tiles of this thread, with sums that are not stored yet.
pub(super) struct Pipeline {
    _tiles: Tiles,
    waiting: Option<Sums>,
}

impl Pipeline {
    pub(super) const fn new(tiles: Tiles) -> Self {
        Self { _tiles: tiles, waiting: None }
    }

    /// Multiplies a strip's runs, `steps` in all and at least one. From the second step on, the strip before is stored,
    /// and its rows are finished between the steps.
    ///
    /// # Safety
    /// The runs can be read, and the sums written (and read, to accumulate); what is to be finished is the strip before.
    #[inline(always)]
    pub(super) unsafe fn multiply(
        &mut self,
        runs: impl Iterator<Item = Run>,
        steps: usize,
        sums: Sums,
        accumulate: bool,
        finishing: &mut Finishing<'_, impl Simd>,
    ) {
        let mut done = 0;
        for run in runs {
            let ([mut upper, mut lower], mut b) = (run.tiles, run.weights);
            for _ in 0..run.steps {
                // SAFETY: the caller's word; the guard says that tiles are configured.
                unsafe {
                    // All four operands first: those that come from the second-level cache wait together.
                    tile_load!(4, upper, run.stride);
                    tile_load!(6, b, TILE_STRIDE);
                    tile_load!(7, b.wrapping_add(STEP / 2), TILE_STRIDE);
                    if sums.both {
                        tile_load!(5, lower, run.stride);
                    }
                    if done == 0 {
                        self.turn(sums, accumulate);
                    } else {
                        tile_dot_bf16!(0, 4, 6);
                        tile_dot_bf16!(1, 4, 7);
                        if sums.both {
                            tile_dot_bf16!(2, 5, 6);
                            tile_dot_bf16!(3, 5, 7);
                        }
                        finishing.work(done, steps - 1);
                    }
                }
                done += 1;
                upper = upper.wrapping_add(PAIR_DEPTH);
                lower = lower.wrapping_add(PAIR_DEPTH);
                b = b.wrapping_add(STEP);
            }
        }
        self.waiting = Some(sums);
    }

    /// Stores the tiles of the strip before, and starts those of the next one with the operands that are loaded.
    ///
    /// # Safety
    /// That of `multiply`.
    #[inline(always)]
    unsafe fn turn(&mut self, sums: Sums, accumulate: bool) {
        let before = self.waiting.take();
        let upper = before.map(|before| before.at);
        let lower = before.filter(|before| before.both).map(|before| before.at);
        /// Stores a tile where it belongs, and starts it again.
        macro_rules! turn {
            ($tile:literal, $before:expr, $row:expr, $column:expr, $wanted:expr, $a:literal, $b:literal) => {
                let within = $row * PAIR_COLUMNS + $column;
                if let Some(to) = $before {
                    tile_store!($tile, to.wrapping_add(within), SUMS_STRIDE);
                }
                if $wanted {
                    if accumulate {
                        tile_load!($tile, sums.at.wrapping_add(within), SUMS_STRIDE);
                    } else {
                        tile_zero!($tile);
                    }
                    tile_dot_bf16!($tile, $a, $b);
                }
            };
        }
        // SAFETY: the caller's word, now and when the strip before was multiplied.
        unsafe {
            turn!(0, upper, 0, 0, true, 4, 6);
            turn!(1, upper, 0, TILE, true, 4, 7);
            turn!(2, lower, TILE, 0, sums.both, 5, 6);
            turn!(3, lower, TILE, TILE, sums.both, 5, 7);
        }
    }

    /// Stores what waits.
    ///
    /// # Safety
    /// That of `multiply`.
    pub(super) unsafe fn flush(&mut self) {
        let Some(Sums { at, both }) = self.waiting.take() else { return };
        // SAFETY: the caller's word.
        unsafe {
            tile_store!(0, at, SUMS_STRIDE);
            tile_store!(1, at.wrapping_add(TILE), SUMS_STRIDE);
            if both {
                let at = at.wrapping_add(TILE * PAIR_COLUMNS);
                tile_store!(2, at, SUMS_STRIDE);
                tile_store!(3, at.wrapping_add(TILE), SUMS_STRIDE);
            }
        }
    }
}
