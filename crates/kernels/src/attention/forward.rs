//! The forward pass in f32: a task is a panel of queries of one head.

use rayon::prelude::*;

use super::heads::{Head, Number, Sizes, View};
use super::pack::{Arena, PackFeatures, PackRows, Scratch, pack_columns, unpack_columns};
use super::product::{Finish, KeyProduct, MAX_VECTORS, Start, weigh, with_tile};
use super::{Attention, LOG2_E, dispatch};
use crate::output::Target;
use crate::panel::PANEL_ROWS;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Keys in a block: its scores stay in the first-level cache.
const KEY_BLOCK: usize = 128;

/// `(b, n, heads · d)` of weighted values, and the logarithms for the backward pass if they are asked for.
pub(super) fn forward<T: Number>(
    op: &Attention,
    sizes: &Sizes,
    [q, k, v]: [View<'_, T>; 3],
) -> (Vec<T>, Option<Vec<f32>>) {
    let packed = Packed::new(op, sizes, &k, &v);
    let mut out = vec![T::default(); sizes.batch * sizes.queries * sizes.inner()];
    let mut logs = op.keep.then(|| vec![0.0; sizes.all_heads() * sizes.padded_queries()]);
    let shared = Target::new(out.as_mut_ptr());
    let shared_logs = logs.as_deref_mut().map(|logs| Target::new(logs.as_mut_ptr()));
    let width = MAX_VECTORS * op.tier.lanes();
    let panels = sizes.queries.div_ceil(width);
    (0..sizes.all_heads() * panels).into_par_iter().for_each(|task| {
        let (at, first) = (task / panels, task % panels * width);
        let q = q.head(sizes, at);
        let (packed, out, logs) = (&packed, shared, shared_logs);
        dispatch(op.tier, QueryPanel { op, sizes, q, at, first, packed, out, logs });
    });
    (out, logs)
}

/// Keys and values of all heads, packed block by block.
struct Packed {
    keys: Arena<f32>,
    values: Arena<f32>,
    /// Blocks of a head.
    blocks: usize,
    /// Numbers from one block of keys to the next, as of values.
    step: usize,
}

impl Packed {
    fn new<T: Number>(op: &Attention, sizes: &Sizes, k: &View<'_, T>, v: &View<'_, T>) -> Self {
        let blocks = sizes.keys.div_ceil(KEY_BLOCK);
        let rows = KEY_BLOCK.min(sizes.keys.next_multiple_of(PANEL_ROWS));
        // A register more, which packing may write.
        let step = rows * sizes.d.next_multiple_of(PANEL_ROWS) + MAX_LANES;
        let len = sizes.all_heads() * blocks * step;
        let (mut keys, mut values) = (Arena::new(len), Arena::new(len));
        let keys_of_blocks = keys.values_mut().par_chunks_mut(step);
        let values_of_blocks = values.values_mut().par_chunks_mut(step);
        keys_of_blocks.zip(values_of_blocks).enumerate().for_each(|(block, (keys, values))| {
            let (at, start) = (block / blocks, block % blocks * KEY_BLOCK);
            let rows = start..(start + KEY_BLOCK).min(sizes.keys);
            let (k, v) = (k.head(sizes, at), v.head(sizes, at));
            dispatch(op.tier, PackRows { head: k, rows: rows.clone(), to: keys });
            dispatch(op.tier, PackFeatures { head: v, rows, to: values });
        });
        Self { keys, values, blocks, step }
    }
}

struct QueryPanel<'a, T> {
    op: &'a Attention,
    sizes: &'a Sizes,
    q: Head<'a, T>,
    at: usize,
    /// The first query.
    first: usize,
    packed: &'a Packed,
    out: Target<T>,
    logs: Option<Target<f32>>,
}

impl<T: Number> Kernel for QueryPanel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rest = self.sizes.queries - self.first;
        // SAFETY: who makes this value vouches for the output, which the panel is in.
        unsafe { with_tile!(S, rest.div_ceil(S::LANES), self.of_vectors(simd)) }
    }
}

