//! Finds the image files in a folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::format::Format;
use crate::error::{ImagingError, Result};

/// The image files in `folder`, by their extensions, sorted by path.
///
/// Hidden files and folders (whose names begin with a dot) are skipped. With `recursive` the folders inside are
/// searched too, links to folders included; a folder is searched once, however many links lead to it.
///
/// # Errors
/// [`ImagingError::Io`] if a folder cannot be listed.
pub fn list_images(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    let mut seen = HashSet::new();
    while let Some(folder) = pending.pop() {
        let fail = |source| ImagingError::io(&folder, "list", source);
        if !seen.insert(folder.canonicalize().map_err(fail)?) {
            continue;
        }
        // Sorted, so that which of two links to one folder is followed does not depend on the file system.
        let mut entries = Vec::new();
        for entry in folder.read_dir().map_err(fail)? {
            entries.push(entry.map_err(fail)?);
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        for entry in entries {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                if recursive {
                    pending.push(path);
                }
            } else if Format::from_path(&path).is_some() {
                images.push(path);
            }
        }
    }
    images.sort();
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(folder: &Path, recursive: bool) -> Vec<String> {
        list_images(folder, recursive)
            .unwrap()
            .iter()
            .map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/"))
            .collect()
    }

    #[test]
    fn extensions_count_hidden_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("deep/er.png")).unwrap();
        std::fs::create_dir_all(folder.path().join(".hidden")).unwrap();
        for name in [
            "b.PNG",
            "a.jpeg",
            "notes.txt",
            ".c.png",
            "deep/d.tif",
            "deep/er.png/e.webp",
            ".hidden/f.png",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(listed(folder.path(), false), ["a.jpeg", "b.PNG"]);
        assert_eq!(
            listed(folder.path(), true),
            ["a.jpeg", "b.PNG", "deep/d.tif", "deep/er.png/e.webp"]
        );
        assert!(list_images(&folder.path().join("none"), false).is_err());
        assert!(list_images(&folder.path().join("b.PNG"), false).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_that_go_in_circles_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/a.png"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("in/up")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("in"), folder.path().join("other")).unwrap();
        assert_eq!(listed(folder.path(), true), ["in/a.png"]);
    }
}
