//! The backward pass in f32: a task is a chunk of keys of one head, which meets all queries.
//!
//! With weights `P`, computed again from the logarithms of their sums: `dV = Pᵀ dO`, `dP = dO Vᵀ`,
//! `dS = P ∘ (dP - Σ dO ∘ O)`, `dQ = scale · dS K`, `dK = scale · dSᵀ Q`, as in FlashAttention-2 (Dao 2023). A chunk's
//! part of dQ is kept apart; the parts are added in order, so that the threads' number does not matter.

use rayon::prelude::*;

use super::forward::{fill_bias, weight};
use super::heads::{Head, Number, Shared, Sizes, View};
use super::pack::{
    Arena, PackFeatures, PackRows, Scratch, load, pack_columns, pack_plain, unpack_columns, write_row,
};
use super::product::{
    Finish, KeyProduct, MAX_VECTORS, Rows, Start, store, sums, weigh, with_tile,
};
use super::{Attention, LOG2_E, dispatch};
use crate::gemm::PANEL_ROWS;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Keys in a block.
const KEY_BLOCK: usize = 64;
/// Tasks that a call is cut into, if it has as many heads and blocks of keys.
const TASKS: usize = 32;

/// Gradients of queries, keys and values, given these, the output and its gradient.
pub(super) fn backward<T: Number>(
    op: &Attention,
    sizes: &Sizes,
    [q, k, v, out, grad]: [View<'_, T>; 5],
    logs: &[f32],
) -> [Vec<T>; 3] {
    let zeros = |rows: usize| vec![T::default(); sizes.batch * rows * sizes.inner()];
    let (mut dq, mut dk, mut dv) = (zeros(sizes.queries), zeros(sizes.keys), zeros(sizes.keys));
    if sizes.queries == 0 {
        return [dq, dk, dv];
    }
    // 1. queries and gradients as columns and as rows
    let plan = Plan::new(op, sizes);
    let mut panels = Arena::new(sizes.all_heads() * plan.panels * plan.step);
    panels.values_mut().par_chunks_mut(plan.step).enumerate().for_each(|(index, to)| {
        let (at, panel) = (index / plan.panels, index % plan.panels);
        let [q, out, grad] = [&q, &out, &grad].map(|view| view.head(sizes, at));
        dispatch(op.tier, PackPanel { op, plan: &plan, panel, q, out, grad, to });
    });

    // 2. dK, dV, and the chunks' parts of dQ
    let part = plan.panels * plan.features * plan.width;
    let mut parts = Arena::new(sizes.all_heads() * plan.chunks * part);
    let (shared_dk, shared_dv) = (Shared::new(&mut dk), Shared::new(&mut dv));
    parts.values_mut().par_chunks_mut(part).enumerate().with_max_len(1).for_each(|(index, dq)| {
        let (at, chunk) = (index / plan.chunks, index % plan.chunks);
        let [k, v] = [&k, &v].map(|view| view.head(sizes, at));
        let panels = &panels.values()[at * plan.panels * plan.step..];
        let logs = &logs[at * sizes.padded_queries()..];
        let plan = &plan;
        let (dk, dv) = (shared_dk, shared_dv);
        dispatch(op.tier, Chunk { op, sizes, plan, at, chunk, k, v, panels, logs, dq, dk, dv });
    });

    // 3. the sum of the parts
    let shared = Shared::new(&mut dq);
    (0..sizes.all_heads() * plan.panels).into_par_iter().for_each(|index| {
        let (at, panel) = (index / plan.panels, index % plan.panels);
        let parts = &parts.values()[at * plan.chunks * part..][..plan.chunks * part];
        dispatch(op.tier, SumParts { op, sizes, plan: &plan, at, panel, parts, dq: shared });
    });
    [dq, dk, dv]
}

/// How a call is cut up, and what lies where in a packed panel of queries.
struct Plan {
    /// Queries in a panel; the last one may be narrower.
    width: usize,
    queries: usize,
    d: usize,
    /// Panels of a head.
    panels: usize,
    /// Features rounded up to a panel of rows, and to registers.
    features: usize,
    lanes: usize,
    /// Chunks of a head's keys, and the keys in one.
    chunks: usize,
    chunk_keys: usize,
    /// Numbers in a packed panel: two arrays of columns, two of rows, the means.
    step: usize,
}

impl Plan {
    fn new(op: &Attention, sizes: &Sizes) -> Self {
        let width = MAX_VECTORS * op.tier.lanes();
        let blocks = sizes.keys.div_ceil(KEY_BLOCK);
        let wanted = TASKS.div_ceil(sizes.all_heads().max(1)).min(blocks);
        let chunk_keys = blocks.div_ceil(wanted) * KEY_BLOCK;
        let lanes = sizes.d.next_multiple_of(op.tier.lanes());
        let step = 2 * width * (sizes.d + lanes) + width + MAX_LANES;
        Self {
            width,
            queries: sizes.queries,
            d: sizes.d,
            panels: sizes.queries.div_ceil(width),
            features: sizes.d.next_multiple_of(PANEL_ROWS),
            lanes,
            chunks: sizes.keys.div_ceil(chunk_keys),
            chunk_keys,
            step: step.next_multiple_of(MAX_LANES),
        }
    }
    /// Queries of a panel.
    fn rows(&self, panel: usize) -> std::ops::Range<usize> {
        panel * self.width..((panel + 1) * self.width).min(self.queries)
    }
    /// Where rows of queries, columns of gradients, rows of gradients and means start; columns of queries are first.
    const fn offsets(&self) -> [usize; 4] {
        let (columns, rows) = (self.width * self.d, self.width * self.lanes);
        // Columns last among their like: packing may write a register more, which what follows overwrites.
        [columns, columns + rows, 2 * columns + rows, 2 * (columns + rows)]
    }
}

/// Packs a panel of queries, gradients of outputs, and the means `Σ dO ∘ O`.
struct PackPanel<'a, T> {
    op: &'a Attention,
    plan: &'a Plan,
    panel: usize,
    q: Head<'a, T>,
    out: Head<'a, T>,
    grad: Head<'a, T>,
    to: &'a mut [f32],
}

