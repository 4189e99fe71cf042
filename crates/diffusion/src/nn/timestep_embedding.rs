//! Sinusoidal embeddings of timesteps (diffusers' `Timesteps`) and the two layers over them (`TimestepEmbedding`).

use candle_core::{DType, Device, Module, Tensor};

use super::{Activation, Linear, Params};
use crate::error::Result;

/// How [`timestep_embedding`] lays its numbers out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimestepsConfig {
    /// Features.
    pub num_channels: usize,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    /// Subtracted from the number of frequencies where their exponents are spread.
    pub downscale_freq_shift: f64,
}

/// Sines and cosines of each timestep at geometrically falling frequencies, 1 to about 1/10000.
///
/// Every intermediate is rounded to f32 as torch rounds it: at timestep 999 one unit in the last place of a frequency
/// already moves the angle by 6e-5.
///
/// # Shapes
/// - returns: `(timesteps.len(), num_channels)`, f32
///
/// # Errors
/// Those of making the tensor.
pub fn timestep_embedding(
    timesteps: &[f32],
    config: TimestepsConfig,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let TimestepsConfig { num_channels, flip_sin_to_cos, downscale_freq_shift } = config;
    let half = num_channels / 2;
    let log_period = -(10_000f64.ln()) as f32;
    let divisor = (half as f64 - downscale_freq_shift) as f32;
    let frequencies: Vec<f32> =
        (0..half).map(|i| f64::from(log_period * i as f32 / divisor).exp() as f32).collect();
    let mut data = Vec::with_capacity(timesteps.len() * num_channels);
    for t in timesteps {
        let angles = frequencies.iter().map(|f| f64::from(t * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) =
            angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
        let (first, second) = if flip_sin_to_cos { (cos, sin) } else { (sin, cos) };
        data.extend(first);
        data.extend(second);
        // An odd width ends in a zero.
        data.extend((2 * half..num_channels).map(|_| 0.0));
    }
    Tensor::from_vec(data, (timesteps.len(), num_channels), device)
}

/// The embedding of a guidance scale that distilled models (LCM) take beside the timestep, as
/// `get_guidance_scale_embedding` in diffusers' LCM pipelines. They pass `guidance_scale - 1`.
///
/// # Shapes
/// - returns: `(scales.len(), embedding_dim)`, f32
///
/// # Errors
/// Those of making the tensor.
pub fn guidance_scale_embedding(
    scales: &[f32],
    embedding_dim: usize,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let scaled: Vec<f32> = scales.iter().map(|w| w * 1000.0).collect();
    let config = TimestepsConfig {
        num_channels: embedding_dim,
        flip_sin_to_cos: false,
        downscale_freq_shift: 1.0,
    };
    timestep_embedding(&scaled, config, device)
}

/// `linear_2(act(linear_1(x + cond_proj(condition))))`.
#[derive(Clone, Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    cond_proj: Option<Linear>,
    activation: Activation,
}

impl TimestepEmbedding {
    /// Loads `linear_1`, `linear_2` and, where there is a condition, `cond_proj`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(
        in_channels: usize,
        time_embed_dim: usize,
        cond_proj_dim: Option<usize>,
        activation: Activation,
        params: &Params,
    ) -> Result<Self> {
        let cond_proj = cond_proj_dim
            .map(|dim| Linear::load_in_f32(dim, in_channels, false, &params.pp("cond_proj")))
            .transpose()?;
        Ok(Self {
            linear_1: Linear::load_in_f32(
                in_channels,
                time_embed_dim,
                true,
                &params.pp("linear_1"),
            )?,
            linear_2: Linear::load_in_f32(
                time_embed_dim,
                time_embed_dim,
                true,
                &params.pp("linear_2"),
            )?,
            cond_proj,
            activation,
        })
    }

    /// # Shapes
    /// - sample: `(b, in_channels)`
    /// - condition: `(b, cond_proj_dim)`; ignored by models without `cond_proj`
    /// - returns: `(b, time_embed_dim)`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(&self, sample: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let mut sample = sample.clone();
        if let (Some(cond_proj), Some(condition)) = (&self.cond_proj, condition) {
            sample = (sample + cond_proj.forward(condition)?)?;
        }
        let hidden = self.activation.forward(&self.linear_1.forward(&sample)?)?;
        Ok(self.linear_2.forward(&hidden)?)
    }
}

/// The values of a `(b)` tensor of timesteps, whatever its dtype.
pub(crate) fn timestep_values(timestep: &Tensor) -> candle_core::Result<Vec<f32>> {
    timestep.to_dtype(DType::F32)?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_cosines_first_and_pads_odd_widths() -> Result<()> {
        let config =
            TimestepsConfig { num_channels: 5, flip_sin_to_cos: true, downscale_freq_shift: 1.0 };
        // Two frequencies, exponents 0 and 1: 1 and 1/10000.
        let embedding = timestep_embedding(&[2.0], config, &Device::Cpu)?.to_vec2::<f32>()?;
        let expected = [2f32.cos(), 2e-4f32.cos(), 2f32.sin(), 2e-4f32.sin(), 0.0];
        for (value, expected) in embedding[0].iter().zip(expected) {
            assert!((value - expected).abs() < 1e-7, "{embedding:?}");
        }
        Ok(())
    }
}
