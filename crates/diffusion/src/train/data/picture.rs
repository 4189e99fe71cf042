//! One picture of a training set: what was found in its files, and where in it the network looks.

use std::sync::Arc;

use imaging::Rect;

use super::buckets::Buckets;
use super::files::{Files, Found, dataset};
use super::loaded::{Loaded, Store};
use super::options::{CropPolicy, DataOptions};
use super::{crops, prompt};
use crate::error::Result;
use crate::random::SplitMix64;
use crate::train::hash;

/// SHA-256 of the bytes of a picture's files, in hexadecimal digits.
#[derive(Debug)]
pub(super) struct Hashes {
    pub(super) clean: String,
    /// Of the damaged picture and the mask.
    pub(super) damaged: Option<[String; 2]>,
}

/// A picture that was checked.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) name: String,
    pub(super) files: Files,
    pub(super) hashes: Hashes,
    /// Width and height of the files.
    pub(super) size: (usize, usize),
    /// Width and height in training.
    pub(super) bucket: (usize, usize),
    /// Its caption, or the prompt of all.
    pub(super) prompt: String,
}

impl Picture {
    /// Reads all files of a picture; all that is wrong with them, if anything is. The pixels go to `store`.
    pub(super) fn check(
        found: Found,
        options: &DataOptions,
        buckets: &Buckets,
        store: &Store,
    ) -> Result<Self, Vec<String>> {
        let Found { name, files } = found;
        let one = |error: imaging::ImagingError| vec![error.to_string()];
        // 1. the pixels
        let loaded = Loaded::read(&files, &options.read_options())?;
        let size = loaded.clean.size();
        let bucket = buckets.of(size.0, size.1);
        if let (Files::Triplet(paths), Some((_, damage))) = (&files, &loaded.damaged)
            && options.crop == CropPolicy::Center
            && damage.inside(crops::centered(size, bucket)) == 0
        {
            return Err(vec![format!(
                "{}: expected damage in the middle, where crop = center looks, found it elsewhere only",
                paths.mask.display()
            )]);
        }

        // 2. what names them
        let damaged = match &files {
            Files::Triplet(paths) => Some([
                hash::of_file(&paths.damaged).map_err(one)?,
                hash::of_file(&paths.mask).map_err(one)?,
            ]),
            Files::Clean(_) => None,
        };
        let hashes = Hashes { clean: hash::of_file(files.clean()).map_err(one)?, damaged };

        // 3. what describes them
        let caption =
            if options.captions { prompt::caption(files.clean()).map_err(one)? } else { None };
        let prompt = caption.unwrap_or_else(|| options.prompt.clone());
        store.offer(&name, loaded);
        Ok(Self { name, files, hashes, size, bucket, prompt })
    }

    /// The pixels, from `store` or from the files.
    ///
    /// # Errors
    /// [`imaging::ImagingError::Dataset`] if the files changed since they were checked and can no longer be used.
    pub(super) fn load(&self, options: &DataOptions, store: &Store) -> Result<Arc<Loaded>> {
        if let Some(loaded) = store.get(&self.name) {
            return Ok(loaded);
        }
        let changed = |problem: &str| {
            dataset(self.files.clean(), format!("changed since it was checked: {problem}"))
        };
        let loaded = Loaded::read(&self.files, &options.read_options())
            .map_err(|problems| changed(&problems.join("; ")))?;
        if loaded.clean.size() != self.size {
            let ((width, height), (w, h)) = (self.size, loaded.clean.size());
            return Err(changed(&format!("expected {width}×{height} pixels, found {w}×{h}")));
        }
        Ok(store.offer(&self.name, loaded))
    }

    /// Where the network looks, and whether this view can come again in another epoch.
    pub(super) fn crop(
        &self,
        loaded: &Loaded,
        policy: CropPolicy,
        random: &mut SplitMix64,
    ) -> (Rect, bool) {
        let middle = || crops::centered(self.size, self.bucket);
        let damage = loaded.damaged.as_ref().map(|(_, damage)| damage);
        match policy {
            CropPolicy::Center => (middle(), true),
            CropPolicy::Fixed => {
                (damage.map_or_else(middle, |damage| crops::worst(damage, self.bucket)), true)
            }
            CropPolicy::Damage => {
                let rect = match damage {
                    // A mask without damage does not pass the check.
                    Some(damage) => {
                        crops::near_damage(damage, self.bucket, random).unwrap_or_else(middle)
                    }
                    None => crops::anywhere(self.size, self.bucket, random),
                };
                (rect, crops::is_always_whole(self.size, self.bucket))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use imaging::io::{WriteOptions, write_image};
    use imaging::{ColorType, Image, Samples};

    use super::*;

    #[test]
    fn files_that_change_while_training_are_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.png");
        let save = |width: usize, height: usize| {
            let samples = Samples::U8(vec![9; width * height]);
            let image = Image::new(width, height, ColorType::Gray, samples).expect("a picture");
            let replace = WriteOptions { force: true, ..WriteOptions::default() };
            write_image(&path, &image, &replace).expect("a temporary file");
        };
        save(16, 12);
        let options = DataOptions::default();
        // Nothing is kept, so that files are read each time.
        let store = Store::new(0);
        let found = Found { name: "a.png".into(), files: Files::Clean(path.clone()) };
        let picture =
            Picture::check(found, &options, &Buckets::square(8), &store).expect("a sound picture");
        picture.load(&options, &store).expect("the same picture");
        save(12, 16);
        let error = picture.load(&options, &store).expect_err("another size").to_string();
        assert!(error.contains("changed") && error.contains("16×12"), "{error}");
        std::fs::write(&path, b"").expect("a temporary file");
        let error = picture.load(&options, &store).expect_err("no picture").to_string();
        assert!(error.contains("changed") && error.contains("cannot decode"), "{error}");
    }
}
