//! Configurations of single files, inferred from the names and shapes of their tensors.
//!
//! The original code keeps its configuration in a separate YAML file; diffusers 0.42 recognises a few known
//! models by their tensors and downloads their configurations. Here everything that the shapes say is read from them, so
//! that models of any width work, and the rest is what the known models have:
//! - groups of the norms: 32;
//! - heads: 8 a block for SD 1, 64 features a head where the transformers' projections are linear (SD 2), and
//!   64 features a head in the text encoders;
//! - `scaling_factor`: 0.18215.
//!
//! Files that `save_single_file` writes carry their configurations in the metadata, and `OpenOptions::config` takes
//! them from a folder.

use serde_json::{Value, json};

use super::ldm_keys::{CLIP, OPEN_CLIP, UNET, VAE};
use super::{TensorFile, shorten};
use crate::error::{DiffusionError, Result};

/// The last of OpenCLIP's 24 layers, which SD 2 does not use and diffusers drops.
const UNUSED_OPEN_CLIP_LAYER: usize = 23;

/// Looks tensors up by name.
pub(super) struct Shapes<'a> {
    file: &'a dyn TensorFile,
}

impl<'a> Shapes<'a> {
    pub(super) const fn new(file: &'a dyn TensorFile) -> Self {
        Self { file }
    }

    fn has(&self, name: &str) -> bool {
        self.file.info(name).is_some()
    }

    fn missing(&self, name: &str) -> DiffusionError {
        let problem = format!("expected a tensor {}, found none", shorten(name));
        DiffusionError::checkpoint(self.file.origin(), problem)
    }

    /// One dimension of a tensor.
    fn dim(&self, name: &str, axis: usize) -> Result<usize> {
        let info = self.file.info(name).ok_or_else(|| self.missing(name))?;
        info.shape.get(axis).copied().filter(|&d| d > 0).ok_or_else(|| {
            let problem = format!("tensor {name} has an unexpected shape {:?}", info.shape);
            DiffusionError::checkpoint(self.file.origin(), problem)
        })
    }

    /// How many of `name(0)`, `name(1)`, … exist, at most 256.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..256).take_while(|&index| self.has(&name(index))).count()
    }
}

/// The UNet's configuration; `None` if there is no UNet.
///
/// # Errors
/// [`DiffusionError::Checkpoint`] if there is one of another form.
pub(super) fn unet(shapes: &Shapes<'_>) -> Result<Option<Value>> {
    let conv_in = format!("{UNET}input_blocks.0.0.weight");
    if !shapes.has(&conv_in) {
        return Ok(None);
    }
    let fail = |problem: &str| DiffusionError::checkpoint(shapes.file.origin(), problem);
    if shapes.has(&format!("{UNET}label_emb.0.0.weight"))
        || shapes.has(&format!("{UNET}label_emb.weight"))
    {
        return Err(fail(
            "expected Stable Diffusion 1.x or 2.x, found a UNet with a label embedding (XL, unCLIP or an upscaler)",
        ));
    }

    // 1. the levels: resnets up to a downsampler, or to the end
    let input = |index: usize, rest: &str| format!("{UNET}input_blocks.{index}.{rest}");
    let (mut widths, mut attention, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut index, mut in_level) = (1, 0);
    loop {
        let resnet = input(index, "0.in_layers.2.weight");
        if shapes.has(&resnet) {
            if in_level == 0 {
                widths.push(shapes.dim(&resnet, 0)?);
                attention.push(shapes.has(&input(index, "1.proj_in.weight")));
            }
            in_level += 1;
        } else {
            if in_level > 0 {
                layers.push(in_level);
            }
            in_level = 0;
            if !shapes.has(&input(index, "0.op.weight")) || widths.len() == 16 {
                break;
            }
        }
        index += 1;
    }
    let [first_layers, ..] = layers[..] else {
        return Err(fail("expected the input blocks of a UNet, found none"));
    };
    if layers.iter().any(|&count| count != first_layers) || layers.len() != widths.len() {
        return Err(fail(
            "expected as many layers in every block of the UNet, found different numbers",
        ));
    }

    // 2. the transformers; the one in the middle is always there
    let middle = format!("{UNET}middle_block.1.");
    let transformer =
        |block: usize| format!("{middle}transformer_blocks.{block}.attn2.to_k.weight");
    let depth = shapes.count(transformer);
    let context = shapes.dim(&transformer(0), 1)?;
    let proj_in = format!("{middle}proj_in.weight");
    let linear = shapes.file.info(&proj_in).is_some_and(|info| info.shape.len() == 2);
    let heads = if linear {
        json!(widths.iter().map(|width| (width / 64).max(1)).collect::<Vec<_>>())
    } else {
        json!(8)
    };
    let name =
        |has: bool, with: &'static str, without: &'static str| if has { with } else { without };
    let down: Vec<_> =
        attention.iter().map(|&has| name(has, "CrossAttnDownBlock2D", "DownBlock2D")).collect();
    let up: Vec<_> =
        attention.iter().rev().map(|&has| name(has, "CrossAttnUpBlock2D", "UpBlock2D")).collect();
    Ok(Some(json!({
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": shapes.dim(&conv_in, 1)?,
        "out_channels": shapes.dim(&format!("{UNET}out.2.weight"), 0)?,
        "block_out_channels": widths,
        "down_block_types": down,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": up,
        "layers_per_block": first_layers,
        "transformer_layers_per_block": depth,
        "cross_attention_dim": context,
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "act_fn": "silu",
        "center_input_sample": false,
        "downsample_padding": 1,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "mid_block_scale_factor": 1,
        "only_cross_attention": false,
        "dual_cross_attention": false,
        "upcast_attention": false,
    })))
}

