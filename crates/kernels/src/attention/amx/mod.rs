//! Attention of bf16 on AMX tiles.
//!
//! As in f32, everything lies on its side: scores are `(keys, queries)`, so that maxima and sums over keys are plain
//! vector arithmetic. Products read operands packed tile by tile, 1 KiB each, so that every row of a tile is a cache
//! line. What is multiplied is bf16, weights included; scores, maxima, sums and results are f32.

pub(super) mod backward;
mod bounded;
pub(super) mod forward;
mod pack;
mod softmax;

use half::bf16;

use crate::simd::amx::{DEPTH, SIDE, Tiles, tile_dot_bf16, tile_load, tile_store, tile_zero};

/// Numbers of bf16 in a tile.
const TILE: usize = SIDE * DEPTH;
/// Bytes from one row of a packed tile to the next.
const ROW_BYTES: usize = 64;

/// Packed tiles of a factor.
#[derive(Clone, Copy)]
struct Grid {
    start: *const bf16,
    /// Tiles from one to the next along the product's rows (or columns).
    along: usize,
    /// Tiles from one to the next along the depth.
    deep: usize,
}

/// `C = A · B`, or `C + A · B`, in tiles.
struct Product {
    /// Tiles of 16 rows.
    rows: usize,
    /// Tiles of 16 columns.
    columns: usize,
    /// Tiles of 32 numbers.
    depth: usize,
    a: Grid,
    b: Grid,
    c: *mut f32,
    /// Numbers from one row of C to the next.
    stride: usize,
    accumulate: bool,
}

impl Product {
    /// # Safety
    /// The factors have as many tiles, and C can be written (and read, to accumulate).
    unsafe fn run(&self, tiles: &Tiles) {
        for row in (0..self.rows).step_by(2) {
            for column in (0..self.columns).step_by(2) {
                // SAFETY: the caller's word.
                unsafe {
                    match (self.rows - row, self.columns - column) {
                        (1, 1) => self.block::<1, 1>(tiles, row, column),
                        (1, _) => self.block::<1, 2>(tiles, row, column),
                        (_, 1) => self.block::<2, 1>(tiles, row, column),
                        _ => self.block::<2, 2>(tiles, row, column),
                    }
                }
            }
        }
    }

    /// `M` by `N` tiles of C: four products hide the four loads that they need.
    ///
    /// # Safety
    /// That of `run`, and C has these tiles.
    #[inline(always)]
    unsafe fn block<const M: usize, const N: usize>(&self, _: &Tiles, row: usize, column: usize) {
        let stride = 4 * self.stride;
        // SAFETY: the caller's word; the guard says that tiles are configured.
        unsafe {
            let c = |m: usize, n: usize| {
                self.c.add((row + m) * SIDE * self.stride + (column + n) * SIDE)
            };
            if self.accumulate {
                tile_load!(0, c(0, 0), stride);
                if N > 1 {
                    tile_load!(1, c(0, 1), stride);
                }
                if M > 1 {
                    tile_load!(2, c(1, 0), stride);
                }
                if M > 1 && N > 1 {
                    tile_load!(3, c(1, 1), stride);
                }
            } else {
                tile_zero!(0);
                tile_zero!(1);
                tile_zero!(2);
                tile_zero!(3);
            }
            let mut a = self.a.start.add(row * self.a.along * TILE);
            let mut b = self.b.start.add(column * self.b.along * TILE);
            for _ in 0..self.depth {
                tile_load!(4, a, ROW_BYTES);
                tile_load!(6, b, ROW_BYTES);
                tile_dot_bf16!(0, 4, 6);
                if N > 1 {
                    tile_load!(7, b.add(self.b.along * TILE), ROW_BYTES);
                    tile_dot_bf16!(1, 4, 7);
                }
                if M > 1 {
                    tile_load!(5, a.add(self.a.along * TILE), ROW_BYTES);
                    tile_dot_bf16!(2, 5, 6);
                }
                if M > 1 && N > 1 {
                    tile_dot_bf16!(3, 5, 7);
                }
                a = a.wrapping_add(self.a.deep * TILE);
                b = b.wrapping_add(self.b.deep * TILE);
            }
            tile_store!(0, c(0, 0), stride);
            if N > 1 {
                tile_store!(1, c(0, 1), stride);
            }
            if M > 1 {
                tile_store!(2, c(1, 0), stride);
            }
            if M > 1 && N > 1 {
                tile_store!(3, c(1, 1), stride);
            }
        }
    }
}

/// Tiles of features of a head: by 32 where they are summed over, by 16 where not.
#[derive(Clone, Copy)]
struct Features {
    deep: usize,
    along: usize,
}

impl Features {
    const fn new(d: usize) -> Self {
        Self { deep: d.div_ceil(DEPTH), along: d.div_ceil(SIDE) }
    }
}
