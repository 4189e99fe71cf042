//! What the tests of this crate share.

use candle_core::{Device, Result, Tensor};

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
