//! The names that trainers give to a LoRA's tensors.
//!
//! Four styles are in use:
//! - PEFT: `base_model.model.{module}.lora_A.weight`, with or without an adapter's name before `weight`;
//! - diffusers: `unet.{module}.lora.down.weight` or `unet.{module}.lora_A.weight`, and for the text encoder also
//!   `text_encoder.{module}.lora_linear_layer.down.weight`;
//! - diffusers before 0.20, on attention processors: `….attn1.processor.to_q_lora.down.weight`, with or without the
//!   component in front, and the same `to_q`, `to_out` for the text encoder's `q_proj`, `out_proj`;
//! - kohya: `lora_unet_{module}.lora_down.weight`, where the module's dots are underscores and its names are those
//!   of diffusers or of the original latent diffusion code. [`ModuleNames`](super::ModuleNames) makes paths of them.
//!
//! `lora_A` and `down` are the matrix to rank r, `lora_B` and `up` the one from rank r.

use std::fmt;

/// The part of a pipeline that an entry of a LoRA file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoraComponent {
    /// `unet`.
    Unet,
    /// `text_encoder`.
    TextEncoder,
    /// `text_encoder_2`, which Stable Diffusion XL has and the models of this crate have not.
    TextEncoder2,
}

impl LoraComponent {
    /// Diffusers' name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }
}

impl fmt::Display for LoraComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The four styles of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoraStyle {
    /// `base_model.model.{module}.lora_A.weight`.
    Peft,
    /// `unet.{module}.lora.down.weight`.
    Diffusers,
    /// `{module}.processor.to_q_lora.down.weight`.
    DiffusersOld,
    /// `lora_unet_{module}.lora_down.weight`.
    Kohya,
}

impl fmt::Display for LoraStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peft => "PEFT",
            Self::Diffusers => "diffusers",
            Self::DiffusersOld => "diffusers (attention processors)",
            Self::Kohya => "kohya",
        })
    }
}

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoraPart {
    /// "A", to rank r.
    Down,
    /// "B", from rank r.
    Up,
    /// The k×k core between a 1×1 `Down` and a 1×1 `Up` of a convolution (LoCon's Tucker form).
    Mid,
    /// The scale times r.
    Alpha,
    /// A part of a method that this crate does not have; the method's name.
    Unsupported(&'static str),
}

/// A tensor's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraKey {
    /// What the module is in.
    pub component: LoraComponent,
    /// The module's path in diffusers' layout, or for kohya with underscores for dots.
    pub module: String,
    /// What the tensor is to it.
    pub part: LoraPart,
    /// The style of the name.
    pub style: LoraStyle,
}

/// Endings that need no further look, and what they say of the style; `None`: the beginning decides.
const ENDINGS: &[(&str, LoraPart, Option<LoraStyle>)] = {
    use LoraPart::{Alpha, Down, Mid, Up};
    use LoraStyle::{Diffusers, DiffusersOld, Kohya};
    &[
        (".lora_linear_layer.down.weight", Down, Some(Diffusers)),
        (".lora_linear_layer.up.weight", Up, Some(Diffusers)),
        (".lora.down.weight", Down, Some(Diffusers)),
        (".lora.up.weight", Up, Some(Diffusers)),
        (".lora_A.weight", Down, None),
        (".lora_B.weight", Up, None),
        (".lora_down.weight", Down, Some(Kohya)),
        (".lora_up.weight", Up, Some(Kohya)),
        (".lora_mid.weight", Mid, Some(Kohya)),
        ("_lora.down.weight", Down, Some(DiffusersOld)),
        ("_lora.up.weight", Up, Some(DiffusersOld)),
        (".lora_linear_layer.alpha", Alpha, Some(Diffusers)),
        (".lora.alpha", Alpha, Some(Diffusers)),
        ("_lora.alpha", Alpha, Some(DiffusersOld)),
        (".alpha", Alpha, None),
    ]
};

/// Pieces of names (after a dot) by which methods that are not plain LoRA are known.
const OTHER_METHODS: &[(&str, &str)] = &[
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".vera_lambda_", "VeRA"),
    (".lora_embedding_", "LoRA on embeddings"),
    (".lora_A.bias", "LoRA with biases"),
    (".lora_B.bias", "LoRA with biases"),
    (".lora_down.bias", "LoRA with biases"),
    (".lora_up.bias", "LoRA with biases"),
    (".lora.down.bias", "LoRA with biases"),
    (".lora.up.bias", "LoRA with biases"),
    (".diff_b", "full differences"),
    (".diff", "full differences"),
    (".w_norm", "full differences"),
    (".b_norm", "full differences"),
    (".on_input", "IA³"),
    (".a1.weight", "GLoRA"),
    (".a2.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".b2.weight", "GLoRA"),
];

