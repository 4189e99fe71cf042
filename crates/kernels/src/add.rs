//! Sums of two tensors of one shape, as residual connections take them.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::isa::Tier;
use crate::output::{Rows, written_in_blocks};
use crate::simd::{Kernel, Real, Simd, dispatch};
use crate::tensors::{for_real, numbers};

/// `a + b`, rounded once.
///
/// # Shapes
/// - a, b: any, the same, f32 or bf16 on the CPU
/// - returns: the same, in the same dtype
///
/// # Errors
/// If the shapes or dtypes differ, or the dtype or device is another one.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    add_on(Tier::current(), a, b)
}

/// [`add`] on a given tier.
///
/// # Errors
/// Those of [`add`].
pub fn add_on(tier: Tier, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        bail!("add: expected one shape, found {:?} and {:?}", a.dims(), b.dims());
    }
    crate::recording::apply2(&a.contiguous()?, &b.contiguous()?, Add { tier })
}

struct Add {
    tier: Tier,
}

/// A chunk of both.
struct Chunk<'a, T> {
    a: &'a [T],
    b: &'a [T],
    to: *mut T,
}

impl<T: Real> Kernel for Chunk<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { a, b, to } = self;
        assert_eq!(a.len(), b.len());
        for at in (0..a.len()).step_by(S::LANES) {
            let left = a.len() - at;
            // SAFETY: `left` numbers are left of both, and of `to`, which is as long.
            unsafe {
                let (a, b) = (a.as_ptr().add(at), b.as_ptr().add(at));
                let (a, b) = (T::load_up_to(simd, a, left), T::load_up_to(simd, b, left));
                T::store_up_to(simd, to.add(at), simd.add(a, b), left);
            }
        }
    }
}

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        for_real!(a.dtype(), |T| {
            let (a, b) = (numbers::<T>(a, a_layout)?, numbers::<T>(b, b_layout)?);
            // SAFETY: a chunk writes as many numbers as it has.
            let sum = unsafe {
                written_in_blocks(Rows::of(a.len(), 1), 1, |block, to| {
                    dispatch(self.tier, Chunk { a: block.of(a, 1), b: block.of(b, 1), to });
                })
            };
            Ok((T::storage(sum), a_layout.shape().clone()))
        })
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _sum: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of = |tensor: &Tensor| tensor.track_op().then(|| grad.clone());
        Ok((of(a), of(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, agrees};

    #[test]
    fn values_and_gradients_are_those_of_candle() -> Result<()> {
        let mut numbers = Numbers::new(50);
        for dims in [vec![1], vec![2, 3, 5], vec![1, 9, 61, 33]] {
            let (a, b) = (numbers.tensor(&dims)?, numbers.tensor(&dims)?);
            agrees(
                1e-6,
                &[&a, &b],
                |_, vars| vars[0].as_tensor() + vars[1].as_tensor(),
                |tier, vars| add_on(tier, &vars[0], &vars[1]),
            )?;
        }
        Ok(())
    }

    #[test]
    fn both_may_be_one_tensor() -> Result<()> {
        let a = candle_core::Var::from_tensor(&Numbers::new(51).tensor(&[20])?)?;
        let gradients = add(&a, &a)?.sum_all()?.backward()?;
        assert_eq!(gradients.get(&a).unwrap().to_vec1::<f32>()?, [2.0; 20]);
        Ok(())
    }

    #[test]
    fn different_shapes_are_an_error() -> Result<()> {
        let mut numbers = Numbers::new(52);
        assert!(add(&numbers.tensor(&[2, 3])?, &numbers.tensor(&[3, 2])?).is_err());
        Ok(())
    }
}
