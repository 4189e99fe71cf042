//! Names of pictures and jobs: random, and the only thing from a request that leads to a folder.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ServerError};

/// 128 random bits as 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Id(String);

impl Id {
    const DIGITS: usize = 32;

    /// A new id.
    ///
    /// # Errors
    /// [`ServerError::System`] if the system has no randomness.
    pub(crate) fn random() -> Result<Self> {
        random_hex(Self::DIGITS / 2).map(Self)
    }

    /// The id that is written so; `None` for everything that is no id.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == Self::DIGITS
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned()))
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("expected 32 hexadecimal digits, found {text:?}"))
    }
}

/// This many random bytes, two digits each.
pub(crate) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| ServerError::System {
        what: "random numbers",
        reason: error.to_string(),
    })?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_ids() {
        let id = Id::random().expect("random numbers");
        assert_eq!(Id::parse(id.as_str()), Some(id.clone()));
        let upper = id.as_str().to_uppercase() + "A";
        for text in ["", "..", "../../etc/passwd", &id.as_str()[1..], &upper, "%2e%2e", "\0"] {
            assert_eq!(Id::parse(text), None, "{text:?}");
        }
        assert_eq!(Id::parse(&"/".repeat(32)), None);
        assert!(serde_json::from_str::<Id>("\"..\"").is_err());
    }
}
