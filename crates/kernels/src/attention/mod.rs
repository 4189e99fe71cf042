//! Scaled dot-product attention without the matrix of scores in memory.
//!
//! The streaming softmax of Milakov and Gimelshein (2018) over blocks of keys, as in FlashAttention (Dao et al. 2022),
//! with everything on its side: a vector register holds one key's scores for neighbouring queries. Maxima and sums
//! over keys are then plain vector arithmetic, and the weights come out as the packed panel that the product
//! with the values reads. The backward pass computes the weights again.
//!
//! Inputs are what linear layers give, `(b, n, heads · d)`, and so is the output: heads are never transposed.

#[cfg(target_arch = "x86_64")]
mod amx;
mod backward;
mod forward;
mod heads;
mod joined;
mod pack;
mod parts;
mod product;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;

use self::heads::{Logs, Number, Sizes, View};
pub use self::joined::{cross_attention, self_attention};
use self::parts::Inputs;
use crate::isa::Tier;
use crate::simd::dispatch;
use crate::tensors::cpu;

/// `softmax(scale · q kᵀ + bias) v` for each of `heads` heads.
///
/// # Shapes
/// - q: `(b, n, heads · d)`, f32 or bf16 on the CPU; the others have the same dtype
/// - k, v: `(b, m, heads · d)`
/// - bias: `(n, m)`, added to the scores of every head: 0 where a query may look, -∞ where not; it gets no gradient
/// - returns: `(b, n, heads · d)`, contiguous, in the dtype of the others
///
/// q, k and v may be narrowed views of one tensor: rows and images any distance apart cost nothing. Scores and sums
/// are f32. [`Tier::Amx`] multiplies bf16 in bf16, with weights rounded to it; all else is multiplied in f32.
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
    let tracked = [q, k, v].iter().any(|tensor| tensor.track_op());
    let op = Attention { tier, heads, scale: scale as f32, bias, keep: tracked, logs: Logs::new() };
    let neighbours = |tensor: &Tensor| {
        let together = tensor.stride().last() == Some(&1);
        if together { Ok(tensor.clone()) } else { tensor.contiguous() }
    };
    crate::recording::apply3(&neighbours(q)?, &neighbours(k)?, &neighbours(v)?, op)
}

/// Exponentials are taken to base 2.
const LOG2_E: f32 = std::f32::consts::LOG2_E;

struct Attention {
    tier: Tier,
    heads: usize,
    scale: f32,
    /// In units of log₂.
    bias: Option<Vec<f32>>,
    /// True if there may be a backward pass.
    keep: bool,
    logs: Logs,
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

    /// True if bf16 is multiplied on tiles.
    #[cfg(target_arch = "x86_64")]
    fn has_tiles(&self) -> bool {
        self.tier == Tier::Amx && self.tier.is_available()
    }

    fn forward<T: Number>(
        &self,
        sizes: &Sizes,
        inputs: [(&CpuStorage, &Layout); 3],
        run: impl Fn(&Self, &Sizes, [View<'_, T>; 3]) -> (Vec<T>, Option<Vec<f32>>),
    ) -> Result<CpuStorage> {
        let [q, k, v] = inputs.map(|(storage, layout)| View::new(T::slice(storage)?, layout));
        let (out, logs) = run(self, sizes, [q?, k?, v?]);
        if let Some(logs) = logs {
            self.logs.get_or_init(|| logs);
        }
        Ok(T::storage(out))
    }

    /// Gradients of q, k and v, from these, the output and its gradient.
    fn backward<T: Number>(
        &self,
        sizes: &Sizes,
        inputs: [(&CpuStorage, &Layout); 5],
        run: impl Fn(&Self, &Sizes, &Inputs<'_, T>) -> [Vec<T>; 3],
    ) -> Result<[CpuStorage; 3]> {
        let Some(logs) = self.logs.get() else { bail!("attention: a backward pass only") };
        let [q, k, v, out, grad] =
            inputs.map(|(storage, layout)| View::new(T::slice(storage)?, layout));
        let inputs = Inputs { q: q?, k: k?, v: v?, out: out?, grad: grad?, logs };
        Ok(run(self, sizes, &inputs).map(T::storage))
    }

    /// Any dtype's forward pass.
    fn run(&self, sizes: &Sizes, inputs: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
        match inputs[0].0 {
            #[cfg(target_arch = "x86_64")]
            CpuStorage::BF16(_) if self.has_tiles() => {
                self.forward::<bf16>(sizes, inputs, amx::forward::forward)
            }
            CpuStorage::BF16(_) => self.forward::<bf16>(sizes, inputs, forward::forward),
            _ => self.forward::<f32>(sizes, inputs, forward::forward),
        }
    }

    /// Any dtype's backward pass.
    fn run_back(
        &self,
        sizes: &Sizes,
        inputs: [(&CpuStorage, &Layout); 5],
    ) -> Result<[CpuStorage; 3]> {
        match inputs[0].0 {
            #[cfg(target_arch = "x86_64")]
            CpuStorage::BF16(_) if self.has_tiles() => {
                self.backward::<bf16>(sizes, inputs, amx::backward::backward)
            }
            CpuStorage::BF16(_) => self.backward::<bf16>(sizes, inputs, backward::backward),
            _ => self.backward::<f32>(sizes, inputs, backward::backward),
        }
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
        let out = self.run(&sizes, [(q, q_layout), (k, k_layout), (v, v_layout)])?;
        Ok((out, q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(q.dims(), k.dims(), v.dims())?;
        let grad = if grad.stride().last() == Some(&1) { grad.clone() } else { grad.contiguous()? };
        let tensors = [q, k, v, out, &grad].map(Tensor::storage_and_layout);
        let [a, b, c, d, e] =
            tensors.each_ref().map(|(storage, layout)| cpu(storage).map(|cpu| (cpu, *layout)));
        let [dq, dk, dv] = self.run_back(&sizes, [a?, b?, c?, d?, e?])?;
        let [dq, dk, dv] =
            [(dq, q), (dk, k), (dv, v)].map(|(gradient, like)| tensor_of(gradient, like.dims()));
        let (dq, dk, dv) = (dq?, dk?, dv?);
        Ok((Some(dq), Some(dk), Some(dv)))
    }
}

/// # Errors
/// If the storage does not have as many numbers as the dimensions.
fn tensor_of(storage: CpuStorage, dims: &[usize]) -> Result<Tensor> {
    match storage {
        CpuStorage::BF16(values) => Tensor::from_vec(values, dims, &candle_core::Device::Cpu),
        CpuStorage::F32(values) => Tensor::from_vec(values, dims, &candle_core::Device::Cpu),
        _ => bail!("attention: expected f32 or bf16"),
    }
}

#[cfg(test)]
mod tests;
