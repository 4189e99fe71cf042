//! The forward pass: a task is a panel of queries of one head.

use rayon::prelude::*;

use super::{Attention, Head, LOG2_E, PackPanels, Shared, Sizes, dispatch, pack_rows, unpack_rows};
use crate::buffer::Buffer;
use crate::gemm::{MAX_VECTORS, MAX_WIDTH, PANEL_ROWS, Panels};
use crate::simd::math::exp2;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Keys in a block: its scores stay in the first-level cache.
const KEY_BLOCK: usize = 128;

/// `(b, n, heads · d)` of weighted values.
pub(super) fn forward(op: &Attention, sizes: &Sizes, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let tier = op.tier;
    let heads = sizes.batch * sizes.heads;
    let packed: Vec<(Buffer, Buffer)> = (0..heads)
        .into_par_iter()
        .map(|at| {
            let (mut keys, mut values) = Default::default();
            let (k, v) = (Head::new(k, sizes.keys, sizes, at), Head::new(v, sizes.keys, sizes, at));
            let (spans, depth) = (sizes.keys, sizes.d);
            dispatch(tier, PackPanels { matrix: k.by_rows(), spans, depth, to: &mut keys });
            let (spans, depth) = (sizes.d, sizes.keys);
            dispatch(tier, PackPanels { matrix: v.by_features(), spans, depth, to: &mut values });
            (keys, values)
        })
        .collect();

    let mut out = vec![0.0; sizes.batch * sizes.queries * sizes.inner()];
    let shared = Shared(out.as_mut_ptr());
    let width = MAX_VECTORS * tier.lanes();
    let panels = sizes.queries.div_ceil(width);
    (0..heads * panels).into_par_iter().with_max_len(1).for_each_init(
        <[Buffer; 3]>::default,
        |scratch, task| {
            let at = task / panels;
            let first = task % panels * width;
            let q = Head::new(q, sizes.queries, sizes, at);
            let (keys, values) = &packed[at];
            dispatch(
                tier,
                QueryPanel { op, sizes, q, at, first, keys, values, out: shared, scratch },
            );
        },
    );
    out
}

struct QueryPanel<'a> {
    op: &'a Attention,
    sizes: &'a Sizes,
    q: Head<'a>,
    at: usize,
    /// The first query.
    first: usize,
    keys: &'a Buffer,
    values: &'a Buffer,
    out: Shared,
    scratch: &'a mut [Buffer; 3],
}

impl Kernel for QueryPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, sizes, q, at, first, keys, values, out, scratch } = self;
        let Sizes { d, .. } = *sizes;
        let width = MAX_VECTORS * S::LANES;
        let rows = first..(first + width).min(sizes.queries);
        let [queries, scores, sums] = scratch;
        let queries = queries.reserve(d * width + MAX_LANES);
        let scores = scores.reserve(KEY_BLOCK * width);
        let sums = sums.reserve(Sizes::padded(d) * width);
        // SAFETY: the buffer holds d packed rows of queries.
        unsafe { pack_rows(simd, &q, rows.clone(), op.scale * LOG2_E, queries) };

        let mut max = [simd.splat(-f32::MAX); MAX_VECTORS];
        let mut total = [simd.zero(); MAX_VECTORS];
        for start in (0..sizes.keys).step_by(KEY_BLOCK) {
            let count = (sizes.keys - start).min(KEY_BLOCK);
            // 1. scores, (keys, queries)
            let product = Panels {
                rows: Sizes::padded(count),
                depth: d,
                // SAFETY: the packed keys have this block; it starts on a panel.
                a: unsafe { keys.as_ptr().add(start * d) },
                a_stride: PANEL_ROWS * d,
                b: queries,
                c: scores,
                c_stride: width,
                accumulate: false,
            };
            dispatch(S::TIER, product);
            if let Some(bias) = &op.bias {
                // SAFETY: the buffer holds a block of scores.
                unsafe { add_bias(bias, sizes.keys, &rows, start..start + count, scores, width) };
            }
            // 2. the new maximum, and what it makes of the sums so far
            let mut fade = [simd.zero(); MAX_VECTORS];
            let mut fading = false;
            for v in 0..MAX_VECTORS {
                let mut highest = max[v];
                for key in 0..count {
                    // SAFETY: a score of this block.
                    let score = unsafe { simd.load(scores.add(key * width + v * S::LANES)) };
                    highest = simd.max(highest, score);
                }
                fade[v] = exp2(simd, simd.sub(max[v], highest));
                max[v] = highest;
                fading |= simd.to_array(fade[v])[..S::LANES].iter().any(|&fade| fade != 1.0);
            }
            // 3. weights
            for v in 0..MAX_VECTORS {
                let mut sum = simd.mul(total[v], fade[v]);
                for key in 0..count {
                    // SAFETY: a score of this block.
                    unsafe {
                        let score = scores.add(key * width + v * S::LANES);
                        let weight = exp2(simd, simd.sub(simd.load(score), max[v]));
                        sum = simd.add(sum, weight);
                        simd.store(score, weight);
                    }
                }
                total[v] = sum;
            }
            // 4. weighted values, (d, queries)
            if fading && start > 0 {
                for row in 0..Sizes::padded(d) {
                    for v in 0..MAX_VECTORS {
                        // SAFETY: inside the sums.
                        unsafe {
                            let sum = sums.add(row * width + v * S::LANES);
                            simd.store(sum, simd.mul(simd.load(sum), fade[v]));
                        }
                    }
                }
            }
            let product = Panels {
                rows: Sizes::padded(d),
                depth: count,
                // SAFETY: each panel of packed values has `keys` steps; this block's start at `start`.
                a: unsafe { values.as_ptr().add(start * PANEL_ROWS) },
                a_stride: PANEL_ROWS * sizes.keys,
                b: scores,
                c: sums,
                c_stride: width,
                accumulate: start > 0,
            };
            dispatch(S::TIER, product);
        }

        let mut inverse = [0.0; MAX_WIDTH];
        for v in 0..MAX_VECTORS {
            // SAFETY: MAX_WIDTH is the widest tier's.
            unsafe {
                let inverse = inverse.as_mut_ptr().add(v * S::LANES);
                simd.store(inverse, simd.div(simd.splat(1.0), total[v]));
            }
        }
        for row in 0..d {
            for v in 0..MAX_VECTORS {
                // SAFETY: inside the sums and the inverses.
                unsafe {
                    let sum = sums.add(row * width + v * S::LANES);
                    let inverse = simd.load(inverse.as_ptr().add(v * S::LANES));
                    simd.store(sum, simd.mul(simd.load(sum), inverse));
                }
            }
        }
        // SAFETY: these rows of this head are this task's.
        unsafe {
            let out = out.head(sizes.queries, sizes, at).add(first * sizes.inner());
            unpack_rows(sums, width, rows.len(), d, out, sizes.inner());
        }
    }
}

/// Adds the bias of a block to its scores.
///
/// # Safety
/// `scores` holds `keys.len()` rows of `width ≥ queries.len()`.
#[inline(always)]
pub(super) unsafe fn add_bias(
    bias: &[f32],
    all_keys: usize,
    queries: &std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    scores: *mut f32,
    width: usize,
) {
    for (i, query) in queries.clone().enumerate() {
        let bias = &bias[query * all_keys..][keys.clone()];
        for (j, bias) in bias.iter().enumerate() {
            // SAFETY: the caller's word.
            unsafe { *scores.add(j * width + i) += bias };
        }
    }
}
