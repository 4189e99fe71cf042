//! The cache of `huggingface_hub`: `models--OWNER--NAME/{blobs,refs,snapshots}`.
//!
//! A blob is named by its hash; a snapshot is a folder, named by a commit, of links to blobs; a ref is a file, named by a
//! branch or tag, that holds a commit. A part of a blob is `HASH.incomplete`. Two processes may fetch the same blob at
//! once without a lock: both write the same bytes at the same places, and the first to finish renames the file.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::error::{DiffusionError, Result};

/// One repository's part of the cache.
pub(super) struct RepoCache {
    root: PathBuf,
    snapshots: CacheRepo,
    revision: String,
}

impl RepoCache {
    /// `id` and `revision` have been checked: they become names of files.
    pub(super) fn new(cache_dir: &Path, id: &str, revision: &str) -> Self {
        let repo = Repo::new(id.to_owned(), RepoType::Model);
        Self {
            root: cache_dir.join(repo.folder_name()),
            snapshots: Cache::new(cache_dir.to_path_buf()).repo(repo),
            revision: revision.to_owned(),
        }
    }

    /// The commit that the revision was when it was last fetched.
    pub(super) fn commit(&self) -> Option<String> {
        if self.snapshot(&self.revision).is_dir() {
            return Some(self.revision.clone());
        }
        let text = fs::read_to_string(self.root.join("refs").join(&self.revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_name(commit))
    }

    /// The folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.snapshots.pointer_path(commit)
    }

    /// The files of a commit that are there, by their paths in the repository.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        let mut files = Vec::new();
        list(&self.snapshot(commit), "", 4, &mut files);
        files
    }

    /// Where the bytes of a file with this hash lie.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// True if they are there, all of them; a blob of another length is damaged and goes away.
    pub(super) fn has_blob(&self, etag: &str, size: Option<u64>) -> bool {
        let blob = self.blob(etag);
        match fs::metadata(&blob) {
            Ok(found) if found.is_file() && size.is_none_or(|size| size == found.len()) => true,
            Ok(_) => {
                let _ = fs::remove_file(&blob);
                false
            }
            Err(_) => false,
        }
    }

    /// True if `file` of a commit is there with this length.
    pub(super) fn has(&self, commit: &str, file: &str, size: Option<u64>) -> bool {
        fs::metadata(self.snapshot(commit).join(file))
            .is_ok_and(|found| found.is_file() && size.is_none_or(|size| size == found.len()))
    }

    /// Where they lie while they are fetched.
    pub(super) fn part(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Makes `file` of a commit a link to a blob.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let link = self.snapshot(commit).join(file);
        let folder = link.parent().unwrap_or(&link);
        fs::create_dir_all(folder).map_err(|e| DiffusionError::io(folder, "create", e))?;
        // snapshots/COMMIT/unet/config.json is three folders below models--…
        let up = "../".repeat(file.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        let made = match make_link(&target, &self.blob(etag), &link) {
            // A link that leads nowhere, or another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&link);
                make_link(&target, &self.blob(etag), &link)
            }
            made => made,
        };
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(DiffusionError::io(&link, "link", error))
            }
            _ => Ok(()),
        }
    }

    /// Remembers which commit the revision is, for times without a network.
    pub(super) fn remember(&self, commit: &str) -> Result<()> {
        if self.revision == commit {
            return Ok(());
        }
        let file = self.root.join("refs").join(&self.revision);
        if fs::read_to_string(&file).is_ok_and(|text| text == commit) {
            return Ok(());
        }
        let failed = |error| DiffusionError::io(&file, "write", error);
        let folder = file.parent().unwrap_or(&file);
        fs::create_dir_all(folder).map_err(failed)?;
        let mut whole = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        whole.write_all(commit.as_bytes()).map_err(failed)?;
        whole.persist(&file).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// True for a name that is safe as one part of a path: what hashes and commits are made of.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.bytes().all(plain)
}

#[cfg(unix)]
fn make_link(target: &Path, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn make_link(_target: &Path, blob: &Path, link: &Path) -> std::io::Result<()> {
    // Symbolic links need a privilege on Windows; both kinds of link look the same to a reader.
    fs::hard_link(blob, link).or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => Err(error),
        _ => fs::copy(blob, link).map(|_| ()),
    })
}

/// The files in a folder whose links lead somewhere, `depth` folders deep.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if path.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if path.is_dir() && depth > 0 {
            list(&path, &format!("{prefix}{name}/"), depth - 1, files);
        }
    }
}
