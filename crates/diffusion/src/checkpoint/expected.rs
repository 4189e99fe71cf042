//! The tensors that a configuration asks for, by name and shape, without loading anything.
//!
//! For reports of what a checkpoint lacks, and for the names of single files, which have to be translated. The names
//! and shapes are those of diffusers 0.42's `UNet2DConditionModel`, `AutoencoderKL` and `AsymmetricAutoencoderKL`, and
//! of transformers' `CLIPTextModel` with its `text_model.` prefix.

use serde_json::Value;

use super::Component;
use super::json::string;
use crate::error::{DiffusionError, Result};

/// Names and shapes.
pub(super) type Expected = Vec<(String, Vec<usize>)>;

/// Every tensor of a component with this configuration.
///
/// # Errors
/// [`DiffusionError::Argument`] if the configuration has no such form or its sizes are absurd.
pub(super) fn expected_tensors(component: Component, config: &Value) -> Result<Expected> {
    let mut list = List::default();
    match component {
        Component::TextEncoder => text_encoder(&mut list, config)?,
        Component::Unet => unet(&mut list, config)?,
        Component::Vae => vae(&mut list, config)?,
    }
    Ok(list.tensors)
}

/// Numbers of a configuration, each within what a model can have.
pub(super) struct Sizes<'a>(pub(super) &'a Value);

impl Sizes<'_> {
    /// A width: channels or features.
    pub(super) fn width(&self, key: &str, default: usize) -> Result<usize> {
        self.number(key, default, 1 << 20)
    }

    /// A number of layers in a block: so few that a list of all tensors stays small.
    pub(super) fn layers(&self, key: &str, default: usize) -> Result<usize> {
        self.number(key, default, 24)
    }

    fn number(&self, key: &str, default: usize, limit: usize) -> Result<usize> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => number(key, value, limit),
        }
    }

    /// Channels of each level.
    pub(super) fn widths(&self, key: &str, default: &[usize]) -> Result<Vec<usize>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(default.to_vec()),
            Some(Value::Array(list)) if (1..=16).contains(&list.len()) => {
                list.iter().map(|value| number(key, value, 1 << 20)).collect()
            }
            Some(other) => Err(wrong(key, "a list of 1 to 16 numbers", other)),
        }
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(default)
    }
}

fn number(key: &str, value: &Value, limit: usize) -> Result<usize> {
    value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| (1..=limit).contains(number))
        .ok_or_else(|| wrong(key, &format!("a number from 1 to {limit}"), value))
}

fn wrong(key: &str, expected: &str, found: &Value) -> DiffusionError {
    DiffusionError::argument(key, expected, super::shorten(&found.to_string()))
}

#[derive(Default)]
struct List {
    tensors: Expected,
}

impl List {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.tensors.push((name, shape.to_vec()));
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.add(format!("{name}.weight"), &[outputs, inputs]);
        self.add(format!("{name}.bias"), &[outputs]);
    }

    fn conv(&mut self, name: &str, inputs: usize, outputs: usize, kernel: usize) {
        self.add(format!("{name}.weight"), &[outputs, inputs, kernel, kernel]);
        self.add(format!("{name}.bias"), &[outputs]);
    }

    /// `ResnetBlock2D`; `time` is the width of the time embedding.
    fn resnet(&mut self, name: &str, inputs: usize, outputs: usize, time: Option<usize>) {
        self.norm(&format!("{name}.norm1"), inputs);
        self.conv(&format!("{name}.conv1"), inputs, outputs, 3);
        if let Some(time) = time {
            self.linear(&format!("{name}.time_emb_proj"), time, outputs);
        }
        self.norm(&format!("{name}.norm2"), outputs);
        self.conv(&format!("{name}.conv2"), outputs, outputs, 3);
        if inputs != outputs {
            self.conv(&format!("{name}.conv_shortcut"), inputs, outputs, 1);
        }
    }

    /// `Transformer2DModel`.
    fn transformer(
        &mut self,
        name: &str,
        width: usize,
        depth: usize,
        context: usize,
        linear: bool,
    ) {
        self.norm(&format!("{name}.norm"), width);
        let projection: &[usize] = if linear { &[width, width] } else { &[width, width, 1, 1] };
        for part in ["proj_in", "proj_out"] {
            self.add(format!("{name}.{part}.weight"), projection);
            self.add(format!("{name}.{part}.bias"), &[width]);
        }
        for block in 0..depth {
            let name = format!("{name}.transformer_blocks.{block}");
            for (attention, keys) in [("attn1", width), ("attn2", context)] {
                self.add(format!("{name}.{attention}.to_q.weight"), &[width, width]);
                self.add(format!("{name}.{attention}.to_k.weight"), &[width, keys]);
                self.add(format!("{name}.{attention}.to_v.weight"), &[width, keys]);
                self.linear(&format!("{name}.{attention}.to_out.0"), width, width);
            }
            for norm in ["norm1", "norm2", "norm3"] {
                self.norm(&format!("{name}.{norm}"), width);
            }
            self.linear(&format!("{name}.ff.net.0.proj"), width, 8 * width);
            self.linear(&format!("{name}.ff.net.2"), 4 * width, width);
        }
    }

    /// The middle of an autoencoder.
    fn vae_mid(&mut self, name: &str, width: usize, attention: bool) {
        for resnet in 0..2 {
            self.resnet(&format!("{name}.resnets.{resnet}"), width, width, None);
        }
        if attention {
            let name = format!("{name}.attentions.0");
            self.norm(&format!("{name}.group_norm"), width);
            for part in ["to_q", "to_k", "to_v", "to_out.0"] {
                self.linear(&format!("{name}.{part}"), width, width);
            }
        }
    }
}

