//! Weights out of nothing: seeded tensors of whatever name and shape a model asks for.
//!
//! For timing models, and for testing what does not depend on the weights, without a checkpoint.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{TensorInfo, TensorSource};
use crate::error::Result;
use crate::random::{SplitMix64, fnv1a64};

/// Elements that one thread makes at a time, from a generator of their own.
const CHUNK: usize = 1 << 16;

/// The deviation of biases.
const BIAS: f32 = 0.01;

/// A [`TensorSource`] that has every tensor, of any shape.
///
/// Weights have mean 0 and variance 1 / fan-in, so that activations keep their size; weights of normalisations
/// are 1; biases are small. A tensor depends on the seed, its name and its shape, and on nothing else.
///
/// It lists no names and knows nothing about a tensor before it is read: models that look at what a checkpoint
/// has take diffusers' present layout.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomSource {
    seed: u64,
}

impl RandomSource {
    /// The weights of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// `len` values in order; `convert` rounds them.
    fn values<T: Copy + Default + Send>(
        &self,
        name: &str,
        shape: &[usize],
        convert: impl Fn(f32) -> T + Sync,
    ) -> Vec<T> {
        let mut values = vec![T::default(); shape.iter().product()];
        let fan_in: usize = shape.iter().skip(1).product();
        let scale = match shape.len() {
            1 if name.contains("norm") && name.ends_with("weight") => {
                values.fill(convert(1.0));
                return values;
            }
            1 => BIAS,
            _ => (fan_in.max(1) as f32).sqrt().recip(),
        };
        let begin = 0xcbf2_9ce4_8422_2325 ^ self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let stream = fnv1a64(begin, name);
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| {
            let mut random = SplitMix64::new(stream.wrapping_add((i as u64) << 40));
            chunk.fill_with(|| convert(scale * random.nearly_normal()));
        });
        values
    }
}

impl TensorSource for RandomSource {
    fn origin(&self) -> String {
        "random weights".to_owned()
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn info(&self, _name: &str) -> Option<TensorInfo> {
        None
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        // Made in the dtype that is asked for: a model in half precision never exists in f32.
        let tensor = match dtype {
            DType::BF16 => {
                Tensor::from_vec(self.values(name, shape, bf16::from_f32), shape, &Device::Cpu)?
            }
            DType::F16 => {
                Tensor::from_vec(self.values(name, shape, f16::from_f32), shape, &Device::Cpu)?
            }
            _ => Tensor::from_vec(self.values(name, shape, |value| value), shape, &Device::Cpu)?
                .to_dtype(dtype)?,
        };
        Ok(tensor.to_device(device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(seed: u64, name: &str, shape: &[usize], dtype: DType) -> Vec<f32> {
        let tensor = RandomSource::new(seed).read(name, shape, dtype, &Device::Cpu);
        let tensor = tensor.and_then(|t| Ok(t.to_dtype(DType::F32)?.flatten_all()?));
        tensor.and_then(|t| Ok(t.to_vec1()?)).expect("a small tensor")
    }

    #[test]
    fn weights_have_the_variance_of_their_fan_in() {
        let shape = [320, 40, 3, 3];
        let values = read(1, "conv.weight", &shape, DType::F32);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        // The deviation of the mean is sqrt(1 / (360 n)) = 1.6e-4; that of 360 · variance sqrt(2 / n) = 4e-3 or less.
        assert!(mean.abs() < 8e-4, "{mean}");
        assert!((variance * 360.0 - 1.0).abs() < 0.02, "{variance}");
        assert!(read(1, "norm1.weight", &[8], DType::F32).iter().all(|&v| v == 1.0));
    }

    #[test]
    fn a_tensor_depends_on_seed_and_name_alone() {
        let shape = [300, 300]; // more than one chunk
        let values = read(1, "a.weight", &shape, DType::F32);
        assert_eq!(values, read(1, "a.weight", &shape, DType::F32));
        assert_ne!(values, read(2, "a.weight", &shape, DType::F32));
        assert_ne!(values, read(1, "b.weight", &shape, DType::F32));
        assert_ne!(values[..1000], values[CHUNK..][..1000]);
        let rounded: Vec<f32> = values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
        assert_eq!(rounded, read(1, "a.weight", &shape, DType::BF16));
    }
}
