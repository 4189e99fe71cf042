//! Layers whose weights are frozen and packed: linear layers and convolutions, with what stands around them.
//!
//! Activations are channels-last, in the dtype that the weight computes in ([`PackedWeight::compute_dtype`]). The
//! backward pass is that by activations only; LoRA's own matrices get theirs ([`linear_lora`]).
//!
//! [`PackedWeight::compute_dtype`]: crate::PackedWeight::compute_dtype

mod conv2d;
mod geglu;
mod linear;
mod lora;
mod norm_before;
mod padded;
mod plain;
mod residual;
mod windows;

use candle_core::{DType, Result, bail};

pub use self::conv2d::FrozenConv2d;
pub use self::geglu::linear_geglu;
pub use self::linear::linear_frozen;
pub use self::lora::{LowRank, linear_lora};
pub use self::norm_before::NormBefore;
pub(crate) use self::plain::ConvShape;
use crate::buffer::Aligned;
use crate::output::written;
use crate::product::{Call, Engine, Epilogue, Rows, Side};

/// Rows of activations as an engine takes them: where they lie, or copied with zeros between and behind them.
enum Operand<'a, T> {
    InPlace(&'a [T]),
    Copied(Aligned<T>),
}

impl<'a, T: Engine> Operand<'a, T> {
    /// Of `count` rows of `depth` numbers.
    fn new(values: &'a [T], count: usize, depth: usize) -> (Rows, Self) {
        let stride = depth.next_multiple_of(T::DEPTH_STEP);
        let rows = count.next_multiple_of(T::ROW_STEP);
        let map = Rows::Plain { count: rows, targets: count, stride };
        if (rows, stride) == (count, depth) {
            return (map, Self::InPlace(values));
        }
        let mut copy = Aligned::zeroed(rows * stride);
        for (to, from) in
            copy.as_mut_slice().chunks_exact_mut(stride).zip(values.chunks_exact(depth.max(1)))
        {
            to[..depth].copy_from_slice(from);
        }
        (map, Self::Copied(copy))
    }

    fn as_slice(&self) -> &[T] {
        match self {
            Self::InPlace(values) => values,
            Self::Copied(values) => values.as_slice(),
        }
    }
}

/// What a product of tokens is finished with.
struct Finish<'a, T> {
    bias: Option<&'a [f32]>,
    residual: Option<&'a [T]>,
    gated: bool,
    columns: usize,
}

/// `values · side`, finished: `(tokens, finish.columns)`.
fn product<T: Engine>(
    side: Side<'_>,
    values: &[T],
    tokens: usize,
    extra: Option<(&[T], Side<'_>)>,
    finish: &Finish<'_, T>,
) -> Vec<T> {
    assert_eq!(values.len(), tokens * side.depth(), "a row a token");
    if let Some(residual) = finish.residual {
        assert_eq!(residual.len(), tokens * finish.columns, "a residual for each output");
    }
    let (rows, a) = Operand::new(values, tokens, side.depth());
    let extra = extra.map(|(low, side)| (Operand::new(low, tokens, side.depth()).1, side));
    // SAFETY: every row below `tokens` is a target, and the engine finishes all columns of each.
    unsafe {
        written(tokens * finish.columns, |out| {
            T::multiply(&Call {
                rows,
                a: a.as_slice(),
                side,
                taps: &[0],
                extra: extra.as_ref().map(|(low, side)| (low.as_slice(), *side)),
                epilogue: Epilogue {
                    bias: finish.bias,
                    image_bias: None,
                    residual: finish.residual,
                    gated: finish.gated,
                    columns: finish.columns,
                    out: *out,
                },
            });
        })
    }
}

/// # Errors
/// If activations are not of the dtype that the weight computes in.
fn check_dtype(found: DType, expected: DType) -> Result<()> {
    if found != expected {
        bail!("kernels: expected activations in {expected:?} for this weight, found {found:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