fn text_encoder(list: &mut List, config: &Value) -> Result<()> {
    let sizes = Sizes(config);
    let width = sizes.width("hidden_size", 512)?;
    let inner = sizes.width("intermediate_size", 2048)?;
    let embeddings = "text_model.embeddings";
    let vocabulary = sizes.width("vocab_size", 49408)?;
    let positions = sizes.width("max_position_embeddings", 77)?;
    list.add(format!("{embeddings}.token_embedding.weight"), &[vocabulary, width]);
    list.add(format!("{embeddings}.position_embedding.weight"), &[positions, width]);
    for layer in 0..sizes.number("num_hidden_layers", 12, 256)? {
        let name = format!("text_model.encoder.layers.{layer}");
        list.norm(&format!("{name}.layer_norm1"), width);
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            list.linear(&format!("{name}.self_attn.{part}"), width, width);
        }
        list.norm(&format!("{name}.layer_norm2"), width);
        list.linear(&format!("{name}.mlp.fc1"), width, inner);
        list.linear(&format!("{name}.mlp.fc2"), inner, width);
    }
    list.norm("text_model.final_layer_norm", width);
    Ok(())
}

fn unet(list: &mut List, config: &Value) -> Result<()> {
    let sizes = Sizes(config);
    let widths = sizes.widths("block_out_channels", &[320, 640, 1280, 1280])?;
    let layers = sizes.layers("layers_per_block", 2)?;
    let depth = sizes.layers("transformer_layers_per_block", 1)?;
    let context = sizes.width("cross_attention_dim", 1280)?;
    let linear = sizes.flag("use_linear_projection", false);
    let last = widths.len() - 1;
    let down = block_types(config, "down_block_types", widths.len(), |i| i < last)?;
    let up = block_types(config, "up_block_types", widths.len(), |i| i > 0)?;
    let time = 4 * widths[0];

    list.linear("time_embedding.linear_1", widths[0], time);
    list.linear("time_embedding.linear_2", time, time);
    if let width @ 1.. = sizes.width("time_cond_proj_dim", 0)? {
        list.add("time_embedding.cond_proj.weight".to_owned(), &[widths[0], width]);
    }
    list.conv("conv_in", sizes.width("in_channels", 4)?, widths[0], 3);
    let mut inputs = widths[0];
    for (block, &width) in widths.iter().enumerate() {
        let name = format!("down_blocks.{block}");
        for layer in 0..layers {
            list.resnet(&format!("{name}.resnets.{layer}"), inputs, width, Some(time));
            inputs = width;
            if down[block] {
                let name = format!("{name}.attentions.{layer}");
                list.transformer(&name, width, depth, context, linear);
            }
        }
        if block < last {
            list.conv(&format!("{name}.downsamplers.0.conv"), width, width, 3);
        }
    }

    let middle = widths[last];
    for resnet in 0..2 {
        list.resnet(&format!("mid_block.resnets.{resnet}"), middle, middle, Some(time));
    }
    list.transformer("mid_block.attentions.0", middle, depth, context, linear);

    let mut below = middle;
    for block in 0..widths.len() {
        let name = format!("up_blocks.{block}");
        let width = widths[last - block];
        let beside = widths[(last - block).saturating_sub(1)];
        for layer in 0..=layers {
            let skip = if layer == layers { beside } else { width };
            list.resnet(&format!("{name}.resnets.{layer}"), below + skip, width, Some(time));
            below = width;
            if up[block] {
                let name = format!("{name}.attentions.{layer}");
                list.transformer(&name, width, depth, context, linear);
            }
        }
        if block < last {
            list.conv(&format!("{name}.upsamplers.0.conv"), width, width, 3);
        }
    }
    list.norm("conv_norm_out", widths[0]);
    list.conv("conv_out", widths[0], sizes.width("out_channels", 4)?, 3);
    Ok(())
}