impl LoraKey {
    /// Takes a tensor's name apart; `None` if it is no LoRA's.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let (module, part, style) = split_part(key)?;
        let (component, module, prefix_style) = split_component(module);
        let mut style = prefix_style.or(style).unwrap_or(LoraStyle::Diffusers);
        let mut module = module.to_owned();
        if style != LoraStyle::Kohya {
            if module.contains(".processor") {
                module = module.replace(".processor", "");
                style = LoraStyle::DiffusersOld;
            }
            if style == LoraStyle::DiffusersOld {
                module = modern_attention(component, module);
            }
        }
        // The names become part of messages, and an empty one names nothing.
        (!module.is_empty()).then_some(Self { component, module, part, style })
    }
}

/// The module (with its component in front), the part, and what the ending says of the style.
fn split_part(key: &str) -> Option<(&str, LoraPart, Option<LoraStyle>)> {
    for &(ending, part, style) in ENDINGS {
        if let Some(module) = key.strip_suffix(ending) {
            // `…to_q_lora.down.weight`: only the processors' four projections have this ending.
            return Some((module, part, style));
        }
    }
    for &(piece, method) in OTHER_METHODS {
        if let Some(at) = key.find(piece) {
            return Some((&key[..at], LoraPart::Unsupported(method), None));
        }
    }
    // PEFT before it drops the adapter's name: `….lora_A.default.weight`.
    let rest = key.strip_suffix(".weight")?;
    [(".lora_A.", LoraPart::Down), (".lora_B.", LoraPart::Up)].into_iter().find_map(
        |(piece, part)| {
            let at = rest.find(piece)?;
            let adapter = &rest[at + piece.len()..];
            (!adapter.is_empty()).then_some((&rest[..at], part, Some(LoraStyle::Peft)))
        },
    )
}

/// The component, the module within it, and what the beginning says of the style.
fn split_component(name: &str) -> (LoraComponent, &str, Option<LoraStyle>) {
    use LoraComponent::{TextEncoder, TextEncoder2, Unet};
    const KOHYA: &[(&str, LoraComponent)] = &[
        ("lora_unet_", Unet),
        ("lora_te_", TextEncoder),
        ("lora_te1_", TextEncoder),
        ("lora_te2_", TextEncoder2),
    ];
    const DOTTED: &[(&str, LoraComponent)] = &[
        ("unet.", Unet),
        ("lora_unet.", Unet),
        ("model.diffusion_model.", Unet),
        ("diffusion_model.", Unet),
        ("text_encoder.", TextEncoder),
        ("lora_te.", TextEncoder),
        ("lora_te1.", TextEncoder),
        ("text_encoder_2.", TextEncoder2),
        ("cond_stage_model.transformer.", TextEncoder),
    ];
    let find = |table: &[(&str, LoraComponent)], name: &str| {
        table.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(p, c)| (p.len(), *c))
    };
    if let Some((length, component)) = find(KOHYA, name) {
        return (component, &name[length..], Some(LoraStyle::Kohya));
    }
    let (name, style) = match name.strip_prefix("base_model.model.") {
        Some(rest) => (rest, Some(LoraStyle::Peft)),
        None => (name, None),
    };
    match find(DOTTED, name) {
        Some((length, component)) => (component, &name[length..], style),
        None if is_text_module(name) => (TextEncoder, name, style),
        None => (Unet, name, style),
    }
}

/// True for the paths inside a CLIP text encoder, which no path inside a UNet resembles.
fn is_text_module(path: &str) -> bool {
    let path = path.strip_prefix("text_model.").unwrap_or(path);
    ["encoder.layers.", "embeddings.", "final_layer_norm"].iter().any(|p| path.starts_with(p))
}

