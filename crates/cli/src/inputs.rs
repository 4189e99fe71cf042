//! From the files and folders on the command line to the list of pictures to work on.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit;

/// A picture to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Where it goes inside an output folder: its name, under the folders below the one that was given.
    pub(crate) relative: PathBuf,
}

/// Lists the pictures behind `inputs`: files as they are, folders by the images in them, in a stable order.
///
/// A file given twice, or inside a given folder, is taken once. `not_read` names folders (of outputs, of
/// masks) that may lie inside a given folder: their files are left out.
///
/// # Errors
/// Names every input that does not exist, and a folder without images.
pub(crate) fn expand(
    inputs: &[PathBuf],
    recursive: bool,
    not_read: &[&Path],
) -> anyhow::Result<Vec<Input>> {
    // 1. everything that was named exists
    let missing: Vec<String> = inputs.iter().filter_map(|path| why_missing(path)).collect();
    if !missing.is_empty() {
        anyhow::bail!("{}", missing.join("; "));
    }

    // 2. folders become their images
    let not_read: Vec<PathBuf> =
        not_read.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for input in inputs {
        let listed = if input.is_dir() {
            images_in(input, recursive, &not_read)?
        } else {
            let name = input.file_name().context("an input has no file name")?;
            vec![Input { path: input.clone(), relative: name.into() }]
        };
        // 3. each picture once
        for item in listed {
            let real = item.path.canonicalize().unwrap_or_else(|_| item.path.clone());
            if seen.insert(real) {
                found.push(item);
            }
        }
    }
    Ok(found)
}

/// Why `path` cannot be looked at, naming it; `None` if it can.
pub(crate) fn why_missing(path: &Path) -> Option<String> {
    let error = std::fs::metadata(path).err()?;
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        _ => error.to_string(),
    };
    Some(format!("{}: {reason}", path.display()))
}

fn images_in(folder: &Path, recursive: bool, not_read: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    // A folder that is to be left out counts only below this one: `-o .` does not empty the list.
    let left_out: Vec<&PathBuf> =
        not_read.iter().filter(|other| other.starts_with(&real) && **other != real).collect();
    let mut found = Vec::new();
    for path in imaging::io::list_images(folder, recursive)? {
        let is_left_out = !left_out.is_empty()
            && path
                .canonicalize()
                .is_ok_and(|real| left_out.iter().any(|out| real.starts_with(out)));
        if !is_left_out {
            let relative = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            found.push(Input { path, relative });
        }
    }
    if found.is_empty() {
        let hint = if recursive { "" } else { " (--recursive looks into the folders inside it)" };
        anyhow::bail!("{}: no images in this folder{hint}", folder.display());
    }
    Ok(found)
}

/// An image's size in pixels, from the file's header; 0 if that cannot be read.
pub(crate) fn pixels(path: &Path) -> u64 {
    imaging::io::read_size(path).map_or(0, |(width, height)| width.saturating_mul(height))
}

/// True if `inputs` is one file, whose output may be a file name rather than a folder.
pub(crate) fn is_single_file(inputs: &[PathBuf]) -> bool {
    matches!(inputs, [only] if !only.is_dir())
}

/// The output folder that `-o` names.
///
/// # Errors
/// A usage error if `-o` is missing or names a file.
pub(crate) fn output_folder(output: Option<&Path>) -> anyhow::Result<&Path> {
    let Some(folder) = output else {
        return Err(exit::usage("several images need an output folder: -o OUT"));
    };
    if folder.is_file() {
        return Err(exit::usage(format!(
            "{}: expected a folder to write several images to, found a file",
            folder.display()
        )));
    }
    Ok(folder)
}
