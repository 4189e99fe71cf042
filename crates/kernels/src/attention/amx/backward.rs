//! The backward pass on tiles: a task is a chunk of keys of one head, which meets all queries.
//!
//! The five products of the pass in f32, by blocks of keys and panels of queries. Weights and their slopes leave
//! the vector registers in the forms that products read: with keys along for dV and dK, with keys deep for dQ.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::exponential::{OFFSET, minus_exp2};
use super::pack::{Form, PackTiles};
use super::softmax::pairs;
use super::work::Work;
use super::{Features, Grid, Product, TILE};
use crate::attention::forward::fill_bias;
use crate::attention::heads::{Head, Sizes};
use crate::attention::pack::{Arena, Scratch};
use crate::attention::parts::{Inputs, Plan, SumParts, WriteRows, dot};
use crate::attention::{Attention, LOG2_E};
use crate::output::Target;
use crate::simd::amx::Tiles;
use crate::simd::{Kernel, Simd, dispatch};

/// Keys in a block, and queries in a panel: products over either are four tiles deep.
const BLOCK: usize = 128;
/// Queries whose weights are computed at a time, and keys in a tile's depth.
const STRIP: usize = 32;

/// Gradients of queries, keys and values.
///
/// The operator's tier is AMX, and available.
pub(in crate::attention) fn backward(
    op: &Attention,
    sizes: &Sizes,
    inputs: &Inputs<'_, bf16>,
) -> [Vec<bf16>; 3] {
    let zeros = |rows: usize| vec![bf16::ZERO; sizes.batch * rows * sizes.inner()];
    let (mut dq, mut dk, mut dv) = (zeros(sizes.queries), zeros(sizes.keys), zeros(sizes.keys));
    if sizes.queries == 0 || sizes.batch == 0 {
        return [dq, dk, dv];
    }
    let features = Features::new(sizes.d);
    let plan = &Plan::new(sizes, BLOCK, (BLOCK, false), [16 * features.along; 2]);
    let mut parts = Arena::new(sizes.all_heads() * plan.chunks * plan.part);
    let out = [&mut dk, &mut dv].map(|values| Target::new(values.as_mut_ptr()));
    parts.values_mut().par_chunks_mut(plan.part).enumerate().with_max_len(1).for_each(
        |(index, dq)| {
            let (at, chunk) = (index / plan.chunks, index % plan.chunks);
            let keys = plan.keys(chunk, sizes);
            let chunk = Chunk { op, sizes, plan, inputs, features, at, keys };
            // SAFETY: the tier is available, and rows of these keys and the part are this task's.
            unsafe { chunk.run(dq, out) };
        },
    );
    SumParts::all(op, sizes, plan, parts.values(), &mut dq);
    [dq, dk, dv]
}

/// A chunk of keys of a head.
struct Chunk<'a> {
    op: &'a Attention,
    sizes: &'a Sizes,
    plan: &'a Plan,
    inputs: &'a Inputs<'a, bf16>,
    features: Features,
    at: usize,
    keys: Range<usize>,
}

/// Room for negative weights and slopes of a block of keys and a panel of queries, as left tiles with keys along and
/// queries `i` and `16 + i` paired, and for slopes as right tiles with keys deep; for scores of a strip of queries and
/// slopes of their weights, `(keys, queries)`.
#[derive(Clone, Copy)]
struct Between {
    weights: *mut bf16,
    slopes: *mut bf16,
    deep_slopes: *mut bf16,
    scores: *mut f32,
    weight_slopes: *mut f32,
}