/// Which blocks have attention.
fn block_types(
    config: &Value,
    key: &str,
    count: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok((0..count).map(default).collect()),
        Some(Value::Array(list)) if list.len() == count => Ok(list
            .iter()
            .map(|name| name.as_str().is_some_and(|s| s.contains("CrossAttn")))
            .collect()),
        Some(other) => Err(wrong(key, &format!("a list of {count} blocks"), other)),
    }
}

fn vae(list: &mut List, config: &Value) -> Result<()> {
    let sizes = Sizes(config);
    let asymmetric = string(config, "_class_name") == Some("AsymmetricAutoencoderKL");
    let attention = sizes.flag("mid_block_add_attention", true);
    let latents = sizes.width("latent_channels", 4)?;
    let keys = if asymmetric {
        [
            "down_block_out_channels",
            "layers_per_down_block",
            "up_block_out_channels",
            "layers_per_up_block",
        ]
    } else {
        ["block_out_channels", "layers_per_block", "block_out_channels", "layers_per_block"]
    };

    // 1. encoder
    let widths = sizes.widths(keys[0], &[64])?;
    let layers = sizes.layers(keys[1], 1)?;
    let last = widths.len() - 1;
    list.conv("encoder.conv_in", sizes.width("in_channels", 3)?, widths[0], 3);
    let mut inputs = widths[0];
    for (block, &width) in widths.iter().enumerate() {
        let name = format!("encoder.down_blocks.{block}");
        for layer in 0..layers {
            list.resnet(&format!("{name}.resnets.{layer}"), inputs, width, None);
            inputs = width;
        }
        if block < last {
            list.conv(&format!("{name}.downsamplers.0.conv"), width, width, 3);
        }
    }
    list.vae_mid("encoder.mid_block", widths[last], attention);
    list.norm("encoder.conv_norm_out", widths[last]);
    list.conv("encoder.conv_out", widths[last], 2 * latents, 3);
    if sizes.flag("use_quant_conv", true) {
        list.conv("quant_conv", 2 * latents, 2 * latents, 1);
    }
    if sizes.flag("use_post_quant_conv", true) {
        list.conv("post_quant_conv", latents, latents, 1);
    }

    // 2. decoder
    let widths = sizes.widths(keys[2], &[64])?;
    let layers = sizes.layers(keys[3], 1)?;
    let last = widths.len() - 1;
    let outputs = sizes.width("out_channels", 3)?;
    list.conv("decoder.conv_in", latents, widths[last], 3);
    list.vae_mid("decoder.mid_block", widths[last], attention);
    let mut inputs = widths[last];
    for block in 0..widths.len() {
        let name = format!("decoder.up_blocks.{block}");
        let width = widths[last - block];
        for layer in 0..=layers {
            list.resnet(&format!("{name}.resnets.{layer}"), inputs, width, None);
            inputs = width;
        }
        if block < last {
            list.conv(&format!("{name}.upsamplers.0.conv"), width, width, 3);
        }
    }
    list.norm("decoder.conv_norm_out", widths[0]);
    list.conv("decoder.conv_out", widths[0], outputs, 3);
    if asymmetric {
        condition_encoder(list, outputs, widths[0], widths[last]);
    }
    Ok(())
}

/// `MaskConditionEncoder` at its stride of 16: five convolutions down the masked picture.
fn condition_encoder(list: &mut List, inputs: usize, first: usize, limit: usize) {
    let mut width = first;
    let mut outputs: Vec<_> = (0..4)
        .map(|_| {
            let output = width.min(limit);
            width = 2 * output;
            output
        })
        .collect();
    outputs.push(limit);
    let mut inputs = inputs;
    for (layer, output) in outputs.into_iter().enumerate() {
        let kernel = if layer < 2 { 3 } else { 4 };
        list.conv(&format!("decoder.condition_encoder.layers.{layer}"), inputs, output, kernel);
        inputs = output;
    }
}
