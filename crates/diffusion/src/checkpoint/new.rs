//! Checkpoints that are not trained yet: configurations, random weights and a tokenizer in diffusers' layout.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::Component;
use super::convert::{DIFFUSERS_VERSION, create, folder_beside, into_place, write_json};
use super::expected::expected_tensors;
use super::write::{TensorSpec, write_safetensors};
use crate::error::Result;
use crate::random::SplitMix64;
use crate::tokenizer::write_small_tokenizer;

/// What a new checkpoint is made of: the configurations as diffusers and transformers write them.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCheckpoint {
    /// Of a `CLIPTextModel`; its vocabulary has 514 tokens more than there are merges.
    pub text_encoder: Value,
    /// Of an `AutoencoderKL` or `AsymmetricAutoencoderKL`.
    pub vae: Value,
    /// Of a `UNet2DConditionModel`.
    pub unet: Value,
    /// Of a scheduler.
    pub scheduler: Value,
    /// How many of CLIP's merges the tokenizer has, at most 48,894.
    pub merges: usize,
}

impl NewCheckpoint {
    /// A small inpainting model for ordinary CPUs: some millions of weights, latents of a quarter of the picture's sides, a
    /// UNet that predicts velocities on a schedule that ends in pure noise, so that a single step gives the mean of what
    /// could be there.
    #[must_use]
    pub fn compact() -> Self {
        let (merges, width) = (2000, 64);
        let vocabulary = 514 + merges;
        let text_encoder = json!({
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 77,
            "projection_dim": width,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        });
        let vae = json!({
            "_class_name": "AutoencoderKL",
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "block_out_channels": [32, 64, 96],
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "act_fn": "silu",
            "sample_size": 256,
            "scaling_factor": 1.0,
            // Windows of any size in one pass: attention over every latent would cost more than all the rest.
            "mid_block_add_attention": false,
        });
        let unet = json!({
            "_class_name": "UNet2DConditionModel",
            "sample_size": 64,
            "in_channels": 9,
            "out_channels": 4,
            "block_out_channels": [64, 128, 192],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 1,
            "norm_num_groups": 16,
            "act_fn": "silu",
            "cross_attention_dim": width,
            // Heads, as in Stable Diffusion 1, whatever the key's name says.
            "attention_head_dim": 4,
        });
        let scheduler = json!({
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": true,
            "timestep_spacing": "trailing",
            "clip_sample": false,
            "set_alpha_to_one": true,
            "steps_offset": 0,
        });
        Self { text_encoder, vae, unet, scheduler, merges }
    }
}

/// Writes a new checkpoint as a diffusers folder. The weights follow from the seed and their names: PyTorch's defaults for
/// linear layers and convolutions, normal embeddings, and 0 for the second convolution of every residual block, which learns
/// faster when it does nothing at first.
///
/// # Errors
/// [`Argument`](crate::DiffusionError::Argument) for a configuration that makes no sense; [`Io`](crate::DiffusionError::Io) if `out` exists and is not
/// empty, or cannot be written.
pub fn write_new(out: &Path, new: &NewCheckpoint, seed: u64) -> Result<()> {
    // 1. everything that can be known before the work is done
    let parts = [
        (Component::TextEncoder, &new.text_encoder, "model.safetensors"),
        (Component::Unet, &new.unet, "diffusion_pytorch_model.safetensors"),
        (Component::Vae, &new.vae, "diffusion_pytorch_model.safetensors"),
    ];
    let mut all = Vec::new();
    for (component, config, file) in parts {
        all.push((component, config, file, expected_tensors(component, config)?));
    }
    let class = |config: &Value| config["_class_name"].as_str().unwrap_or_default().to_owned();
    let index = json!({
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": DIFFUSERS_VERSION,
        "feature_extractor": [null, null],
        "image_encoder": [null, null],
        "requires_safety_checker": false,
        "safety_checker": [null, null],
        "scheduler": ["diffusers", class(&new.scheduler)],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", class(&new.unet)],
        "vae": ["diffusers", class(&new.vae)],
    });

    // 2. a folder beside it, which gets the name when it is complete
    let folder = folder_beside(out)?;
    for (component, config, file, tensors) in &all {
        let path = folder.path().join(component.name());
        create(&path)?;
        write_json(&path.join("config.json"), config)?;
        let specs: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| TensorSpec {
                name: name.clone(),
                dtype: DType::F32,
                shape: shape.clone(),
            })
            .collect();
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        write_safetensors(&path.join(file), false, &specs, &metadata, |spec| {
            initial(seed, &format!("{component}.{}", spec.name), &spec.shape)
        })?;
    }
    create(&folder.path().join("scheduler"))?;
    write_json(&folder.path().join("scheduler/scheduler_config.json"), &new.scheduler)?;
    create(&folder.path().join("tokenizer"))?;
    write_small_tokenizer(&folder.path().join("tokenizer"), new.merges)?;
    write_json(&folder.path().join("model_index.json"), &index)?;
    into_place(folder, out)
}

