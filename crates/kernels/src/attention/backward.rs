//! The backward pass: a task is a head, which goes through its queries panel by panel.
//!
//! With weights `P` computed again from all keys: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P ∘ (dP - Σ P ∘ dP)`,
//! `dQ = scale · dS K`, `dK = scale · dSᵀ Q`.

use rayon::prelude::*;

use super::forward::add_bias;
use super::{
    Attention, Head, LOG2_E, PackPanels, Shared, Sizes, Stage, dispatch, pack_rows, unpack_rows,
};
use crate::buffer::Buffer;
use crate::gemm::{MAX_VECTORS, Matrix, Operand, PANEL_ROWS, Panels};
use crate::simd::math::exp2;
use crate::simd::{Kernel, MAX_LANES, Simd};

/// Gradients of queries, keys and values.
pub(super) fn backward(
    op: &Attention,
    sizes: &Sizes,
    [q, k, v, grad]: [&[f32]; 4],
) -> [Vec<f32>; 3] {
    let inner = sizes.inner();
    let mut dq = vec![0.0; sizes.batch * sizes.queries * inner];
    let mut dk = vec![0.0; sizes.batch * sizes.keys * inner];
    let mut dv = vec![0.0; sizes.batch * sizes.keys * inner];
    let shared = [&mut dq, &mut dk, &mut dv].map(|values| Shared(values.as_mut_ptr()));
    (0..sizes.batch * sizes.heads).into_par_iter().for_each(|at| {
        let [q, grad] = [q, grad].map(|values| Head::new(values, sizes.queries, sizes, at));
        let [k, v] = [k, v].map(|values| Head::new(values, sizes.keys, sizes, at));
        dispatch(op.tier, HeadTask { op, sizes, at, q, k, v, grad, out: shared });
    });
    [dq, dk, dv]
}

struct HeadTask<'a> {
    op: &'a Attention,
    sizes: &'a Sizes,
    at: usize,
    q: Head<'a>,
    k: Head<'a>,
    v: Head<'a>,
    grad: Head<'a>,
    out: [Shared; 3],
}

