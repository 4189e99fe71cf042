//! `config.json` of the UNet.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{self, MAX_CHANNELS, MAX_LAYERS, OneOrMany, OtherSettings};
use crate::error::{DiffusionError, Result};
use crate::nn::{Activation, TimeScaleShift};

const CLASS: &str = "UNet2DConditionModel";

/// `config.json` of the UNet; absent keys have diffusers' defaults.
///
/// Settings of other model families (SDXL, Kandinsky, GLIGEN, …) are refused by [`UNet2DConditionConfig::validate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet2DConditionConfig {
    /// The side of the latents that it was trained on, or height and width.
    pub sample_size: Option<OneOrMany<usize>>,
    /// Channels in: 4, or 9 for inpainting (latents, mask, masked image's latents).
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Map the input from [0, 1] to [-1, 1] first.
    pub center_input_sample: bool,
    /// Cosines before sines in the timestep embedding.
    pub flip_sin_to_cos: bool,
    /// See [`crate::nn::TimestepsConfig::downscale_freq_shift`].
    pub freq_shift: f64,
    /// "`DownBlock2D`" or "`CrossAttnDownBlock2D`", one a width.
    pub down_block_types: Vec<String>,
    /// "`UNetMidBlock2DCrossAttn`", "`UNetMidBlock2D`" or none.
    pub mid_block_type: Option<String>,
    /// "`UpBlock2D`" or "`CrossAttnUpBlock2D`", one a width.
    pub up_block_types: Vec<String>,
    /// No self-attention: both attentions of a transformer block look at the context.
    pub only_cross_attention: OneOrMany<bool>,
    /// Width of each resolution.
    pub block_out_channels: Vec<usize>,
    /// Resnets of each resolution on the way down; one more on the way up.
    pub layers_per_block: OneOrMany<usize>,
    /// Zeros around the image where it is halved; 0 pads below and right only.
    pub downsample_padding: usize,
    /// The middle resnets' output is divided by it.
    pub mid_block_scale_factor: f64,
    /// Dropout while diffusers trains; not used here.
    pub dropout: f64,
    /// The non-linearity.
    pub act_fn: String,
    /// Groups of the norms.
    pub norm_num_groups: usize,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Features of the context: 768 in SD 1, 1024 in SD 2.
    pub cross_attention_dim: OneOrMany<usize>,
    /// Transformer blocks after each resnet.
    pub transformer_layers_per_block: OneOrMany<usize>,
    /// The *number* of attention heads, misnamed in diffusers ever since; see
    /// [`UNet2DConditionConfig::num_attention_heads`].
    pub attention_head_dim: OneOrMany<usize>,
    /// The number of heads by its right name; wins over `attention_head_dim`.
    pub num_attention_heads: Option<OneOrMany<usize>>,
    /// Two transformers over two parts of the context (Versatile Diffusion).
    pub dual_cross_attention: bool,
    /// Project with linear layers around transformer blocks (SD 2).
    pub use_linear_projection: bool,
    /// Multiply queries and keys in f32.
    pub upcast_attention: bool,
    /// "default" or "`scale_shift`".
    pub resnet_time_scale_shift: String,
    /// Features of the time embedding, if not four times the first width.
    pub time_embedding_dim: Option<usize>,
    /// Features of a condition beside the timestep: the guidance scale's embedding in LCM models.
    pub time_cond_proj_dim: Option<usize>,
    /// Kernel of the first convolution.
    pub conv_in_kernel: usize,
    /// Kernel of the last convolution.
    pub conv_out_kernel: usize,
    /// What else the file says.
    #[serde(flatten)]
    pub other: OtherSettings,
}

impl Default for UNet2DConditionConfig {
    fn default() -> Self {
        let types = |types: [&str; 4]| types.map(str::to_owned).to_vec();
        let (down, up) = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D");
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: types([down, down, down, "DownBlock2D"]),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".to_owned()),
            up_block_types: types(["UpBlock2D", up, up, up]),
            only_cross_attention: OneOrMany::One(false),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrMany::One(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            dropout: 0.0,
            act_fn: "silu".to_owned(),
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: OneOrMany::One(1280),
            transformer_layers_per_block: OneOrMany::One(1),
            attention_head_dim: OneOrMany::One(8),
            num_attention_heads: None,
            dual_cross_attention: false,
            use_linear_projection: false,
            upcast_attention: false,
            resnet_time_scale_shift: "default".to_owned(),
            time_embedding_dim: None,
            time_cond_proj_dim: None,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            other: OtherSettings::new(),
        }
    }
}

/// One resolution of the network, from the settings that may be lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolution {
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) cross_attention_dim: usize,
    pub(super) transformer_layers: usize,
    pub(super) only_cross_attention: bool,
}

