//! The blocked product `C = A · B` that every operator here is built on.
//!
//! Blocking follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), with one
//! difference: a task owns a block of C and packs what it needs for it, tile by tile, so that tasks never wait for
//! each other. An operand is anything that can fill a packed panel ([`Operand`]); a convolution is the product of its
//! weights with an operand that gathers pixels while packing, so that the im2col matrix never exists.
//!
//! Each element of C is the sum over blocks of the depth, whose bounds depend on the depth alone. Results therefore
//! do not depend on how the work is split, nor on the number of threads.

mod matrix;
mod tile;

use std::ops::Range;

use rayon::prelude::*;

pub(crate) use self::matrix::{Element, Matrix};
use self::tile::{Start, Tile};
use crate::buffer::Buffer;
use crate::isa::Tier;
use crate::simd::{Kernel, MAX_LANES, Simd, dispatch};

/// Rows in a packed panel of A.
pub(crate) const PANEL_ROWS: usize = 8;
/// Registers in a row of the micro-tile, and so in a packed row of B.
pub(crate) const MAX_VECTORS: usize = 3;
/// The widest panel of B on any tier.
pub(crate) const MAX_WIDTH: usize = MAX_VECTORS * MAX_LANES;
/// Depth of a block: a panel of B stays in the first-level cache.
const DEPTH_BLOCK: usize = 256;
/// Rows of A in a task: with the depth of a block, a third of a megabyte, for the second-level cache.
const ROW_BLOCK: usize = 320;
/// Columns of B in a task.
const COLUMN_BLOCK: usize = 1008;

/// One side of a product, able to fill packed panels.
///
/// "Span" is the side's own index (a row of A, a column of B), "depth" the index that is summed over.
pub(crate) trait Operand: Sync {
    /// Prepares what `pack` reads for this block of a task.
    #[inline(always)]
    fn stage(&self, _span: Range<usize>, _depth: Range<usize>, _stage: &mut Stage) {}

    /// Fills a panel: number `i` of depth `k` goes to `to[(k - depth.start) · width + i]`, zeros where `i` exceeds
    /// the span.
    ///
    /// # Safety
    /// The span and depth are inside the operand's size and inside what was staged last, the span is no longer than
    /// `width ≤ 48`, and `depth.len() · width + 16` numbers can be written at `to`.
    unsafe fn pack<S: Simd>(
        &self,
        simd: S,
        span: Range<usize>,
        depth: Range<usize>,
        width: usize,
        stage: &Stage,
        to: *mut f32,
    );
}

/// What [`Operand::stage`] leaves for [`Operand::pack`].
#[derive(Default)]
pub(crate) struct Stage {
    /// Numbers gathered for the block.
    pub(crate) values: Vec<f32>,
    /// Where each image's part of them starts.
    pub(crate) strips: Vec<Strip>,
}

/// The rows of one image that a block needs: `(channel, row, column)` from `base` on.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub(crate) image: usize,
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) base: usize,
}

/// What C holds before the product is added.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    None,
    /// One number a row.
    Row(&'a [f32]),
    /// One number a column.
    Column(&'a [f32]),
}

/// Sizes of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
}

/// Where C lies: columns are cut into images of `columns_per_image`; in an image, rows are `columns_per_image` apart.
#[derive(Clone, Copy)]
struct Target {
    base: *mut f32,
    rows: usize,
    columns_per_image: usize,
}

// SAFETY: tasks write disjoint blocks of C, and the pointer outlives them (see `gemm`).
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// `row` and `column` are inside C.
    #[inline(always)]
    unsafe fn at(self, row: usize, column: usize) -> *mut f32 {
        let (image, column) = (column / self.columns_per_image, column % self.columns_per_image);
        // SAFETY: inside C, by the caller's word.
        unsafe { self.base.add((image * self.rows + row) * self.columns_per_image + column) }
    }
}

