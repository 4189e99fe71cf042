//! Attention over queries, keys and values that lie side by side, as one linear layer gives them: the gradient is then
//! one tensor too, and is made without the zeros around three narrow ones.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{Attention, Logs, Sizes, tensor_of};
use crate::isa::Tier;
use crate::recording::{apply1, apply2};
use crate::simd::Real;
use crate::tensors::cpu;

/// `softmax(scale · q kᵀ) v` of a sequence with itself.
///
/// # Shapes
/// - qkv: `(b, .., 3 · heads · d)`, f32 or bf16 on the CPU: queries, keys and values side by side
/// - returns: `(b, .., heads · d)`
///
/// # Errors
/// If the shape, dtype or device is another one.
pub fn self_attention(qkv: &Tensor, heads: usize, scale: f64) -> Result<Tensor> {
    let qkv = qkv.contiguous()?;
    apply1(&qkv, SelfAttention(Attention::new(heads, scale, qkv.track_op())))
}

/// `softmax(scale · q kᵀ) v` of a sequence with another.
///
/// # Shapes
/// - q: `(b, .., heads · d)`, f32 or bf16 on the CPU
/// - kv: `(b, m, 2 · heads · d)` in its dtype: keys and values side by side
/// - returns: that of q
///
/// # Errors
/// If a shape, dtype or device is another one.
pub fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize, scale: f64) -> Result<Tensor> {
    let (q, kv) = (q.contiguous()?, kv.contiguous()?);
    let tracked = q.track_op() || kv.track_op();
    apply2(&q, &kv, CrossAttention(Attention::new(heads, scale, tracked)))
}

struct SelfAttention(Attention);

struct CrossAttention(Attention);

impl Attention {
    fn new(heads: usize, scale: f64, keep: bool) -> Self {
        let (tier, scale) = (Tier::current(), scale as f32);
        Self { tier, heads, scale, bias: None, keep, logs: Logs::new() }
    }
}

/// The `at`-th of `parts` that lie side by side in a contiguous tensor, as `(b, n, c)`.
fn part(layout: &Layout, at: usize, parts: usize) -> Result<Layout> {
    let (dims, Some((start, _))) = (layout.dims(), layout.contiguous_offsets()) else {
        bail!("attention: expected a contiguous tensor, found strides {:?}", layout.stride());
    };
    let (&[batch, .., joined], true) = (dims, dims.len() >= 3) else {
        bail!("attention: expected (b, .., c), found {dims:?}");
    };
    if !joined.is_multiple_of(parts) {
        bail!("attention: expected {parts} parts side by side, found {dims:?}");
    }
    let (rows, width) = (dims[1..dims.len() - 1].iter().product::<usize>(), joined / parts);
    let strides = vec![rows * joined, joined, 1];
    Ok(Layout::new((batch, rows, width).into(), strides, start + at * width))
}

/// Rows of several tensors side by side.
fn join(storages: &[CpuStorage], width: usize) -> Result<CpuStorage> {
    fn rows<T: Real>(parts: &[&[T]], width: usize) -> Vec<T> {
        let mut joined = vec![T::default(); parts.iter().map(|part| part.len()).sum()];
        joined.par_chunks_mut((parts.len() * width).max(1)).enumerate().for_each(|(row, to)| {
            for (part, to) in parts.iter().zip(to.chunks_exact_mut(width)) {
                to.copy_from_slice(&part[row * width..][..width]);
            }
        });
        joined
    }
    Ok(match storages[0] {
        CpuStorage::BF16(_) => {
            let parts: Vec<_> = storages.iter().map(Real::slice).collect::<Result<_>>()?;
            CpuStorage::BF16(rows(&parts, width))
        }
        _ => {
            let parts: Vec<_> = storages.iter().map(Real::slice).collect::<Result<_>>()?;
            CpuStorage::F32(rows(&parts, width))
        }
    })
}

fn narrowed(dims: &[usize], parts: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last /= parts;
    }
    dims
}

impl SelfAttention {
    fn layouts(&self, qkv: &Layout) -> Result<(Sizes, [Layout; 3])> {
        let layouts = [part(qkv, 0, 3)?, part(qkv, 1, 3)?, part(qkv, 2, 3)?];
        let [q, k, v] = layouts.each_ref().map(Layout::dims);
        Ok((self.0.sizes(q, k, v)?, layouts))
    }
}

impl CustomOp1 for SelfAttention {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (sizes, [q, k, v]) = self.layouts(layout)?;
        let out = self.0.run(&sizes, [(qkv, &q), (qkv, &k), (qkv, &v)])?;
        Ok((out, narrowed(layout.dims(), 3).into()))
    }

    fn bwd(&self, qkv: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let [(x, layout), (y, out), (g, grad)] = [qkv, out, &grad].map(Tensor::storage_and_layout);
        let (x, y, g) = (cpu(&x)?, cpu(&y)?, cpu(&g)?);
        let (sizes, [q, k, v]) = self.layouts(layout)?;
        let (out, grad) = (part(out, 0, 1)?, part(grad, 0, 1)?);
        let gradients =
            self.0.run_back(&sizes, [(x, &q), (x, &k), (x, &v), (y, &out), (g, &grad)])?;
        tensor_of(join(&gradients, sizes.inner())?, layout.dims()).map(Some)
    }
}

impl CrossAttention {
    fn layouts(&self, q: &Layout, kv: &Layout) -> Result<(Sizes, [Layout; 3])> {
        let layouts = [part(q, 0, 1)?, part(kv, 0, 2)?, part(kv, 1, 2)?];
        let [q, k, v] = layouts.each_ref().map(Layout::dims);
        Ok((self.0.sizes(q, k, v)?, layouts))
    }
}

impl CustomOp2 for CrossAttention {
    fn name(&self) -> &'static str {
        "cross-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        kv: &CpuStorage,
        kv_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (sizes, [ql, k, v]) = self.layouts(q_layout, kv_layout)?;
        let out = self.0.run(&sizes, [(q, &ql), (kv, &k), (kv, &v)])?;
        Ok((out, q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [(a, q_layout), (b, kv_layout), (y, out), (g, grad)] =
            [q, kv, out, &grad].map(Tensor::storage_and_layout);
        let (a, b, y, g) = (cpu(&a)?, cpu(&b)?, cpu(&y)?, cpu(&g)?);
        let (sizes, [ql, k, v]) = self.layouts(q_layout, kv_layout)?;
        let (out, grad) = (part(out, 0, 1)?, part(grad, 0, 1)?);
        let [dq, dk, dv] =
            self.0.run_back(&sizes, [(a, &ql), (b, &k), (b, &v), (y, &out), (g, &grad)])?;
        let dkv =
            kv.track_op().then(|| tensor_of(join(&[dk, dv], sizes.inner())?, kv_layout.dims()));
        Ok((Some(tensor_of(dq, q_layout.dims())?), dkv.transpose()?))
    }
}
