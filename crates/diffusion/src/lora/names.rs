//! The layers of a model by every name that LoRA files call them.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::TensorSource;

/// The layers of one component that a LoRA can change, found by diffusers' path or by kohya's underscored names.
///
/// An underscore in kohya's names is either a dot or an underscore of the path, which only the model itself can
/// tell, so the table is made from the model's own paths. For a UNet it also holds the names of the original latent
/// diffusion code (`input_blocks_1_1_transformer_blocks_0_attn1_to_q`). The prefix `text_model`, which text encoders have
/// in some versions of transformers and lack in others, makes no difference.
#[derive(Clone, Debug, Default)]
pub struct ModuleNames {
    /// The weight's shape by path, if known.
    modules: BTreeMap<String, Option<Vec<usize>>>,
    /// Underscored names; `None` for a name that two paths share.
    aliases: HashMap<String, Option<String>>,
}

impl ModuleNames {
    /// The layers of a component's weights: whatever has a `weight` of two or four dimensions.
    #[must_use]
    pub fn from_source(source: &dyn TensorSource) -> Self {
        let modules = source.names().into_iter().filter_map(|name| {
            let shape = source.info(&name)?.shape;
            let path = name.strip_suffix(".weight")?.to_owned();
            matches!(shape.len(), 2 | 4).then_some((path, Some(shape)))
        });
        Self::new(modules.collect())
    }

    /// The layers at `paths`, their shapes unknown.
    pub fn from_paths<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new(paths.into_iter().map(|path| (path.into(), None)).collect())
    }

    /// The UNet of Stable Diffusion 1 and 2, for files that come without a model.
    #[must_use]
    pub fn stable_diffusion_unet() -> Self {
        Self::from_paths(unet_paths())
    }

    /// The text encoder of Stable Diffusion 1 (12 layers) and 2 (23), for files that come without a model.
    #[must_use]
    pub fn stable_diffusion_text_encoder() -> Self {
        const LAYERS: usize = 24;
        let modules = ["k_proj", "v_proj", "q_proj", "out_proj"].map(|m| format!("self_attn.{m}"));
        let modules = modules.into_iter().chain(["fc1", "fc2"].map(|m| format!("mlp.{m}")));
        let modules: Vec<_> = modules.collect();
        Self::from_paths((0..LAYERS).flat_map(|layer| {
            modules.iter().map(move |module| format!("text_model.encoder.layers.{layer}.{module}"))
        }))
    }

    fn new(modules: BTreeMap<String, Option<Vec<usize>>>) -> Self {
        let mut aliases: HashMap<String, Option<String>> = HashMap::new();
        let mut add = |alias: String, path: &str| {
            aliases
                .entry(alias)
                .and_modify(|known| {
                    if known.as_deref() != Some(path) {
                        *known = None;
                    }
                })
                .or_insert_with(|| Some(path.to_owned()));
        };
        let layout = LdmLayout::of(&modules);
        for path in modules.keys() {
            add(underscored(path), path);
            if let Some(ldm) = layout.name(path) {
                add(underscored(&ldm), path);
            }
        }
        Self { modules, aliases }
    }

    /// The model's own path of the layer that a file calls `name`; `None` if the model has none.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<&str> {
        if let Some((path, _)) = self.modules.get_key_value(name) {
            return Some(path);
        }
        self.aliases.get(&underscored(name))?.as_deref()
    }

    /// The shape of the weight of the layer at `path`; `None` if there is no such layer, or its shape is not known.
    #[must_use]
    pub fn shape(&self, path: &str) -> Option<&[usize]> {
        self.modules.get(path)?.as_deref()
    }

    /// The paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }
}

/// A name without its dots and without the optional `text_model` in front.
fn underscored(name: &str) -> String {
    let name = name.replace('.', "_");
    name.strip_prefix("text_model_").map(str::to_owned).unwrap_or(name)
}

/// How diffusers' blocks are numbered in the original latent diffusion code.
struct LdmLayout {
    /// Layers in a block going down, with what samples down or up counted as one more.
    stride: usize,
    /// Indices of blocks going up that have attention, between the resnet and the upsampler.
    attention_up: Vec<usize>,
}

