//! The training set: opened and checked as a whole, then asked for one picture after the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imaging::fill::FillOptions;
use imaging::{ImagingError, Observer, Repainter};
use rayon::prelude::*;

use super::batches;
use super::buckets::Buckets;
use super::files::{self, Files, TripletPaths, dataset};
use super::loaded::Store;
use super::options::{DataOptions, MaskedImage};
use super::picture::Picture;
use super::sample::Sample;
use crate::error::{DiffusionError, Result};
use crate::random::sub_seed;
use crate::train::hash;

/// Decoded pictures are kept up to so many bytes.
const STORE_BYTES: usize = 256 << 20;

/// Problems that are named one by one.
const NAMED_PROBLEMS: usize = 20;

/// Pictures for training, in the order of their names; every file was read and found good.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    options: DataOptions,
    pictures: Vec<Arc<Picture>>,
    store: Arc<Store>,
    fill: Arc<dyn Repainter>,
}

impl TrainingSet {
    /// Lists the pictures, pairs their files, and reads all of them, so that nothing is found wrong later.
    ///
    /// Progress has the stage `check` and pictures as units.
    ///
    /// # Errors
    /// - [`DiffusionError::Argument`] or [`DiffusionError::Imaging`] as [`DataOptions::validate`];
    /// - [`ImagingError::Dataset`] for all that is wrong with the files, at once: partners that are missing, sizes that
    ///   differ or are below 8 pixels, masks without damage, files that cannot be decoded to their end;
    /// - [`ImagingError::Io`] if a folder cannot be listed;
    /// - [`ImagingError::Cancelled`] if the observer asked to stop.
    pub fn open(options: &DataOptions, observer: &dyn Observer) -> Result<Self> {
        options.validate()?;
        // 1. which files belong together
        let (found, mut problems) = files::list(options)?;

        // 2. what is in them
        let buckets = if options.buckets {
            Buckets::mixed(options.resolution, options.bucket_step)
        } else {
            Buckets::square(options.resolution)
        };
        let store = Store::new(STORE_BYTES);
        let (done, total) = (AtomicU64::new(0), found.len() as u64);
        let checked = found
            .into_par_iter()
            .map(|found| {
                observer.check()?;
                let checked = Picture::check(found, options, &buckets, &store);
                observer.progress("check", done.fetch_add(1, Ordering::Relaxed) + 1, total);
                Ok(checked)
            })
            .collect::<Result<Vec<_>, ImagingError>>()?;
        let mut pictures = Vec::with_capacity(checked.len());
        for checked in checked {
            match checked {
                Ok(picture) => pictures.push(Arc::new(picture)),
                Err(found) => problems.extend(found),
            }
        }

        // 3. all that is wrong
        if !problems.is_empty() {
            let root = options.triplets.as_ref().or(options.clean.as_ref());
            return Err(dataset(&root.cloned().unwrap_or_default(), told(&problems)));
        }
        let fill = Arc::new(FillOptions::default());
        Ok(Self { options: options.clone(), pictures, store: Arc::new(store), fill })
    }

    /// The same with something else than the biharmonic equation to fill masked pixels with, which
    /// [`MaskedImage::Filled`](super::MaskedImage::Filled) shows.
    #[must_use]
    pub fn with_fill(self, fill: Arc<dyn Repainter>) -> Self {
        Self { fill, ..self }
    }

