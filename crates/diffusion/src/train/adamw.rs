//! AdamW (Loshchilov and Hutter 2019), with the order of operations of `torch.optim.AdamW`, in f32.

use rayon::prelude::*;

use crate::error::{DiffusionError, Result};

/// The constants of the optimizer; the learning rate comes with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment. Default: 0.9.
    pub beta1: f64,
    /// Decay of the second moment. Default: 0.999.
    pub beta2: f64,
    /// Decoupled weight decay, times the learning rate. Default: 0.01.
    pub weight_decay: f64,
    /// Added to the root of the second moment. Default: 1e-8.
    pub eps: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, weight_decay: 1e-2, eps: 1e-8 }
    }
}

impl AdamWOptions {
    /// # Errors
    /// [`DiffusionError::Argument`] for a constant outside its range.
    pub fn validate(&self) -> Result<()> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(DiffusionError::argument(name, "0 to below 1", beta));
            }
        }
        for (name, value) in [("weight_decay", self.weight_decay), ("eps", self.eps)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(DiffusionError::argument(name, "a number of at least 0", value));
            }
        }
        Ok(())
    }
}

/// The moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

impl Moments {
    pub(super) fn zeros(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// Changes `weights` by their `gradient`, in the optimizer's step number `step` (from 1).
    pub(super) fn step(
        &mut self,
        options: &AdamWOptions,
        learning_rate: f64,
        step: u64,
        weights: &mut [f32],
        gradient: &[f32],
    ) {
        /// Elements that one task updates.
        const CHUNK: usize = 1 << 15;
        let AdamWOptions { beta1, beta2, weight_decay, eps } = *options;
        let exponent = step as f64;
        // Scalars are f64 as in Python, and rounded where they meet a tensor.
        let decay = (1.0 - learning_rate * weight_decay) as f32;
        let step_size = (learning_rate / (1.0 - beta1.powf(exponent))) as f32;
        let correction = (1.0 - beta2.powf(exponent)).sqrt() as f32;
        let (towards, keep, add) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let eps = eps as f32;
        weights
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(self.first.par_chunks_mut(CHUNK).zip(self.second.par_chunks_mut(CHUNK)))
            .for_each(|((weights, gradient), (first, second))| {
                let moments = first.iter_mut().zip(second);
                for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
                    *m += towards * (g - *m);
                    *v = *v * keep + add * g * g;
                    let denominator = v.sqrt() / correction + eps;
                    *w = *w * decay - step_size * (*m / denominator);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_sign_of_the_gradient() {
        let options = AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() };
        let (mut weights, mut moments) = ([1.0, 1.0, 1.0], Moments::zeros(3));
        moments.step(&options, 0.1, 1, &mut weights, &[2.0, -0.01, 0.0]);
        // m / (1 - β₁) = g, √(v / (1 - β₂)) = |g|: the step is lr · sign(g).
        for (found, expected) in weights.iter().zip([0.9_f32, 1.1, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{weights:?}");
        }
    }

    #[test]
    fn weight_decay_is_decoupled() {
        let options = AdamWOptions { weight_decay: 0.5, ..AdamWOptions::default() };
        let (mut weights, mut moments) = ([2.0], Moments::zeros(1));
        moments.step(&options, 0.1, 1, &mut weights, &[0.0]);
        // 2 · (1 - 0.1 · 0.5) = 1.9
        assert!((weights[0] - 1.9_f32).abs() < 1e-6);
    }

    #[test]
    fn constants_outside_their_range_are_named() {
        let wrong = AdamWOptions { beta2: 1.0, ..AdamWOptions::default() };
        assert!(
            wrong.validate().unwrap_err().to_string().starts_with("beta2: expected 0 to below")
        );
        let wrong = AdamWOptions { eps: f64::NAN, ..AdamWOptions::default() };
        assert!(wrong.validate().unwrap_err().to_string().starts_with("eps"));
    }
}
