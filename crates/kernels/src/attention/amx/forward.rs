//! The forward pass on tiles: a task is a panel of queries of one head.

use std::arch::x86_64::*;

use half::bf16;
use rayon::prelude::*;

use super::bounded::{Keys, Panel};
use super::pack::{Form, PackTiles};
use super::softmax::{add_bias, exp2, fade_sums, maxima, weigh, write_logs};
use super::work::Work;
use super::{Features, Grid, Product, TILE};
use crate::attention::heads::{Sizes, View};
use crate::attention::pack::{Arena, Scratch, unpack_columns};
use crate::attention::{Attention, LOG2_E};
use crate::output::Target;
use crate::simd::amx::Tiles;
use crate::simd::{Kernel, Simd, dispatch};

/// Queries in a panel: two tiles.
pub(super) const WIDTH: usize = 32;
/// Keys in a block: two blocks of scores stay in the first-level cache.
const KEY_BLOCK: usize = 128;
/// Keys in a strip: two tiles of scores, one of weights.
pub(super) const STRIP: usize = 32;

/// `(b, n, heads · d)` of weighted values, and the logarithms for the backward pass if they are asked for.
///
/// The operator's tier is AMX, and available.
pub(in crate::attention) fn forward(
    op: &Attention,
    sizes: &Sizes,
    [q, k, v]: [View<'_, bf16>; 3],
) -> (Vec<bf16>, Option<Vec<f32>>) {
    let mut out = vec![bf16::ZERO; sizes.batch * sizes.queries * sizes.inner()];
    let mut logs = op.keep.then(|| vec![0.0; sizes.all_heads() * sizes.padded_queries()]);
    let shared = Target::new(out.as_mut_ptr());
    let shared_logs = logs.as_deref_mut().map(|logs| Target::new(logs.as_mut_ptr()));
    let panels = sizes.queries.div_ceil(WIDTH);
    let tasks = (0..sizes.all_heads() * panels).into_par_iter();
    let place = |task: usize| (task / panels, task % panels * WIDTH);
    // A bias has no bound.
    let left: Vec<usize> = if op.bias.is_some() {
        tasks.collect()
    } else {
        let keys = &Keys::new(op, sizes, &k, &v);
        let is_left = |&task: &usize| {
            let (at, first) = place(task);
            let panel = Panel { op, sizes, q: &q, at, first, keys };
            // SAFETY: the tier is available, and these rows of the output are this task's.
            !unsafe { panel.run(shared, shared_logs) }
        };
        tasks.filter(is_left).collect()
    };
    if !left.is_empty() {
        let packed = &Packed::new(op, sizes, &k, &v);
        left.into_par_iter().for_each(|task| {
            let (at, first) = place(task);
            let panel = QueryPanel { op, sizes, q: &q, at, first, packed };
            // SAFETY: as above.
            unsafe { panel.run(shared, shared_logs) };
        });
    }
    (out, logs)
}

/// Keys and values of all heads as tiles, block by block, zero where a head ends before a tile does.
struct Packed {
    keys: Arena<bf16>,
    values: Arena<bf16>,
    features: Features,
    /// Blocks of a head.
    blocks: usize,
    /// Numbers from one block of keys to the next, and of values.
    steps: [usize; 2],
}

impl Packed {
    fn new(op: &Attention, sizes: &Sizes, k: &View<'_, bf16>, v: &View<'_, bf16>) -> Self {
        let blocks = sizes.keys.div_ceil(KEY_BLOCK);
        let strips = sizes.keys.div_ceil(STRIP).min(KEY_BLOCK / STRIP);
        let features = Features::new(sizes.d);
        let steps = [2 * strips * features.deep * TILE, strips * features.along * TILE];
        let mut arenas = steps.map(|step| Arena::new(sizes.all_heads() * blocks * step));
        let [keys, values] = &mut arenas;
        let keys_of_blocks = keys.values_mut().par_chunks_mut(steps[0]);
        let values_of_blocks = values.values_mut().par_chunks_mut(steps[1]);
        keys_of_blocks.zip(values_of_blocks).enumerate().for_each(|(block, (keys, values))| {
            let (at, start) = (block / blocks, block % blocks * KEY_BLOCK);
            let rows = start..(start + KEY_BLOCK).min(sizes.keys);
            let parts = [(k, Form::Rows, keys), (v, Form::Features, values)];
            for (view, form, to) in parts {
                let (head, rows) = (view.head(sizes, at), rows.clone());
                dispatch(op.tier, PackTiles { head, rows, form, negate: false, to });
            }
        });
        let [keys, values] = arenas;
        Self { keys, values, features, blocks, steps }
    }
}

struct QueryPanel<'a> {
    op: &'a Attention,
    sizes: &'a Sizes,
    q: &'a View<'a, bf16>,
    at: usize,
    /// The first query.
    first: usize,
    packed: &'a Packed,
}

