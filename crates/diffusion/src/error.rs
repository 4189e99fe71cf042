//! The one error type of this crate.

use std::path::{Path, PathBuf};

use imaging::ImagingError;

/// What went wrong, naming the thing, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffusionError {
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

    /// A checkpoint, LoRA, tokenizer or configuration file is damaged, incomplete or of another kind.
    #[error("{path}: {problem}", path = .path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },

    /// A model needs a tensor that its checkpoint does not have.
    #[error("{origin}: expected a tensor {name} of shape {shape:?}, found none")]
    MissingTensor {
        /// The file or folder that was searched.
        origin: String,
        /// The tensor's name in diffusers' layout.
        name: String,
        /// The shape that the model's configuration asks for.
        shape: Vec<usize>,
    },

    /// A tensor of a checkpoint has another shape than the model's configuration asks for.
    #[error("{origin}: {name}: expected shape {expected:?}, found {found:?}")]
    TensorShape {
        /// The file or folder that holds it.
        origin: String,
        /// The tensor's name.
        name: String,
        /// The shape that it should have.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },

    /// An input tensor has a shape that the procedure does not take.
    #[error("{what}: expected {expected}, found {found:?}")]
    Shape {
        /// The input.
        what: &'static str,
        /// The accepted shapes.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
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

    /// A model hub could not be reached, or refused.
    #[error("{id}: {problem}")]
    Hub {
        /// The model's id on the hub.
        id: String,
        /// What was tried and what came back.
        problem: String,
    },

    /// An image operation failed, or the caller asked to stop ([`ImagingError::Cancelled`]).
    #[error(transparent)]
    Imaging(#[from] ImagingError),

    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A result whose error is [`DiffusionError`].
pub type Result<T, E = DiffusionError> = std::result::Result<T, E>;

impl From<DiffusionError> for ImagingError {
    /// What this crate's ways to find and to repaint damage fail with.
    fn from(error: DiffusionError) -> Self {
        match error {
            DiffusionError::Imaging(error) => error,
            error => Self::Method(Box::new(error)),
        }
    }
}

impl DiffusionError {
    /// A [`DiffusionError::Io`] about `path`; `action` is a verb phrase such as "read".
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), action, source }
    }

    /// A [`DiffusionError::Checkpoint`] about `path`.
    pub fn checkpoint(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    /// A [`DiffusionError::Argument`].
    pub fn argument(
        name: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Argument { name: name.into(), expected: expected.into(), found: found.to_string() }
    }

    /// A [`DiffusionError::Shape`].
    pub fn shape(what: &'static str, expected: impl Into<String>, found: &[usize]) -> Self {
        Self::Shape { what, expected: expected.into(), found: found.to_vec() }
    }

    /// True if the caller's observer asked to stop.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Imaging(ImagingError::Cancelled))
    }
}
