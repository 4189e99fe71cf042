//! The scale of a LoRA as PEFT configures it: `adapter_config.json`, or diffusers' copy of it in a file's metadata.

use regex::Regex;
use serde_json::{Map, Value};

/// The part of PEFT's `LoraConfig` that decides the scale.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    rank: usize,
    alpha: f64,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
    /// The scale is alpha / √r, not alpha / r (Kalajdzievski 2023).
    rank_stabilised: bool,
}

impl AdapterConfig {
    /// Reads the fields named `{prefix}{field}`; `None` if there are none.
    ///
    /// # Errors
    /// A message that names the field.
    pub(super) fn from_json(
        fields: &Map<String, Value>,
        prefix: &str,
    ) -> Result<Option<Self>, String> {
        if !fields.keys().any(|name| name.starts_with(prefix)) {
            return Ok(None);
        }
        let get = |name: &str| fields.get(&format!("{prefix}{name}"));
        let expected = |name: &str, what: &str| {
            let found = get(name).map_or("none".to_owned(), shown);
            format!("{prefix}{name}: expected {what}, found {found}")
        };
        if let Some(kind) = get("peft_type").filter(|kind| *kind != "LORA" && !kind.is_null()) {
            return Err(format!("{prefix}peft_type: expected LORA, found {}", shown(kind)));
        }
        let flag = |name: &str| match get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(expected(name, "true or false")),
        };
        if flag("use_dora")? {
            return Err(format!("{prefix}use_dora: DoRA is not supported"));
        }
        let rank =
            get("r").and_then(rank_of).ok_or_else(|| expected("r", "a rank of at least 1"))?;
        let alpha = get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| expected("lora_alpha", "a number"))?;
        let patterns = |name: &str| match get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(map)) => Ok(map.iter().collect::<Vec<_>>()),
            Some(_) => Err(expected(name, "an object of patterns")),
        };
        let at = |name: &str, key: &str| format!("{prefix}{name}: {key}");
        let ranks = patterns("rank_pattern")?.into_iter().map(|(key, value)| {
            let at = || at("rank_pattern", key);
            let rank = rank_of(value).ok_or_else(|| {
                format!("{}: expected a rank of at least 1, found {}", at(), shown(value))
            })?;
            Ok((Pattern::new(key).map_err(|problem| format!("{}: {problem}", at()))?, rank))
        });
        let alphas = patterns("alpha_pattern")?.into_iter().map(|(key, value)| {
            let at = || at("alpha_pattern", key);
            let alpha = value
                .as_f64()
                .ok_or_else(|| format!("{}: expected a number, found {}", at(), shown(value)))?;
            Ok((Pattern::new(key).map_err(|problem| format!("{}: {problem}", at()))?, alpha))
        });
        Ok(Some(Self {
            rank,
            alpha,
            ranks: ranks.collect::<Result<_, String>>()?,
            alphas: alphas.collect::<Result<_, String>>()?,
            rank_stabilised: flag("use_rslora")?,
        }))
    }

    /// The alpha of the layer at `path` for a scale of alpha / r.
    ///
    /// # Errors
    /// A message if the configured rank is not `rank`, that of the layer's matrices.
    pub(super) fn alpha(&self, path: &str, rank: usize) -> Result<f64, String> {
        let configured = first_match(&self.ranks, path).unwrap_or(self.rank);
        if configured != rank {
            return Err(format!("expected rank {configured} (as configured), found rank {rank}"));
        }
        let alpha = first_match(&self.alphas, path).unwrap_or(self.alpha);
        Ok(if self.rank_stabilised { alpha * (rank as f64).sqrt() } else { alpha })
    }
}

fn rank_of(value: &Value) -> Option<usize> {
    value.as_u64().filter(|rank| *rank > 0).and_then(|rank| usize::try_from(rank).ok())
}

/// A value for a message: at most a few words of it.
fn shown(value: &Value) -> String {
    const CHARS: usize = 40;
    let text = value.to_string();
    if text.chars().count() <= CHARS {
        return text;
    }
    text.chars().take(CHARS).chain("…".chars()).collect()
}

