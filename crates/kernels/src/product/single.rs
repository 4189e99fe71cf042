//! The f32 engine, on every tier. A task is a block of rows by a few panels of columns.
//!
//! For each block of the depth, the panel's part (at most 48 kB) stays in the first-level cache while all rows of the
//! task pass. Rows are not packed: the micro-kernel reads each through its own pointer.

use std::ops::Range;

use super::packed::{Side, Values};
use super::{Block, Call, Tasks, blocks, rows_in_task, transposed};
use crate::buffer::Buffer;
use crate::panel::{Element, MAX_VECTORS};
use crate::simd::{Kernel, Simd, dispatch};

/// The deepest block.
pub(super) const DEPTH_BLOCK: usize = 256;

/// Multiplies and finishes all rows.
///
/// # Panics
/// If the activations are shorter than the rows say; the caller vouches for the output ([`Epilogue::finish`]).
pub(crate) fn multiply(call: &Call<'_, f32>) {
    let Call { rows, a, side, taps, extra, .. } = call;
    let (order, depth) = (&side.packed().order, side.depth());
    assert_eq!(taps.len(), order.taps(), "an offset a tap");
    let count = rows.count();
    if count == 0 || side.columns() == 0 {
        return;
    }
    let reach = rows.offset(count - 1) + taps.iter().max().unwrap_or(&0) + depth;
    assert!(reach <= a.len(), "the rows lie in the activations");
    let step = match side {
        Side::Forward(_) => 1,
        Side::Transposed(packed) => packed.order.width(),
    };
    // A transposed block starts with a panel.
    let most = (DEPTH_BLOCK / step).max(1) * step;
    let mut depths = blocks(order.taps(), depth, most, step);
    let own = depths.len();
    if let Some((low, up)) = extra {
        assert_eq!(low.len(), count * up.depth(), "a row of the other product for each row");
        assert_eq!(up.columns(), side.columns(), "the same columns");
        assert_eq!(up.vectors(), side.vectors(), "the same panels");
        assert!(up.depth() <= DEPTH_BLOCK, "a shallow product");
        depths.push(Block { tap: 0, taps: 1, start: 0, len: up.depth() });
    }
    let width = side.vectors() * side.tier().lanes();
    let tasks =
        Tasks::new(count, rows_in_task(4 * rows.stride(), 8), side.columns().div_ceil(width), 8);
    tasks.for_each(Scratch::default, |scratch, rows, panels| {
        dispatch(side.tier(), Task { call, depths: &depths, own, rows, panels, scratch });
    });
}

#[derive(Default)]
struct Scratch {
    offsets: Vec<usize>,
    targets: Vec<usize>,
    bases: Vec<usize>,
    weights: Buffer,
    sums: Buffer,
}

struct Task<'a> {
    call: &'a Call<'a, f32>,
    depths: &'a [Block],
    /// Blocks of the first product; the rest is the other one's.
    own: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    scratch: &'a mut Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, depths, own, rows, panels, scratch } = self;
        let Scratch { offsets, targets, bases, weights, sums } = scratch;
        let padded = rows.len().next_multiple_of(S::TILE_ROWS);
        let last = rows.end - 1;
        offsets.clear();
        targets.clear();
        call.rows.push_offsets(rows.clone(), offsets);
        call.rows.push_targets(rows.clone(), targets);
        // Rows that fill the last tile are the last row again.
        offsets.resize(padded, call.rows.offset(last));
        let width = call.side.vectors() * S::LANES;
        let sums = sums.reserve(padded * width);
        for panel in panels {
            let first = panel * width;
            let vectors = (call.side.columns() - first).div_ceil(S::LANES).min(MAX_VECTORS);
            let vectors = vectors.min(call.side.vectors());
            for (at, &block) in depths.iter().enumerate() {
                bases.clear();
                let (side, a, low) = match &call.extra {
                    Some((low, up)) if at >= own => {
                        bases.push(0);
                        (up, *low, Some((rows.start, up.depth(), last)))
                    }
                    _ => {
                        let taps = &call.taps[block.tap..][..block.taps];
                        bases.extend(taps.iter().map(|tap| tap + block.start));
                        (&call.side, call.a, None)
                    }
                };
                // SAFETY: the block is one of the side's.
                let b = unsafe { panel_of(simd, side, block, panel, vectors, weights) };
                // Rows lie in the activations, as was checked in `multiply`.
                let sweep = Sweep {
                    a: a.as_ptr(),
                    offsets,
                    low,
                    bases,
                    b,
                    depth: block.len,
                    sums,
                    vectors,
                    accumulate: at > 0,
                };
                // Not inlined: the micro-kernel is compiled once a tier.
                dispatch(S::TIER, sweep);
            }
            let columns = first..first + vectors * S::LANES;
            // SAFETY: the block has all rows and columns; the rest is the caller's word.
            unsafe { call.epilogue.finish(simd, targets, columns, sums, vectors * S::LANES) };
        }
    }
}

