//! Where results go, and the checks on that before any work is done.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use imaging::io::Format;

use crate::exit;

/// Extensions of other picture formats, so that `-o photo.bmp` is not taken for a folder.
const NOT_WRITTEN: [&str; 12] =
    ["avif", "bmp", "exr", "gif", "heic", "heif", "hdr", "jp2", "jxl", "pdf", "psd", "tga"];

/// True if `path` names an image file rather than a folder, as a trailing separator says.
///
/// # Errors
/// A usage error for a picture format that is not written.
pub(crate) fn is_image_name(path: &Path) -> anyhow::Result<bool> {
    let ends_as_folder = path.to_string_lossy().ends_with(std::path::is_separator);
    if ends_as_folder || path.is_dir() {
        return Ok(false);
    }
    let extension = extension(path);
    if NOT_WRITTEN.contains(&extension.as_str()) {
        return Err(exit::usage(format!(
            "{}: expected a .png, .jpg, .tif or .webp file or a folder, found .{extension}",
            path.display()
        )));
    }
    Ok(Format::from_path(path).is_some())
}

/// Why a file of this name cannot be written, as far as the name tells; `None` if it can.
pub(crate) fn why_not_written(path: &Path) -> Option<String> {
    let expected = "expected the extension .png, .jpg, .tif or .webp";
    Format::from_path(path).is_none().then(|| match extension(path).as_str() {
        "" => format!("{expected}, found none"),
        extension => format!("{expected}, found .{extension}"),
    })
}

/// True if the format that the name asks for changes pixels by encoding them.
pub(crate) fn is_lossy(path: &Path) -> bool {
    Format::from_path(path) == Some(Format::Jpeg)
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// `folder/photo.jpg` with the marker `restored` and the extension `png` is `folder/photo.restored.png`.
pub(crate) fn beside(path: &Path, marker: &str, extension: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.{marker}.{extension}"))
}

/// Checks the files that a run will write, before it starts.
///
/// `planned` holds (input, output) pairs, several for an input that gives several files; `protected` holds
/// all files that the run reads.
///
/// # Errors
/// Two inputs with one output; an output that is a file the run reads; without `force`, outputs that exist.
pub(crate) fn check<'a>(
    planned: impl Iterator<Item = (&'a Path, &'a Path)> + Clone,
    protected: impl Iterator<Item = &'a Path>,
    force: bool,
) -> anyhow::Result<()> {
    // 1. every output once
    let mut owners: HashMap<String, &Path> = HashMap::new();
    for (input, output) in planned.clone() {
        if let Some(other) = owners.insert(key(output), input) {
            anyhow::bail!(
                "{} and {} would both be written to {}",
                other.display(),
                input.display(),
                output.display()
            );
        }
    }

    // 2. no output is also an input
    let sources: HashMap<PathBuf, &Path> =
        protected.filter_map(|path| path.canonicalize().ok().map(|real| (real, path))).collect();
    for (_, output) in planned.clone() {
        if let Some(source) = output.canonicalize().ok().and_then(|real| sources.get(&real)) {
            anyhow::bail!(
                "{} would replace the input {}; choose another output",
                output.display(),
                source.display()
            );
        }
    }

    // 3. nothing is overwritten unasked
    let existing: Vec<&Path> =
        planned.map(|(_, output)| output).filter(|output| output.exists()).collect();
    match (force, existing.as_slice()) {
        (true, _) | (_, []) => Ok(()),
        (false, [only]) => anyhow::bail!("{} exists; --force replaces it", only.display()),
        (false, [first, others @ ..]) => anyhow::bail!(
            "{} and {} more outputs exist; --force replaces them",
            first.display(),
            others.len()
        ),
    }
}

/// The same for two names that the file system takes for the same file.
fn key(path: &Path) -> String {
    let name = path.to_string_lossy();
    if cfg!(any(windows, target_os = "macos")) { name.to_lowercase() } else { name.into_owned() }
}

/// Makes the folder that `path` will be written to.
///
/// # Errors
/// The system's, naming the folder.
pub(crate) fn make_parent(path: &Path) -> anyhow::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => make_folder(folder),
        _ => Ok(()),
    }
}

/// Makes a folder and those above it.
///
/// # Errors
/// The system's, naming the folder.
pub(crate) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot make this folder", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_an_output_keep_dots_in_the_stem() {
        let path = Path::new("album/1932.05 beach.JPG");
        assert_eq!(beside(path, "compare", "png"), Path::new("album/1932.05 beach.compare.png"));
    }

    #[test]
    fn a_name_is_a_file_by_its_extension() {
        assert!(is_image_name(Path::new("a/b.TIFF")).expect("written"));
        assert!(!is_image_name(Path::new("a/b")).expect("a folder"));
        assert!(!is_image_name(Path::new("b.png/")).expect("a folder"));
        assert!(!is_image_name(Path::new("scans.2024")).expect("a folder"));
        assert!(is_image_name(Path::new("b.heic")).is_err());
    }

    #[test]
    fn two_inputs_with_one_output_are_named() {
        let planned = [("x/a.png", "out/a.png"), ("y/a.png", "out/a.png")];
        let planned = planned.iter().map(|(from, to)| (Path::new(*from), Path::new(*to)));
        let error = check(planned, std::iter::empty(), false).expect_err("one output twice");
        assert_eq!(error.to_string(), "x/a.png and y/a.png would both be written to out/a.png");
    }
}
