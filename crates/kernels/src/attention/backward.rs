//! The backward pass in f32: a task is a chunk of keys of one head, which meets all queries.
//!
//! With weights `P`, computed again from the logarithms of their sums: `dV = Pᵀ dO`, `dP = dO Vᵀ`,
//! `dS = P ∘ (dP - Σ dO ∘ O)`, `dQ = scale · dS K`, `dK = scale · dSᵀ Q`, as in FlashAttention-2 (Dao 2023). A chunk's
//! part of dQ is kept apart; the parts are added in order, so that the number of threads does not matter.

use rayon::prelude::*;

use super::forward::{fill_bias, weight};
use super::heads::{Number, Sizes};
use super::pack::{Arena, PackFeatures, PackRows, Scratch, pack_columns, pack_plain};
use super::parts::{Inputs, Plan, SumParts, WriteRows, dot};
use super::product::{Finish, Gather, KeyProduct, MAX_VECTORS, Rows, Start, weigh, with_tile};
use super::{Attention, LOG2_E, dispatch};
use crate::output::Target;
use crate::panel::PANEL_ROWS;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Keys in a block: their weights and slopes stay in the first-level cache.
const KEY_BLOCK: usize = 64;
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
    let out = [&mut dk, &mut dv].map(|values| Target::new(values.as_mut_ptr()));
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
    out: [Target<T>; 2],
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
