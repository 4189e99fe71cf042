//! The autoencoder of a checkpoint in training: crops through encoder and decoder and back to themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use kernels::Recording;
use serde_json::Value;

use super::crops::CropBatch;
use super::loss::loss;
use super::options::PixelTask;
use super::pages::Page;
use super::student::Student;
use crate::checkpoint::{Checkpoint, Component, MemorySource};
use crate::error::{DiffusionError, Result};
use crate::models::{AutoencoderKl, AutoencoderKlConfig};
use crate::nn::Params;
use crate::random::SplitMix64;
use crate::train::gradients::Gradients;
use crate::train::log::LogEntry;
use crate::train::optimizer::Optimizer;
use crate::train::outputs;

/// What a nat of divergence from the standard normal costs, for each number of the latents, in dB of the reconstruction's
/// PSNR. So small a price keeps the latents in a range of their own choosing, with some noise that the decoder bears.
const DIVERGENCE: f64 = 0.02;
/// The logarithms of variances stay within it, as in [`DiagonalGaussian`](crate::models::DiagonalGaussian), or closer.
const LOG_VARIANCE: [f32; 2] = [-15.0, 5.0];

/// A checkpoint's autoencoder.
pub(super) struct AutoencoderStudent {
    checkpoint: Checkpoint,
    vae: AutoencoderKl,
    seed: u64,
}

impl AutoencoderStudent {
    /// # Errors
    /// [`DiffusionError::Checkpoint`] for an autoencoder of another kind, and those of reading it.
    pub(super) fn new(checkpoint: Checkpoint, seed: u64, params: &Params) -> Result<Self> {
        if checkpoint.vae_is_asymmetric()? {
            let problem = "expected an AutoencoderKL, found an AsymmetricAutoencoderKL";
            return Err(DiffusionError::checkpoint(checkpoint.path(), problem));
        }
        let config = AutoencoderKlConfig::from_json(&checkpoint.config(Component::Vae)?)?;
        Ok(Self { vae: AutoencoderKl::load(&config, params)?, checkpoint, seed })
    }

    /// The PSNR of a page's reconstruction, in dB, and sums over its latents.
    fn reconstructed(&self, page: &Page) -> Result<(f64, Moments)> {
        // What is left over at the right and below is not looked at.
        let factor = self.vae.config().down_factor();
        let rect = page.clean.bounds();
        let rect =
            imaging::Rect::new(0, 0, rect.width / factor * factor, rect.height / factor * factor);
        let batch = CropBatch::new(PixelTask::Autoencoder, &[(page, rect)])?;
        let latents = self.vae.encode_pixels(&batch.input)?.detach();
        let channels = latents.dim(3)? / 2;
        let moments = latents.flatten_all()?.to_vec1::<f32>()?;
        let mut sums = Moments::default();
        let [low, high] = LOG_VARIANCE;
        for pixel in moments.chunks_exact(2 * channels) {
            let (means, log_variances) = pixel.split_at(channels);
            for (&mean, &log_variance) in means.iter().zip(log_variances) {
                let mean = f64::from(mean);
                sums.count += 1.0;
                sums.sum += mean;
                sums.squares += mean * mean + f64::from(log_variance.clamp(low, high)).exp();
            }
        }
        let means = latents.narrow(3, 0, channels)?.contiguous()?;
        let decoded = self.vae.decode_pixels(&means)?.detach().flatten_all()?.to_vec1::<f32>()?;
        let squares =
            batch.clean.iter().zip(&decoded).map(|(&clean, &decoded)| {
                f64::from(0.5 * (decoded.clamp(-1.0, 1.0) - clean)).powi(2)
            });
        let mse = squares.sum::<f64>() / decoded.len().max(1) as f64;
        Ok((-10.0 * (mse + 1e-10).log10(), sums))
    }

    fn moments(&self, pages: &[Page]) -> Result<Moments> {
        let mut all = Moments::default();
        for page in pages {
            all.add(&self.reconstructed(page)?.1);
        }
        Ok(all)
    }
}

/// Sums over latents, to measure how far they spread: of what they are, and of the squares that are to be expected.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Standard deviation about the mean of all.
    fn std(&self) -> f64 {
        let count = self.count.max(1.0);
        (self.squares / count - (self.sum / count).powi(2)).max(0.0).sqrt()
    }
}