impl LdmLayout {
    fn of(modules: &BTreeMap<String, Option<Vec<usize>>>) -> Self {
        let (mut layers, mut attention_up) = (0, Vec::new());
        for path in modules.keys() {
            if let Some((block, "resnets", layer, _)) = block_parts(path, "down_blocks.") {
                if block == 0 {
                    layers = layers.max(layer.saturating_add(1));
                }
            } else if let Some((block, "attentions", ..)) = block_parts(path, "up_blocks.") {
                attention_up.push(block);
            }
        }
        Self { stride: layers.saturating_add(1), attention_up }
    }

    /// The original name of a path in diffusers' layout; `None` for one that has none.
    fn name(&self, path: &str) -> Option<String> {
        for (ours, theirs) in [
            ("conv_in", "input_blocks.0.0"),
            ("conv_out", "out.2"),
            ("time_embedding.linear_1", "time_embed.0"),
            ("time_embedding.linear_2", "time_embed.2"),
        ] {
            if path == ours {
                return Some(theirs.to_owned());
            }
        }
        let at = |block: usize, layer: usize| block.checked_mul(self.stride)?.checked_add(layer);
        if let Some((block, kind, layer, rest)) = block_parts(path, "down_blocks.") {
            return Some(match kind {
                // The first of the input blocks is `conv_in`.
                "resnets" => {
                    let index = at(block, layer.checked_add(1)?)?;
                    format!("input_blocks.{index}.0.{}", resnet(rest)?)
                }
                "attentions" => {
                    format!("input_blocks.{}.1.{rest}", at(block, layer.checked_add(1)?)?)
                }
                "downsamplers" => format!("input_blocks.{}.0.op", at(block, self.stride)?),
                _ => return None,
            });
        }
        if let Some((block, kind, layer, rest)) = block_parts(path, "up_blocks.") {
            return Some(match kind {
                "resnets" => format!("output_blocks.{}.0.{}", at(block, layer)?, resnet(rest)?),
                "attentions" => format!("output_blocks.{}.1.{rest}", at(block, layer)?),
                "upsamplers" => {
                    let index = if self.attention_up.contains(&block) { 2 } else { 1 };
                    format!("output_blocks.{}.{index}.conv", at(block, self.stride - 1)?)
                }
                _ => return None,
            });
        }
        match block_parts(path, "mid_block.")? {
            (_, "resnets", layer, rest) => {
                Some(format!("middle_block.{}.{}", layer.checked_mul(2)?, resnet(rest)?))
            }
            (_, "attentions", 0, rest) => Some(format!("middle_block.1.{rest}")),
            _ => None,
        }
    }
}

/// `{prefix}{block}.{kind}.{layer}.{rest}` in parts; the middle block has no number of its own and gets 0.
fn block_parts<'a>(path: &'a str, prefix: &str) -> Option<(usize, &'a str, usize, &'a str)> {
    let rest = path.strip_prefix(prefix)?;
    let (block, rest) = match prefix {
        "mid_block." => (0, rest),
        _ => rest.split_once('.').and_then(|(block, rest)| Some((block.parse().ok()?, rest)))?,
    };
    let (kind, rest) = rest.split_once('.')?;
    let (layer, rest) = rest.split_once('.')?;
    Some((block, kind, layer.parse().ok()?, rest))
}

/// A resnet's layer by its index in the original sequence.
fn resnet(layer: &str) -> Option<&'static str> {
    Some(match layer {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        _ => return None,
    })
}

