//! Where models come from and where they are kept, with the environment variables of `huggingface_hub`.

use std::path::{Path, PathBuf};

/// A model hub, and the cache in front of it.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Branch, tag or commit.
    pub revision: String,
    /// The variant of the weights to prefer, such as `fp16`.
    pub variant: Option<String>,
    /// Where the hub is, without a slash at the end.
    pub endpoint: String,
    /// Proves who asks; sent to the endpoint alone.
    pub token: Option<String>,
    /// The cache that Python's `huggingface_hub` uses too.
    pub cache_dir: PathBuf,
    /// True to look at the cache alone.
    pub offline: bool,
    /// How often a request that got nowhere is made again.
    pub retries: u32,
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret: logs and panics must not show it.
        f.debug_struct("HubOptions")
            .field("revision", &self.revision)
            .field("variant", &self.variant)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .field("retries", &self.retries)
            .finish()
    }
}

impl Default for HubOptions {
    fn default() -> Self {
        Self::from_vars(|_| None)
    }
}

impl HubOptions {
    /// What the environment says: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, with the older names that Python still reads. The token is read from the
    /// file that `hf auth login` writes if no variable gives it.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// [`HubOptions::from_env`] with variables from elsewhere.
    #[must_use]
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let user = std::env::home_dir().unwrap_or_default();
        let path = |value: String| match value.strip_prefix("~/") {
            Some(rest) => user.join(rest),
            None => PathBuf::from(value),
        };

        let home = set("HF_HOME").map_or_else(
            || {
                let cache = set("XDG_CACHE_HOME").map_or_else(|| user.join(".cache"), path);
                cache.join("huggingface")
            },
            path,
        );
        let cache_dir = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| home.join("hub"), path);
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
            let file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), path);
            read_token(&file)
        });
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let yes = |value: String| {
            ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str())
        };
        let offline =
            set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE")).is_some_and(yes);
        Self {
            revision: "main".to_owned(),
            variant: None,
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()),
            cache_dir,
            offline,
            retries: 5,
        }
    }
}

fn read_token(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().filter(|token| !token.trim().is_empty())
}
