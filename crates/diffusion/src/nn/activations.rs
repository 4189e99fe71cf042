//! Pointwise non-linearities, under the names that configurations give them.

use candle_core::Tensor;

use super::on_kernels;
use crate::error::{DiffusionError, Result};

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`; "silu" or "swish".
    Silu,
    /// `x · Φ(x)` with the exact error function; "gelu".
    Gelu,
    /// `x · sigmoid(1.702 x)`, CLIP's first approximation of GELU; "`quick_gelu`".
    QuickGelu,
    /// `max(x, 0)`; "relu".
    Relu,
}

impl Activation {
    /// The activation that a configuration calls `name`, whatever its case; `key` is where the name was found.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if there is none of this name.
    pub fn from_name(key: &str, name: &str) -> Result<Self> {
        match name.to_lowercase().as_str() {
            "silu" | "swish" => Ok(Self::Silu),
            "gelu" => Ok(Self::Gelu),
            "quick_gelu" => Ok(Self::QuickGelu),
            "relu" => Ok(Self::Relu),
            _ => Err(DiffusionError::argument(key, "silu, swish, gelu, quick_gelu or relu", name)),
        }
    }

    /// Its name in [`kernels`].
    pub(super) const fn on_kernels(self) -> kernels::Activation {
        match self {
            Self::Silu => kernels::Activation::Silu,
            Self::Gelu => kernels::Activation::Gelu,
            Self::QuickGelu => kernels::Activation::QuickGelu,
            Self::Relu => kernels::Activation::Relu,
        }
    }

    /// Applies it to every element.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(self, xs: &Tensor) -> candle_core::Result<Tensor> {
        const SCALE: f64 = 1.702;
        if on_kernels(xs) {
            return kernels::activate(xs, self.on_kernels());
        }
        match self {
            Self::Silu => xs.silu(),
            Self::Gelu => xs.gelu_erf(),
            // x · σ(1.702 x) = silu(1.702 x) / 1.702, whose gradient stays finite where exp(-x) overflows.
            Self::QuickGelu => xs.affine(SCALE, 0.0)?.silu()?.affine(1.0 / SCALE, 0.0),
            Self::Relu => xs.relu(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn values_are_those_of_torch() -> Result<()> {
        // torch.nn.functional at -1.5, 0, 2; quick_gelu is x * torch.sigmoid(1.702 * x).
        let xs = Tensor::new(&[-1.5f32, 0.0, 2.0], &Device::Cpu)?;
        let expected = [
            (Activation::Silu, [-0.273_638_2, 0.0, 1.761_594_2]),
            (Activation::Gelu, [-0.100_210_8, 0.0, 1.954_499_7]),
            (Activation::QuickGelu, [-0.108_337_8, 0.0, 1.935_658_6]),
            (Activation::Relu, [0.0, 0.0, 2.0]),
        ];
        for (activation, values) in expected {
            let ys = activation.forward(&xs)?.to_vec1::<f32>()?;
            for (y, value) in ys.into_iter().zip(values) {
                assert!((y - value).abs() < 1e-5, "{activation:?}: {y} instead of {value}");
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_are_finite_far_from_zero() -> Result<()> {
        let xs = Var::new(&[-1e4f32, -100.0, 0.0, 100.0, 1e4], &Device::Cpu)?;
        for activation in [Activation::Silu, Activation::QuickGelu, Activation::Gelu] {
            let grads = activation.forward(&xs)?.sum_all()?.backward()?;
            let grad = grads.get(&xs).expect("the input is a variable").to_vec1::<f32>()?;
            assert!(grad.iter().all(|g| g.is_finite()), "{activation:?}: {grad:?}");
        }
        Ok(())
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = Activation::from_name("act_fn", "mish").expect_err("mish is not supported");
        assert!(error.to_string().contains("act_fn") && error.to_string().contains("mish"));
    }
}