    /// How many pictures there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// True if there are none, which a set that was opened never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// The pictures' names: the clean pictures' paths below their folder, `/` between the parts.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.pictures.iter().map(|picture| picture.name.as_str())
    }

    /// The files of a triplet; `None` if there is no such picture, or it is damaged while training.
    #[must_use]
    pub fn triplet(&self, index: usize) -> Option<&TripletPaths> {
        match &self.pictures.get(index)?.files {
            Files::Triplet(paths) => Some(paths),
            Files::Clean(_) => None,
        }
    }

    /// Width and height of a picture's samples, in pixels; `None` if there is no such picture.
    #[must_use]
    pub fn bucket(&self, index: usize) -> Option<(usize, usize)> {
        Some(self.pictures.get(index)?.bucket)
    }

    /// What the pictures were opened with.
    #[must_use]
    pub const fn options(&self) -> &DataOptions {
        &self.options
    }

    /// Takes `count` pictures away for validation: `(the others, those taken)`, both in the order of their names.
    ///
    /// Which are taken depends on their contents and the seed, so that few change places when pictures are added. Triplets
    /// of one clean picture, damaged in several ways, are never on both sides: those that are not taken are left out.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if no picture would be left.
    pub fn with_held_out(&self, count: usize, seed: u64) -> Result<(Self, Self)> {
        let seed = sub_seed(seed, "held out");
        let clean = |index: usize| self.pictures[index].hashes.clean.as_str();
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&index| (sub_seed(seed, clean(index)), index));
        let (taken, left) = order.split_at_mut(count.min(self.len()));
        let seen: HashSet<&str> = taken.iter().map(|&index| clean(index)).collect();
        let mut left: Vec<usize> =
            left.iter().copied().filter(|&index| !seen.contains(clean(index))).collect();
        if left.is_empty() {
            let all: HashSet<&str> = (0..self.len()).map(clean).collect();
            let expected = format!(
                "fewer pictures than there are, {} of {} clean ones",
                self.len(),
                all.len()
            );
            return Err(DiffusionError::argument("held out", expected, count));
        }
        Ok((self.only(&mut left), self.only(taken)))
    }

    fn only(&self, indices: &mut [usize]) -> Self {
        indices.sort_unstable();
        let pictures = indices.iter().map(|&index| Arc::clone(&self.pictures[index])).collect();
        Self { pictures, ..self.clone() }
    }

    /// Names everything that decides about the samples, the seed aside: SHA-256 in hexadecimal digits, of the options that
    /// matter and of names, contents and captions in their order. Where the files lie does not matter.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut options = DataOptions {
            triplets: None,
            clean: None,
            recursive: false,
            limit: None,
            max_pixels: None,
            // These are part of each picture's own.
            prompt: String::new(),
            captions: false,
            ..self.options.clone()
        };
        let damaged_before = self.options.triplets.is_some();
        if damaged_before {
            options.conditions.clear();
            options.mix = [0, 0];
            options.condition_words = false;
            if options.extra_masks == 0.0 {
                options.severity = [0.0, 0.0];
            }
        }
        let mut texts = vec![format!("{damaged_before} {options:?}")];
        if options.masked_image == MaskedImage::Filled {
            texts.push(self.fill.name().to_owned());
        }
        for picture in &self.pictures {
            texts.extend([&picture.name, &picture.prompt, &picture.hashes.clean].map(Clone::clone));
            texts.extend(picture.hashes.damaged.iter().flatten().cloned());
        }
        hash::of_parts(texts)
    }

    /// The pictures of an epoch in batches of their indices, each picture once, in an order that epoch and seed decide.
    /// With [`DataOptions::repeats`], index `i + k · len` is the picture `i` seen once more.
    ///
    /// The pictures of a batch have one size. The last batch of each size may be smaller than `batch_size`, which counts as
    /// 1 if it is 0.
    #[must_use]
    pub fn epoch_batches(&self, epoch: u64, batch_size: usize, seed: u64) -> Vec<Vec<usize>> {
        let once = self.pictures.iter().map(|picture| picture.bucket);
        let buckets: Vec<_> = once.cycle().take(self.len() * self.options.repeats).collect();
        batches::epoch_batches(&buckets, epoch, batch_size, seed)
    }

    /// A picture as training sees it in an epoch; always the same for the same arguments.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if there is no such picture, [`ImagingError::Dataset`] if its files changed since they
    /// were checked and can no longer be used.
    pub fn sample(&self, index: usize, epoch: u64, seed: u64) -> Result<Sample> {
        let repeats = self.options.repeats;
        let (picture, repeat) = (index % self.len().max(1), index / self.len().max(1));
        let picture = self.pictures.get(picture).filter(|_| repeat < repeats).ok_or_else(|| {
            let expected = format!("an index below {}", self.len() * repeats);
            DiffusionError::argument("picture", expected, index)
        })?;
        // To a picture, being seen again is like another epoch.
        let seen = epoch.saturating_mul(repeats as u64).saturating_add(repeat as u64);
        Sample::new(picture, &self.options, &self.store, self.fill.as_ref(), seen, seed)
    }
}

/// `2 problems: a; b`, and how many more there are beyond those that are named.
fn told(problems: &[String]) -> String {
    let count = problems.len();
    let named = problems[..count.min(NAMED_PROBLEMS)].join("; ");
    let problems = if count == 1 { "problem" } else { "problems" };
    match count.saturating_sub(NAMED_PROBLEMS) {
        0 => format!("{count} {problems}: {named}"),
        more => format!("{count} {problems}: {named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_problems_are_counted() {
        let problems: Vec<_> = (0..22).map(|number| format!("p{number}")).collect();
        assert_eq!(told(&problems[..1]), "1 problem: p0");
        assert_eq!(told(&problems[..2]), "2 problems: p0; p1");
        assert!(told(&problems).starts_with("22 problems: p0; "));
        assert!(told(&problems).ends_with("; p19; and 2 more"));
    }
}