/// Writes `A · B + bias` to `c`, shaped `(columns / columns_per_image, rows, columns_per_image)`.
///
/// # Panics
/// If `c` or the bias does not have the product's size; operands check their own.
pub(crate) fn gemm<A: Operand, B: Operand>(
    tier: Tier,
    size: Size,
    a: &A,
    b: &B,
    bias: Bias<'_>,
    columns_per_image: usize,
    c: &mut [f32],
) {
    let Size { rows, columns, depth } = size;
    assert_eq!(c.len(), rows * columns, "C has the product's size");
    match bias {
        Bias::None => {}
        Bias::Row(bias) => assert_eq!(bias.len(), rows, "one bias a row"),
        Bias::Column(bias) => assert_eq!(bias.len(), columns, "one bias a column"),
    }
    if rows == 0 || columns == 0 {
        return;
    }
    assert_eq!(columns % columns_per_image, 0, "whole images");
    let (row_block, column_block) = blocks(size, tier);
    let target = Target { base: c.as_mut_ptr(), rows, columns_per_image };
    let row_tasks = rows.div_ceil(row_block);
    let tasks = row_tasks * columns.div_ceil(column_block);
    // Row blocks of one column block are neighbours in time, so that its pixels are still in the cache.
    (0..tasks).into_par_iter().with_max_len(1).for_each_init(Scratch::default, |scratch, task| {
        let row = task % row_tasks * row_block;
        let column = task / row_tasks * column_block;
        dispatch(
            tier,
            Block {
                rows: row..(row + row_block).min(rows),
                columns: column..(column + column_block).min(columns),
                depth,
                a,
                b,
                bias,
                target,
                scratch,
            },
        );
    });
}

/// Rows and columns of C in a task: enough tasks for every thread, as large as the caches like otherwise.
fn blocks(size: Size, tier: Tier) -> (usize, usize) {
    let wanted = 4 * rayon::current_num_threads();
    let width = MAX_VECTORS * tier.lanes();
    let panels = size.columns.div_ceil(width);
    let mut row_tasks = size.rows.div_ceil(ROW_BLOCK);
    // At least four panels a task, for the sake of the rows packed for them.
    let column_tasks =
        size.columns.div_ceil(COLUMN_BLOCK).max(wanted.div_ceil(row_tasks).min(panels / 4)).max(1);
    if row_tasks * column_tasks < wanted {
        row_tasks = wanted.div_ceil(column_tasks).min(size.rows.div_ceil(64)).max(row_tasks);
    }
    let row_block = size.rows.div_ceil(row_tasks).next_multiple_of(PANEL_ROWS);
    (row_block, panels.div_ceil(column_tasks).max(1) * width)
}

#[derive(Default)]
struct Scratch {
    a: Buffer,
    b: Buffer,
    a_stage: Stage,
    b_stage: Stage,
}

/// One task: a block of C.
struct Block<'a, A, B> {
    rows: Range<usize>,
    columns: Range<usize>,
    depth: usize,
    a: &'a A,
    b: &'a B,
    bias: Bias<'a>,
    target: Target,
    scratch: &'a mut Scratch,
}

