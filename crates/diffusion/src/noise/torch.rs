//! The numbers of PyTorch's CPU generator.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Shape, Tensor};

use super::NoiseSource;
use crate::error::Result;

/// `torch.Generator("cpu").manual_seed(seed)` with `torch.randn(shape, generator=…, dtype=torch.float32)`.
///
/// Follows ATen's `CPUGeneratorImpl` and `DistributionTemplates.h`: Mersenne Twister; from 16 elements on, blocks
/// of 16 by Box and Muller's method in f32, the last 16 drawn again if the size is not a multiple of 16; below 16
/// elements one at a time in f64, where the second of each pair is kept for the next draw. Numbers are
/// drawn in f32 and then cast, whatever the dtype. They agree with PyTorch's to within a few units in the
/// last place: its vectorised logarithm, sine and cosine round differently.
#[derive(Clone, Debug)]
pub struct TorchNoise {
    engine: Mt19937,
    next_normal: Option<f64>,
}

impl TorchNoise {
    /// A generator with a seed, of which PyTorch uses the low 32 bits.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed as u32), next_normal: None }
    }

    /// The next `n` numbers.
    fn draw(&mut self, n: usize) -> Vec<f32> {
        if n < 16 {
            return (0..n).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..n).map(|_| self.engine.uniform_f32()).collect();
        values.chunks_exact_mut(16).for_each(box_muller);
        if !n.is_multiple_of(16) {
            let tail = &mut values[n - 16..];
            tail.fill_with(|| self.engine.uniform_f32());
            box_muller(tail);
        }
        values
    }

    /// One number in f64, from a pair of uniform ones every other time.
    fn normal(&mut self) -> f64 {
        if let Some(value) = self.next_normal.take() {
            return value;
        }
        let (u1, u2) = (self.engine.uniform_f64(), self.engine.uniform_f64());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = TAU * u1;
        self.next_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

impl NoiseSource for TorchNoise {
    fn randn(&mut self, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let values = self.draw(shape.elem_count());
        Ok(Tensor::from_vec(values, shape.clone(), &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)?)
    }
}

/// 16 uniform numbers in `[0, 1)` to 16 normal ones: the first eight give radii, the others angles.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(8);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * (1.0 - *first).ln()).sqrt();
        let (sin, cos) = (TAU as f32 * *second).sin_cos();
        (*first, *second) = (radius * cos, radius * sin);
    }
}

/// MT19937 (Matsumoto and Nishimura 1998).
#[derive(Clone, Debug)]
struct Mt19937 {
    state: Box<[u32; Self::N]>,
    next: usize,
}

impl Mt19937 {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = Box::new([0; Self::N]);
        state[0] = seed;
        for i in 1..Self::N {
            let last = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: Self::N }
    }

    fn twist(&mut self) {
        let state = &mut self.state;
        for i in 0..Self::N {
            let y = (state[i] & 0x8000_0000) | (state[(i + 1) % Self::N] & 0x7FFF_FFFF);
            let odd = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
            state[i] = state[(i + Self::M) % Self::N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == Self::N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    /// 24 bits, in `[0, 1)`.
    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0xFF_FFFF) as f32 / 16_777_216.0
    }

    /// 53 bits, in `[0, 1)`; the first draw is the high word.
    fn uniform_f64(&mut self) -> f64 {
        let (high, low) = (u64::from(self.next_u32()), u64::from(self.next_u32()));
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_gives_the_reference_sequence() {
        // std::mt19937's ten thousandth number for its default seed, by the C++ standard.
        let mut engine = Mt19937::new(5489);
        let last = (0..10_000).map(|_| engine.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
