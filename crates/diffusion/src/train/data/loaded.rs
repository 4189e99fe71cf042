//! Decoded pictures, and a bounded store of them, so that small sets are decoded once.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use imaging::io::{ReadOptions, read_image, read_mask};
use imaging::{Image, Metadata, Samples};

use super::crops::DamagedPixels;
use super::files::Files;

/// Mask weights from this on count as damaged.
const THRESHOLD: u8 = 128;

/// The shortest side of a picture that training can use, in pixels.
const MIN_SIDE: usize = 8;

/// A picture's pixels, at their files' own depth.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) clean: Image,
    /// The damaged picture and where it is damaged, of the clean picture's size; at least one pixel is.
    pub(super) damaged: Option<(Image, DamagedPixels)>,
}

impl Loaded {
    /// Decodes and checks the files; all that is wrong with them, if anything is.
    pub(super) fn read(files: &Files, options: &ReadOptions) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let clean = picture(files.clean(), options, &mut problems);
        if let Some((width, height)) = clean.as_ref().map(Image::size)
            && width.min(height) < MIN_SIDE
        {
            problems.push(format!(
                "{}: expected at least {MIN_SIDE}×{MIN_SIDE} pixels, found {width}×{height}",
                files.clean().display()
            ));
        }
        let mut damaged = None;
        if let Files::Triplet(paths) = files {
            let image = picture(&paths.damaged, options, &mut problems);
            let mask = read_mask(&paths.mask, options)
                .map(|mask| mask.binarized(THRESHOLD))
                .map_err(|error| problems.push(error.to_string()))
                .ok();
            if let Some(mask) = mask.as_ref().filter(|mask| mask.is_empty()) {
                problems.push(format!(
                    "{}: expected damaged pixels (at least {THRESHOLD} of 255), found none in {}×{}",
                    paths.mask.display(),
                    mask.width(),
                    mask.height()
                ));
            }
            if let Some(clean) = &clean {
                let sizes = [
                    (&paths.damaged, image.as_ref().map(Image::size)),
                    (&paths.mask, mask.as_ref().map(imaging::Mask::size)),
                ];
                for (path, (width, height)) in
                    sizes.into_iter().filter_map(|(path, size)| Some((path, size?)))
                {
                    if (width, height) != clean.size() {
                        problems.push(format!(
                            "{}: expected {}×{} pixels as the clean picture, found {width}×{height}",
                            path.display(),
                            clean.width(),
                            clean.height()
                        ));
                    }
                }
            }
            damaged = image.zip(mask.map(DamagedPixels::new));
        }
        match clean {
            Some(clean) if problems.is_empty() => Ok(Self { clean, damaged }),
            _ => Err(problems),
        }
    }

    /// Memory for the pixels.
    fn bytes(&self) -> usize {
        let of = |image: &Image| match image.samples() {
            Samples::U8(values) => values.len(),
            Samples::U16(values) => 2 * values.len(),
        };
        let damaged = self.damaged.as_ref();
        of(&self.clean)
            + damaged.map_or(0, |(image, mask)| of(image) + mask.mask().plane().data().len())
    }
}

/// Reads a picture; what its file says beside the pixels is not needed.
fn picture(path: &Path, options: &ReadOptions, problems: &mut Vec<String>) -> Option<Image> {
    match read_image(path, options) {
        Ok(mut image) => {
            image.metadata = Metadata::default();
            Some(image)
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    }
}

/// Pictures by their names, as many as fit.
///
/// What is in stays in: an epoch looks at each picture once, so that room made for one would be taken from another that
/// is looked at just as often.
pub(super) struct Store {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    pictures: HashMap<String, Arc<Loaded>>,
    bytes: usize,
}

impl Store {
    /// A store for so many bytes of pixels.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    /// The picture, if it is kept.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Loaded>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pictures.get(name).cloned()
    }

    /// Keeps the picture if there is room.
    pub(super) fn offer(&self, name: &str, loaded: Loaded) -> Arc<Loaded> {
        let (bytes, loaded) = (loaded.bytes(), Arc::new(loaded));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= self.limit.saturating_sub(kept.bytes)
            && kept.pictures.insert(name.to_owned(), Arc::clone(&loaded)).is_none()
        {
            kept.bytes += bytes;
        }
        loaded
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use imaging::ColorType;

    use super::*;

    #[test]
    fn the_store_never_holds_more_than_its_limit() {
        let grey = |side: usize| {
            let samples = Samples::U8(vec![0; side * side]);
            let clean = Image::new(side, side, ColorType::Gray, samples).expect("a picture");
            Loaded { clean, damaged: None }
        };
        let store = Store::new(200);
        store.offer("large", grey(15));
        store.offer("first", grey(10));
        store.offer("second", grey(10));
        store.offer("third", grey(10));
        store.offer("small", grey(1));
        let kept: Vec<bool> = ["large", "first", "second", "third", "small"]
            .map(|name| store.get(name).is_some())
            .to_vec();
        assert_eq!(kept, [false, true, true, false, false]);
    }
}