/// The layers of Stable Diffusion's UNet: four levels, two layers each, no attention at the deepest.
fn unet_paths() -> Vec<String> {
    const LEVELS: usize = 4;
    const LAYERS: usize = 2;
    let mut paths: Vec<String> =
        ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
            .map(str::to_owned)
            .into();
    let resnet = |paths: &mut Vec<String>, at: String| {
        for layer in ["conv1", "conv2", "time_emb_proj", "conv_shortcut"] {
            paths.push(format!("{at}.{layer}"));
        }
    };
    let attention = |paths: &mut Vec<String>, at: String| {
        paths.extend(["proj_in", "proj_out"].map(|layer| format!("{at}.{layer}")));
        let block = format!("{at}.transformer_blocks.0");
        for attn in ["attn1", "attn2"] {
            for layer in ["to_q", "to_k", "to_v", "to_out.0"] {
                paths.push(format!("{block}.{attn}.{layer}"));
            }
        }
        paths.extend(["net.0.proj", "net.2"].map(|layer| format!("{block}.ff.{layer}")));
    };
    for level in 0..LEVELS {
        for layer in 0..LAYERS {
            resnet(&mut paths, format!("down_blocks.{level}.resnets.{layer}"));
            if level + 1 < LEVELS {
                attention(&mut paths, format!("down_blocks.{level}.attentions.{layer}"));
            }
        }
        for layer in 0..=LAYERS {
            resnet(&mut paths, format!("up_blocks.{level}.resnets.{layer}"));
            if level > 0 {
                attention(&mut paths, format!("up_blocks.{level}.attentions.{layer}"));
            }
        }
        if level + 1 < LEVELS {
            paths.push(format!("down_blocks.{level}.downsamplers.0.conv"));
            paths.push(format!("up_blocks.{level}.upsamplers.0.conv"));
        }
    }
    for layer in 0..2 {
        resnet(&mut paths, format!("mid_block.resnets.{layer}"));
    }
    attention(&mut paths, "mid_block.attentions.0".to_owned());
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscored_names_find_every_layer_of_stable_diffusion() {
        for names in
            [ModuleNames::stable_diffusion_unet(), ModuleNames::stable_diffusion_text_encoder()]
        {
            for path in names.paths() {
                assert_eq!(names.resolve(path), Some(path));
                assert_eq!(names.resolve(&path.replace('.', "_")), Some(path));
            }
        }
        // 16 attention blocks of two attentions of four projections.
        let unet = ModuleNames::stable_diffusion_unet();
        assert_eq!(unet.paths().filter(|path| path.contains(".attn")).count(), 16 * 2 * 4);
    }

    #[test]
    fn the_original_names_find_diffusers_paths() {
        let names = ModuleNames::stable_diffusion_unet();
        let block = "transformer_blocks_0_attn1_to_q";
        for (name, path) in [
            ("input_blocks_0_0", "conv_in"),
            ("out_2", "conv_out"),
            ("time_embed_2", "time_embedding.linear_2"),
            ("input_blocks_1_0_in_layers_2", "down_blocks.0.resnets.0.conv1"),
            ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
            ("input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
            ("input_blocks_11_0_out_layers_3", "down_blocks.3.resnets.1.conv2"),
            ("middle_block_0_emb_layers_1", "mid_block.resnets.0.time_emb_proj"),
            ("middle_block_1_proj_in", "mid_block.attentions.0.proj_in"),
            ("middle_block_2_in_layers_2", "mid_block.resnets.1.conv1"),
            ("output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
            ("output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
            ("output_blocks_11_1_proj_out", "up_blocks.3.attentions.2.proj_out"),
        ] {
            assert_eq!(names.resolve(name), Some(path), "{name}");
        }
        for (name, path) in [
            (format!("input_blocks_1_1_{block}"), "down_blocks.0.attentions.0"),
            (format!("input_blocks_8_1_{block}"), "down_blocks.2.attentions.1"),
            (format!("output_blocks_3_1_{block}"), "up_blocks.1.attentions.0"),
        ] {
            let path = format!("{path}.transformer_blocks.0.attn1.to_q");
            assert_eq!(names.resolve(&name), Some(path.as_str()), "{name}");
        }
        assert_eq!(names.resolve("input_blocks_12_0_in_layers_2"), None);
        assert_eq!(names.resolve(""), None);
    }

    #[test]
    fn a_text_encoder_is_found_with_and_without_its_prefix() {
        for path in ["text_model.encoder.layers.0.mlp.fc1", "encoder.layers.0.mlp.fc1"] {
            let names = ModuleNames::from_paths([path]);
            for name in [
                "text_model.encoder.layers.0.mlp.fc1",
                "encoder.layers.0.mlp.fc1",
                "text_model_encoder_layers_0_mlp_fc1",
            ] {
                assert_eq!(names.resolve(name), Some(path));
            }
        }
    }

    #[test]
    fn a_name_that_two_paths_share_is_nobodys() {
        let names = ModuleNames::from_paths(["a.b_c", "a_b.c"]);
        assert_eq!(names.resolve("a_b_c"), None);
        assert_eq!(names.resolve("a.b_c"), Some("a.b_c"));
    }
}