impl<T: Number> Kernel for PackPanel<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, plan, panel, q, out, grad, to } = self;
        let rows = plan.rows(panel);
        let width = rows.len().next_multiple_of(S::LANES);
        let [q_rows, grad_columns, grad_rows, means] = plan.offsets();
        let to = to.as_mut_ptr();
        // SAFETY: the panel has room for each part where the plan says, and the rows are in the heads.
        unsafe {
            pack_columns(simd, &q, rows.clone(), width, op.scale * LOG2_E, to);
            pack_plain(simd, &q, rows.clone(), plan.lanes, to.add(q_rows));
            pack_columns(simd, &grad, rows.clone(), width, 1.0, to.add(grad_columns));
            pack_plain(simd, &grad, rows.clone(), plan.lanes, to.add(grad_rows));
            for (i, row) in rows.enumerate() {
                let (out, grad) = (out.row(row), grad.row(row));
                *to.add(means + i) = dot(simd, out, grad);
            }
        }
    }
}

/// A chunk of keys of a head.
struct Chunk<'a, T> {
    op: &'a Attention,
    sizes: &'a Sizes,
    plan: &'a Plan,
    at: usize,
    chunk: usize,
    k: Head<'a, T>,
    v: Head<'a, T>,
    /// Of this head.
    panels: &'a [f32],
    /// Of this head's queries.
    logs: &'a [f32],
    /// This chunk's part of dQ, panel by panel as `(features, queries)`.
    dq: &'a mut [f32],
    dk: Shared<T>,
    dv: Shared<T>,
}

