//! Dropout on what a LoRA sees (Srivastava et al. 2014; PEFT's `lora_dropout`), for training.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Module, Result, Tensor};
use rayon::prelude::*;

use crate::random::{SplitMix64, sub_seed};

/// The seed of the step that is being computed, shared by all layers of a model; off until it is set.
///
/// What is hidden depends on this seed and the layer alone, so that a block that is computed again for its gradient
/// hides the same, and so does a step that is repeated after an interruption.
#[derive(Clone, Debug, Default)]
pub struct DropoutSeed(Arc<AtomicU64>);

impl DropoutSeed {
    /// Hides at random from now on.
    pub fn set(&self, seed: u64) {
        self.0.store(seed.max(1), Ordering::Relaxed);
    }

    /// Hides nothing from now on: for validation, and for the finished model.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&seed| seed != 0)
    }
}

/// Hides inputs of one layer at random and enlarges the others, so that the mean stays.
#[derive(Clone, Debug)]
pub struct LoraDropout {
    p: f64,
    layer: String,
    seed: DropoutSeed,
}

impl LoraDropout {
    /// Hides a share `p` (0 to below 1) of the inputs of the layer at the path `layer`.
    #[must_use]
    pub fn new(p: f64, layer: impl Into<String>, seed: DropoutSeed) -> Self {
        Self { p, layer: layer.into(), seed }
    }
}

impl Module for LoraDropout {
    /// # Shapes
    /// - xs, returns: any, the same
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        /// Elements from one stream.
        const CHUNK: usize = 1 << 14;
        let Some(seed) = self.seed.get().filter(|_| self.p > 0.0) else { return Ok(xs.clone()) };
        let stream = sub_seed(seed, &self.layer);
        let kept = (1.0 / (1.0 - self.p)) as f32;
        let mut factors = vec![0.0_f32; xs.elem_count()];
        factors.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| {
            let mut random = SplitMix64::new(stream.wrapping_add((i as u64) << 40));
            chunk.fill_with(|| if random.chance(self.p) { 0.0 } else { kept });
        });
        let factors = Tensor::from_vec(factors, xs.shape(), &Device::Cpu)?;
        xs * factors.to_dtype(xs.dtype())?.to_device(xs.device())?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn hidden(dropout: &LoraDropout) -> Vec<f32> {
        let xs = Tensor::ones((100, 200), DType::F32, &Device::Cpu).unwrap();
        dropout.forward(&xs).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_share_and_the_mean_are_right_and_the_seed_decides() {
        let seed = DropoutSeed::default();
        let dropout = LoraDropout::new(0.25, "to_q", seed.clone());
        assert!(hidden(&dropout).iter().all(|&x| x == 1.0));
        seed.set(5);
        let first = hidden(&dropout);
        // The share's deviation over 20,000 draws is √(0.25 · 0.75 / 20000) = 0.003.
        let share = first.iter().filter(|&&x| x == 0.0).count() as f64 / 20_000.0;
        assert!((share - 0.25).abs() < 0.015, "{share}");
        assert!(first.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(first, hidden(&dropout));
        assert_ne!(first, hidden(&LoraDropout::new(0.25, "to_k", seed.clone())));
        seed.set(6);
        assert_ne!(first, hidden(&dropout));
        seed.clear();
        assert!(hidden(&dropout).iter().all(|&x| x == 1.0));
    }
}
