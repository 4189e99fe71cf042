//! Which file is what, in the folders of pictures and jobs.

use std::path::{Path, PathBuf};

use imaging::io::Format;

use crate::error::{Result, ServerError};
use crate::ids::Id;

/// The folder of a picture.
#[derive(Clone, Debug)]
pub(crate) struct PictureFiles(PathBuf);

/// The folder of a job.
#[derive(Clone, Debug)]
pub(crate) struct JobFiles(PathBuf);

impl PictureFiles {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    /// The upload before its format is known.
    pub(crate) fn part(&self) -> PathBuf {
        self.0.join("upload.part")
    }

    /// The file as it was uploaded.
    pub(crate) fn original(&self, format: Format) -> PathBuf {
        self.0.join(format!("original.{}", format.extension()))
    }

    /// The picture for looking at.
    pub(crate) fn view(&self, size: &str) -> PathBuf {
        self.0.join(format!("view-{size}.jpg"))
    }

    /// How probable damage is.
    pub(crate) fn evidence(&self) -> PathBuf {
        self.0.join("evidence.png")
    }

    /// What was found at a sensitivity.
    pub(crate) fn detected(&self, sensitivity: u8) -> PathBuf {
        self.0.join(format!("detected-{sensitivity}.png"))
    }

    /// Forgets what was found: the next server may find it in another way.
    pub(super) fn forget_detection(&self) {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == "evidence.png" || name.to_string_lossy().starts_with("detected-") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The mask that the client has put.
    pub(crate) fn own_mask(&self) -> PathBuf {
        self.0.join("own.png")
    }

    /// A mask that is on its way in.
    pub(crate) fn mask_part(&self, id: &Id) -> PathBuf {
        self.0.join(format!("mask-{}.part", id.as_str()))
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.0.join("jobs")
    }
}

impl JobFiles {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    /// The client's mask as it was when the job was submitted.
    pub(crate) fn own_mask(&self) -> PathBuf {
        self.0.join("own.png")
    }

    /// The blend weights that were used.
    pub(crate) fn mask(&self) -> PathBuf {
        self.0.join("mask.png")
    }

    /// The restored picture in a format.
    pub(crate) fn result(&self, format: Format) -> PathBuf {
        self.0.join(format!("result.{}", format.extension()))
    }

    pub(crate) fn comparison(&self) -> PathBuf {
        self.0.join("comparison.png")
    }

    /// The restored picture, or what there is of it, for looking at.
    pub(crate) fn view(&self, size: &str) -> PathBuf {
        self.0.join(format!("view-{size}.jpg"))
    }
}

/// The folders with an id as their name; other things are nobody's.
pub(super) fn ids_in(folder: &Path) -> Result<Vec<Id>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ServerError::data(folder, "list", error)),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| Id::parse(name.to_str()?)).collect())
}

/// Removes a folder with all that is in it, as far as possible: what stays is removed at the next start.
pub(crate) fn remove(folder: &Path) {
    // The record first: a folder without one is removed at the next start.
    let _ = std::fs::remove_file(folder.join("record.json"));
    let _ = std::fs::remove_dir_all(folder);
}

/// Other people's photographs are nobody's business on a shared machine. Only for folders that are all ours: the one that
/// holds them may be anything that the user has named.
pub(super) fn keep_private(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
    }
    #[cfg(not(unix))]
    let _ = folder;
}