/// The layer that an attention processor's `to_q`, `to_k`, `to_v` or `to_out` stood for.
fn modern_attention(component: LoraComponent, module: String) -> String {
    let Some((parent, last)) = module.rsplit_once('.') else { return module };
    let last = match (component, last) {
        (LoraComponent::Unet, "to_out") => "to_out.0",
        (LoraComponent::Unet, _) => return module,
        (_, "to_q") => "q_proj",
        (_, "to_k") => "k_proj",
        (_, "to_v") => "v_proj",
        (_, "to_out") => "out_proj",
        _ => return module,
    };
    format!("{parent}.{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str) -> (LoraComponent, String, LoraPart, LoraStyle) {
        let key = LoraKey::parse(key).unwrap();
        (key.component, key.module, key.part, key.style)
    }

    #[test]
    fn every_style_names_the_same_attention_layer() {
        use LoraComponent::Unet;
        use LoraPart::{Alpha, Down, Up};
        use LoraStyle::{Diffusers, DiffusersOld, Kohya, Peft};
        let q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
        let q_ = q.replace('.', "_");
        let processor = q.replace(".to_q", ".processor.to_q");
        for (key, part, style) in [
            (format!("base_model.model.{q}.lora_A.weight"), Down, Peft),
            (format!("base_model.model.{q}.lora_B.default.weight"), Up, Peft),
            (format!("base_model.model.unet.{q}.lora_A.weight"), Down, Peft),
            (format!("unet.{q}.lora.down.weight"), Down, Diffusers),
            (format!("unet.{q}.lora_B.weight"), Up, Diffusers),
            (format!("{q}.lora.up.weight"), Up, Diffusers),
            (format!("unet.{q}.alpha"), Alpha, Diffusers),
            (format!("unet.{q}.lora.alpha"), Alpha, Diffusers),
            (format!("lora_unet.{q}.lora_down.weight"), Down, Kohya),
            (format!("{processor}_lora.alpha"), Alpha, DiffusersOld),
            (format!("{processor}_lora.down.weight"), Down, DiffusersOld),
            (format!("unet.{processor}_lora.up.weight"), Up, DiffusersOld),
        ] {
            assert_eq!(parsed(&key), (Unet, q.to_owned(), part, style), "{key}");
        }
        let kohya = parsed(&format!("lora_unet_{q_}.lora_down.weight"));
        assert_eq!(kohya, (Unet, q_.clone(), Down, Kohya));
        assert_eq!(parsed(&format!("lora_unet_{q_}.alpha")), (Unet, q_, Alpha, Kohya));
        let out = parsed(
            "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
        );
        assert_eq!(out.1, "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0");
    }

    #[test]
    fn text_encoder_layers_are_recognised_with_and_without_a_prefix() {
        let layer = "text_model.encoder.layers.3";
        for (key, module) in [
            (format!("text_encoder.{layer}.self_attn.to_q_lora.down.weight"), "self_attn.q_proj"),
            (format!("text_encoder.{layer}.self_attn.to_out_lora.up.weight"), "self_attn.out_proj"),
            (format!("text_encoder.{layer}.mlp.fc1.lora_linear_layer.up.weight"), "mlp.fc1"),
            (
                format!("base_model.model.{layer}.self_attn.v_proj.lora_A.weight"),
                "self_attn.v_proj",
            ),
            (format!("{layer}.mlp.fc2.lora_A.weight"), "mlp.fc2"),
        ] {
            let (component, path, ..) = parsed(&key);
            assert_eq!(component, LoraComponent::TextEncoder, "{key}");
            assert_eq!(path, format!("{layer}.{module}"), "{key}");
        }
        let (component, path, ..) =
            parsed("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight");
        assert_eq!(component, LoraComponent::TextEncoder);
        assert_eq!(path, "text_model_encoder_layers_0_mlp_fc1");
        let second = parsed("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight");
        assert_eq!(second.0, LoraComponent::TextEncoder2);
        let flat = parsed("base_model.model.encoder.layers.0.mlp.fc1.lora_A.weight");
        assert_eq!(flat.0, LoraComponent::TextEncoder);
    }

    #[test]
    fn other_methods_are_known_by_name_and_other_tensors_are_not() {
        for (key, method) in [
            ("lora_unet_mid_block_resnets_0_conv1.dora_scale", "DoRA"),
            ("unet.mid_block.resnets.0.conv1.lora_magnitude_vector", "DoRA"),
            ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", "LoHa"),
            ("lora_unet_mid_block_resnets_0_conv1.lokr_w1", "LoKr"),
            ("base_model.model.conv_in.lora_B.bias", "LoRA with biases"),
            ("lora_unet_conv_in.diff", "full differences"),
        ] {
            assert_eq!(parsed(key).2, LoraPart::Unsupported(method), "{key}");
        }
        for key in
            ["", ".alpha", "lora_unet_.alpha", "conv_in.weight", "emb_params", "unet.lora_A.weight"]
        {
            assert_eq!(LoraKey::parse(key).filter(|key| key.module != "unet"), None, "{key}");
        }
    }
}