impl Kernel for HeadTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, sizes, at, q, k, v, grad, out: [dq, dk, dv] } = self;
        let Sizes { d, keys, queries, .. } = *sizes;
        let width = MAX_VECTORS * S::LANES;
        let key_rows = Sizes::padded(keys);
        // 1. keys and values as panels of keys, keys as panels of features
        let mut packed = <[Buffer; 3]>::default();
        let [k_panels, v_panels, k_features] = &mut packed;
        for (head, to) in [(&k, k_panels), (&v, v_panels)] {
            PackPanels { matrix: head.by_rows(), spans: keys, depth: d, to }.run(simd);
        }
        PackPanels { matrix: k.by_features(), spans: d, depth: keys, to: k_features }.run(simd);
        let [k_panels, v_panels, k_features] = &packed;

        let mut buffers = <[Buffer; 9]>::default();
        let [q_columns, grad_columns, weights, slopes, dq_sums, rows_a, rows_b, dk_sums, dv_sums] =
            &mut buffers;
        let q_columns = q_columns.reserve(d * width + MAX_LANES);
        let grad_columns = grad_columns.reserve(d * width + MAX_LANES);
        let weights = weights.reserve(key_rows * width);
        let slopes = slopes.reserve(key_rows * width);
        let dq_sums = dq_sums.reserve(Sizes::padded(d) * width);
        let feature_panels = d.div_ceil(width);
        let d_padded = feature_panels * width;
        let dk_sums = dk_sums.reserve(key_rows * d_padded);
        let dv_sums = dv_sums.reserve(key_rows * d_padded);

        for first in (0..queries).step_by(width) {
            let rows = first..(first + width).min(queries);
            // SAFETY: each buffer has the size that is used here; lanes beyond the last query hold zeros in all
            // packed columns, so that nothing of theirs reaches a sum.
            unsafe {
                // 2. weights and their slopes, (keys, queries)
                pack_rows(simd, &q, rows.clone(), op.scale * LOG2_E, q_columns);
                pack_rows(simd, &grad, rows.clone(), 1.0, grad_columns);
                let by_keys = |a: &Buffer, b: *const f32, c: *mut f32| Panels {
                    rows: key_rows,
                    depth: d,
                    a: a.as_ptr(),
                    a_stride: PANEL_ROWS * d,
                    b,
                    c,
                    c_stride: width,
                    accumulate: false,
                };
                dispatch(S::TIER, by_keys(k_panels, q_columns, weights));
                dispatch(S::TIER, by_keys(v_panels, grad_columns, slopes));
                if let Some(bias) = &op.bias {
                    add_bias(bias, keys, &rows, 0..keys, weights, width);
                }
                softmax_slopes(simd, keys, op.scale, weights, slopes);
                for row in keys..key_rows {
                    for v in 0..MAX_VECTORS {
                        simd.store(weights.add(row * width + v * S::LANES), simd.zero());
                        simd.store(slopes.add(row * width + v * S::LANES), simd.zero());
                    }
                }
                // 3. dQ of these queries
                let product = Panels {
                    rows: Sizes::padded(d),
                    depth: keys,
                    a: k_features.as_ptr(),
                    a_stride: PANEL_ROWS * keys,
                    b: slopes,
                    c: dq_sums,
                    c_stride: width,
                    accumulate: false,
                };
                dispatch(S::TIER, product);
                let dq = dq.head(queries, sizes, at).add(first * sizes.inner());
                unpack_rows(dq_sums, width, rows.len(), d, dq, sizes.inner());
                // 4. their part of dK and dV
                for (left, right, sums) in [(slopes, &q, dk_sums), (weights, &grad, dv_sums)] {
                    let a = rows_a.reserve(key_rows * rows.len() + MAX_LANES);
                    let left = std::slice::from_raw_parts(left, key_rows * width);
                    let left = Matrix::new(left, (key_rows, width), (rows.len(), 1));
                    let stage = Stage::default();
                    for row in (0..key_rows).step_by(PANEL_ROWS) {
                        let to = a.add(row * rows.len());
                        left.pack(
                            simd,
                            row..row + PANEL_ROWS,
                            0..rows.len(),
                            PANEL_ROWS,
                            &stage,
                            to,
                        );
                    }
                    let b = rows_b.reserve(rows.len() * width + MAX_LANES);
                    for panel in 0..feature_panels {
                        let span = panel * width..((panel + 1) * width).min(d);
                        right.by_features().pack(simd, span, rows.clone(), width, &stage, b);
                        let product = Panels {
                            rows: key_rows,
                            depth: rows.len(),
                            a,
                            a_stride: PANEL_ROWS * rows.len(),
                            b,
                            c: sums.add(panel * width),
                            c_stride: d_padded,
                            accumulate: first > 0,
                        };
                        dispatch(S::TIER, product);
                    }
                }
            }
        }
        if queries == 0 {
            return;
        }
        for (sums, out) in [(dk_sums, dk), (dv_sums, dv)] {
            for key in 0..keys {
                // SAFETY: the sums have all keys; this head's features are this task's.
                unsafe {
                    let out = out.head(keys, sizes, at).add(key * sizes.inner());
                    std::ptr::copy_nonoverlapping(sums.add(key * d_padded), out, d);
                }
            }
        }
    }
}

/// From scores and the gradient of the weights, over all keys, to the weights and `scale` times the gradient of the
/// scores, in place.
///
/// # Safety
/// Both hold `keys` rows of the tier's widest panel.
#[inline(always)]
unsafe fn softmax_slopes<S: Simd>(
    simd: S,
    keys: usize,
    scale: f32,
    weights: *mut f32,
    slopes: *mut f32,
) {
    let width = MAX_VECTORS * S::LANES;
    for v in 0..MAX_VECTORS {
        // SAFETY: the caller's word.
        unsafe {
            let weight = |key: usize| weights.add(key * width + v * S::LANES);
            let slope = |key: usize| slopes.add(key * width + v * S::LANES);
            let mut max = simd.splat(-f32::MAX);
            for key in 0..keys {
                max = simd.max(max, simd.load(weight(key)));
            }
            let (mut total, mut mean) = (simd.zero(), simd.zero());
            for key in 0..keys {
                let w = exp2(simd, simd.sub(simd.load(weight(key)), max));
                simd.store(weight(key), w);
                total = simd.add(total, w);
                mean = simd.mul_add(w, simd.load(slope(key)), mean);
            }
            let inverse = simd.div(simd.splat(1.0), total);
            let mean = simd.mul(mean, inverse);
            for key in 0..keys {
                let w = simd.mul(simd.load(weight(key)), inverse);
                simd.store(weight(key), w);
                let slope_of_score = simd.mul(w, simd.sub(simd.load(slope(key)), mean));
                simd.store(slope(key), simd.mul(slope_of_score, simd.splat(scale)));
            }
        }
    }
}
