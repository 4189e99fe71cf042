//! Which files belong together.
//!
//! Unlike [`imaging::evaluate`], which scores whatever it can, training needs every triplet complete, with a mask, and
//! looks into the folders inside, as `photomend damage --recursive` makes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imaging::ImagingError;
use imaging::io::list_images;

use super::options::DataOptions;
use crate::error::{DiffusionError, Result};

/// The folders of a set of triplets, in the order of [`TripletPaths`].
const FOLDERS: [&str; 3] = ["clean", "damaged", "mask"];

/// The files of a triplet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TripletPaths {
    /// The undamaged picture.
    pub clean: PathBuf,
    /// The picture before restoration.
    pub damaged: PathBuf,
    /// Where it is damaged: white.
    pub mask: PathBuf,
}

/// The files of a picture.
#[derive(Clone, Debug)]
pub(super) enum Files {
    /// Damaged already.
    Triplet(TripletPaths),
    /// Damaged while training.
    Clean(PathBuf),
}

impl Files {
    /// The undamaged picture.
    pub(super) fn clean(&self) -> &Path {
        match self {
            Self::Triplet(paths) => &paths.clean,
            Self::Clean(path) => path,
        }
    }
}

/// A picture's files and its name: the clean picture's path below its folder, `/` between the parts.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) files: Files,
}

/// Lists the pictures in the order of their names, and what is wrong with the files beside them.
///
/// # Errors
/// [`ImagingError::Dataset`] if folders are missing or hold no pictures, [`ImagingError::Io`] if one cannot be listed.
pub(super) fn list(options: &DataOptions) -> Result<(Vec<Found>, Vec<String>)> {
    let limit = options.limit.unwrap_or(usize::MAX);
    let (found, problems) = if let Some(root) = &options.triplets {
        list_triplets(root, limit)?
    } else if let Some(root) = &options.clean {
        (list_clean(root, options.recursive, limit)?, Vec::new())
    } else {
        (Vec::new(), Vec::new())
    };
    if found.is_empty() && problems.is_empty() {
        let root = options.triplets.as_ref().or(options.clean.as_ref());
        let path = root.cloned().unwrap_or_default();
        return Err(dataset(&path, "expected PNG, JPEG, WebP or TIFF pictures, found none"));
    }
    Ok((found, problems))
}

/// An error about a whole folder.
pub(super) fn dataset(path: &Path, problem: impl Into<String>) -> DiffusionError {
    ImagingError::Dataset { path: path.to_path_buf(), problem: problem.into() }.into()
}

fn list_clean(root: &Path, recursive: bool, limit: usize) -> Result<Vec<Found>> {
    check_folder(root, "a folder of clean pictures")?;
    let mut found: Vec<Found> = list_images(root, recursive)?
        .into_iter()
        .map(|path| Found { name: below(root, &path), files: Files::Clean(path) })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.truncate(limit);
    Ok(found)
}

fn list_triplets(root: &Path, limit: usize) -> Result<(Vec<Found>, Vec<String>)> {
    // 1. the folders
    check_folder(root, "a folder with clean/, damaged/ and mask/")?;
    let folders = FOLDERS.map(|name| root.join(name));
    let missing: Vec<_> = FOLDERS.iter().zip(&folders).filter(|(_, path)| !path.is_dir()).collect();
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(|(name, _)| format!("no {name}/")).collect();
        let problem =
            format!("expected clean/, damaged/ and mask/, found {}", missing.join(" and "));
        return Err(dataset(root, problem));
    }

    // 2. their files by their names without extension
    let mut groups: BTreeMap<String, [Vec<PathBuf>; 3]> = BTreeMap::new();
    for (index, folder) in folders.iter().enumerate() {
        for path in list_images(folder, true)? {
            let stem = below(folder, &path.with_extension(""));
            groups.entry(stem).or_default()[index].push(path);
        }
    }

    // 3. which of them are complete
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (stem, group) in groups.into_iter().take(limit) {
        for (paths, folder) in group.iter().zip(FOLDERS) {
            if let [first, others @ ..] = paths.as_slice() {
                problems.extend(others.iter().map(|other| {
                    let (other, first) = (other.display(), first.display());
                    format!("{other}: expected one picture called {stem}, found {first} too")
                }));
            } else if let Some(lonely) = group.iter().flatten().next() {
                problems.push(format!(
                    "{}: expected a file of this name in {folder}/, found none",
                    lonely.display()
                ));
            }
        }
        let [clean, damaged, mask] = group;
        if let ([clean], [damaged], [mask]) =
            (clean.as_slice(), damaged.as_slice(), mask.as_slice())
        {
            let name = below(&folders[0], clean);
            let (clean, damaged, mask) = (clean.clone(), damaged.clone(), mask.clone());
            found
                .push(Found { name, files: Files::Triplet(TripletPaths { clean, damaged, mask }) });
        }
    }
    Ok((found, problems))
}

fn check_folder(path: &Path, expected: &str) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let found = if path.exists() { "a file" } else { "nothing" };
    Err(dataset(path, format!("expected {expected}, found {found}")))
}

/// The part of `path` below `root`, with `/` between its parts on all systems.
fn below(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