impl Chunk<'_> {
    /// # Safety
    /// The tier is available, and the part of dQ and rows of these keys are this task's.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
    unsafe fn run(&self, dq: &mut [f32], out: [Target<bf16>; 2]) {
        let Self { op, sizes, plan, inputs, features, at, ref keys } = *self;
        let Features { deep, along } = features;
        let rows = keys.len().next_multiple_of(BLOCK);
        let lanes = 16 * along;
        let (row_tiles, panel_tiles) = (rows / 16, BLOCK / 16);
        let (by_rows, by_features) = (row_tiles * deep, row_tiles / 2 * along);
        let panel_by_rows = panel_tiles * deep;
        let panel_by_features = panel_tiles / 2 * along;
        let mut scratch = Scratch::take();
        let tiles = |count: usize| count * TILE / 2;
        let arrays = scratch.arrays([
            tiles(by_rows),
            tiles(by_rows),
            tiles(by_features),
            tiles(panel_by_rows),
            tiles(panel_by_rows),
            tiles(panel_by_features),
            tiles(panel_by_features),
            rows * lanes,
            rows * lanes,
            BLOCK,
            BLOCK * BLOCK / 2,
            BLOCK * BLOCK / 2,
            BLOCK * BLOCK / 2,
            BLOCK * STRIP,
            BLOCK * STRIP,
        ]);
        let [k, v, k_features, q, grad, q_features, grad_features, ..] =
            arrays.map(<*mut f32>::cast::<bf16>);
        let [.., dk, dv, means, weights, slopes, deep_slopes, scores, weight_slopes] = arrays;
        let between = Between {
            weights: weights.cast(),
            slopes: slopes.cast(),
            deep_slopes: deep_slopes.cast(),
            scores,
            weight_slopes,
        };
        let [q_head, out_head, grad_head] =
            [&inputs.q, &inputs.out, &inputs.grad].map(|view| view.head(sizes, at));
        let [k_head, v_head] = [&inputs.k, &inputs.v].map(|view| view.head(sizes, at));
        // SAFETY: the arrays have these sizes, and these rows of dK and dV are this task's.
        unsafe {
            // 1. keys and values
            for (head, form, to, count) in [
                (k_head, Form::Rows, k, by_rows),
                (v_head, Form::Rows, v, by_rows),
                (k_head, Form::Features, k_features, by_features),
            ] {
                self.pack(head, keys.clone(), form, to, count);
            }
            let mut work = Work::new(Tiles::configure());
            for panel in 0..plan.panels {
                // 2. queries and gradients of outputs, and their means
                let queries = plan.rows(panel);
                for (head, form, to, count) in [
                    (q_head, Form::RowsRight, q, panel_by_rows),
                    (grad_head, Form::RowsRight, grad, panel_by_rows),
                    (q_head, Form::FeaturesRight, q_features, panel_by_features),
                    (grad_head, Form::FeaturesRight, grad_features, panel_by_features),
                ] {
                    self.pack(head, queries.clone(), form, to, count);
                }
                let means = std::slice::from_raw_parts_mut(means, BLOCK);
                means.fill(0.0);
                dispatch(
                    op.tier,
                    Means { out: out_head, grad: grad_head, queries: &queries, means },
                );

                let strips = queries.len().div_ceil(STRIP);
                let dq = dq.as_mut_ptr().add(panel * lanes * BLOCK);
                for block in keys.clone().step_by(BLOCK) {
                    let count = (keys.end - block).min(BLOCK);
                    let key_tiles = 2 * count.div_ceil(STRIP);
                    let first = (block - keys.start) / 16;
                    // 3. weights and slopes of a block
                    for strip in 0..strips {
                        for (left, right, c) in [(k, q, scores), (v, grad, weight_slopes)] {
                            let a = left.add(first * deep * TILE);
                            let b = right.add(2 * strip * deep * TILE);
                            let product = Product {
                                rows: key_tiles,
                                columns: 2,
                                depth: deep,
                                a: Grid { start: a, along: deep, deep: 1 },
                                b: Grid { start: b, along: deep, deep: 1 },
                                c,
                                stride: STRIP,
                                accumulate: false,
                            };
                            product.run(&mut work);
                        }
                        work.store();
                        let start = queries.start + strip * STRIP;
                        let strip_queries = start..(start + STRIP).min(queries.end);
                        let keys = block..block + count;
                        self.slopes(strip_queries, strip, keys, &means[strip * STRIP..], between);
                    }
                    // 4. the block's part of dQ, (features, queries)
                    let start = k_features.add(first / 2 * along * TILE);
                    let product = Product {
                        rows: along,
                        columns: 2 * strips,
                        depth: key_tiles / 2,
                        a: Grid { start, along: 1, deep: along },
                        b: Grid { start: between.deep_slopes, along: 1, deep: panel_tiles },
                        c: dq,
                        stride: BLOCK,
                        accumulate: block > keys.start,
                    };
                    product.run(&mut work);
                    // 5. the panel's part of dV and dK, (keys, features)
                    for (left, right, to) in
                        [(between.weights, grad_features, dv), (between.slopes, q_features, dk)]
                    {
                        let product = Product {
                            rows: key_tiles,
                            columns: along,
                            depth: strips,
                            a: Grid { start: left, along: BLOCK / STRIP, deep: 1 },
                            b: Grid { start: right, along: 1, deep: along },
                            c: to.add(first * 16 * lanes),
                            stride: lanes,
                            accumulate: panel > 0,
                        };
                        product.run(&mut work);
                    }
                }
            }
            work.store();
            drop(work);
            for (from, scale, out) in [(dk, op.scale, out[0]), (dv, -1.0, out[1])] {
                let keys = keys.clone();
                dispatch(op.tier, WriteRows { sizes, at, keys, from, lanes, scale, out });
            }
        }
    }

    /// Packs rows as `count` tiles, zeros after them.
    ///
    /// # Safety
    /// There is room for the tiles.
    unsafe fn pack(
        &self,
        head: Head<'_, bf16>,
        rows: Range<usize>,
        form: Form,
        to: *mut bf16,
        count: usize,
    ) {
        // SAFETY: the caller's word.
        let to = unsafe { std::slice::from_raw_parts_mut(to, count * TILE) };
        to.fill(bf16::ZERO);
        dispatch(self.op.tier, PackTiles { head, rows, form, negate: false, to });
    }

    /// Negative weights and slopes of a strip of a panel's queries, from their scores and the slopes of their weights.
    ///
    /// # Safety
    /// Scores and slopes are there for the keys, rounded up to a strip, and there is room for all keys of a block.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
    unsafe fn slopes(
        &self,
        queries: Range<usize>,
        strip: usize,
        keys: Range<usize>,
        means: &[f32],
        between: Between,
    ) {
        let Self { op, sizes, inputs, at, .. } = *self;
        let logs = &inputs.logs[at * sizes.padded_queries() + queries.start..][..STRIP];
        let count = keys.len();
        let scale = _mm512_set1_ps(op.scale * LOG2_E);
        // No weight is less than 2⁻¹²⁶, none much more than 1.
        let least = _mm512_set1_ps(OFFSET - 126.0);
        let high_halves = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let mut bias = [0.0; 2 * STRIP];
        // SAFETY: the caller's word; all rows of tiles are cache lines.
        unsafe {
            let two = |from: *const f32| [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))];
            let means = two(means[..STRIP].as_ptr());
            let shifts = two(logs.as_ptr()).map(|log| _mm512_sub_ps(_mm512_set1_ps(OFFSET), log));
            for pair in 0..count.next_multiple_of(STRIP) / 2 {
                if let Some(all) = &op.bias {
                    let keys = keys.start + 2 * pair..keys.end.min(keys.start + 2 * pair + 2);
                    fill_bias(all, sizes.keys, &queries, keys, bias.as_mut_ptr(), STRIP);
                }
                let mut slopes = [_mm512_setzero_si512(); 2];
                for (half, slopes) in slopes.iter_mut().enumerate() {
                    let key = 2 * pair + half;
                    let mut weights = _mm512_setzero_si512();
                    // Keys beyond the last weigh nothing.
                    if key < count {
                        let mut shifts = shifts;
                        if op.bias.is_some() {
                            let bias = two(bias.as_ptr().add(half * STRIP));
                            shifts = std::array::from_fn(|v| _mm512_add_ps(shifts[v], bias[v]));
                        }
                        let scores = two(between.scores.add(key * STRIP));
                        let powers: [__m512i; 2] = std::array::from_fn(|v| {
                            let power = _mm512_fmadd_ps(scores[v], scale, shifts[v]);
                            _mm512_castps_si512(_mm512_max_ps(power, least))
                        });
                        weights = minus_exp2(powers[0], powers[1]);
                        let weight_slopes = two(between.weight_slopes.add(key * STRIP));
                        let wide = [
                            _mm512_slli_epi32::<16>(weights),
                            _mm512_and_si512(weights, high_halves),
                        ];
                        // Weights are negative.
                        let [low, high] = std::array::from_fn(|v| {
                            let slope = _mm512_sub_ps(means[v], weight_slopes[v]);
                            _mm512_mul_ps(_mm512_castsi512_ps(wide[v]), slope)
                        });
                        *slopes = pairs(low, high);
                    }
                    let row = (key / 16 * (BLOCK / STRIP) + strip) * TILE + key % 16 * 32;
                    _mm512_store_si512(between.weights.add(row).cast(), weights);
                    _mm512_store_si512(between.slopes.add(row).cast(), *slopes);
                }
                let [even, odd] = slopes;
                let turned = [
                    _mm512_mask_blend_epi16(0xaaaa_aaaa, even, _mm512_slli_epi32::<16>(odd)),
                    _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(even), odd),
                ];
                for (v, turned) in turned.into_iter().enumerate() {
                    let tile = pair / 16 * (BLOCK / 16) + 2 * strip + v;
                    let row = between.deep_slopes.add(tile * TILE + pair % 16 * 32);
                    _mm512_store_si512(row.cast(), turned);
                }
            }
        }
    }
}

/// `Σ dO ∘ O` of queries.
struct Means<'a> {
    out: Head<'a, bf16>,
    grad: Head<'a, bf16>,
    queries: &'a Range<usize>,
    means: &'a mut [f32],
}

impl Kernel for Means<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (query, mean) in self.queries.clone().zip(self.means) {
            *mean = dot(simd, self.out.row(query), self.grad.row(query));
        }
    }
}
