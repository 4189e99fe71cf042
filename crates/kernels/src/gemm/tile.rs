//! The micro-kernel: a tile of C in registers, one rank-1 update a step of the depth.

use super::PANEL_ROWS;
use crate::simd::Simd;

/// What a tile of C is the sum of, beside the product.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// What C holds.
    C,
    /// One number a row of the tile.
    Rows(&'a [f32]),
    /// One number a column of the tile.
    Columns(&'a [f32]),
}

/// A tile of C: `S::TILE_ROWS` rows of `V` registers.
pub(crate) struct Tile<'a> {
    /// Steps of the depth.
    pub(crate) depth: usize,
    /// Rows of A: step `k` is at `a + k · PANEL_ROWS`.
    pub(crate) a: *const f32,
    /// Columns of B: step `k` is at `b + k · V · LANES`.
    pub(crate) b: *const f32,
    /// The tile's corner in C.
    pub(crate) c: *mut f32,
    /// Numbers from one row of C to the next.
    pub(crate) c_stride: usize,
    pub(crate) start: Start<'a>,
}

impl Tile<'_> {
    /// `C = start + A · B`.
    ///
    /// # Safety
    /// The panels can be read for `depth` steps, and the tile of C written (and read, if it is the start);
    /// a start by rows or columns has as many numbers as the tile has.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd, const V: usize>(&self, simd: S) {
        // SAFETY: the caller's word, passed on. The row count is a constant of the tier.
        unsafe {
            match S::TILE_ROWS {
                8 => self.rows::<S, V, 8>(simd),
                4 => self.rows::<S, V, 4>(simd),
                _ => self.rows::<S, V, 2>(simd),
            }
        }
    }

    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn rows<S: Simd, const V: usize, const R: usize>(&self, simd: S) {
        let mut sums = [[simd.zero(); V]; R];
        let (mut a, mut b) = (self.a, self.b);
        for _ in 0..self.depth {
            // SAFETY: step by step through both panels, which hold `depth` steps.
            unsafe {
                // Indexed loops: over iterators the compiler keeps columns on the stack.
                let mut columns = [simd.zero(); V];
                for v in 0..V {
                    columns[v] = simd.load(b.add(v * S::LANES));
                }
                for r in 0..R {
                    let row = simd.splat(*a.add(r));
                    for v in 0..V {
                        sums[r][v] = simd.mul_add(row, columns[v], sums[r][v]);
                    }
                }
                a = a.add(PANEL_ROWS);
                b = b.add(V * S::LANES);
            }
        }
        for r in 0..R {
            for v in 0..V {
                // SAFETY: inside the tile; the start has a number for each of its rows or columns.
                unsafe {
                    let c = self.c.add(r * self.c_stride + v * S::LANES);
                    let start = match self.start {
                        Start::Zero => simd.zero(),
                        Start::C => simd.load(c),
                        Start::Rows(bias) => simd.splat(*bias.get_unchecked(r)),
                        Start::Columns(bias) => simd.load(bias.as_ptr().add(v * S::LANES)),
                    };
                    simd.store(c, simd.add(start, sums[r][v]));
                }
            }
        }
    }
}
