//! Which mask belongs to which picture.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::exit;
use crate::inputs::{Input, why_missing};

/// Masks from a single file, or from a folder by the picture's name.
pub(crate) enum MaskFinder {
    /// The one mask for the one picture.
    File(PathBuf),
    /// A folder, and its images by their path in it without extension.
    Folder { folder: PathBuf, by_stem: HashMap<PathBuf, Vec<PathBuf>> },
}

impl MaskFinder {
    /// Looks at what `--mask` names; `single` if there is one picture.
    ///
    /// # Errors
    /// A usage error for one mask and several pictures; a mask, or folder, that does not exist.
    pub(crate) fn new(path: &Path, single: bool) -> anyhow::Result<Self> {
        if path.is_dir() {
            let mut by_stem: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
            for mask in imaging::io::list_images(path, true)? {
                let relative = mask.strip_prefix(path).unwrap_or(&mask);
                by_stem.entry(relative.with_extension("")).or_default().push(mask);
            }
            return Ok(Self::Folder { folder: path.to_path_buf(), by_stem });
        }
        if let Some(reason) = why_missing(path) {
            anyhow::bail!("{reason}");
        }
        if !single {
            return Err(exit::usage(format!(
                "{}: several images need a folder of masks, found a file",
                path.display()
            )));
        }
        Ok(Self::File(path.to_path_buf()))
    }

    /// The mask for a picture, or why there is none.
    ///
    /// In a folder, a mask has the picture's name below the folder that was given; its extension may differ.
    /// Of several, the one with the picture's own extension is taken.
    pub(crate) fn find(&self, image: &Input) -> Result<PathBuf, String> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Folder { folder, by_stem } => {
                let stem = image.relative.with_extension("");
                match by_stem.get(&stem).map_or(&[][..], Vec::as_slice) {
                    [] => Err(format!(
                        "no mask for it in {}: expected {}.png",
                        folder.display(),
                        stem.display()
                    )),
                    [only] => Ok(only.clone()),
                    several => {
                        let same = several.iter().find(|mask| mask.ends_with(&image.relative));
                        same.cloned().ok_or_else(|| {
                            let names: Vec<_> =
                                several.iter().map(|mask| mask.display().to_string()).collect();
                            format!("expected one mask for it, found {}", names.join(" and "))
                        })
                    }
                }
            }
        }
    }
}
