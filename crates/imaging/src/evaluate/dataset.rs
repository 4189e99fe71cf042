//! The files of a data set: which belong together, and what is wrong with them, found before any work.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{ImagingError, Result};
use crate::io::{ReadOptions, list_images, read_image};

/// The files that belong together: names are matched without their extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triplet {
    /// The damaged picture's file name, by which the results call it.
    pub name: String,
    /// The undamaged picture.
    pub clean: PathBuf,
    /// The picture before restoration.
    pub damaged: PathBuf,
    /// Where it is damaged, if the data set has masks.
    pub mask: Option<PathBuf>,
    /// Results made elsewhere, one for each folder that was given.
    pub restored: Vec<PathBuf>,
    /// Pixels in a picture.
    pub(super) pixels: u64,
}

/// A picture that is not, or could not be, scored, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The picture's file name.
    pub filename: String,
    /// What was expected and what was found, naming the file.
    pub error: String,
}

/// A folder with `clean/`, `damaged/` and perhaps `mask/`.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// True if there is a folder `mask/`.
    pub has_masks: bool,
    /// The complete sets of files, in the order of their names.
    pub triplets: Vec<Triplet>,
    /// Everything that is wrong with the other files.
    pub problems: Vec<Failure>,
}

impl Dataset {
    /// Lists a data set and checks that files have partners of the same size, depth and colour channels.
    ///
    /// Only headers are read. `restored` are folders of results made elsewhere, which must hold a result for each
    /// picture. Whatever does not fit is told in [`Dataset::problems`], all of it at once; the rest can be used.
    ///
    /// # Errors
    /// [`ImagingError::Io`] or [`ImagingError::Dataset`] if a folder is missing or there is nothing to use in it.
    pub fn open(
        root: &Path,
        restored: &[PathBuf],
        recursive: bool,
        read: &ReadOptions,
    ) -> Result<Self> {
        let mut problems = Vec::new();

        // 1. the folders
        if !root.is_dir() {
            return Err(missing_folder(root, "a folder with clean/ and damaged/"));
        }
        let (clean, damaged, mask) = (root.join("clean"), root.join("damaged"), root.join("mask"));
        let missing: Vec<&str> = [(&clean, "clean/"), (&damaged, "damaged/")]
            .into_iter()
            .filter(|(folder, _)| !folder.is_dir())
            .map(|(_, name)| name)
            .collect();
        if !missing.is_empty() {
            return Err(ImagingError::Dataset {
                path: root.to_path_buf(),
                problem: format!(
                    "expected clean/ and damaged/, found no {}",
                    missing.join(" and no ")
                ),
            });
        }
        if let Some(folder) = restored.iter().find(|folder| !folder.is_dir()) {
            return Err(missing_folder(folder, "a folder of restored pictures"));
        }
        let has_masks = mask.is_dir();

        // 2. which files belong together
        let damaged_folder = damaged;
        let clean = by_stem(&clean, recursive, &mut problems)?;
        let damaged = by_stem(&damaged_folder, recursive, &mut problems)?;
        let masks =
            if has_masks { by_stem(&mask, recursive, &mut problems)? } else { BTreeMap::new() };
        let mut results = Vec::new();
        for folder in restored {
            results.push((folder, by_stem(folder, recursive, &mut problems)?));
        }
        for (stem, path) in &clean {
            if !damaged.contains_key(stem) {
                problems.push(lonely(path, "damaged/"));
            }
        }
        for (stem, path) in &masks {
            if !damaged.contains_key(stem) && !clean.contains_key(stem) {
                problems.push(lonely(path, "clean/ and damaged/"));
            }
        }
        let mut triplets = Vec::new();
        for (stem, damaged) in &damaged {
            let before = problems.len();
            let clean = clean.get(stem);
            if clean.is_none() {
                problems.push(lonely(damaged, "clean/"));
            }
            let mask = masks.get(stem);
            if has_masks && mask.is_none() {
                problems.push(lonely(damaged, "mask/"));
            }
            let mut found = Vec::new();
            for (folder, results) in &results {
                match results.get(stem) {
                    Some(path) => found.push(path.clone()),
                    None => problems.push(lonely(damaged, &folder.display().to_string())),
                }
            }
            if let (Some(clean), true) = (clean, problems.len() == before) {
                triplets.push(Triplet {
                    name: relative(damaged, &damaged_folder),
                    clean: clean.clone(),
                    damaged: damaged.clone(),
                    mask: mask.cloned(),
                    restored: found,
                    pixels: 0,
                });
            }
        }

        // 3. what their headers say
        let checked: Vec<_> =
            triplets.into_par_iter().map(|triplet| check(triplet, read)).collect();
        let mut triplets = Vec::new();
        for result in checked {
            match result {
                Ok(triplet) => triplets.push(triplet),
                Err(found) => problems.extend(found),
            }
        }
        if triplets.is_empty() {
            let reasons: Vec<&str> = problems.iter().map(|one| one.error.as_str()).collect();
            let problem = if reasons.is_empty() {
                "expected images in clean/ and damaged/, found none".to_owned()
            } else {
                format!("no picture can be used: {}", reasons.join("; "))
            };
            return Err(ImagingError::Dataset { path: root.to_path_buf(), problem });
        }
        Ok(Self { root: root.to_path_buf(), has_masks, triplets, problems })
    }

