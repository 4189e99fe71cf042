//! From samples to batches: latents, prompts, and everything random, drawn by the number of the step.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::cache::{Cache, fingerprint};
use super::data::Sample;
use super::hash;
use super::objective::{Batch, ObjectiveOptions};
use crate::checkpoint::{Checkpoint, Component};
use crate::components::{Autoencoder, LoadOptions, TextEncoder, latent_mask};
use crate::error::Result;
use crate::models::DiagonalGaussian;
use crate::noise::{NoiseSource as _, TorchNoise};
use crate::random::{SplitMix64, sub_seed};

/// Prompts to embeddings: through the text encoder once each, or every time where that is trained.
pub(super) struct Prompts<'a> {
    checkpoint: &'a Checkpoint,
    load: LoadOptions,
    trained: bool,
    cache: Cache,
    fingerprint: Option<String>,
    encoder: Option<TextEncoder>,
    known: HashMap<String, Tensor>,
    truncated: Vec<String>,
}

impl<'a> Prompts<'a> {
    /// `trained` if the options hold adapters that change.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        load: LoadOptions,
        trained: bool,
        cache: Cache,
    ) -> Self {
        Self {
            checkpoint,
            load,
            trained,
            cache,
            fingerprint: None,
            encoder: None,
            known: HashMap::new(),
            truncated: Vec::new(),
        }
    }

    /// The embedding of a prompt, `(1, 77, d)`, with its history if the text encoder is trained.
    pub(super) fn get(&mut self, prompt: &str) -> Result<Tensor> {
        if self.trained {
            return self.encode(prompt);
        }
        if let Some(known) = self.known.get(prompt) {
            return Ok(known.clone());
        }
        let fingerprint = match &self.fingerprint {
            Some(fingerprint) => fingerprint,
            None => {
                let fingerprint = fingerprint(self.checkpoint, Component::TextEncoder)?;
                self.fingerprint.insert(fingerprint)
            }
        };
        let dtype = self.load.dtype.as_str();
        let key = hash::of_parts(["prompt", fingerprint.as_str(), dtype, prompt]);
        let embedding = match self.cache.get(&key).and_then(|mut kept| kept.remove("embedding")) {
            Some(embedding) => embedding.to_device(&self.load.device)?,
            None => {
                let embedding = self.encode(prompt)?.detach();
                let kept = HashMap::from([("embedding".to_owned(), embedding.clone())]);
                self.cache.put(&key, &kept)?;
                embedding
            }
        };
        self.known.insert(prompt.to_owned(), embedding.clone());
        Ok(embedding)
    }

    fn encode(&mut self, prompt: &str) -> Result<Tensor> {
        let encoder = match &self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(TextEncoder::load(self.checkpoint, &self.load)?),
        };
        let (embedding, truncated) = encoder.encode(prompt)?;
        if let Some(lost) = truncated.filter(|lost| !self.truncated.contains(lost)) {
            self.truncated.push(lost);
        }
        Ok(embedding)
    }

    /// Parts of prompts that the encoder does not see, each once; forgotten when told.
    pub(super) fn take_truncated(&mut self) -> Vec<String> {
        std::mem::take(&mut self.truncated)
    }
}

/// Pictures to the distributions of their latents.
pub(super) struct Latents {
    vae: Autoencoder,
    device: Device,
    dtype: DType,
    cache: Cache,
    fingerprint: String,
}

impl Latents {
    pub(super) fn load(checkpoint: &Checkpoint, load: &LoadOptions, cache: Cache) -> Result<Self> {
        let fingerprint = fingerprint(checkpoint, Component::Vae)?;
        Ok(Self {
            vae: Autoencoder::load(checkpoint, load)?,
            device: load.device.clone(),
            dtype: load.compute_dtype(),
            cache,
            fingerprint: format!("{fingerprint} {}", load.dtype.as_str()),
        })
    }

    pub(super) const fn vae(&self) -> &Autoencoder {
        &self.vae
    }

