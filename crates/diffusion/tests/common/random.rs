//! Weights out of nothing: whatever a model asks for, it gets.

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};
use diffusion::Result;
use diffusion::checkpoint::{TensorInfo, TensorSource};

/// Seeded random tensors of variance 1 / fan-in (vectors: around 1 for norms' weights, around 0 otherwise).
#[derive(Debug, Default)]
pub(crate) struct RandomSource {
    read: Mutex<BTreeMap<String, Vec<usize>>>,
}

impl RandomSource {
    /// What has been read so far, by name.
    pub(crate) fn read_so_far(&self) -> BTreeMap<String, Vec<usize>> {
        self.read.lock().expect("no reader panics").clone()
    }
}

impl TensorSource for RandomSource {
    fn origin(&self) -> String {
        "random weights".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.read_so_far().into_keys().collect()
    }

    fn info(&self, _: &str) -> Option<TensorInfo> {
        None
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        self.read.lock().expect("no reader panics").insert(name.to_owned(), shape.to_vec());
        let fan_in: usize = shape.iter().skip(1).product();
        let norm = name.contains("norm") && name.ends_with("weight");
        let (scale, centre) = match shape.len() {
            1 if norm => (0.2, 1.0),
            1 => (0.1, 0.0),
            _ => ((fan_in.max(1) as f32).powf(-0.5), 0.0),
        };
        let values = normal(name, shape.iter().product());
        let values = values.into_iter().map(|value| centre + scale * value).collect();
        Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
    }
}

/// `len` numbers of mean 0 and variance 1 that depend on `seed` alone: sums of four uniform ones.
pub(crate) fn normal(seed: &str, len: usize) -> Vec<f32> {
    // FNV-1a of the seed, then xorshift64*.
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut uniform = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    // Each has variance 1/12: four of them have 1/3.
    (0..len).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 3f32.sqrt()).collect()
}

/// [`normal`] as a tensor.
pub(crate) fn randn(seed: &str, shape: &[usize]) -> Tensor {
    Tensor::from_vec(normal(seed, shape.iter().product()), shape, &Device::Cpu)
        .expect("as many values as the shape has")
}
