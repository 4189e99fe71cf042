//! What keeps a server from starting.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("{address}: cannot listen: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },

    /// The data folder, or something in it, cannot be used.
    #[error("{path}: cannot {action}: {source}", path = .path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },

    /// Another server keeps its pictures in the same folder.
    #[error("{path}: expected a data folder of its own, found one that another server uses", path = .0.display())]
    InUse(PathBuf),

    /// A setting is out of range, or settings do not go together.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The accepted values.
        expected: String,
        /// The value given.
        found: String,
    },

    /// The system's source of randomness or its threads failed.
    #[error("{what}: {reason}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why there is none.
        reason: String,
    },
}

/// A result whose error is [`ServerError`].
pub type Result<T, E = ServerError> = std::result::Result<T, E>;

impl ServerError {
    pub(crate) fn data(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Data { path: path.to_path_buf(), action, source }
    }
}