    /// Keeps `count` pictures, drawn with this seed, in the order of their names; all if there are no more.
    pub fn sample(&mut self, count: usize, seed: u64) {
        let mut generator = Pcg64::seed_from_u64(seed);
        let total = self.triplets.len();
        // A partial Fisher–Yates shuffle: the first `count` positions are a fair draw.
        let mut order: Vec<usize> = (0..total).collect();
        for position in 0..count.min(total) {
            let rest = (total - position) as u64;
            let pick = position + ((u64::from(generator.next_u32()) * rest) >> 32) as usize;
            order.swap(position, pick);
        }
        order.truncate(count);
        order.sort_unstable();
        self.triplets = order.into_iter().map(|index| self.triplets[index].clone()).collect();
    }
}

fn missing_folder(path: &Path, expected: &str) -> ImagingError {
    let found = if path.exists() { "a file" } else { "nothing" };
    ImagingError::Dataset {
        path: path.to_path_buf(),
        problem: format!("expected {expected}, found {found}"),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn lonely(path: &Path, folder: &str) -> Failure {
    Failure {
        filename: file_name(path),
        error: format!("{}: expected a file of this name in {folder}, found none", path.display()),
    }
}

/// The path from `folder` on, with slashes.
fn relative(path: &Path, folder: &Path) -> String {
    let parts = path.strip_prefix(folder).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The images of a folder, and of those inside it if `recursive`, by their paths in it without extension.
fn by_stem(
    folder: &Path,
    recursive: bool,
    problems: &mut Vec<Failure>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in list_images(folder, recursive)? {
        let stem = relative(&path.with_extension(""), folder);
        if let Some(first) = found.get(&stem) {
            problems.push(Failure {
                filename: file_name(&path),
                error: format!(
                    "{}: expected one image called {stem}, found {} too",
                    path.display(),
                    file_name(first)
                ),
            });
        } else {
            found.insert(stem, path);
        }
    }
    Ok(found)
}

/// What an image file's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    size: (usize, usize),
    /// Bits a channel and colour channels, where the header is sure about what a reader makes of them.
    kind: Option<(u8, usize)>,
}

/// Reads a header. A file whose header is not understood is decoded, so that the error is the reader's own.
fn header(path: &Path, read: &ReadOptions) -> Result<Header> {
    // A decoder that panics on a damaged header is no worse than one that refuses it.
    let quick = catch_unwind(AssertUnwindSafe(|| quick_header(path))).unwrap_or(None);
    if let Some(header) = quick {
        let (width, height) = (header.size.0 as u64, header.size.1 as u64);
        if width.saturating_mul(height) <= read.max_pixels {
            return Ok(header);
        }
    }
    let image = read_image(path, read)?;
    let kind = (image.samples().bits(), image.color().color_channels());
    Ok(Header { size: image.size(), kind: Some(kind) })
}

fn quick_header(path: &Path) -> Option<Header> {
    use image::ExtendedColorType as Color;
    let mut decoder =
        ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let turned = matches!(
        decoder.orientation().ok()?,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    let size = if turned { (height, width) } else { (width, height) };
    let kind = match decoder.original_color_type() {
        Color::L8 | Color::La8 => Some((8, 1)),
        Color::L16 | Color::La16 => Some((16, 1)),
        Color::Rgb8 | Color::Rgba8 => Some((8, 3)),
        Color::Rgb16 | Color::Rgba16 => Some((16, 3)),
        _ => None,
    };
    Some(Header { size: (size.0 as usize, size.1 as usize), kind })
}

/// Checks one set of files against its clean picture; all that is wrong with it, if anything is.
fn check(mut triplet: Triplet, read: &ReadOptions) -> Result<Triplet, Vec<Failure>> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    let files = [&triplet.clean, &triplet.damaged]
        .into_iter()
        .chain(&triplet.restored)
        .map(|path| (path, true))
        .chain(triplet.mask.iter().map(|path| (path, false)));
    for (path, is_picture) in files {
        match header(path, read) {
            Ok(header) => found.push((path, header, is_picture)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if let Some((_, clean, _)) = found.iter().find(|(path, _, _)| **path == triplet.clean) {
        for (path, header, is_picture) in &found {
            let name = path.display();
            let ((width, height), (w, h)) = (clean.size, header.size);
            if header.size != clean.size {
                problems.push(format!(
                    "{name}: expected {width}×{height} pixels as the clean picture, found {w}×{h}"
                ));
            }
            if let (true, Some((bits, channels)), Some((b, c))) =
                (is_picture, clean.kind, header.kind)
            {
                if b != bits {
                    problems.push(format!(
                        "{name}: expected {bits} bits a channel as the clean picture, found {b}"
                    ));
                }
                if c != channels {
                    let kind = |channels| if channels == 1 { "grey" } else { "colour" };
                    problems.push(format!(
                        "{name}: expected {} as the clean picture, found {}",
                        kind(channels),
                        kind(c)
                    ));
                }
            }
        }
        triplet.pixels = (clean.size.0 * clean.size.1) as u64;
    }
    if problems.is_empty() {
        return Ok(triplet);
    }
    let failure = |error| Failure { filename: triplet.name.clone(), error };
    Err(problems.into_iter().map(failure).collect())
}