fn first_match<T: Copy>(patterns: &[(Pattern, T)], path: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.matches(path)).map(|(_, value)| *value)
}

/// A key of `rank_pattern` or `alpha_pattern`: a regular expression for a path or the end of one.
#[derive(Debug)]
enum Pattern {
    /// What trainers write: a path, or with `from_start` the whole one.
    Plain { path: String, from_start: bool },
    /// Whatever else a person wrote.
    Expression(Regex),
}

impl Pattern {
    fn new(key: &str) -> Result<Self, String> {
        /// Compiled expressions larger than this are refused: a path is short.
        const BYTES: usize = 1 << 20;
        let (from_start, plain) = match key.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, key),
        };
        // A dot matches itself first of all. That it would match any other character too decides nothing, because a
        // model has no two layers that differ in dots alone.
        if plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return Ok(Self::Plain { path: plain.to_owned(), from_start });
        }
        let expression = regex::RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$"))
            .size_limit(BYTES)
            .build()
            .map_err(|error| format!("expected a regular expression, found one with {error}"))?;
        Ok(Self::Expression(expression))
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Plain { path: pattern, from_start } => {
                path == pattern
                    || (!from_start
                        && path
                            .strip_suffix(pattern.as_str())
                            .is_some_and(|head| head.ends_with('.')))
            }
            Self::Expression(expression) => expression.is_match(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: &Value, prefix: &str) -> Result<Option<AdapterConfig>, String> {
        AdapterConfig::from_json(value.as_object().unwrap(), prefix)
    }

    #[test]
    fn patterns_override_rank_and_alpha_layer_by_layer() {
        let value = json!({
            "unet.r": 4, "unet.lora_alpha": 2,
            "unet.rank_pattern": {"conv1": 8, "^mid_block.proj_in": 16, ".*attn[12].to_q": 32},
            "unet.alpha_pattern": {"mid_block.resnets.0.conv1": 6.5},
        });
        let config = config(&value, "unet.").unwrap().unwrap();
        assert_eq!(config.alpha("conv_in", 4), Ok(2.0));
        assert_eq!(config.alpha("mid_block.resnets.0.conv1", 8), Ok(6.5));
        assert_eq!(config.alpha("mid_block.resnets.1.conv1", 8), Ok(2.0));
        assert_eq!(config.alpha("mid_block.proj_in", 16), Ok(2.0));
        assert_eq!(config.alpha("x.mid_block.proj_in", 4), Ok(2.0));
        assert_eq!(config.alpha("a.attn2.to_q", 32), Ok(2.0));
        assert!(config.alpha("conv_in", 5).unwrap_err().contains("expected rank 4"));
    }

    #[test]
    fn rank_stabilised_scales_divide_by_the_root() {
        let value = json!({"r": 16, "lora_alpha": 8, "use_rslora": true, "rank_pattern": null});
        let config = config(&value, "").unwrap().unwrap();
        // 8 / √16 = 2 = 32 / 16
        assert_eq!(config.alpha("x", 16), Ok(32.0));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for (value, word) in [
            (json!({"r": 0, "lora_alpha": 1}), "r: expected a rank"),
            (json!({"r": 4}), "lora_alpha: expected a number, found none"),
            (json!({"r": 4, "lora_alpha": 1, "use_dora": true}), "DoRA"),
            (json!({"r": 4, "lora_alpha": 1, "peft_type": "LOHA"}), "peft_type"),
            (json!({"r": 4, "lora_alpha": 1, "rank_pattern": {"(": 4}}), "regular expression"),
            (json!({"r": 4, "lora_alpha": 1, "rank_pattern": [1]}), "rank_pattern"),
            (json!({"r": 4, "lora_alpha": 1, "alpha_pattern": {"a": "b"}}), "alpha_pattern: a"),
            (json!({"r": 4, "lora_alpha": 1, "rank_pattern": {"a{999}{999}{999}": 4}}), "regular"),
        ] {
            let problem = config(&value, "").unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
        assert!(config(&json!({"text_encoder.r": 4}), "unet.").unwrap().is_none());
    }
}
