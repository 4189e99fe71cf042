//! What the tests of this crate share.

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::isa::Tier;

/// The tiers of this machine.
pub(crate) fn tiers() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|tier| tier.is_available())
}

/// A seeded stream of numbers in `[-1, 1)`: Knuth's linear congruential generator.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn one(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.one()).collect()
    }

    pub(crate) fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(self.take(dims.iter().product()), dims, &Device::Cpu)
    }
}

/// Asserts that numbers agree within `tolerance` of the largest.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-3, |scale: f64, x| scale.max(x.abs()));
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance * scale, "at {at}: found {found}, expected {expected}");
    }
}

/// Asserts that two tensors agree within `tolerance` of the largest number.
#[track_caller]
pub(crate) fn assert_same(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims());
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected: Vec<f64> = values(expected).into_iter().map(f64::from).collect();
    assert_close(&values(found), &expected, tolerance);
}

/// Asserts that an operator agrees with candle's own operations, in its value and in its gradients by all inputs, on
/// every tier, in f32 and in bf16.
///
/// `expected` is computed in f32, of inputs rounded to the dtype that it is told. A number of bf16 may be off by one
/// rounding, 2⁻⁸ of itself, beside `tolerance` of the largest.
///
/// # Errors
/// Those of both functions.
#[track_caller]
pub(crate) fn agrees(
    tolerance: f64,
    inputs: &[&Tensor],
    expected: impl Fn(DType, &[Var]) -> Result<Tensor>,
    found: impl Fn(Tier, &[Var]) -> Result<Tensor>,
) -> Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        let inputs = |to: DType| -> Result<Vec<Var>> {
            inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype)?.to_dtype(to)?)).collect()
        };
        let (plain, ours) = (inputs(DType::F32)?, inputs(dtype)?);
        let expected = expected(dtype, &plain)?;
        // The gradient by the output arrives in the output's dtype.
        let pull =
            Numbers::new(7).tensor(expected.dims())?.to_dtype(dtype)?.to_dtype(DType::F32)?;
        let gradients = (&expected * &pull)?.sum_all()?.backward()?;
        for tier in tiers() {
            let found = found(tier, &ours)?;
            assert_rounded(&found, &expected, tolerance);
            let pulled = (found.to_dtype(DType::F32)? * &pull)?.sum_all()?.backward()?;
            for (ours, plain) in ours.iter().zip(&plain) {
                let (found, expected) = (pulled.get(ours).unwrap(), gradients.get(plain).unwrap());
                assert_eq!(found.dtype(), dtype);
                assert_rounded(found, expected, tolerance);
            }
        }
    }
    Ok(())
}

/// [`assert_same`], where numbers of bf16 may also be off by one rounding.
#[track_caller]
pub(crate) fn assert_rounded(found: &Tensor, expected: &Tensor, tolerance: f64) {
    if found.dtype() == DType::F32 {
        return assert_same(found, expected, tolerance);
    }
    assert_eq!(found.dims(), expected.dims());
    let values = |tensor: &Tensor| {
        tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()
    };
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().fold(1e-3, |scale: f64, x| scale.max(f64::from(x.abs())));
    for (at, (found, expected)) in found.into_iter().zip(expected).enumerate() {
        let error = f64::from(found - expected).abs();
        let bound = f64::from(expected.abs()) / 256.0 + tolerance * scale;
        assert!(error <= bound, "at {at}: found {found}, expected {expected}");
    }
}
