//! Products of f32 in registers: tiles of `R` rows of `V` registers.

use crate::panel::PANEL_ROWS;
use crate::simd::{Kernel, Simd};

/// Registers in a row of the widest tile.
pub(super) const MAX_VECTORS: usize = 3;
/// Features of a product at a time, so that those of a panel of queries stay there too.
const FEATURE_BLOCK: usize = 128;

/// Calls a method for the registers in a row (1 to [`MAX_VECTORS`], at run time) and the tier's rows of a tile.
macro_rules! with_tile {
    ($s:ty, $vectors:expr, $this:ident.$method:ident($($argument:expr),*)) => {
        match ($vectors, <$s>::TILE_ROWS) {
            (1, 8) => $this.$method::<$s, 1, 8>($($argument),*),
            (2, 8) => $this.$method::<$s, 2, 8>($($argument),*),
            (_, 8) => $this.$method::<$s, 3, 8>($($argument),*),
            (1, 4) => $this.$method::<$s, 1, 4>($($argument),*),
            (2, 4) => $this.$method::<$s, 2, 4>($($argument),*),
            (_, 4) => $this.$method::<$s, 3, 4>($($argument),*),
            (1, _) => $this.$method::<$s, 1, 2>($($argument),*),
            (2, _) => $this.$method::<$s, 2, 2>($($argument),*),
            (_, _) => $this.$method::<$s, 3, 2>($($argument),*),
        }
    };
}
pub(super) use with_tile;

/// A factor whose numbers are broadcast one by one: row `r` at depth `k` is `start[r · row + k · step]`.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const f32,
    pub(super) row: usize,
    pub(super) step: usize,
}

impl Rows {
    /// A packed panel.
    pub(super) const fn panel(start: *const f32) -> Self {
        Self { start, row: 1, step: PANEL_ROWS }
    }
}

/// The product of `R` rows with `V` registers of columns, of which depth `k` is at `columns + k · column_step`.
///
/// # Safety
/// Both factors can be read for `depth` steps.
#[inline(always)]
pub(super) unsafe fn sums<S: Simd, const V: usize, const R: usize>(
    simd: S,
    depth: usize,
    rows: Rows,
    mut columns: *const f32,
    column_step: usize,
) -> [[S::V; V]; R] {
    let mut sums = [[simd.zero(); V]; R];
    let mut row = rows.start;
    for _ in 0..depth {
        // SAFETY: step by step through both factors.
        unsafe {
            let mut column = [simd.zero(); V];
            for v in 0..V {
                column[v] = simd.load(columns.add(v * S::LANES));
            }
            for r in 0..R {
                let number = simd.splat(*row.add(r * rows.row));
                for v in 0..V {
                    sums[r][v] = simd.mul_add(number, column[v], sums[r][v]);
                }
            }
            row = row.add(rows.step);
            columns = columns.add(column_step);
        }
    }
    sums
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<V: Copy, const N: usize> {
    Zero,
    /// What is there, times one number a column.
    Times([V; N]),
    /// What is there.
    There,
}

/// Writes a tile of sums.
///
/// # Safety
/// `to` can be written for `R` rows, `stride` numbers apart, and read unless the start is zero.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, const V: usize, const R: usize>(
    simd: S,
    sums: [[S::V; V]; R],
    start: Start<S::V, V>,
    to: *mut f32,
    stride: usize,
) {
    for r in 0..R {
        for v in 0..V {
            // SAFETY: the caller's word.
            unsafe {
                let to = to.add(r * stride + v * S::LANES);
                let sum = match start {
                    Start::Zero => sums[r][v],
                    Start::Times(factors) => simd.mul_add(simd.load(to), factors[v], sums[r][v]),
                    Start::There => simd.add(simd.load(to), sums[r][v]),
                };
                simd.store(to, sum);
            }
        }
    }
}

/// Products of a block of packed keys (or values) with a panel of packed queries (or gradients).
pub(super) struct KeyProduct {
    pub(super) d: usize,
    /// Keys.
    pub(super) count: usize,
    pub(super) keys: *const f32,
    pub(super) columns: *const f32,
    /// `(keys, queries)`.
    pub(super) to: *mut f32,
    /// True if the products are added to what is there.
    pub(super) added: bool,
}