    /// A sample of the latents of `image` `(1, 3, h, w)`, scaled; `key` names its content if it can come again.
    fn sample(&self, image: &Tensor, key: Option<&str>, noise: &mut TorchNoise) -> Result<Tensor> {
        let key = key.map(|key| hash::of_parts(["latents", self.fingerprint.as_str(), key]));
        let kept = key.as_ref().and_then(|key| self.cache.get(key)).and_then(|mut kept| {
            Some(DiagonalGaussian { mean: kept.remove("mean")?, logvar: kept.remove("logvar")? })
        });
        let posterior = match kept {
            Some(kept) => DiagonalGaussian {
                mean: kept.mean.to_device(&self.device)?,
                logvar: kept.logvar.to_device(&self.device)?,
            },
            None => {
                let image = image.to_device(&self.device)?.to_dtype(self.dtype)?;
                let posterior = self.vae.encode(&image)?;
                if let Some(key) = key {
                    let kept = [("mean", &posterior.mean), ("logvar", &posterior.logvar)];
                    let kept = kept.map(|(name, tensor)| (name.to_owned(), tensor.clone()));
                    self.cache.put(&key, &HashMap::from(kept))?;
                }
                posterior
            }
        };
        Ok((posterior.sample(noise)? * self.vae.scaling_factor())?)
    }

    /// A batch of samples of one size. `name` says which step and which batch of it this is: with the seed it decides
    /// everything random.
    pub(super) fn batch(
        &self,
        samples: &[Sample],
        prompts: &mut Prompts<'_>,
        options: &ObjectiveOptions,
        timesteps: usize,
        (seed, name): (u64, &str),
    ) -> Result<Batch> {
        let mut columns: [Vec<Tensor>; 5] = Default::default();
        let mut at = Vec::with_capacity(samples.len());
        for (number, sample) in samples.iter().enumerate() {
            let seed = sub_seed(seed, &format!("{name} sample {number}"));
            let mut noise = TorchNoise::new(seed);
            let mut random = SplitMix64::named(seed, "timestep and prompt");
            let (clean_key, masked_key) = match &sample.key {
                Some(key) => (Some(key.clean.as_str()), Some(key.masked_image.as_str())),
                None => (None, None),
            };
            // The order of diffusers' trainers: latents, noise; then the masked image.
            let latents = self.sample(&sample.clean, clean_key, &mut noise)?;
            let mut drawn = noise.randn(latents.shape(), self.dtype, &self.device)?;
            if options.noise_offset > 0.0 {
                let shape = (1, latents.dim(1)?, 1, 1).into();
                let offset = noise.randn(&shape, self.dtype, &self.device)?;
                drawn = drawn.broadcast_add(&(offset * options.noise_offset)?)?;
            }
            let masked = self.sample(&sample.masked_image, masked_key, &mut noise)?;
            let mask = sample.mask.to_device(&self.device)?.to_dtype(self.dtype)?;
            at.push(random.below(timesteps));
            let prompt =
                if random.chance(options.prompt_dropout) { "" } else { sample.prompt.as_str() };
            let mask = latent_mask(&mask, self.vae.factor(), options.mask_shrink)?;
            let embedding = prompts.get(prompt)?;
            for (column, tensor) in
                columns.iter_mut().zip([latents, drawn, masked, mask, embedding])
            {
                column.push(tensor);
            }
        }
        let join = |tensors: &[Tensor]| match tensors {
            [one] => Ok(one.clone()),
            several => Tensor::cat(several, 0),
        };
        let [latents, noise, masked_image_latents, mask, encoder_hidden_states] = &columns;
        Ok(Batch {
            latents: join(latents)?,
            noise: join(noise)?,
            masked_image_latents: join(masked_image_latents)?,
            mask: join(mask)?,
            timesteps: at,
            encoder_hidden_states: join(encoder_hidden_states)?,
        })
    }
}