impl Student for AutoencoderStudent {
    fn learn(&self, batch: &CropBatch, step: u64, gradients: &mut Gradients) -> Result<f64> {
        // 1. a draw from what the encoder says: mean + exp(logvar / 2) · noise
        let (moments, encoding) = Recording::of(|| self.vae.encode_pixels(&batch.input))?;
        let (b, h, w, channels) = moments.dims4()?;
        let latent = channels / 2;
        let of_moments = moments.flatten_all()?.to_vec1::<f32>()?;
        let mut random = SplitMix64::named(self.seed, &format!("latent noise of step {step}"));
        let mut drawn = Vec::with_capacity(of_moments.len() / 2);
        let mut noise = Vec::with_capacity(of_moments.len() / 2);
        let [low, high] = LOG_VARIANCE;
        for pixel in of_moments.chunks_exact(channels) {
            for at in 0..latent {
                let (mean, log_variance) = (pixel[at], pixel[latent + at].clamp(low, high));
                noise.push(random.nearly_normal());
                drawn.push(mean + (0.5 * log_variance).exp() * noise[noise.len() - 1]);
            }
        }
        let drawn = Var::from_tensor(&Tensor::from_vec(drawn, (b, h, w, latent), &Device::Cpu)?)?;

        // 2. back through the decoder
        let (prediction, decoding) = Recording::of(|| self.vae.decode_pixels(drawn.as_tensor()))?;
        let decoded = prediction.flatten_all()?.to_vec1::<f32>()?;
        let found = loss(PixelTask::Autoencoder, &decoded, batch);
        let gradient = Tensor::from_vec(found.gradient, prediction.shape(), &Device::Cpu)?;
        let mut store = decoding.backward(&prediction, &gradient)?;
        gradients.take(&store)?;
        let by_latents = match store.take(drawn.as_tensor()) {
            Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>()?,
            None => vec![0.0; noise.len()],
        };

        // 3. and the encoder, with the divergence ½ (mean² + variance - 1 - logvar) of each number
        let each = DIVERGENCE / noise.len().max(1) as f64;
        let mut divergence = 0.0;
        let mut by_moments = vec![0.0_f32; of_moments.len()];
        let pixels = of_moments.chunks_exact(channels).zip(by_moments.chunks_exact_mut(channels));
        for (pixel, (moments, by_moments)) in pixels.enumerate() {
            for at in 0..latent {
                let (mean, given) = (moments[at], moments[latent + at]);
                let log_variance = given.clamp(low, high);
                let variance = log_variance.exp();
                let kl = 0.5 * (mean * mean + variance - 1.0 - log_variance);
                divergence += each * f64::from(kl);
                let gradient = by_latents[pixel * latent + at];
                by_moments[at] = gradient + each as f32 * mean;
                let std = (0.5 * log_variance).exp();
                let by_log_variance = 0.5 * std * noise[pixel * latent + at] * gradient
                    + 0.5 * each as f32 * (variance - 1.0);
                // Outside the range only what leads back into it.
                let leads_back = (given <= high || by_log_variance > 0.0)
                    && (given >= low || by_log_variance < 0.0);
                by_moments[latent + at] = if leads_back { by_log_variance } else { 0.0 };
            }
        }
        let by_moments = Tensor::from_vec(by_moments, moments.shape(), &Device::Cpu)?;
        gradients.take(&encoding.backward(&moments, &by_moments)?)?;
        Ok(found.value + divergence)
    }

    fn judge(&self, pages: &[Page], step: u64) -> Result<LogEntry> {
        let started = Instant::now();
        let (mut psnr, mut all) = (0.0, Moments::default());
        for page in pages {
            let (one, moments) = self.reconstructed(page)?;
            psnr += one;
            all.add(&moments);
        }
        let images = pages.len();
        let (psnr, seconds) = (psnr / images.max(1) as f64, started.elapsed().as_secs_f64());
        Ok(LogEntry::Reconstruction { step, images, psnr, latent_std: all.std(), seconds })
    }

    /// The checkpoint with the trained autoencoder, whose `scaling_factor` brings latents to a standard deviation of 1.
    fn write(&self, optimizer: &Optimizer, output: &Path, judged: &[Page]) -> Result<PathBuf> {
        let moments = optimizer.with_final_weights(|| self.moments(judged))?;
        let mut config = self.checkpoint.config(Component::Vae)?;
        if let (Some(config), true) = (config.as_object_mut(), moments.std() > 0.0) {
            let factor = (1e5 / moments.std()).round() / 1e5;
            config.insert("scaling_factor".to_owned(), Value::from(factor));
        }
        let tensors = optimizer.final_tensors(PixelTask::Autoencoder.name())?;
        let source = MemorySource::new("the trained autoencoder", tensors);
        let checkpoint = self
            .checkpoint
            .clone()
            .with_config(Component::Vae, config)
            .with_weights(Component::Vae, Arc::new(source));
        outputs::write_checkpoint(&checkpoint, output)
    }
}