impl<A: Operand, B: Operand> Kernel for Block<'_, A, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, columns, depth, a, b, bias, target, scratch } = self;
        let depth_block = depth.div_ceil(depth.div_ceil(DEPTH_BLOCK).max(1));
        let panels = rows.len().div_ceil(PANEL_ROWS);
        let width = MAX_VECTORS * S::LANES;
        // 16 numbers more than the panels, because packing may write a whole register at the end.
        let a_packed = scratch.a.reserve(panels * PANEL_ROWS * depth_block + MAX_LANES);
        let b_packed = scratch.b.reserve(width * depth_block + MAX_LANES);
        let mut start = 0;
        loop {
            let ks = start..(start + depth_block).min(depth);
            a.stage(rows.clone(), ks.clone(), &mut scratch.a_stage);
            for panel in 0..panels {
                let row = rows.start + panel * PANEL_ROWS;
                let span = row..(row + PANEL_ROWS).min(rows.end);
                // SAFETY: the panel is inside the block and the buffer holds all panels.
                unsafe {
                    let to = a_packed.add(panel * PANEL_ROWS * ks.len());
                    a.pack(simd, span, ks.clone(), PANEL_ROWS, &scratch.a_stage, to);
                }
            }
            b.stage(columns.clone(), ks.clone(), &mut scratch.b_stage);
            for column in columns.clone().step_by(width) {
                let span = column..(column + width).min(columns.end);
                let vectors = span.len().div_ceil(S::LANES);
                // SAFETY: the panel is inside the block and the buffer holds one panel.
                unsafe {
                    let packed = vectors * S::LANES;
                    b.pack(simd, span.clone(), ks.clone(), packed, &scratch.b_stage, b_packed);
                }
                let sweep = Sweep { rows: &rows, span, ks: &ks, bias, target, a_packed, b_packed };
                // Not inlined: the micro-kernel is compiled once a tier, not once for each pair of operands.
                dispatch(S::TIER, sweep);
            }
            start = ks.end;
            if start >= depth {
                break;
            }
        }
    }
}

/// Every panel of A against one panel of B.
struct Sweep<'a> {
    rows: &'a Range<usize>,
    span: Range<usize>,
    ks: &'a Range<usize>,
    bias: Bias<'a>,
    target: Target,
    a_packed: *const f32,
    b_packed: *const f32,
}

impl Kernel for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.span.len().div_ceil(S::LANES) {
            1 => self.vectors::<S, 1>(simd),
            2 => self.vectors::<S, 2>(simd),
            _ => self.vectors::<S, MAX_VECTORS>(simd),
        }
    }
}

impl Sweep<'_> {
    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S) {
        let Self { rows, span, ks, bias, target, a_packed, b_packed } = self;
        let per_image = target.columns_per_image;
        let in_one_image = span.start / per_image == (span.end - 1) / per_image;
        let whole = span.len() == V * S::LANES && in_one_image;
        let mut spill = [0.0_f32; PANEL_ROWS * MAX_WIDTH];
        for row in rows.clone().step_by(S::TILE_ROWS) {
            let tile_rows = (rows.end - row).min(S::TILE_ROWS);
            let panel = (row - rows.start) / PANEL_ROWS;
            let within = (row - rows.start) % PANEL_ROWS;
            let direct = whole && tile_rows == S::TILE_ROWS;
            let start = match (ks.start, bias) {
                _ if !direct => Start::Zero,
                (0, Bias::None) => Start::Zero,
                (0, Bias::Row(bias)) => Start::Rows(&bias[row..row + S::TILE_ROWS]),
                (0, Bias::Column(bias)) => Start::Columns(&bias[span.clone()]),
                _ => Start::C,
            };
            // SAFETY: both packed panels hold `ks.len()` steps; a direct tile is inside C, the other inside `spill`.
            unsafe {
                let c = if direct { target.at(row, span.start) } else { spill.as_mut_ptr() };
                let c_stride = if direct { per_image } else { MAX_WIDTH };
                let a = a_packed.add(panel * PANEL_ROWS * ks.len() + within);
                Tile { depth: ks.len(), a, b: b_packed, c, c_stride, start }.run::<S, V>(simd);
                if direct {
                    continue;
                }
                for i in 0..tile_rows {
                    for (j, column) in span.clone().enumerate() {
                        let c = target.at(row + i, column);
                        let before = match (ks.start, bias) {
                            (0, Bias::None) => 0.0,
                            (0, Bias::Row(bias)) => bias[row + i],
                            (0, Bias::Column(bias)) => bias[column],
                            _ => *c,
                        };
                        *c = before + spill[i * MAX_WIDTH + j];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
