//! Outputs that appear whole or not at all.

use std::fs::OpenOptions;
use std::io::{BufWriter, Error, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{ImagingError, Result};

/// Something to write to and to seek in; implemented for everything that does both.
pub trait WriteSeek: Write + Seek {}

impl<T: Write + Seek> WriteSeek for T {}

/// Bytes that are collected before they go to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes a file through `write`, so that `path` holds either all of it or what it held before.
///
/// The bytes go to a temporary file in the same folder, reach the disk, and only then take the name. When
/// anything fails the temporary file is removed. Without `force` a file that exists (or appears meanwhile) is an error
/// and stays as it is. With `force` a link is followed and the file that it points to is replaced.
///
/// The folder must exist.
///
/// # Errors
/// [`ImagingError::Io`] naming `path`, and whatever `write` returns.
pub fn write_atomically(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut dyn WriteSeek) -> Result<()>,
) -> Result<()> {
    let fail = |source| ImagingError::io(path, "write", source);

    // 1. everything that can be known before the work is done
    let target =
        if force { path.canonicalize().unwrap_or_else(|_| path.into()) } else { path.into() };
    if target.is_dir() {
        return Err(fail(Error::new(ErrorKind::IsADirectory, "a folder has this name")));
    }
    if !force && target.symlink_metadata().is_ok() {
        return Err(fail(exists()));
    }
    let folder = folder_of(&target);
    if !folder.is_dir() {
        let reason = format!("the folder {} does not exist", folder.display());
        return Err(fail(Error::new(ErrorKind::NotFound, reason)));
    }

    // 2. the temporary file, removed when dropped
    let temporary = temporary_in(&folder).map_err(fail)?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, temporary);
    write(&mut writer)?;
    let temporary = writer.into_inner().map_err(|error| fail(error.into_error()))?;
    temporary.as_file().sync_all().map_err(fail)?;

    // 3. the name
    if force {
        temporary.persist(&target).map_err(|error| fail(error.error))?;
    } else {
        persist_new(temporary, &target).map_err(fail)?;
    }
    Ok(())
}

fn exists() -> Error {
    Error::new(ErrorKind::AlreadyExists, "the file exists already")
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".photomend-").suffix(".tmp");
    #[cfg(unix)]
    {
        // The usual mode of a new file, less the umask; a temporary file would be private.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Gives the temporary file its name unless the name is taken.
fn persist_new(temporary: NamedTempFile, target: &Path) -> std::io::Result<()> {
    let error = match temporary.persist_noclobber(target) {
        Ok(_) => return Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Err(exists()),
        Err(error) => error,
    };
    // Some file systems (FAT, some network shares) can neither rename without replacing nor link. There the name
    // is claimed with an empty file first, which fails if somebody else has it, and that file is replaced.
    OpenOptions::new().write(true).create_new(true).open(target).map_err(|claim| {
        if claim.kind() == ErrorKind::AlreadyExists { exists() } else { error.error }
    })?;
    error.file.persist(target).map(drop).map_err(|error| {
        let _ = std::fs::remove_file(target);
        error.error
    })
}

/// Makes a folder and those that it is in, as far as they are not there.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| ImagingError::io(folder, "create the folder", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_an_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, true, |writer| {
            writer.write_all(b"half").unwrap();
            Err(ImagingError::Cancelled)
        });
        assert!(matches!(error, Err(ImagingError::Cancelled)));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn an_existing_file_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let write = |force, text: &'static str| {
            write_atomically(&path, force, |writer| {
                writer.write_all(text.as_bytes()).unwrap();
                Ok(())
            })
        };
        write(false, "first").unwrap();
        let error = write(false, "second").unwrap_err().to_string();
        assert!(error.contains("cannot write: the file exists already"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        write(true, "third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_file_that_appears_during_the_work_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let result = write_atomically(&path, false, |_| {
            std::fs::write(&path, "theirs").unwrap();
            Ok(())
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("no/a.txt");
        let error = write_atomically(&nowhere, false, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("the folder") && error.contains("does not exist"), "{error}");
        for force in [false, true] {
            let error = write_atomically(folder.path(), force, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("a folder has this name"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_result_has_an_ordinary_mode_and_links_are_followed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.txt"), folder.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_atomically(&link, true, |writer| {
            writer.write_all(b"new").unwrap();
            Ok(())
        })
        .unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
}
