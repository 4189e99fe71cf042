//! Attention of bf16 on AMX tiles.
//!
//! As in f32, everything lies on its side: scores are `(keys, queries)`, so that maxima and sums over keys are plain
//! vector arithmetic. Products read operands packed tile by tile, 1 KiB each, so that every row of a tile is a cache
//! line. What is multiplied is bf16, weights included; scores, maxima, sums and results are f32.

pub(super) mod backward;
mod bounded;
mod exponential;
pub(super) mod forward;
mod pack;
mod softmax;
mod work;

use half::bf16;

use self::work::{Job, Sums, Work};
use crate::simd::amx::{DEPTH, SIDE};

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
    /// All of it but the last sums, which are in C after [`Work::store`].
    ///
    /// # Safety
    /// The factors have as many tiles, and C can be written (and read, to accumulate).
    unsafe fn run(&self, work: &mut Work) {
        let Self { a, b, .. } = self;
        let columns = (0..self.columns).step_by(2);
        let jobs = (0..self.rows).step_by(2).flat_map(|row| {
            columns.clone().map(move |column| {
                let sums = Sums {
                    start: self.c.wrapping_add(SIDE * (row * self.stride + column)),
                    lower: SIDE * self.stride,
                    right: SIDE,
                    row_bytes: size_of::<f32>() * self.stride,
                    tall: row + 1 < self.rows,
                    wide: column + 1 < self.columns,
                };
                Job {
                    a: a.start.wrapping_add(row * a.along * TILE),
                    a_lower: a.along * TILE,
                    a_step: a.deep * TILE,
                    b: b.start.wrapping_add(column * b.along * TILE),
                    b_right: b.along * TILE,
                    b_step: b.deep * TILE,
                    depth: self.depth,
                    sums,
                    accumulate: self.accumulate,
                }
            })
        });
        // SAFETY: the caller's word.
        unsafe { work.all(jobs) };
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
