//! What is written about pictures and jobs: one small JSON file each, replaced as a whole.

use std::path::Path;

use imaging::ImagingError;
use imaging::io::{Format, write_atomically};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{JobFiles, PictureFiles};
use crate::choices::Choices;
use crate::ids::Id;
use crate::jobs::State;
use crate::problem::Problem;

/// What is known of a picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PictureRecord {
    pub(crate) id: Id,
    /// What the client calls it; shown, and never a path.
    pub(crate) name: String,
    #[serde(with = "format_name")]
    pub(crate) format: Format,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Bits a channel.
    pub(crate) bit_depth: u8,
    /// "gray", "gray+alpha", "rgb" or "rgb+alpha".
    pub(crate) color: String,
    /// Its place in the order of all pictures: microseconds since 1970.
    pub(crate) order: u64,
    /// The size of the file.
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// When it was last used, in seconds since 1970.
    pub(crate) used: u64,
    /// How often the client has put a mask of its own; 0 if it has none.
    pub(crate) mask_revision: u64,
}

/// What is known of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) id: Id,
    pub(crate) picture: Id,
    /// Its place in the order of all jobs.
    pub(crate) number: u64,
    pub(crate) state: State,
    pub(crate) choices: Choices,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Seconds that it took.
    pub(crate) elapsed_s: f64,
    /// The share of the pixels that may have changed, once it is done.
    pub(crate) coverage: Option<f64>,
    /// Why it failed.
    pub(crate) message: Option<String>,
}

impl PictureRecord {
    pub(super) fn read(files: &PictureFiles) -> Option<Self> {
        read(&files.record())
    }

    pub(crate) fn write(&self, files: &PictureFiles) -> Result<(), Problem> {
        write(&files.record(), self)
    }
}

impl JobRecord {
    pub(super) fn read(files: &JobFiles) -> Option<Self> {
        read(&files.record())
    }

    pub(crate) fn write(&self, files: &JobFiles) -> Result<(), Problem> {
        write(&files.record(), self)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write(path: &Path, record: &impl Serialize) -> Result<(), Problem> {
    let text = serde_json::to_vec_pretty(record).map_err(Problem::internal)?;
    let whole = write_atomically(path, true, |file| {
        file.write_all(&text).map_err(|error| ImagingError::io(path, "write", error))
    });
    Ok(whole?)
}

/// Formats by the extension that files of theirs have.
mod format_name {
    use std::path::Path;

    use imaging::io::Format;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(format: &Format, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(format.extension())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Format, D::Error> {
        let extension = String::deserialize(from)?;
        Format::from_path(Path::new(&format!("x.{extension}")))
            .ok_or_else(|| D::Error::custom("expected png, jpg, webp or tif"))
    }
}
