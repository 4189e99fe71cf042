//! Scaled dot-product attention without the matrix of scores in memory.
//!
//! The streaming softmax of Milakov and Gimelshein (2018) over blocks of keys, as in FlashAttention (Dao et al. 2022),
//! with everything on its side: a vector register holds one key's scores for neighbouring queries. Maxima and sums
//! over keys are then plain vector arithmetic, and the weights come out as the packed panel that the product
//! with the values reads. The backward pass computes the weights again.
//!
//! Inputs are what linear layers give, `(b, n, heads · d)`, and so is the output: heads are never transposed.

mod backward;
mod forward;

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::buffer::Buffer;
use crate::gemm::{MAX_VECTORS, Matrix, Operand, PANEL_ROWS, Stage};
use crate::isa::Tier;
use crate::simd::{Kernel, Simd, dispatch};
use crate::tensors::{contiguous, cpu, from_values};

/// `softmax(scale · q kᵀ + bias) v` for each of `heads` heads.
///
/// # Shapes
/// - q: `(b, n, heads · d)`, f32 on the CPU, as are the others
/// - k, v: `(b, m, heads · d)`
/// - bias: `(n, m)`, added to the scores of every head: 0 where a query may look, -∞ where not; it gets no gradient
/// - returns: `(b, n, heads · d)`
///
/// # Errors
/// If a shape, dtype or device is another one, or if there are no keys.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    attention_on(Tier::current(), q, k, v, heads, scale, bias)
}

/// [`attention`] on a given tier.
///
/// # Errors
/// Those of [`attention`].
pub fn attention_on(
    tier: Tier,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let bias = bias
        .map(|bias| {
            if bias.dims() != [q.dim(1)?, k.dim(1)?] {
                bail!("attention: a bias {:?} for {:?} and {:?}", bias.dims(), q.dims(), k.dims());
            }
            let mut bias = bias.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            // Finite, so that a block of keys that a query may not see leaves no ∞ - ∞.
            bias.iter_mut().for_each(|bias| *bias = LOG2_E * bias.max(-1e30));
            Ok(bias)
        })
        .transpose()?;
    let op = Attention { tier, heads, scale: scale as f32, bias };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// Exponentials are taken to base 2.
const LOG2_E: f32 = std::f32::consts::LOG2_E;

struct Attention {
    tier: Tier,
    heads: usize,
    scale: f32,
    /// In units of log₂.
    bias: Option<Vec<f32>>,
}

/// Sizes of a call.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    /// Features of a head.
    d: usize,
}

impl Sizes {
    /// Features of all heads.
    const fn inner(&self) -> usize {
        self.heads * self.d
    }
    /// Rows of panels that hold `rows`.
    const fn padded(rows: usize) -> usize {
        rows.next_multiple_of(PANEL_ROWS)
    }
}

impl Attention {
    fn sizes(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Sizes> {
        let (&[batch, queries, inner], &[_, keys, _]) = (q, k) else {
            bail!("attention: expected (b, n, c) and (b, m, c), found {q:?} and {k:?}");
        };
        if k != [batch, keys, inner] || v != k || keys == 0 {
            bail!("attention: keys {k:?} and values {v:?} for queries {q:?}");
        }
        if self.heads == 0 || !inner.is_multiple_of(self.heads) || inner == 0 {
            bail!("attention: {} heads for {q:?}", self.heads);
        }
        Ok(Sizes { batch, queries, keys, heads: self.heads, d: inner / self.heads })
    }
}

/// The rows of one head: `(rows, d)`, a token's features apart.
struct Head<'a> {
    values: &'a [f32],
    rows: usize,
    d: usize,
    inner: usize,
}

impl<'a> Head<'a> {
    /// Of head `at % heads` of image `at / heads`, in `(b, rows, heads · d)`.
    fn new(values: &'a [f32], rows: usize, sizes: &Sizes, at: usize) -> Self {
        let (image, head) = (at / sizes.heads, at % sizes.heads);
        let (d, inner) = (sizes.d, sizes.inner());
        Self { values: &values[image * rows * inner + head * d..], rows, d, inner }
    }
    /// Spans are rows, depths are features.
    fn by_rows(&self) -> Matrix<'a, f32> {
        Matrix::new(self.values, (self.rows, self.inner), (self.d, 1))
    }
    /// Spans are features, depths are rows.
    fn by_features(&self) -> Matrix<'a, f32> {
        Matrix::new(self.values, (self.d, 1), (self.rows, self.inner))
    }
}

