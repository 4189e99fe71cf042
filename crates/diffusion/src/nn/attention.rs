//! Scaled dot-product attention (Vaswani et al. 2017) and diffusers' `Attention` layer over it.
//!
//! On the CPU it is one operator of [`kernels`]. Elsewhere queries are taken in chunks, so that the matrix of scores never
//! exists as a whole: self-attention over a 64×64 latent with 8 heads would need 512 MiB for it. Rows of a softmax are independent, so chunks change nothing.

use candle_core::{D, DType, Module, Tensor};

use super::projections::Projections;
use super::{Linear, Params, on_kernels};
use crate::error::Result;

/// The most bytes of f32 scores that are alive at once.
const MAX_SCORE_BYTES: usize = 64 << 20;

/// How [`attention`] runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttentionOptions<'a> {
    /// Added to the scores of every head: `(n, m)`, 0 where a query may look, -∞ or very negative where not.
    pub bias: Option<&'a Tensor>,
    /// Multiply queries and keys in f32 although they are stored with fewer digits.
    pub upcast: bool,
}

/// `softmax(q kᵀ / √d + bias) v` for each of `heads` heads; the softmax is taken in f32.
///
/// # Shapes
/// - q: `(b, n, heads · d)`
/// - k, v: `(b, m, heads · d)`
/// - returns: `(b, n, heads · d)`
///
/// # Errors
/// Those of the tensor operations, in particular if the shapes do not fit.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    options: AttentionOptions<'_>,
) -> candle_core::Result<Tensor> {
    let (b, n, inner) = q.dims3()?;
    let m = k.dim(1)?;
    let d = inner / heads;
    if on_kernels(q) {
        return kernels::attention(q, k, v, heads, (d as f64).powf(-0.5), options.bias);
    }
    let dtype = q.dtype();
    let split = |xs: &Tensor, len: usize| {
        xs.reshape((b, len, heads, d))?.transpose(1, 2)?.contiguous()?.reshape((b * heads, len, d)) // (b · heads, len, d)
    };
    let (mut q, mut k, v) = (split(q, n)?, split(k, m)?, split(v, m)?);
    if options.upcast {
        (q, k) = (q.to_dtype(DType::F32)?, k.to_dtype(DType::F32)?);
    }
    // Scaling the queries and not the scores keeps f16 products in range, and is less work.
    let q = q.affine((d as f64).powf(-0.5), 0.0)?;
    let kt = k.t()?; // (b · heads, d, m)

    let rows = (MAX_SCORE_BYTES / (b * heads * m * size_of::<f32>()).max(1)).clamp(1, n.max(1));
    let mut chunks = Vec::with_capacity(n.div_ceil(rows));
    for start in (0..n).step_by(rows) {
        let len = rows.min(n - start);
        let mut scores = q.narrow(1, start, len)?.matmul(&kt)?.to_dtype(DType::F32)?;
        if let Some(bias) = options.bias {
            scores = scores.broadcast_add(&bias.narrow(0, start, len)?.to_dtype(DType::F32)?)?;
        }
        chunks.push(softmax(&scores)?.to_dtype(dtype)?.matmul(&v)?);
    }
    let out = if chunks.len() == 1 { chunks.remove(0) } else { Tensor::cat(&chunks, 1)? };
    // (b · heads, n, d) back to (b, n, heads · d)
    out.reshape((b, heads, n, d))?.transpose(1, 2)?.reshape((b, n, inner))
}

/// Softmax over the last dimension, from operations that have gradients.
fn softmax(xs: &Tensor) -> candle_core::Result<Tensor> {
    // The maximum cancels out of the quotient, and so out of the gradient.
    let max = xs.max_keepdim(D::Minus1)?.detach();
    let exp = xs.broadcast_sub(&max)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// The parts of an [`Attention`] layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionConfig {
    /// Features of the input and of the output.
    pub query_dim: usize,
    /// Features of what keys and values are made from; `query_dim` for self-attention.
    pub context_dim: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub dim_head: usize,
    /// Whether keys and values are made from the input itself.
    pub is_self: bool,
    /// Whether `to_q`, `to_k` and `to_v` have a bias; `to_out.0` always does.
    pub bias: bool,
    /// See [`AttentionOptions::upcast`].
    pub upcast: bool,
}

/// diffusers' `Attention`: `to_q`, `to_k`, `to_v`, [`attention`], `to_out.0`.
#[derive(Clone, Debug)]
pub struct Attention {
    inputs: Inputs,
    to_out: Linear,
    heads: usize,
    upcast: bool,
}

/// What queries, keys and values are made from.
#[derive(Clone, Debug)]
enum Inputs {
    /// All from the input.
    Own(Projections),
    /// Keys and values from a context.
    Context { queries: Linear, keys_and_values: Projections },
}

