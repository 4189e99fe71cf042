//! The names that the original latent-diffusion code gives to what diffusers calls otherwise.
//!
//! One direction suffices: every diffusers name of a configuration has one stored tensor (or a third of one). As
//! diffusers 0.42's `single_file_utils`, which was tested to be the inverse.

use serde_json::Value;

use super::Component;
use super::expected::{Sizes, expected_tensors};
use super::weights::{Change, Stored};
use crate::error::Result;

/// The UNet's prefix.
pub(super) const UNET: &str = "model.diffusion_model.";

/// The autoencoder's prefixes; a file with nothing but an autoencoder has none.
pub(super) const VAE: [&str; 3] = ["first_stage_model.", "vae.", ""];

/// CLIP's prefixes, as SD 1 has it and without the level that it needs not have.
pub(super) const CLIP: [&str; 2] =
    ["cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."];

/// OpenCLIP's prefix, as SD 2 has it.
pub(super) const OPEN_CLIP: &str = "cond_stage_model.model.";

/// How a component's tensors are named in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Unet,
    Vae { prefix: &'static str },
    Clip { prefix: &'static str },
    OpenClip,
}

/// Every tensor of a configuration: diffusers' name, shape there, and what it is in a file.
///
/// # Errors
/// Those of [`expected_tensors`].
pub(super) fn pairs(naming: Naming, config: &Value) -> Result<Vec<(String, Vec<usize>, Stored)>> {
    let component = match naming {
        Naming::Unet => Component::Unet,
        Naming::Vae { .. } => Component::Vae,
        Naming::Clip { .. } | Naming::OpenClip => Component::TextEncoder,
    };
    let sizes = Sizes(config);
    let (blocks, layers) = match naming {
        Naming::Unet => (
            sizes.widths("block_out_channels", &[0; 4])?.len(),
            sizes.layers("layers_per_block", 2)?,
        ),
        Naming::Vae { .. } => (sizes.widths("block_out_channels", &[0])?.len(), 0),
        _ => (0, 0),
    };
    let expected = expected_tensors(component, config)?;
    let attention: Vec<bool> = (0..blocks)
        .map(|block| {
            let start = format!("up_blocks.{block}.attentions.");
            expected.iter().any(|(name, _)| name.starts_with(&start))
        })
        .collect();
    Ok(expected
        .into_iter()
        .filter_map(|(name, shape)| {
            let stored = match naming {
                Naming::Unet => unet(&name, layers, &attention),
                Naming::Vae { prefix } => vae(&name, blocks).map(|stored| stored.under(prefix)),
                Naming::Clip { prefix } => clip(&name).map(|stored| stored.under(prefix)),
                Naming::OpenClip => open_clip(&name),
            }?;
            Some((name, shape, stored))
        })
        .collect())
}

impl Stored {
    fn same(name: impl Into<String>) -> Self {
        Self { name: name.into(), change: Change::None }
    }

    fn under(self, prefix: &str) -> Self {
        Self { name: format!("{prefix}{}", self.name), ..self }
    }
}

/// `"down_blocks.1.resnets.0.conv1.weight"` after `"down_blocks."` to `(1, "resnets.0.conv1.weight")`.
fn indexed(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Diffusers' up and down blocks are one flat list each there: resnet, attention and resampling in turn.
fn unet(name: &str, layers: usize, up_attention: &[bool]) -> Option<Stored> {
    let flat = if let Some(rest) = name.strip_prefix("down_blocks.") {
        let (block, rest) = indexed(rest)?;
        let first = 1 + block * (layers + 1);
        if let Some(rest) = rest.strip_prefix("resnets.") {
            let (layer, rest) = indexed(rest)?;
            format!("input_blocks.{}.0.{}", first + layer, unet_resnet(rest)?)
        } else if let Some(rest) = rest.strip_prefix("attentions.") {
            let (layer, rest) = indexed(rest)?;
            format!("input_blocks.{}.1.{rest}", first + layer)
        } else {
            let rest = rest.strip_prefix("downsamplers.0.conv.")?;
            format!("input_blocks.{}.0.op.{rest}", first + layers)
        }
    } else if let Some(rest) = name.strip_prefix("up_blocks.") {
        let (block, rest) = indexed(rest)?;
        let first = block * (layers + 1);
        if let Some(rest) = rest.strip_prefix("resnets.") {
            let (layer, rest) = indexed(rest)?;
            format!("output_blocks.{}.0.{}", first + layer, unet_resnet(rest)?)
        } else if let Some(rest) = rest.strip_prefix("attentions.") {
            let (layer, rest) = indexed(rest)?;
            format!("output_blocks.{}.1.{rest}", first + layer)
        } else {
            let rest = rest.strip_prefix("upsamplers.0.conv.")?;
            let place = if *up_attention.get(block)? { 2 } else { 1 };
            format!("output_blocks.{}.{place}.conv.{rest}", first + layers)
        }
    } else if let Some(rest) = name.strip_prefix("mid_block.resnets.") {
        let (layer, rest) = indexed(rest)?;
        format!("middle_block.{}.{}", 2 * layer, unet_resnet(rest)?)
    } else if let Some(rest) = name.strip_prefix("mid_block.attentions.0.") {
        format!("middle_block.1.{rest}")
    } else {
        let (layer, rest) = name.rsplit_once('.')?;
        let layer = match layer {
            "time_embedding.linear_1" => "time_embed.0",
            "time_embedding.linear_2" => "time_embed.2",
            "conv_in" => "input_blocks.0.0",
            "conv_norm_out" => "out.0",
            "conv_out" => "out.2",
            _ => return None,
        };
        format!("{layer}.{rest}")
    };
    Some(Stored::same(format!("{UNET}{flat}")))
}

fn unet_resnet(name: &str) -> Option<String> {
    let (layer, rest) = name.split_once('.')?;
    let layer = match layer {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        _ => return None,
    };
    Some(format!("{layer}.{rest}"))
}

/// The decoder's blocks count from the other end there, and the attention's projections are 1×1 convolutions.
fn vae(name: &str, blocks: usize) -> Option<Stored> {
    let Some((half, rest)) =
        name.split_once('.').filter(|(half, _)| ["encoder", "decoder"].contains(half))
    else {
        return Some(Stored::same(name));
    };
    if let Some(rest) = rest.strip_prefix("mid_block.attentions.0.") {
        let (layer, kind) = rest.rsplit_once('.')?;
        let (layer, change) = match layer {
            "group_norm" => ("norm", Change::None),
            "to_q" => ("q", Change::Flatten),
            "to_k" => ("k", Change::Flatten),
            "to_v" => ("v", Change::Flatten),
            "to_out.0" => ("proj_out", Change::Flatten),
            _ => return None,
        };
        let change = if kind == "weight" { change } else { Change::None };
        return Some(Stored { name: format!("{half}.mid.attn_1.{layer}.{kind}"), change });
    }
    let rest = if let Some(rest) = rest.strip_prefix("mid_block.resnets.") {
        let (layer, rest) = indexed(rest)?;
        format!("mid.block_{}.{}", layer + 1, shortcut(rest))
    } else if let Some(rest) = rest.strip_prefix("down_blocks.") {
        let (block, rest) = indexed(rest)?;
        format!("down.{block}.{}", vae_block(rest)?)
    } else if let Some(rest) = rest.strip_prefix("up_blocks.") {
        let (block, rest) = indexed(rest)?;
        format!("up.{}.{}", (blocks - 1).checked_sub(block)?, vae_block(rest)?)
    } else if rest.starts_with("condition_encoder.") {
        return None;
    } else {
        rest.replace("conv_norm_out", "norm_out")
    };
    Some(Stored::same(format!("{half}.{rest}")))
}

fn vae_block(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("resnets.") {
        let (layer, rest) = indexed(rest)?;
        return Some(format!("block.{layer}.{}", shortcut(rest)));
    }
    let (kind, rest) = name.split_once(".0.")?;
    match kind {
        "downsamplers" => Some(format!("downsample.{rest}")),
        "upsamplers" => Some(format!("upsample.{rest}")),
        _ => None,
    }
}

fn shortcut(name: &str) -> String {
    name.replace("conv_shortcut", "nin_shortcut")
}

fn clip(name: &str) -> Option<Stored> {
    Some(Stored::same(name.strip_prefix("text_model.")?))
}

/// OpenCLIP fuses query, key and value into one projection.
fn open_clip(name: &str) -> Option<Stored> {
    let name = name.strip_prefix("text_model.")?;
    let stored = match name {
        "embeddings.position_embedding.weight" => Stored::same("positional_embedding"),
        "embeddings.token_embedding.weight" => Stored::same("token_embedding.weight"),
        "final_layer_norm.weight" => Stored::same("ln_final.weight"),
        "final_layer_norm.bias" => Stored::same("ln_final.bias"),
        _ => {
            let (layer, rest) = indexed(name.strip_prefix("encoder.layers.")?)?;
            let (part, kind) = rest.rsplit_once('.')?;
            let (part, change) = match part {
                "layer_norm1" => ("ln_1.", Change::None),
                "layer_norm2" => ("ln_2.", Change::None),
                "mlp.fc1" => ("mlp.c_fc.", Change::None),
                "mlp.fc2" => ("mlp.c_proj.", Change::None),
                "self_attn.out_proj" => ("attn.out_proj.", Change::None),
                "self_attn.q_proj" => ("attn.in_proj_", Change::Third(0)),
                "self_attn.k_proj" => ("attn.in_proj_", Change::Third(1)),
                "self_attn.v_proj" => ("attn.in_proj_", Change::Third(2)),
                _ => return None,
            };
            Stored { name: format!("transformer.resblocks.{layer}.{part}{kind}"), change }
        }
    };
    Some(stored.under(OPEN_CLIP))
}