impl UNet2DConditionConfig {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key that does not fit.
    pub fn from_json(json: &Value) -> Result<Self> {
        config::from_json(CLASS, json)
    }

    /// Features of the time embedding that every resnet gets.
    #[must_use]
    pub fn time_embed_dim(&self) -> usize {
        let first = self.block_out_channels.first().copied().unwrap_or_default();
        // Python's `or`: 0 counts as absent.
        self.time_embedding_dim.filter(|dim| *dim > 0).unwrap_or(4 * first)
    }

    /// Features that `encoder_hidden_states` must have.
    #[must_use]
    pub fn context_dim(&self) -> usize {
        match &self.cross_attention_dim {
            OneOrMany::One(dim) => *dim,
            OneOrMany::Many(dims) => dims.first().copied().unwrap_or_default(),
        }
    }

    /// Attention heads of each resolution. diffusers reads `attention_head_dim` as their number.
    #[must_use]
    pub fn num_attention_heads(&self) -> &OneOrMany<usize> {
        self.num_attention_heads.as_ref().unwrap_or(&self.attention_head_dim)
    }

    /// Checks that a network can be built from it.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the key.
    pub fn validate(&self) -> Result<()> {
        config::refuse_unsupported(
            CLASS,
            &self.other,
            &[
                ("encoder_hid_dim", Value::Null),
                ("encoder_hid_dim_type", Value::Null),
                ("class_embed_type", Value::Null),
                ("num_class_embeds", Value::Null),
                ("class_embeddings_concat", json!(false)),
                ("addition_embed_type", Value::Null),
                ("time_embedding_type", json!("positional")),
                ("time_embedding_act_fn", Value::Null),
                ("timestep_post_act", Value::Null),
                ("attention_type", json!("default")),
                ("cross_attention_norm", Value::Null),
                ("reverse_transformer_layers_per_block", Value::Null),
            ],
        )?;
        let check = |key, value, max| config::check_count(CLASS, key, value, max);
        let widths = &self.block_out_channels;
        config::check_widths(CLASS, "block_out_channels", widths, self.norm_num_groups)?;
        let types = |key, types, supported: &[&str]| {
            config::check_block_types(CLASS, key, types, widths.len(), supported)
        };
        let down = ["DownBlock2D", "CrossAttnDownBlock2D", "UNetResDownBlock2D"];
        types("down_block_types", &self.down_block_types, &down)?;
        let up = ["UpBlock2D", "CrossAttnUpBlock2D", "UNetResUpBlock2D"];
        types("up_block_types", &self.up_block_types, &up)?;
        if let Some(mid) = &self.mid_block_type {
            let mid = std::slice::from_ref(mid);
            let supported = ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"];
            config::check_block_types(CLASS, "mid_block_type", mid, 1, &supported)?;
        }
        check("in_channels", self.in_channels, MAX_CHANNELS)?;
        check("out_channels", self.out_channels, MAX_CHANNELS)?;
        check("time_embedding_dim", self.time_embed_dim(), 4 * MAX_CHANNELS)?;
        check("time_cond_proj_dim", self.time_cond_proj_dim.unwrap_or(1), MAX_CHANNELS)?;
        check("downsample_padding", self.downsample_padding.saturating_add(1), 2)?;
        for (key, kernel) in
            [("conv_in_kernel", self.conv_in_kernel), ("conv_out_kernel", self.conv_out_kernel)]
        {
            if kernel % 2 == 0 || kernel > 15 {
                let name = format!("{CLASS}: {key}");
                return Err(DiffusionError::argument(name, "an odd number up to 15", kernel));
            }
        }
        config::check_eps(CLASS, "norm_eps", self.norm_eps)?;
        let scale = self.mid_block_scale_factor;
        if !(scale.is_finite() && scale != 0.0) {
            let name = format!("{CLASS}: mid_block_scale_factor");
            return Err(DiffusionError::argument(name, "a number other than 0", scale));
        }
        // The sines are spread over half the first width less the shift.
        if !self.freq_shift.is_finite() || (widths[0] / 2) as f64 == self.freq_shift {
            let name = format!("{CLASS}: freq_shift");
            return Err(DiffusionError::argument(name, "0 or 1", self.freq_shift));
        }
        for resolution in self.resolutions()? {
            check("layers_per_block", resolution.layers, MAX_LAYERS)?;
            check("attention_head_dim", resolution.heads, resolution.width)?;
            check("cross_attention_dim", resolution.cross_attention_dim, MAX_CHANNELS)?;
            check("transformer_layers_per_block", resolution.transformer_layers, MAX_LAYERS)?;
            if resolution.cross_attention_dim != self.context_dim() {
                let name = format!("{CLASS}: cross_attention_dim");
                let expected = format!("{} for every block", self.context_dim());
                return Err(DiffusionError::argument(
                    name,
                    expected,
                    resolution.cross_attention_dim,
                ));
            }
        }
        self.time_scale_shift()?;
        self.activation().map(drop)
    }

