//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// What went wrong, naming the thing, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagingError {
    /// A file or folder could not be read, written, listed or renamed.
    #[error("{path}: cannot {action}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb phrase: "read", "write", "create the folder".
        action: &'static str,
        /// The system's own error.
        source: std::io::Error,
    },

    /// A file is damaged, truncated, or not an image in a format that is read here.
    #[error("{path}: cannot decode: {reason}", path = .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder expected and found.
        reason: String,
    },

    /// An image cannot be written in the format that a file name asks for.
    #[error("{path}: cannot encode: {reason}", path = .path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What the format accepts and what it was given.
        reason: String,
    },

    /// An image has more pixels than the limit allows; found in its header, before decoding.
    #[error(
        "{path}: {width}×{height} is {:.1} megapixels, more than the limit of {:.1} (raise the limit to read it)",
        (*.width as f64) * (*.height as f64) / 1e6, *.limit as f64 / 1e6, path = .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Pixels across.
        width: u64,
        /// Pixels down.
        height: u64,
        /// The limit, in pixels.
        limit: u64,
    },

    /// Two things that must have the same size do not.
    #[error("{what}: expected {}×{} pixels, found {}×{}", .expected.0, .expected.1, .found.0, .found.1)]
    Size {
        /// What has the wrong size.
        what: String,
        /// Width and height that it should have.
        expected: (usize, usize),
        /// Width and height that it has.
        found: (usize, usize),
    },

    /// An argument is outside its range, or arguments do not fit together.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// The parameter's name as a caller knows it.
        name: String,
        /// The accepted values.
        expected: String,
        /// The value given.
        found: String,
    },

    /// A folder of images lacks something that it must hold.
    #[error("{path}: {problem}", path = .path.display())]
    Dataset {
        /// The folder or file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },

    /// A numeric procedure did not reach a solution.
    #[error("{what}: {reason}")]
    Numeric {
        /// The procedure.
        what: &'static str,
        /// Why it failed.
        reason: String,
    },

    /// A way to find or to repaint damage that is not this crate's ([`Detector`](crate::Detector),
    /// [`Repainter`](crate::Repainter)) failed.
    #[error(transparent)]
    Method(Box<dyn std::error::Error + Send + Sync>),

    /// The caller's [`Observer`](crate::Observer) asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// A result whose error is [`ImagingError`].
pub type Result<T, E = ImagingError> = std::result::Result<T, E>;

impl ImagingError {
    /// An [`ImagingError::Io`] about `path`; `action` is a verb phrase such as "read".
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), action, source }
    }

    /// An [`ImagingError::Argument`].
    pub fn argument(
        name: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Argument { name: name.into(), expected: expected.into(), found: found.to_string() }
    }

    /// `Ok` if `found` equals `expected` (width, height), else [`ImagingError::Size`] about `what`.
    ///
    /// # Errors
    /// [`ImagingError::Size`] when the sizes differ.
    pub fn check_size(what: &str, expected: (usize, usize), found: (usize, usize)) -> Result<()> {
        if expected == found {
            Ok(())
        } else {
            Err(Self::Size { what: what.to_owned(), expected, found })
        }
    }
}
