//! The backward pass in f32: a task is a chunk of keys of one head, which meets all queries.
//!
//! With weights `P`, computed again from the logarithms of their sums: `dV = Pᵀ dO`, `dP = dO Vᵀ`,
//! `dS = P ∘ (dP - Σ dO ∘ O)`, `dQ = scale · dS K`, `dK = scale · dSᵀ Q`, as in FlashAttention-2 (Dao 2023). A chunk's
//! part of dQ is kept apart; the parts are added in order, so that the number of threads does not matter.

use std::ops::Range;

use rayon::prelude::*;

use super::forward::{fill_bias, weight};
use super::heads::{Head, Number, Shared, Sizes, View};
use super::pack::{
    Arena, PackFeatures, PackRows, Scratch, load, pack_columns, pack_plain, unpack_columns,
    write_row,
};
use super::product::{Finish, Gather, KeyProduct, MAX_VECTORS, Rows, Start, weigh, with_tile};
use super::{Attention, LOG2_E, dispatch};
use crate::gemm::PANEL_ROWS;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Keys in a block: their weights and slopes stay in the first-level cache.
const KEY_BLOCK: usize = 64;
/// Tasks that a call is cut into, if its heads have keys for as many.
const TASKS: usize = 32;
/// Keys that are worth a task.
const MIN_CHUNK: usize = 128;

/// What the backward pass is given beside the output's logarithms.
pub(super) struct Inputs<'a, T> {
    pub(super) q: View<'a, T>,
    pub(super) k: View<'a, T>,
    pub(super) v: View<'a, T>,
    pub(super) out: View<'a, T>,
    /// Of the output.
    pub(super) grad: View<'a, T>,
    pub(super) logs: &'a [f32],
}

/// Gradients of queries, keys and values.
pub(super) fn backward<T: Number>(
    op: &Attention,
    sizes: &Sizes,
    inputs: &Inputs<'_, T>,
) -> [Vec<T>; 3] {
    let zeros = |rows: usize| vec![T::default(); sizes.batch * rows * sizes.inner()];
    let (mut dq, mut dk, mut dv) = (zeros(sizes.queries), zeros(sizes.keys), zeros(sizes.keys));
    if sizes.queries == 0 || sizes.batch == 0 {
        return [dq, dk, dv];
    }
    // 1. dK, dV, and the chunks' parts of dQ
    let lanes = op.tier.lanes();
    let features = [sizes.d.next_multiple_of(PANEL_ROWS), sizes.d.next_multiple_of(lanes)];
    let plan = &Plan::new(sizes, KEY_BLOCK, (MAX_VECTORS * lanes, true), features);
    let mut parts = Arena::new(sizes.all_heads() * plan.chunks * plan.part);
    let out = [&mut dk, &mut dv].map(|values| Shared::new(values));
    parts.values_mut().par_chunks_mut(plan.part).enumerate().with_max_len(1).for_each(
        |(index, dq)| {
            let (at, chunk) = (index / plan.chunks, index % plan.chunks);
            dispatch(op.tier, Chunk { op, sizes, plan, inputs, at, chunk, dq, out });
        },
    );
    // 2. the sum of the parts
    SumParts::all(op, sizes, plan, parts.values(), &mut dq);
    [dq, dk, dv]
}

/// How a call is cut up. It depends on sizes and tier alone.
pub(super) struct Plan {
    queries: usize,
    /// Queries in a panel.
    width: usize,
    /// True if the last panel is as narrow as its queries allow.
    narrows: bool,
    /// Panels of a head.
    pub(super) panels: usize,
    /// Features rounded up to rows of a product, and to its columns.
    features: usize,
    lanes: usize,
    /// Chunks of a head's keys, and the keys in one.
    pub(super) chunks: usize,
    chunk_keys: usize,
    /// Numbers in a chunk's part of dQ, panel by panel as `(features, queries)`.
    pub(super) part: usize,
}

impl Plan {
    pub(super) fn new(
        sizes: &Sizes,
        key_block: usize,
        (width, narrows): (usize, bool),
        [features, lanes]: [usize; 2],
    ) -> Self {
        let most = sizes.keys.div_ceil(MIN_CHUNK);
        let wanted = TASKS.div_ceil(sizes.all_heads().max(1)).min(most);
        let chunk_keys = sizes.keys.div_ceil(wanted).next_multiple_of(key_block);
        let panels = sizes.queries.div_ceil(width);
        Self {
            queries: sizes.queries,
            width,
            narrows,
            panels,
            features,
            lanes,
            chunks: sizes.keys.div_ceil(chunk_keys),
            chunk_keys,
            part: panels * features * width,
        }
    }
    /// Queries of a panel.
    pub(super) fn rows(&self, panel: usize) -> Range<usize> {
        panel * self.width..((panel + 1) * self.width).min(self.queries)
    }
    /// Keys of a chunk.
    pub(super) fn keys(&self, chunk: usize, sizes: &Sizes) -> Range<usize> {
        chunk * self.chunk_keys..((chunk + 1) * self.chunk_keys).min(sizes.keys)
    }
}