impl<T: Number> Kernel for Chunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let Sizes { d, keys, .. } = *self.sizes;
        let Plan { width, features, lanes, .. } = *self.plan;
        let mut scratch = Scratch::take();
        let [k, v, k_features, weights, slopes, dk, dv] = scratch.arrays([
            KEY_BLOCK * d,
            KEY_BLOCK * d,
            KEY_BLOCK * features,
            KEY_BLOCK * width,
            KEY_BLOCK * width,
            KEY_BLOCK * lanes,
            KEY_BLOCK * lanes,
        ]);
        let first = self.chunk * self.plan.chunk_keys;
        let end = (first + self.plan.chunk_keys).min(keys);
        for start in (first..end).step_by(KEY_BLOCK) {
            let rows = start..(start + KEY_BLOCK).min(end);
            let block = Block { rows: rows.clone(), first, k, v, k_features, weights, slopes };
            // SAFETY: the arrays have these sizes, and rows of dK and dV are this task's.
            unsafe {
                let room = |array, row| std::slice::from_raw_parts_mut(array, row + MAX_LANES);
                let (head, to) = (self.k, room(k, KEY_BLOCK * d));
                PackRows { head, rows: rows.clone(), to }.run(simd);
                let to = room(k_features, KEY_BLOCK * features);
                PackFeatures { head, rows: rows.clone(), to }.run(simd);
                let (head, to) = (self.v, room(v, KEY_BLOCK * d));
                PackRows { head, rows: rows.clone(), to }.run(simd);
                for panel in 0..self.plan.panels {
                    let queries = self.plan.rows(panel);
                    let vectors = queries.len().div_ceil(S::LANES);
                    let this = &mut self;
                    with_tile!(S, vectors, this.meet(simd, &block, panel));
                    let panel_start = this.panels.as_ptr().add(panel * this.plan.step);
                    let [q_rows, _, grad_rows, _] = this.plan.offsets();
                    for (left, right, to) in [(weights, grad_rows, dv), (slopes, q_rows, dk)] {
                        let rows = Rows { start: left, row: vectors * S::LANES, step: 1 };
                        let columns = panel_start.add(right);
                        let depth = queries.len();
                        let (keys, there) = (rows_of_panels(block.rows.len()), panel > 0);
                        dispatch(S::TIER, Gather { keys, depth, rows, columns, lanes, to, there });
                    }
                }
                for (from, scale, to) in [(dk, self.op.scale, self.dk), (dv, 1.0, self.dv)] {
                    for (i, row) in rows.clone().enumerate() {
                        let from = from.add(i * lanes);
                        for j in (0..lanes).step_by(S::LANES) {
                            let scaled = simd.mul(simd.load(from.add(j)), simd.splat(scale));
                            simd.store(from.add(j), scaled);
                        }
                        write_row(simd, from, to.row(keys, self.sizes, self.at, row), d);
                    }
                }
            }
        }
    }
}

/// A block of a chunk's keys, packed, with room for products with a panel of queries.
struct Block {
    /// Of the head.
    rows: std::ops::Range<usize>,
    /// The chunk's first key.
    first: usize,
    k: *const f32,
    v: *const f32,
    k_features: *const f32,
    weights: *mut f32,
    slopes: *mut f32,
}

impl<T: Number> Chunk<'_, T> {
    /// Weights and slopes of a block, and its part of dQ, for a panel of queries.
    ///
    /// # Safety
    /// The block has its keys packed and room for all rows of its panels.
    #[inline(always)]
    unsafe fn meet<S: Simd, const V: usize, const R: usize>(
        &mut self,
        simd: S,
        block: &Block,
        panel: usize,
    ) {
        let Self { op, sizes, plan, panels, logs, .. } = *self;
        let Sizes { d, keys, .. } = *sizes;
        let [_, grad_columns, _, means] = plan.offsets();
        let width = V * S::LANES;
        let queries = plan.rows(panel);
        let count = block.rows.len();
        let (weights, slopes) = (block.weights, block.slopes);
        // SAFETY: the block's and the plan's sizes.
        unsafe {
            let packed = panels.as_ptr().add(panel * plan.step);
            if let Some(bias) = &op.bias {
                fill_bias(bias, keys, &queries, block.rows.clone(), weights, width);
            }
            let mut finish = Weights { logs: logs.as_ptr().add(queries.start) };
            let (columns, added) = (packed, op.bias.is_some());
            KeyProduct { d, count, keys: block.k, columns, to: weights, added }
                .run::<S, V, R>(simd, &mut finish);
            let mut finish = Slopes { means: packed.add(means), weights };
            let columns = packed.add(grad_columns);
            KeyProduct { d, count, keys: block.v, columns, to: slopes, added: false }
                .run::<S, V, R>(simd, &mut finish);
            let start = if block.rows.start == block.first { Start::Zero } else { Start::There };
            let dq = self.dq.as_mut_ptr().add(panel * plan.features * plan.width);
            weigh::<S, V, R>(simd, (plan.features, count), block.k_features, slopes, start, dq);
        }
    }
}

/// From scores to weights.
struct Weights {
    logs: *const f32,
}

