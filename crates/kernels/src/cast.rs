//! Activations in another dtype, as LoRAs in f32 beside layers in bf16 need them.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use crate::isa::Tier;
use crate::output::{Rows, written_in_blocks};
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{for_real, numbers};

/// The tensor in another dtype, rounded to nearest; itself if it has that dtype.
///
/// # Shapes
/// - xs: any, f32 or bf16 on the CPU
/// - returns: the same, in `dtype`, which is f32 or bf16
///
/// # Errors
/// If one of the dtypes or the device is another one.
pub fn cast(xs: &Tensor, dtype: DType) -> Result<Tensor> {
    cast_on(Tier::current(), xs, dtype)
}

/// [`cast`] on a given tier.
///
/// # Errors
/// Those of [`cast`].
pub fn cast_on(tier: Tier, xs: &Tensor, dtype: DType) -> Result<Tensor> {
    if xs.dtype() == dtype {
        return Ok(xs.clone());
    }
    crate::recording::apply1(&xs.contiguous()?, Cast { tier, dtype })
}

struct Cast {
    tier: Tier,
    dtype: DType,
}

struct Chunk<'a, T, U> {
    xs: &'a [T],
    to: *mut U,
}

impl<T: Real, U: Real> Kernel for Chunk<'_, T, U> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { xs, to } = self;
        for at in (0..xs.len()).step_by(S::LANES) {
            let left = xs.len() - at;
            // SAFETY: `left` numbers are left of `xs`, and of `to`, which is as long.
            unsafe {
                let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                U::store_up_to(simd, to.add(at), x, left);
            }
        }
    }
}

impl CustomOp1 for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        for_real!(xs.dtype(), |T| {
            let xs = numbers::<T>(xs, layout)?;
            for_real!(self.dtype, |U| {
                // SAFETY: a chunk writes as many numbers as it has.
                let cast = unsafe {
                    written_in_blocks(Rows::of(xs.len(), 1), 1, |block, to: *mut U| {
                        dispatch(self.tier, Chunk { xs: block.of(xs, 1), to });
                    })
                };
                Ok((U::storage(cast), layout.shape().clone()))
            })
        })
    }
    fn bwd(&self, xs: &Tensor, _cast: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        cast_on(self.tier, grad, xs.dtype()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{Numbers, tiers};

    #[test]
    fn values_and_gradients_are_those_of_candle() -> Result<()> {
        let mut numbers = Numbers::new(60);
        for (from, to) in [(DType::F32, DType::BF16), (DType::BF16, DType::F32)] {
            for dims in [vec![1], vec![2, 3, 5], vec![1, 9, 61, 33]] {
                let xs = Var::from_tensor(&numbers.tensor(&dims)?.to_dtype(from)?)?;
                let pull = numbers.tensor(&dims)?.to_dtype(to)?;
                let of = |cast: &Tensor| -> Result<[Vec<f32>; 2]> {
                    let gradients = (cast * &pull)?.sum_all()?.backward()?;
                    let gradient = gradients.get(&xs).expect("a gradient");
                    assert_eq!((cast.dtype(), gradient.dtype()), (to, from));
                    let values = |tensor: &Tensor| {
                        tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
                    };
                    Ok([values(cast)?, values(gradient)?])
                };
                let expected = of(&xs.to_dtype(to)?)?;
                for tier in tiers() {
                    assert_eq!(of(&cast_on(tier, &xs, to)?)?, expected, "{tier:?} {dims:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_same_dtype_is_the_same_tensor_and_others_are_errors() -> Result<()> {
        let xs = Numbers::new(61).tensor(&[4])?;
        assert_eq!(cast(&xs, DType::F32)?.id(), xs.id());
        assert!(cast(&xs, DType::F64).is_err());
        assert!(cast(&Tensor::zeros(4, DType::U8, &Device::Cpu)?, DType::F32).is_err());
        Ok(())
    }
}