/// A tensor before the first step.
fn initial(seed: u64, name: &str, shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let mut random = SplitMix64::named(seed, name);
    let is_norm = name.contains("norm");
    let values: Vec<f32> = if name.ends_with("conv2.weight") || (is_norm && name.ends_with("bias"))
    {
        vec![0.0; count]
    } else if is_norm {
        vec![1.0; count]
    } else if name.contains("embeddings") {
        (0..count).map(|_| 0.02 * random.nearly_normal()).collect()
    } else if shape.len() == 1 {
        // A bias, whose layer's width is not known here.
        vec![0.0; count]
    } else {
        let fan_in: usize = shape[1..].iter().product();
        let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
        (0..count).map(|_| bound * (2.0 * random.unit() - 1.0)).collect()
    };
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, OpenOptions, SaveOptions, save_single_file};
    use crate::components::{Components, LoadOptions, PromptEmbeds, encode_prompts};

    #[test]
    fn a_new_checkpoint_can_be_loaded_and_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let new = NewCheckpoint::compact();
        write_new(&path, &new, 1).unwrap();
        let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
        let load = LoadOptions::default();
        let components = Components::load(&checkpoint, &load).unwrap();
        let prompts = encode_prompts(&checkpoint, &load, "an old photograph", "").unwrap();
        assert_eq!(prompts.positive.dims(), [1, 77, 64]);
        assert!(prompts.truncated.is_empty());
        assert_eq!(components.vae.factor(), 4);
        assert!(components.sees_mask());

        // As one file it is the same, its tokenizer included.
        let single = folder.path().join("new.safetensors");
        save_single_file(&checkpoint, &single, &SaveOptions::default()).unwrap();
        let single = Checkpoint::open(&single, &OpenOptions::default()).unwrap();
        let again = encode_prompts(&single, &load, "an old photograph", "").unwrap();
        let values = |prompts: &PromptEmbeds| {
            prompts.positive.flatten_all().and_then(|all| all.to_vec1::<f32>()).unwrap()
        };
        assert_eq!(values(&again), values(&prompts));
        assert_eq!(Components::load(&single, &load).unwrap().vae.factor(), 4);
        for component in Component::ALL {
            assert_eq!(single.config(component).unwrap(), checkpoint.config(component).unwrap());
        }

        // The same seed gives the same bytes, another one others; a folder with something in it is left alone.
        let bytes =
            |path: &Path| std::fs::read(path.join("vae/diffusion_pytorch_model.safetensors"));
        for (name, seed) in [("same", 1), ("other", 2)] {
            let again = folder.path().join(name);
            write_new(&again, &new, seed).unwrap();
            assert_eq!(bytes(&again).unwrap() == bytes(&path).unwrap(), seed == 1);
        }
        let error = write_new(&path, &new, 1).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
    }
}