impl QueryPanel<'_> {
    /// # Safety
    /// The tier is available, outputs have the sizes' shapes, and this panel of them is this task's.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn run(&self, out: Target<bf16>, logs: Option<Target<f32>>) {
        let Self { op, sizes, q, at, first, packed } = *self;
        let Features { deep, along } = packed.features;
        let rows = first..(first + WIDTH).min(sizes.queries);
        let mut scratch = Scratch::take();
        let [queries, scores, next_scores, weights, sums, stage] = scratch.arrays([
            2 * deep * TILE / 2,
            KEY_BLOCK * WIDTH,
            KEY_BLOCK * WIDTH,
            KEY_BLOCK * WIDTH / 2,
            16 * along * WIDTH,
            8 * 16 * along,
        ]);
        let (queries, weights) = (queries.cast::<bf16>(), weights.cast::<bf16>());
        // Maxima are those of scores before they are scaled: the scale's sign goes into the queries, which costs
        // nothing; its size would cost them a rounding.
        let scale = if op.bias.is_some() { 1.0 } else { op.scale.abs() * LOG2_E };
        let scales = _mm512_set1_ps(scale);
        // SAFETY: the arrays have the sizes that are used here, and so have the packed blocks.
        unsafe {
            let to = std::slice::from_raw_parts_mut(queries, 2 * deep * TILE);
            to.fill(bf16::ZERO);
            let (head, negate) = (q.head(sizes, at), op.scale < 0.0);
            let form = Form::RowsRight;
            dispatch(op.tier, PackTiles { head, rows: rows.clone(), form, negate, to });

            let mut work = Work::new(Tiles::configure());
            let mut scores = [scores, next_scores];
            let mut max = [_mm512_set1_ps(-f32::MAX); 2];
            let mut total = [_mm512_setzero_ps(); 2];
            for strip in 0..strips(self.count(0)) {
                self.scores(&mut work, 0, strip, queries, scores[0]);
            }
            for block in 0..packed.blocks {
                let count = self.count(block);
                work.store();
                // 1. the maximum of the scores, and what it makes of the sums so far
                if let Some(bias) = &op.bias {
                    let keys = block * KEY_BLOCK..block * KEY_BLOCK + count;
                    // The next block's scores do not exist yet.
                    add_bias(op, bias, sizes.keys, &rows, keys, scores);
                }
                let highest = maxima(scores[0], count, max);
                let mut fade = [_mm512_setzero_ps(); 2];
                let mut shift = [_mm512_setzero_ps(); 2];
                for v in 0..2 {
                    let less = _mm512_mul_ps(_mm512_sub_ps(max[v], highest[v]), scales);
                    fade[v] = exp2(_mm512_max_ps(_mm512_set1_ps(-126.0), less));
                    total[v] = _mm512_mul_ps(total[v], fade[v]);
                    shift[v] =
                        _mm512_mul_ps(highest[v], _mm512_sub_ps(_mm512_setzero_ps(), scales));
                }
                max = highest;
                // 2. weights, while the tiles work at the next block's scores
                let next = if block + 1 < packed.blocks { self.count(block + 1) } else { 0 };
                for strip in 0..strips(count) {
                    if strip < strips(next) {
                        self.scores(&mut work, block + 1, strip, queries, scores[1]);
                    }
                    let from = scores[0].add(strip * STRIP * WIDTH);
                    let to = weights.add(strip * 2 * TILE);
                    weigh(from, count - strip * STRIP, scales, shift, &mut total, to);
                }
                scores.swap(0, 1);
                // 3. weighted values, (d, queries)
                if block > 0 {
                    fade_sums(sums, 16 * along, fade);
                }
                let start = packed.values.values().as_ptr();
                let start = start.add((at * packed.blocks + block) * packed.steps[1]);
                let product = Product {
                    rows: along,
                    columns: 2,
                    depth: strips(count),
                    a: Grid { start, along: 1, deep: along },
                    b: Grid { start: weights, along: 1, deep: 2 },
                    c: sums,
                    stride: WIDTH,
                    accumulate: block > 0,
                };
                product.run(&mut work);
            }
            work.store();
            drop(work);
            let inverses = total.map(|total| _mm512_div_ps(_mm512_set1_ps(1.0), total));
            fade_sums(sums, sizes.d, inverses);
            let to = (out.row(sizes.queries, sizes, at, first), sizes.inner());
            dispatch(op.tier, Unpack { sums, rows: rows.len(), d: sizes.d, stage, to });
            if let Some(logs) = logs {
                let logs = logs.at(at * sizes.padded_queries() + first);
                for v in 0..2 {
                    write_logs(_mm512_mul_ps(max[v], scales), total[v], logs.add(16 * v));
                }
            }
        }
    }

    /// Keys of a block.
    fn count(&self, block: usize) -> usize {
        (self.sizes.keys - block * KEY_BLOCK).min(KEY_BLOCK)
    }

    /// The scores of a strip of a block, `(keys, queries)`.
    ///
    /// # Safety
    /// The queries are packed, and `to` is a block of scores.
    unsafe fn scores(
        &self,
        work: &mut Work,
        block: usize,
        strip: usize,
        queries: *const bf16,
        to: *mut f32,
    ) {
        let deep = self.packed.features.deep;
        // SAFETY: the packed keys have the strip; the rest is the caller's word.
        unsafe {
            let start = self.packed.keys.values().as_ptr();
            let block = self.at * self.packed.blocks + block;
            let start = start.add(block * self.packed.steps[0] + 2 * strip * deep * TILE);
            let product = Product {
                rows: 2,
                columns: 2,
                depth: deep,
                a: Grid { start, along: deep, deep: 1 },
                b: Grid { start: queries, along: deep, deep: 1 },
                c: to.add(strip * STRIP * WIDTH),
                stride: WIDTH,
                accumulate: false,
            };
            product.run(work);
        }
    }
}

const fn strips(keys: usize) -> usize {
    keys.div_ceil(STRIP)
}

/// Sums as rows of the output.
struct Unpack {
    sums: *const f32,
    rows: usize,
    d: usize,
    stage: *mut f32,
    to: (*mut bf16, usize),
}

impl Kernel for Unpack {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { sums, rows, d, stage, to } = self;
        // SAFETY: who makes this value vouches for its pointers.
        unsafe { unpack_columns(simd, sums, WIDTH, rows, d, stage, to) };
    }
}
