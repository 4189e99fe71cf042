//! What a [`PixelUnet`](super::PixelUnet) starts from when it is trained.

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::{TensorInfo, TensorSource};
use crate::error::Result;
use crate::random::SplitMix64;

/// Weights before the first step: normal with variance 2 / fan-in (He et al. 2015), biases 0, norms that
/// change no scale; the second convolution of
/// every block and the last one of the network 0, so that it starts as a chain of identities with nothing as its output.
#[derive(Clone, Copy, Debug)]
pub struct InitialWeights {
    seed: u64,
}

impl InitialWeights {
    /// The weights of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl TensorSource for InitialWeights {
    fn origin(&self) -> String {
        format!("initial weights of seed {}", self.seed)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn info(&self, _: &str) -> Option<TensorInfo> {
        None
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let count = shape.iter().product();
        let fan_in: usize = shape.iter().skip(1).product();
        let is_norm = name.contains("norm") && name.ends_with("weight");
        let is_zero =
            shape.len() == 1 || name.ends_with("conv2.weight") || name == "conv_out.weight";
        let mut values = vec![if is_norm { 1.0 } else { 0.0_f32 }; count];
        if !is_zero {
            let scale = (2.0 / fan_in.max(1) as f32).sqrt();
            let mut random = SplitMix64::named(self.seed, name);
            values.fill_with(|| scale * random.nearly_normal());
        }
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
    }
}