/// A chunk of keys of a head.
struct Chunk<'a, T> {
    op: &'a Attention,
    sizes: &'a Sizes,
    plan: &'a Plan,
    inputs: &'a Inputs<'a, T>,
    at: usize,
    chunk: usize,
    /// This chunk's part of dQ.
    dq: &'a mut [f32],
    /// dK and dV.
    out: [Shared<T>; 2],
}

impl<T: Number> Kernel for Chunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, sizes, plan, inputs, at, chunk, dq, out } = self;
        let (d, width, lanes) = (sizes.d, plan.width, plan.lanes);
        let keys = plan.keys(chunk, sizes);
        let first = keys.start;
        let rows = keys.len().next_multiple_of(KEY_BLOCK);
        let mut scratch = Scratch::take();
        let arrays = scratch.arrays([
            rows * d,
            rows * d,
            rows * plan.features,
            rows * lanes,
            rows * lanes,
            width * d,
            width * d,
            width * lanes,
            width * lanes,
            width,
            KEY_BLOCK * width,
            KEY_BLOCK * width,
        ]);
        let [k, v, k_features, dk, dv, q_columns, grad_columns, q_rows, grad_rows, ..] = arrays;
        let [.., means, weights, slopes] = arrays;
        let heads = [&inputs.k, &inputs.v].map(|view| view.head(sizes, at));
        let [q, o, grad] = [&inputs.q, &inputs.out, &inputs.grad].map(|view| view.head(sizes, at));
        // SAFETY: the arrays have these sizes, the rows are in the heads, and these rows of dK and dV are this task's.
        unsafe {
            // 1. keys and values, block by block
            let room = |array, len| std::slice::from_raw_parts_mut(array, len + MAX_LANES);
            for start in keys.clone().step_by(KEY_BLOCK) {
                let rows = start..(start + KEY_BLOCK).min(keys.end);
                let offset = start - first;
                for (head, to) in [(heads[0], k), (heads[1], v)] {
                    let to = room(to.add(offset * d), KEY_BLOCK * d);
                    PackRows { head, rows: rows.clone(), to }.run(simd);
                }
                let to = room(k_features.add(offset * plan.features), KEY_BLOCK * plan.features);
                PackFeatures { head: heads[0], rows, to }.run(simd);
            }
            for panel in 0..plan.panels {
                // 2. queries and gradients of outputs as columns and as rows, and their means
                let queries = plan.rows(panel);
                let vectors = queries.len().div_ceil(S::LANES);
                let wide = vectors * S::LANES;
                pack_columns(simd, &q, queries.clone(), wide, op.scale * LOG2_E, q_columns);
                pack_plain(simd, &q, queries.clone(), lanes, q_rows);
                pack_columns(simd, &grad, queries.clone(), wide, 1.0, grad_columns);
                pack_plain(simd, &grad, queries.clone(), lanes, grad_rows);
                for (i, query) in queries.clone().enumerate() {
                    *means.add(i) = dot(simd, o.row(query), grad.row(query));
                }
                let dq = dq.as_mut_ptr().add(panel * plan.features * width);
                for start in keys.clone().step_by(KEY_BLOCK) {
                    // 3. weights and slopes of a block, and its part of dQ
                    let rows = start..(start + KEY_BLOCK).min(keys.end);
                    let (offset, count) = (start - first, rows.len());
                    if let Some(bias) = &op.bias {
                        fill_bias(bias, sizes.keys, &queries, rows, weights, wide);
                    }
                    let meeting = Meeting {
                        d,
                        features: plan.features,
                        count,
                        k: k.add(offset * d),
                        v: v.add(offset * d),
                        k_features: k_features.add(offset * plan.features),
                        q: q_columns,
                        grad: grad_columns,
                        logs: inputs.logs[at * sizes.padded_queries() + queries.start..].as_ptr(),
                        means,
                        biased: op.bias.is_some(),
                        weights,
                        slopes,
                        dq,
                        first: offset == 0,
                    };
                    with_tile!(S, vectors, meeting.of_vectors(simd));
                    // 4. the panel's part of dV and dK
                    for (left, columns, to) in [(weights, grad_rows, dv), (slopes, q_rows, dk)] {
                        let rows = Rows { start: left, row: wide, step: 1 };
                        let (keys, depth) = (count.next_multiple_of(PANEL_ROWS), queries.len());
                        let (to, there) = (to.add(offset * lanes), panel > 0);
                        dispatch(S::TIER, Gather { keys, depth, rows, columns, lanes, to, there });
                    }
                }
            }
            for (from, scale, out) in [(dk, op.scale, out[0]), (dv, 1.0, out[1])] {
                let keys = keys.clone();
                WriteRows { sizes, at, keys, from, lanes, scale, out }.run(simd);
            }
        }
    }
}