/// The panel's part of a block of the depth, `[tap][channel][vectors · LANES]`, where it lies or in scratch.
///
/// # Safety
/// The block is one that was cut for this side.
#[inline(always)]
pub(super) unsafe fn panel_of<S: Simd>(
    simd: S,
    side: &Side<'_>,
    block: Block,
    panel: usize,
    vectors: usize,
    scratch: &mut Buffer,
) -> *const f32 {
    let width = vectors * S::LANES;
    match side {
        Side::Forward(packed) => {
            let order = &packed.order;
            let start = panel * order.width() * order.taps() * order.channels
                + (block.tap * order.channels + block.start) * width;
            let numbers = start..start + block.depth() * width;
            let to = match &packed.values {
                Values::F32(values) => return values.as_slice()[numbers].as_ptr(),
                _ => scratch.reserve(numbers.len()),
            };
            // SAFETY: reserved.
            let to_slice = unsafe { std::slice::from_raw_parts_mut(to, numbers.len()) };
            match &packed.values {
                Values::Bf16(values) => Element::convert(&values.as_slice()[numbers], to_slice),
                Values::F16(values) => Element::convert(&values.as_slice()[numbers], to_slice),
                Values::F32(_) | Values::Pairs(_) => unreachable!("packed in lanes, not in f32"),
            }
            to
        }
        Side::Transposed(packed) => {
            let room = block.taps * transposed::lanes_room(&packed.order, block.len);
            let to = scratch.reserve(room);
            let first = panel * MAX_VECTORS * S::LANES;
            let channels = first..(first + width).min(packed.order.channels);
            // SAFETY: there is room; blocks start with panels.
            unsafe { transposed::lanes(simd, packed, block, channels, width, to) };
            to
        }
    }
}

/// Every row of a task against a panel's part of a block of the depth.
///
/// Whoever runs it vouches that every row can be read for the depth at each base, and that the weights and the sums are
/// there.
pub(super) struct Sweep<'a> {
    pub(super) a: *const f32,
    pub(super) offsets: &'a [usize],
    /// First row, distance between rows and last row of the other product, if rows are its.
    pub(super) low: Option<(usize, usize, usize)>,
    /// From a row's start to the block under each tap.
    pub(super) bases: &'a [usize],
    pub(super) b: *const f32,
    /// Under each tap.
    pub(super) depth: usize,
    pub(super) sums: *mut f32,
    pub(super) vectors: usize,
    pub(super) accumulate: bool,
}

impl Kernel for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // The row count is a constant of the tier.
        match (self.vectors, S::TILE_ROWS) {
            (1, 8) => self.tiles::<S, 1, 8>(simd),
            (2, 8) => self.tiles::<S, 2, 8>(simd),
            (_, 8) => self.tiles::<S, 3, 8>(simd),
            (1, 4) => self.tiles::<S, 1, 4>(simd),
            (2, 4) => self.tiles::<S, 2, 4>(simd),
            (_, 4) => self.tiles::<S, 3, 4>(simd),
            (1, _) => self.tiles::<S, 1, 2>(simd),
            (2, _) => self.tiles::<S, 2, 2>(simd),
            (_, _) => self.tiles::<S, 3, 2>(simd),
        }
    }
}

impl Sweep<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const V: usize, const R: usize>(self, simd: S) {
        let Self { a, offsets, low, bases, b, depth, sums, accumulate, .. } = self;
        let width = V * S::LANES;
        for (tile, offsets) in offsets.chunks_exact(R).enumerate() {
            let mut rows = [a; R];
            for r in 0..R {
                let at = match low {
                    None => offsets[r],
                    Some((first, stride, last)) => (first + tile * R + r).min(last) * stride,
                };
                // SAFETY: the caller's word.
                rows[r] = unsafe { rows[r].add(at) };
            }
            // SAFETY: as above.
            unsafe {
                let sums = sums.add(tile * R * width);
                micro::<S, V, R>(simd, &rows, (bases, depth), b, sums, accumulate);
            }
        }
    }
}

/// `sums (+)= A · B` for `R` rows and `V` registers of columns.
///
/// # Safety
/// `depth` numbers can be read at each base of each row, and for each base `depth · V · LANES` at `b`; the sums are
/// `R · V · LANES` numbers.
#[inline(always)]
unsafe fn micro<S: Simd, const V: usize, const R: usize>(
    simd: S,
    rows: &[*const f32; R],
    (bases, depth): (&[usize], usize),
    mut b: *const f32,
    to: *mut f32,
    accumulate: bool,
) {
    let mut sums = [[simd.zero(); V]; R];
    for &base in bases {
        for k in base..base + depth {
            // SAFETY: step by step through the rows and the panel.
            unsafe {
                // Indexed loops: over iterators the compiler keeps columns on the stack.
                let mut columns = [simd.zero(); V];
                for v in 0..V {
                    columns[v] = simd.load(b.add(v * S::LANES));
                }
                b = b.add(V * S::LANES);
                for r in 0..R {
                    let row = simd.splat(*rows[r].add(k));
                    for v in 0..V {
                        sums[r][v] = simd.mul_add(row, columns[v], sums[r][v]);
                    }
                }
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            // SAFETY: the caller's word.
            unsafe {
                let to = to.add((r * V + v) * S::LANES);
                // Blocks are summed on their own: rounding errors grow with the length of a sum.
                let sum = if accumulate { simd.add(simd.load(to), sums[r][v]) } else { sums[r][v] };
                simd.store(to, sum);
            }
        }
    }
}
