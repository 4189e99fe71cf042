//! The autoencoder of a checkpoint in training: crops through encoder and decoder and back to themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use imaging::Rect;
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

    /// The part of a page whose sides the network can halve: what is left over at the right and below is not looked at.
    fn seen(&self, page: &Page) -> Result<CropBatch> {
        let factor = self.vae.config().down_factor();
        let (width, height) = page.clean.size();
        let rect = Rect::new(0, 0, width / factor * factor, height / factor * factor);
        CropBatch::new(PixelTask::Autoencoder, 3, &[(page, rect)])
    }

    /// The moments of its latents; how far they spread is added to `spread`.
    fn encode(&self, seen: &CropBatch, spread: &mut Spread) -> Result<Tensor> {
        let moments = self.vae.encode_pixels(&seen.input)?.detach();
        let channels = moments.dim(3)?;
        let [low, high] = LOG_VARIANCE;
        for pixel in moments.flatten_all()?.to_vec1::<f32>()?.chunks_exact(channels) {
            let (means, log_variances) = pixel.split_at(channels / 2);
            for (&mean, &log_variance) in means.iter().zip(log_variances) {
                let variance = f64::from(log_variance.clamp(low, high)).exp();
                spread.add(f64::from(mean), variance);
            }
        }
        Ok(moments)
    }

    /// The PSNR of the most likely reconstruction, in dB.
    fn psnr(&self, seen: &CropBatch, moments: &Tensor) -> Result<f64> {
        let means = moments.narrow(3, 0, moments.dim(3)? / 2)?.contiguous()?;
        let decoded = self.vae.decode_pixels(&means)?.detach().flatten_all()?.to_vec1::<f32>()?;
        let squares =
            seen.clean.iter().zip(&decoded).map(|(&clean, &decoded)| {
                f64::from(0.5 * (decoded.clamp(-1.0, 1.0) - clean)).powi(2)
            });
        let mse = squares.sum::<f64>() / decoded.len().max(1) as f64;
        Ok(-10.0 * (mse + 1e-10).log10())
    }

    /// How far the latents of pages spread, without decoding them.
    fn spread(&self, pages: &[Page]) -> Result<Spread> {
        let mut spread = Spread::default();
        for page in pages {
            self.encode(&self.seen(page)?, &mut spread)?;
        }
        Ok(spread)
    }
}

/// Sums over latents, to measure how far they spread: of what they are, and of the squares that are to be expected.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, mean: f64, variance: f64) {
        self.count += 1.0;
        self.sum += mean;
        self.squares += mean * mean + variance;
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
        let found = loss(PixelTask::Autoencoder, &decoded, batch)?;
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
        let (mut psnr, mut spread) = (0.0, Spread::default());
        for page in pages {
            let seen = self.seen(page)?;
            let moments = self.encode(&seen, &mut spread)?;
            psnr += self.psnr(&seen, &moments)?;
        }
        let images = pages.len();
        let (psnr, seconds) = (psnr / images.max(1) as f64, started.elapsed().as_secs_f64());
        Ok(LogEntry::Reconstruction { step, images, psnr, latent_std: spread.std(), seconds })
    }

    /// The checkpoint with the trained autoencoder, whose `scaling_factor` brings latents to a standard deviation of 1.
    fn write(&self, optimizer: &Optimizer, output: &Path, judged: &[Page]) -> Result<PathBuf> {
        let std = optimizer.with_final_weights(|| self.spread(judged))?.std();
        let mut config = self.checkpoint.config(Component::Vae)?;
        if let (Some(config), true) = (config.as_object_mut(), std > 0.0) {
            let factor = (1e5 / std).round() / 1e5;
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
