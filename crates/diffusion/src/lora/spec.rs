//! How a person asks for a LoRA: `FILE` or `FILE:WEIGHT`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::DiffusionError;

/// A LoRA file or folder and how strongly it is applied.
///
/// Parses from `FILE` (weight 1) and `FILE:WEIGHT`. What follows the last colon is the weight if it is a number, else
/// part of the path, so that `C:\loras\old.safetensors` and `a:b.safetensors` are paths; a path that itself ends in a colon and
/// a number takes a weight behind it (`lora:2:1`).
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    /// The file or folder.
    pub path: PathBuf,
    /// The factor on the LoRA's own scale; 1 is as trained, below 0 is the opposite. Finite.
    pub weight: f64,
}

impl LoraSpec {
    /// A LoRA as trained.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), weight: 1.0 }
    }
}

impl FromStr for LoraSpec {
    type Err = DiffusionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |expected: &str| DiffusionError::argument("lora", expected, format!("{text:?}"));
        let (path, weight) = match text.rsplit_once(':') {
            Some((_, "")) => return Err(fail("FILE or FILE:WEIGHT, a weight after the colon")),
            Some((path, weight)) => match weight.trim().parse::<f64>() {
                Ok(weight) => (path, weight),
                Err(_) => (text, 1.0),
            },
            None => (text, 1.0),
        };
        if !weight.is_finite() {
            return Err(fail("FILE or FILE:WEIGHT, a finite weight"));
        }
        if path.is_empty() {
            return Err(fail("FILE or FILE:WEIGHT, a file before the colon"));
        }
        Ok(Self { path: path.into(), weight })
    }
}

impl fmt::Display for LoraSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_weights_and_colons() {
        for (text, path, weight) in [
            ("a.safetensors", "a.safetensors", 1.0),
            ("a.safetensors:0.8", "a.safetensors", 0.8),
            ("a.safetensors:-1", "a.safetensors", -1.0),
            ("a.safetensors:+.5", "a.safetensors", 0.5),
            ("a.safetensors: 2e-1 ", "a.safetensors", 0.2),
            (r"C:\loras\a.safetensors", r"C:\loras\a.safetensors", 1.0),
            (r"C:\loras\a.safetensors:0.5", r"C:\loras\a.safetensors", 0.5),
            ("C:/loras/a.safetensors:0", "C:/loras/a.safetensors", 0.0),
            ("scan:v2.safetensors", "scan:v2.safetensors", 1.0),
            ("lora:2:1", "lora:2", 1.0),
            ("a.safetensors:0.8x", "a.safetensors:0.8x", 1.0),
        ] {
            let spec: LoraSpec = text.parse().unwrap();
            assert_eq!(spec, LoraSpec { path: path.into(), weight }, "{text}");
        }
    }

    #[test]
    fn what_is_no_request_is_named() {
        for (text, word) in [
            ("", "a file before"),
            (":0.5", "a file before"),
            ("a:", "after the colon"),
            ("a:nan", "finite"),
            ("a:-inf", "finite"),
            ("a:1e999", "finite"),
        ] {
            let error = text.parse::<LoraSpec>().unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,20}") {
            let _ = text.parse::<LoraSpec>();
        }

        #[test]
        fn what_is_shown_parses_to_the_same(path in "[a-zA-Z0-9:./\\\\ ]{1,20}", weight in -1e6..1e6f64) {
            let spec = LoraSpec { path: path.into(), weight };
            prop_assert_eq!(spec.to_string().parse::<LoraSpec>().unwrap(), spec);
        }
    }
}