    /// The resolutions, largest first.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if a list has another length than `block_out_channels`.
    pub(super) fn resolutions(&self) -> Result<Vec<Resolution>> {
        let blocks = self.block_out_channels.len();
        let name = |key| format!("{CLASS}: {key}");
        let layers = self.layers_per_block.expand(&name("layers_per_block"), blocks)?;
        let heads = self.num_attention_heads().expand(&name("attention_head_dim"), blocks)?;
        let context = self.cross_attention_dim.expand(&name("cross_attention_dim"), blocks)?;
        let key = name("transformer_layers_per_block");
        let transformer_layers = self.transformer_layers_per_block.expand(&key, blocks)?;
        let only_cross = self.only_cross_attention.expand(&name("only_cross_attention"), blocks)?;
        Ok((0..blocks)
            .map(|i| Resolution {
                width: self.block_out_channels[i],
                layers: layers[i],
                heads: heads[i],
                cross_attention_dim: context[i],
                transformer_layers: transformer_layers[i],
                only_cross_attention: only_cross[i],
            })
            .collect())
    }

    /// `act_fn`.
    pub(super) fn activation(&self) -> Result<Activation> {
        Activation::from_name("UNet2DConditionModel: act_fn", &self.act_fn)
    }

    /// `resnet_time_scale_shift`.
    pub(super) fn time_scale_shift(&self) -> Result<TimeScaleShift> {
        TimeScaleShift::from_name(&self.resnet_time_scale_shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a configuration that differs from the defaults in `json`.
    fn error(json: &Value) -> String {
        UNet2DConditionConfig::from_json(json)
            .and_then(|config| config.validate())
            .expect_err("the configuration is not valid")
            .to_string()
    }

    #[test]
    fn defaults_and_nulls_are_valid() -> Result<()> {
        let config = UNet2DConditionConfig::from_json(&json!({
            "_class_name": "UNet2DConditionModel",
            "class_embed_type": null,
            "num_attention_heads": null,
            "mid_block_type": null,
            "freq_shift": 0,
            "attention_type": "default",
        }))?;
        config.validate()?;
        assert_eq!(config.time_embed_dim(), 1280);
        assert_eq!(config.mid_block_type, None);
        Ok(())
    }

    #[test]
    fn errors_name_the_key() {
        let cases = [
            (json!({"addition_embed_type": "text_time"}), "addition_embed_type"),
            (json!({"num_class_embeds": 10}), "num_class_embeds"),
            (json!({"encoder_hid_dim": 1024}), "encoder_hid_dim"),
            (json!({"norm_num_groups": 0}), "norm_num_groups"),
            (json!({"norm_num_groups": 33}), "block_out_channels"),
            (json!({"norm_num_groups": null}), "norm_num_groups"),
            (json!({"norm_num_groups": -1}), "norm_num_groups"),
            (json!({"attention_head_dim": [8, 8]}), "attention_head_dim"),
            (json!({"attention_head_dim": 0}), "attention_head_dim"),
            (json!({"attention_head_dim": "eight"}), "attention_head_dim"),
            (json!({"transformer_layers_per_block": [[1], [2]]}), "transformer_layers_per_block"),
            (json!({"block_out_channels": []}), "block_out_channels"),
            (json!({"block_out_channels": [32]}), "down_block_types"),
            (json!({"block_out_channels": [32, 64, 64, 4294967296u64]}), "block_out_channels"),
            (json!({"down_block_types": ["A", "B", "C", "D"]}), "down_block_types"),
            (json!({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}), "mid_block_type"),
            (json!({"cross_attention_dim": [768, 768, 768, 1024]}), "cross_attention_dim"),
            (json!({"conv_in_kernel": 4}), "conv_in_kernel"),
            (json!({"freq_shift": 160}), "freq_shift"),
            (json!({"act_fn": "swoosh"}), "act_fn"),
            (json!({"resnet_time_scale_shift": "spatial"}), "resnet_time_scale_shift"),
            (json!({"mid_block_scale_factor": 0}), "mid_block_scale_factor"),
            (json!({"layers_per_block": 0}), "layers_per_block"),
            (json!({"downsample_padding": 7}), "downsample_padding"),
        ];
        for (json, key) in cases {
            let error = error(&json);
            assert!(error.contains(key), "{json}: {error}");
        }
        assert!(error(&json!([])).contains("UNet2DConditionModel"));
    }
}