/// Writes dK or dV of keys, times `scale`, from rows of `lanes` numbers. Who makes it vouches for both.
pub(super) struct WriteRows<'a, T> {
    pub(super) sizes: &'a Sizes,
    pub(super) at: usize,
    pub(super) keys: Range<usize>,
    pub(super) from: *mut f32,
    /// A multiple of a register.
    pub(super) lanes: usize,
    pub(super) scale: f32,
    pub(super) out: Shared<T>,
}

impl<T: Number> Kernel for WriteRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { sizes, at, keys, from, lanes, scale, out } = self;
        for (i, row) in keys.enumerate() {
            // SAFETY: the word of who made this.
            unsafe {
                let from = from.add(i * lanes);
                for j in (0..lanes).step_by(S::LANES) {
                    let scaled = simd.mul(simd.load(from.add(j)), simd.splat(scale));
                    simd.store(from.add(j), scaled);
                }
                write_row(simd, from, out.row(sizes.keys, sizes, at, row), sizes.d);
            }
        }
    }
}

/// A block of keys and a panel of queries, packed, with room for what is between them.
struct Meeting {
    d: usize,
    /// Rounded up to a panel.
    features: usize,
    /// Keys.
    count: usize,
    k: *const f32,
    v: *const f32,
    k_features: *const f32,
    q: *const f32,
    grad: *const f32,
    logs: *const f32,
    means: *const f32,
    /// True if the weights hold a bias.
    biased: bool,
    weights: *mut f32,
    slopes: *mut f32,
    dq: *mut f32,
    /// True if there is nothing in dQ yet.
    first: bool,
}

impl Meeting {
    /// # Safety
    /// All is there for the keys rounded up to a panel, and the queries to `V` registers.
    #[inline(always)]
    unsafe fn of_vectors<S: Simd, const V: usize, const R: usize>(&self, simd: S) {
        let &Self { d, features, count, weights, slopes, .. } = self;
        let start = if self.first { Start::Zero } else { Start::There };
        // SAFETY: the caller's word.
        unsafe {
            let (keys, columns, added) = (self.k, self.q, self.biased);
            KeyProduct { d, count, keys, columns, to: weights, added }
                .run::<S, V, R>(simd, &mut Weights { logs: self.logs });
            let (keys, columns, added) = (self.v, self.grad, false);
            KeyProduct { d, count, keys, columns, to: slopes, added }
                .run::<S, V, R>(simd, &mut Slopes { means: self.means, weights });
            weigh::<S, V, R>(simd, (features, count), self.k_features, slopes, start, self.dq);
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
                    let weight = self.weights.add(((key + r) * V + v) * S::LANES);
                    let slope = simd.sub(tile[r][v], mean);
                    tile[r][v] = simd.mul(simd.load(weight), slope);
                }
            }
        }
    }
}

/// Adds the chunks' parts of dQ for a panel.
pub(super) struct SumParts<'a, T> {
    op: &'a Attention,
    sizes: &'a Sizes,
    plan: &'a Plan,
    at: usize,
    panel: usize,
    /// Of this head.
    parts: &'a [f32],
    dq: Shared<T>,
}

impl<'a, T: Number> SumParts<'a, T> {
    /// Adds all parts.
    pub(super) fn all(
        op: &'a Attention,
        sizes: &'a Sizes,
        plan: &'a Plan,
        parts: &[f32],
        dq: &mut [T],
    ) {
        let dq = Shared::new(dq);
        (0..sizes.all_heads() * plan.panels).into_par_iter().for_each(|index| {
            let (at, panel) = (index / plan.panels, index % plan.panels);
            let parts = &parts[at * plan.chunks * plan.part..][..plan.chunks * plan.part];
            dispatch(op.tier, SumParts { op, sizes, plan, at, panel, parts, dq });
        });
    }
}

impl<T: Number> Kernel for SumParts<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, sizes, plan, at, panel, parts, dq } = self;
        let rows = plan.rows(panel);
        let narrow = rows.len().next_multiple_of(S::LANES);
        let width = if plan.narrows { narrow } else { plan.width };
        let size = plan.features * plan.width;
        let mut scratch = Scratch::take();
        let [total, stage] = scratch.arrays([size, PANEL_ROWS * plan.features]);
        // SAFETY: parts and total have one size; rows of this panel of dQ are this task's.
        unsafe {
            for (chunk, part) in parts.chunks(plan.part).enumerate() {
                let part = part[panel * size..][..size].as_ptr();
                for i in (0..plan.features * width).step_by(S::LANES) {
                    let mut sum = simd.mul(simd.load(part.add(i)), simd.splat(op.scale));
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
pub(super) fn dot<S: Simd, T: Number>(simd: S, a: &[T], b: &[T]) -> f32 {
    let mut sum = simd.zero();
    for (a, b) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
        sum = simd.mul_add(load(simd, a), load(simd, b), sum);
    }
    simd.to_array(sum)[..S::LANES].iter().sum()
}