impl<S: Simd, const V: usize> Finish<S, V> for Weights {
    #[inline(always)]
    unsafe fn finish<const R: usize>(
        &mut self,
        simd: S,
        tile: &mut [[S::V; V]; R],
        _key: usize,
        _count: usize,
    ) {
        for v in 0..V {
            // SAFETY: there is a number a query.
            let log = unsafe { simd.load(self.logs.add(v * S::LANES)) };
            for r in 0..R {
                tile[r][v] = weight(simd, tile[r][v], log);
            }
        }
    }
}

/// From slopes of the weights to those of the scores.
struct Slopes {
    means: *const f32,
    weights: *const f32,
}

impl<S: Simd, const V: usize> Finish<S, V> for Slopes {
    #[inline(always)]
    unsafe fn finish<const R: usize>(
        &mut self,
        simd: S,
        tile: &mut [[S::V; V]; R],
        key: usize,
        _count: usize,
    ) {
        for v in 0..V {
            // SAFETY: there is a mean a query, and a weight for each number of the tile.
            unsafe {
                let mean = simd.load(self.means.add(v * S::LANES));
                for r in 0..R {
                    let weight = self.weights.add((key + r) * V * S::LANES + v * S::LANES);
                    let slope = simd.sub(tile[r][v], mean);
                    tile[r][v] = simd.mul(simd.load(weight), slope);
                }
            }
        }
    }
}

/// `to = to + rows · columns` of `(keys, queries)` and `(queries, lanes)`.
///
/// Whoever runs it vouches that all can be read and `to` written.
struct Gather {
    /// A multiple of a panel.
    keys: usize,
    depth: usize,
    rows: Rows,
    columns: *const f32,
    /// Numbers in a row of columns and of `to`.
    lanes: usize,
    to: *mut f32,
    /// True to add to what is there.
    there: bool,
}

impl Kernel for Gather {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let vectors = self.lanes / S::LANES;
        for first in (0..vectors).step_by(MAX_VECTORS) {
            let this = &self;
            // SAFETY: inside the factors, by the word of who runs this.
            unsafe {
                with_tile!(S, vectors - first, this.columns(simd, first * S::LANES));
            }
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

/// Adds the chunks' parts of dQ for a panel.
struct SumParts<'a, T> {
    op: &'a Attention,
    sizes: &'a Sizes,
    plan: &'a Plan,
    at: usize,
    panel: usize,
    /// Of this head.
    parts: &'a [f32],
    dq: Shared<T>,
}

impl<T: Number> Kernel for SumParts<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, sizes, plan, at, panel, parts, dq } = self;
        let rows = plan.rows(panel);
        let width = rows.len().next_multiple_of(S::LANES);
        let size = plan.features * plan.width;
        let parts = parts[panel * size..].chunks(size).step_by(plan.panels);
        let mut scratch = Scratch::take();
        let [total, stage] = scratch.arrays([size, PANEL_ROWS * plan.features]);
        // SAFETY: parts and total have one size; rows of this panel of dQ are this task's.
        unsafe {
            for (chunk, part) in parts.enumerate() {
                for i in (0..plan.features * width).step_by(S::LANES) {
                    let mut sum = simd.mul(simd.load(part.as_ptr().add(i)), simd.splat(op.scale));
                    if chunk > 0 {
                        sum = simd.add(sum, simd.load(total.add(i)));
                    }
                    simd.store(total.add(i), sum);
                }
            }
            let to = (dq.row(sizes.queries, sizes, at, rows.start), sizes.inner());
            unpack_columns(simd, total, width, rows.len(), sizes.d, stage, to);
        }
    }
}

/// `Σ a b` of rows.
#[inline(always)]
fn dot<S: Simd, T: Number>(simd: S, a: &[T], b: &[T]) -> f32 {
    let mut sum = simd.zero();
    let (a, b) = (a.chunks(S::LANES), b.chunks(S::LANES));
    for (a, b) in a.zip(b) {
        sum = simd.mul_add(load(simd, a), load(simd, b), sum);
    }
    simd.to_array(sum)[..S::LANES].iter().sum()
}

/// How many rows the panels of so many keys have.
const fn rows_of_panels(keys: usize) -> usize {
    keys.next_multiple_of(PANEL_ROWS)
}