/// Packs a whole matrix as panels of [`PANEL_ROWS`] spans.
struct PackPanels<'a> {
    matrix: Matrix<'a, f32>,
    spans: usize,
    depth: usize,
    to: &'a mut Buffer,
}

impl Kernel for PackPanels<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { matrix, spans, depth, to } = self;
        let stage = Stage::default();
        let to = to.reserve(Sizes::padded(spans) * depth + crate::simd::MAX_LANES);
        for start in (0..spans).step_by(PANEL_ROWS) {
            let span = start..(start + PANEL_ROWS).min(spans);
            // SAFETY: inside the matrix, and the buffer holds all panels.
            unsafe { matrix.pack(simd, span, 0..depth, PANEL_ROWS, &stage, to.add(start * depth)) };
        }
    }
}

/// Packs rows of a head side by side, times `scale`: row `i`, feature `j` at `j · width + i`.
///
/// # Safety
/// `d · width + 16` numbers can be written at `to`, where `width` is that of the tier's widest panel.
#[inline(always)]
unsafe fn pack_rows<S: Simd>(
    simd: S,
    head: &Head<'_>,
    rows: Range<usize>,
    scale: f32,
    to: *mut f32,
) {
    let width = MAX_VECTORS * S::LANES;
    // SAFETY: inside the head's matrix; the rest is the caller's word.
    unsafe {
        head.by_rows().pack(simd, rows, 0..head.d, width, &Stage::default(), to);
        for i in (0..head.d * width).step_by(S::LANES) {
            simd.store(to.add(i), simd.mul(simd.load(to.add(i)), simd.splat(scale)));
        }
    }
}

/// Writes columns of packed rows back: `out[i · inner + j] = from[j · stride + i]`.
///
/// # Safety
/// `from` can be read and `out` written for `rows` and `d`.
#[inline(always)]
unsafe fn unpack_rows(
    from: *const f32,
    stride: usize,
    rows: usize,
    d: usize,
    out: *mut f32,
    inner: usize,
) {
    for i in 0..rows {
        for j in 0..d {
            // SAFETY: the caller's word.
            unsafe { *out.add(i * inner + j) = *from.add(j * stride + i) };
        }
    }
}

/// A pointer that tasks share: each writes the rows and features that are its own.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: tasks write disjoint parts, and the output outlives them.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The first row of a head.
    ///
    /// # Safety
    /// The output is `(b, rows, heads · d)` and has the head.
    unsafe fn head(self, rows: usize, sizes: &Sizes, at: usize) -> *mut f32 {
        let (image, head) = (at / sizes.heads, at % sizes.heads);
        // SAFETY: inside the output, by the caller's word.
        unsafe { self.0.add(image * rows * sizes.inner() + head * sizes.d) }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(q_layout.dims(), k_layout.dims(), v_layout.dims())?;
        let (q, k, v) =
            (contiguous(q, q_layout)?, contiguous(k, k_layout)?, contiguous(v, v_layout)?);
        let out = forward::forward(self, &sizes, q, k, v);
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(q.dims(), k.dims(), v.dims())?;
        let grad = grad.contiguous()?;
        let tensors = [q, k, v, &grad];
        let storages = tensors.map(Tensor::storage_and_layout);
        let mut values = [&[][..]; 4];
        for (values, (storage, layout)) in values.iter_mut().zip(&storages) {
            *values = contiguous(cpu(storage)?, layout)?;
        }
        let [dq, dk, dv] = backward::backward(self, &sizes, values);
        Ok((
            Some(from_values(dq, q.dims())?),
            Some(from_values(dk, k.dims())?),
            Some(from_values(dv, v.dims())?),
        ))
    }
}

#[cfg(test)]
mod tests;