impl<T: Number> QueryPanel<'_, T> {
    /// # Safety
    /// The output has the sizes' shape, and this panel of it is this task's.
    #[inline(always)]
    unsafe fn of_vectors<S: Simd, const V: usize, const R: usize>(self, simd: S) {
        let Self { op, sizes, q, at, first, packed, out, logs } = self;
        let Sizes { d, keys, .. } = *sizes;
        let width = V * S::LANES;
        let rows = first..(first + width).min(sizes.queries);
        let features = d.next_multiple_of(PANEL_ROWS);
        let mut scratch = Scratch::take();
        let [queries, scores, sums, stage] =
            scratch.arrays([d * width, KEY_BLOCK * width, features * width, PANEL_ROWS * features]);
        // SAFETY: the arrays have the sizes that are used here, and so have the packed blocks.
        unsafe {
            pack_columns(simd, &q, rows.clone(), width, op.scale * LOG2_E, queries);
            let mut max = [simd.splat(-f32::MAX); V];
            let mut total = [simd.zero(); V];
            for block in 0..packed.blocks {
                let start = block * KEY_BLOCK;
                let count = (keys - start).min(KEY_BLOCK);
                let offset = (at * packed.blocks + block) * packed.step;
                // 1. scores, (keys, queries), and their maximum
                if let Some(bias) = &op.bias {
                    fill_bias(bias, keys, &rows, start..start + count, scores, width);
                }
                let k = packed.keys.values().as_ptr().add(offset);
                let mut highest = Highest(max);
                let added = op.bias.is_some();
                let product = KeyProduct { d, count, keys: k, columns: queries, to: scores, added };
                product.run::<S, V, R>(simd, &mut highest);
                let Highest(highest) = highest;
                // 2. weights, and what the new maximum makes of the sums so far
                let mut fade = [simd.zero(); V];
                for v in 0..V {
                    fade[v] = weight(simd, max[v], highest[v]);
                    total[v] = simd.mul(total[v], fade[v]);
                }
                max = highest;
                for key in 0..count {
                    for v in 0..V {
                        let score = scores.add(key * width + v * S::LANES);
                        let weight = weight(simd, simd.load(score), max[v]);
                        total[v] = simd.add(total[v], weight);
                        simd.store(score, weight);
                    }
                }
                // 3. weighted values, (d, queries)
                let start = if block == 0 { Start::Zero } else { Start::Times(fade) };
                let v = packed.values.values().as_ptr().add(offset);
                weigh::<S, V, R>(simd, (features, count), v, scores, start, sums);
            }
            for v in 0..V {
                let inverse = simd.div(simd.splat(1.0), total[v]);
                for row in 0..d {
                    let sum = sums.add(row * width + v * S::LANES);
                    simd.store(sum, simd.mul(simd.load(sum), inverse));
                }
            }
            let to = out.row(sizes.queries, sizes, at, first);
            unpack_columns(simd, sums, width, rows.len(), d, stage, (to, sizes.inner()));
            if let Some(logs) = logs {
                let logs = logs.at(at * sizes.padded_queries() + first);
                for v in 0..V {
                    write_logs(simd, max[v], total[v], logs.add(v * S::LANES));
                }
            }
        }
    }
}

/// 2 to the power of a score less the highest one; at least 2⁻¹²⁶, and not a number where the score is not.
#[inline(always)]
pub(super) fn weight<S: Simd>(simd: S, score: S::V, highest: S::V) -> S::V {
    simd.exp2(simd.max(simd.splat(-126.0), simd.sub(score, highest)))
}

/// `max + log₂ total`.
///
/// # Safety
/// A register can be written at `to`.
#[inline(always)]
unsafe fn write_logs<S: Simd>(simd: S, max: S::V, total: S::V, to: *mut f32) {
    let (max, total) = (simd.to_array(max), simd.to_array(total));
    for lane in 0..S::LANES {
        // SAFETY: the caller's word.
        unsafe { *to.add(lane) = max[lane] + total[lane].log2() };
    }
}

/// The highest score of each query.
struct Highest<V: Copy, const N: usize>([V; N]);

impl<S: Simd, const V: usize> Finish<S, V> for Highest<S::V, V> {
    #[inline(always)]
    unsafe fn finish<const R: usize>(
        &mut self,
        simd: S,
        tile: &mut [[S::V; V]; R],
        _key: usize,
        count: usize,
    ) {
        for r in 0..R {
            // Rows beyond the last key are no scores.
            if r < count {
                for v in 0..V {
                    self.0[v] = simd.max(self.0[v], tile[r][v]);
                }
            }
        }
    }
}

/// Fills scores with the bias of a block.
///
/// # Safety
/// `scores` holds `keys.len()` rows of `width ≥ queries.len()`.
pub(super) unsafe fn fill_bias(
    bias: &[f32],
    all_keys: usize,
    queries: &std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    scores: *mut f32,
    width: usize,
) {
    for i in 0..width {
        for (j, key) in keys.clone().enumerate() {
            let query = queries.start + i;
            let bias = if query < queries.end { bias[query * all_keys + key] } else { 0.0 };
            // SAFETY: the caller's word.
            unsafe { *scores.add(j * width + i) = bias };
        }
    }
}