impl Attention {
    /// Loads the four projections, also under the names that they had before diffusers 0.17 (`query`, `key`, `value`,
    /// `proj_attn`).
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(config: AttentionConfig, params: &Params) -> Result<Self> {
        let AttentionConfig { query_dim, context_dim, heads, dim_head, is_self, bias, upcast } =
            config;
        let inner_dim = heads * dim_head;
        let [q, k, v, out] = if params.contains("query.weight") {
            ["query", "key", "value", "proj_attn"].map(|name| params.pp(name))
        } else {
            ["to_q", "to_k", "to_v", "to_out.0"].map(|name| params.pp(name))
        };
        let inputs = if is_self {
            Inputs::Own(Projections::load(query_dim, inner_dim, bias, &[q, k, v])?)
        } else {
            Inputs::Context {
                queries: Linear::load(query_dim, inner_dim, bias, &q)?,
                keys_and_values: Projections::load(context_dim, inner_dim, bias, &[k, v])?,
            }
        };
        Ok(Self { inputs, to_out: Linear::load(inner_dim, query_dim, true, &out)?, heads, upcast })
    }

    /// The layer's output plus `residual`.
    ///
    /// # Shapes
    /// - xs: `(b, n, query_dim)`; on the CPU also `(b, h, w, query_dim)`
    /// - context: `(b, m, context_dim)`; not looked at in self-attention
    /// - residual: the shape of xs
    /// - returns: the same
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward_add(
        &self,
        xs: &Tensor,
        context: &Tensor,
        residual: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let attended = match &self.inputs {
            Inputs::Own(projections) => self.own(&projections.forward(xs)?)?,
            Inputs::Context { queries, keys_and_values } => {
                self.other(&queries.forward(xs)?, &keys_and_values.forward(context)?)?
            }
        };
        self.to_out.forward_add(&attended, residual)
    }

    const fn options(&self) -> AttentionOptions<'static> {
        AttentionOptions { bias: None, upcast: self.upcast }
    }

    fn scale(&self, inner: usize) -> f64 {
        ((inner / self.heads) as f64).powf(-0.5)
    }

    /// Of queries, keys and values side by side.
    fn own(&self, qkv: &Tensor) -> candle_core::Result<Tensor> {
        let inner = qkv.dim(D::Minus1)? / 3;
        if on_kernels(qkv) {
            return kernels::self_attention(qkv, self.heads, self.scale(inner));
        }
        let part = |at| qkv.narrow(D::Minus1, at * inner, inner);
        attention(&part(0)?, &part(1)?, &part(2)?, self.heads, self.options())
    }

    /// Of queries, and keys and values side by side.
    fn other(&self, q: &Tensor, kv: &Tensor) -> candle_core::Result<Tensor> {
        let inner = q.dim(D::Minus1)?;
        if on_kernels(q) {
            let kv = kv.to_dtype(q.dtype())?;
            return kernels::cross_attention(q, &kv, self.heads, self.scale(inner));
        }
        let part = |at| kv.narrow(D::Minus1, at * inner, inner);
        attention(q, &part(0)?, &part(1)?, self.heads, self.options())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_softmax_of_large_scores_is_exact() -> Result<()> {
        // e^1000 overflows; the result is that of [0, ln 3]: 1/4 and 3/4.
        let xs = Tensor::new(&[[1000.0f32, 1000.0 + 3f32.ln()]], &Device::Cpu)?;
        let ys = softmax(&xs)?.to_vec2::<f32>()?;
        assert!((ys[0][0] - 0.25).abs() < 1e-4 && (ys[0][1] - 0.75).abs() < 1e-4, "{ys:?}");
        Ok(())
    }

    #[test]
    fn chunks_change_nothing() -> Result<()> {
        // One head, 5000 queries and keys: 100 MB of scores, hence two chunks. Queries of a short call are the reference.
        let (n, d) = (5000, 4);
        let q = Tensor::randn(0f32, 1.0, (1, n, d), &Device::Cpu)?;
        let k = Tensor::randn(0f32, 1.0, (1, n, d), &Device::Cpu)?;
        let v = Tensor::randn(0f32, 1.0, (1, n, d), &Device::Cpu)?;
        let whole = attention(&q, &k, &v, 1, AttentionOptions::default())?;
        for start in [0, 3300, n - 60] {
            let part = q.narrow(1, start, 60)?;
            let part = attention(&part, &k, &v, 1, AttentionOptions::default())?;
            let error =
                (whole.narrow(1, start, 60)? - part)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(error < 1e-6, "{error}");
        }
        Ok(())
    }
}