/// What happens to a tile of products before it is written.
pub(super) trait Finish<S: Simd, const V: usize> {
    /// The first of the tile's rows is `key`, and `count` of them are keys.
    ///
    /// # Safety
    /// The tile is inside the product that this was made for.
    unsafe fn finish<const R: usize>(
        &mut self,
        simd: S,
        tile: &mut [[S::V; V]; R],
        key: usize,
        count: usize,
    );
}

impl KeyProduct {
    /// # Safety
    /// All can be read, and the products written, for the keys rounded up to a panel.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        finish: &mut impl Finish<S, V>,
    ) {
        let Self { d, count, keys, columns, to, added } = self;
        let width = V * S::LANES;
        for feature in (0..d).step_by(FEATURE_BLOCK) {
            let depth = (d - feature).min(FEATURE_BLOCK);
            let (first, last) = (feature == 0, feature + depth == d);
            for key in (0..count).step_by(R) {
                // SAFETY: the caller's word.
                unsafe {
                    let panel = keys.add(key / PANEL_ROWS * PANEL_ROWS * d + key % PANEL_ROWS);
                    let panel = Rows::panel(panel.add(feature * PANEL_ROWS));
                    let columns = columns.add(feature * width);
                    let mut tile = sums::<S, V, R>(simd, depth, panel, columns, width);
                    let to = to.add(key * width);
                    if !first || added {
                        for r in 0..R {
                            for v in 0..V {
                                let there = simd.load(to.add(r * width + v * S::LANES));
                                tile[r][v] = simd.add(tile[r][v], there);
                            }
                        }
                    }
                    if last {
                        finish.finish(simd, &mut tile, key, count - key);
                    }
                    store(simd, tile, Start::Zero, to, width);
                }
            }
        }
    }
}

/// `sums = start + values · weights` of `(features, count)` packed values and `(count, queries)` weights.
///
/// # Safety
/// All can be read, and the sums written, for so many; features are a multiple of a panel.
#[inline(always)]
pub(super) unsafe fn weigh<S: Simd, const V: usize, const R: usize>(
    simd: S,
    (features, count): (usize, usize),
    values: *const f32,
    weights: *const f32,
    start: Start<S::V, V>,
    to: *mut f32,
) {
    let width = V * S::LANES;
    for row in (0..features).step_by(R) {
        // SAFETY: the caller's word.
        unsafe {
            let panel = values.add(row / PANEL_ROWS * PANEL_ROWS * count + row % PANEL_ROWS);
            let tile = sums::<S, V, R>(simd, count, Rows::panel(panel), weights, width);
            store(simd, tile, start, to.add(row * width), width);
        }
    }
}

/// `to = to + rows · columns` of `(keys, depth)` and `(depth, lanes)`.
///
/// Whoever runs it vouches that all can be read and `to` written.
pub(super) struct Gather {
    /// A multiple of a panel.
    pub(super) keys: usize,
    pub(super) depth: usize,
    pub(super) rows: Rows,
    pub(super) columns: *const f32,
    /// Numbers in a row of columns and of `to`, a multiple of a register.
    pub(super) lanes: usize,
    pub(super) to: *mut f32,
    /// True to add to what is there.
    pub(super) there: bool,
}

impl Kernel for Gather {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (this, vectors) = (&self, self.lanes / S::LANES);
        for first in (0..vectors).step_by(MAX_VECTORS) {
            // SAFETY: inside the factors, by the word of who runs this.
            unsafe { with_tile!(S, vectors - first, this.columns(simd, first * S::LANES)) };
        }
    }
}

impl Gather {
    /// # Safety
    /// The factors have `V` registers of columns from `first` on.
    #[inline(always)]
    unsafe fn columns<S: Simd, const V: usize, const R: usize>(&self, simd: S, first: usize) {
        for key in (0..self.keys).step_by(R) {
            // SAFETY: the caller's word.
            unsafe {
                let start = self.rows.start.add(key * self.rows.row);
                let rows = Rows { start, ..self.rows };
                let columns = self.columns.add(first);
                let tile = sums::<S, V, R>(simd, self.depth, rows, columns, self.lanes);
                let start = if self.there { Start::There } else { Start::Zero };
                store(simd, tile, start, self.to.add(key * self.lanes + first), self.lanes);
            }
        }
    }
}