/// The autoencoder's prefix and configuration; `None` if there is no autoencoder.
///
/// # Errors
/// [`DiffusionError::Checkpoint`] if there is one of another form.
pub(super) fn vae(shapes: &Shapes<'_>) -> Result<Option<(&'static str, Value)>> {
    let first = "encoder.down.0.block.0.conv1.weight";
    let Some(prefix) = VAE.into_iter().find(|prefix| shapes.has(&format!("{prefix}{first}")))
    else {
        return Ok(None);
    };
    let block = |level: usize, layer: usize| {
        format!("{prefix}encoder.down.{level}.block.{layer}.conv1.weight")
    };
    let levels = shapes.count(|level| block(level, 0)).min(16);
    let widths =
        (0..levels).map(|level| shapes.dim(&block(level, 0), 0)).collect::<Result<Vec<_>>>()?;
    let decoder = |name: &str, axis| shapes.dim(&format!("{prefix}decoder.{name}.weight"), axis);
    Ok(Some((
        prefix,
        json!({
            "_class_name": "AutoencoderKL",
            "sample_size": 512,
            "in_channels": shapes.dim(&format!("{prefix}encoder.conv_in.weight"), 1)?,
            "out_channels": decoder("conv_out", 0)?,
            "latent_channels": decoder("conv_in", 1)?,
            "block_out_channels": widths,
            "down_block_types": vec!["DownEncoderBlock2D"; levels],
            "up_block_types": vec!["UpDecoderBlock2D"; levels],
            "layers_per_block": shapes.count(|layer| block(0, layer)),
            "norm_num_groups": 32,
            "act_fn": "silu",
            "scaling_factor": 0.18215,
        }),
    )))
}

/// The configuration of CLIP's text encoder (SD 1) and its prefix; `None` if there is none.
///
/// # Errors
/// [`DiffusionError::Checkpoint`] if there is one of another form.
pub(super) fn clip(shapes: &Shapes<'_>) -> Result<Option<(&'static str, Value)>> {
    let token = "embeddings.token_embedding.weight";
    let Some(prefix) = CLIP.into_iter().find(|prefix| shapes.has(&format!("{prefix}{token}")))
    else {
        return Ok(None);
    };
    let layer = |index| format!("{prefix}encoder.layers.{index}.mlp.fc1.weight");
    let position = format!("{prefix}embeddings.position_embedding.weight");
    let sizes = TextSizes {
        vocabulary: shapes.dim(&format!("{prefix}{token}"), 0)?,
        width: shapes.dim(&format!("{prefix}{token}"), 1)?,
        positions: shapes.dim(&position, 0)?,
        inner: shapes.dim(&layer(0), 0)?,
        layers: shapes.count(layer),
    };
    Ok(Some((prefix, sizes.config("quick_gelu", sizes.width))))
}

/// The configuration of OpenCLIP's text encoder (SD 2); `None` if there is none.
///
/// The last of 24 layers is left out: SD 2 takes the output of the one before.
///
/// # Errors
/// [`DiffusionError::Checkpoint`] if there is one of another form.
pub(super) fn open_clip(shapes: &Shapes<'_>) -> Result<Option<Value>> {
    let token = format!("{OPEN_CLIP}token_embedding.weight");
    if !shapes.has(&token) {
        return Ok(None);
    }
    let layer = |index| format!("{OPEN_CLIP}transformer.resblocks.{index}.mlp.c_fc.weight");
    let sizes = TextSizes {
        vocabulary: shapes.dim(&token, 0)?,
        width: shapes.dim(&token, 1)?,
        positions: shapes.dim(&format!("{OPEN_CLIP}positional_embedding"), 0)?,
        inner: shapes.dim(&layer(0), 0)?,
        layers: shapes.count(layer).min(UNUSED_OPEN_CLIP_LAYER),
    };
    Ok(Some(sizes.config("gelu", 512)))
}

struct TextSizes {
    vocabulary: usize,
    width: usize,
    positions: usize,
    inner: usize,
    layers: usize,
}

impl TextSizes {
    fn config(&self, activation: &str, projection: usize) -> Value {
        json!({
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": (self.width / 64).max(1),
            "max_position_embeddings": self.positions,
            "projection_dim": projection,
            "hidden_act": activation,
            "layer_norm_eps": 1e-5,
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        })
    }
}

/// The scheduler of the model that a single file is taken for.
///
/// What a UNet predicts leaves no trace in its tensors. As in diffusers, SD 2 with four input channels predicts v unless
/// the file says that it was trained for exactly 875 000 steps (SD 2.0 base); everything else predicts the noise. SD 2.1
/// base is thereby mistaken, there as here: `OpenOptions::prediction_type` decides.
pub(super) fn scheduler(file: &dyn TensorFile, unet: Option<&Value>) -> Value {
    let channels = unet.and_then(|unet| unet["in_channels"].as_u64());
    let context = unet.and_then(|unet| unet["cross_attention_dim"].as_u64());
    let second = context == Some(1024) && channels == Some(4);
    let base = file.metadata_value("global_step").as_deref() == Some("875000");
    json!({
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": if second && !base { "v_prediction" } else { "epsilon" },
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "clip_sample": false,
        "trained_betas": null,
    })
}
