//! Data sets of aligned triplets: clean picture, damaged picture, mask.
//!
//! `OUT/clean/NAME.png`, `OUT/damaged/NAME.png` and `OUT/mask/NAME.png` belong together and have the same size;
//! `OUT/manifest.csv` tells what was done to each. Pictures in folders inside the source folder keep their
//! folders.
//!
//! # Seeds
//! The seed of a triplet is the sub-seed of the part called `SOURCE#VARIANT` of the set's seed, mixed as
//! [`damage`](super) mixes those of the kinds; `SOURCE` is the picture's name below its folder (parts joined by
//! `/`, with its extension), `VARIANT` counts from 1. So a picture's damage does not
//! change when others are added or removed, and the manifest's seed with the same recipe makes it again
//! through [`damage`](super::damage) from the picture in `clean/`. Ageing and decoys, if any, are in that picture;
//! they have the same seed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma, LumaA, Pixel, Primitive, Rgb, Rgba};
use serde::Serialize;

use super::random::sub_seed;
use super::{DamageRecipe, DecoyOptions, age, damage, draw_decoys};
use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::image::{ColorType, Image, Samples};
use crate::io::{self, ReadOptions, WriteOptions, create_folder};
use crate::observer::Observer;

/// How a data set is made.
#[derive(Clone, Debug)]
pub struct DatasetOptions {
    /// What damage. Default: [`DamageRecipe::mixed`], always with some in the mask.
    pub recipe: DamageRecipe,
    /// Let each picture look like an old print first ([`age`](super::age)). Default: false.
    pub age: bool,
    /// Draw decoys on each picture first, after ageing it ([`draw_decoys`](super::draw_decoys), with its default
    /// options). Default: false.
    pub decoys: bool,
    /// The seed of the whole set. Default: 0.
    pub seed: u64,
    /// Differently damaged versions of each picture, at least 1. Default: 1.
    pub count: usize,
    /// Shrink pictures to this longest side in pixels, at least 8, then crop both sides evenly to multiples of 8.
    /// Default: `None`, pictures keep their size.
    pub size: Option<usize>,
    /// Also take the pictures in folders inside the folder. Default: false.
    pub recursive: bool,
    /// Replace triplets and manifest that exist. Default: false, they are an error before any work.
    pub force: bool,
    /// How the pictures are read.
    pub read: ReadOptions,
}

impl Default for DatasetOptions {
    fn default() -> Self {
        Self {
            recipe: DamageRecipe::default().with_always_masked(true),
            age: false,
            decoys: false,
            seed: 0,
            count: 1,
            size: None,
            recursive: false,
            force: false,
            read: ReadOptions::default(),
        }
    }
}

/// One triplet: a row of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Triplet {
    /// The file's name in all three folders, `/` between its parts.
    pub name: String,
    /// The clean picture that it was made from, below the source folder.
    pub source: String,
    /// Which version of that picture, from 1.
    pub variant: usize,
    /// The seed for [`damage`](super::damage).
    pub seed: u64,
    /// The kinds applied, in that order, `;` between them.
    pub kinds: String,
    /// Their severities in the same order, `;` between them.
    pub severity: String,
    /// Those of the kinds that change the whole picture and are therefore not in the mask.
    pub not_in_mask: String,
    /// The share of the pixels that the mask marks, in `0 ..= 1`.
    pub coverage: f64,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// What came of a data set.
#[derive(Debug)]
pub struct Dataset {
    /// The triplets that were made, in the order of their names; the manifest holds the same.
    pub triplets: Vec<Triplet>,
    /// The pictures that could not be used, and why.
    pub failures: Vec<(PathBuf, ImagingError)>,
    /// Triplets that were to be made.
    pub planned: usize,
    /// True if the observer asked to stop. What was finished then is complete and in the manifest.
    pub cancelled: bool,
}

/// A clean picture on its way.
struct Source {
    path: PathBuf,
    /// Below the source folder, `/` between the parts.
    name: String,
    /// The triplets' names.
    outputs: Vec<String>,
}

const FOLDERS: [&str; 3] = ["clean", "damaged", "mask"];

/// Makes a data set in `out` from the pictures in the folder `clean`.
///
/// Pictures that cannot be read are left out and listed in the result. The manifest is written last.
///
/// # Errors
/// [`ImagingError::Argument`] for options without sense, [`ImagingError::Dataset`] if the folder holds no
/// pictures, two of them would have the same name, or outputs exist and `force` is not set;
/// [`ImagingError::Io`] if a folder cannot be listed or made, or the manifest not be written.
pub fn make_dataset(
    clean: &Path,
    out: &Path,
    options: &DatasetOptions,
    observer: &dyn Observer,
) -> Result<Dataset> {
    // 1. the plan, checked before any work
    options.recipe.check()?;
    if options.count == 0 {
        return Err(ImagingError::argument("count", "at least 1", options.count));
    }
    if let Some(size) = options.size.filter(|&size| size < 8) {
        return Err(ImagingError::argument("size", "at least 8 pixels", size));
    }
    let sources = plan(clean, out, options)?;
    let manifest = out.join("manifest.csv");
    if !options.force {
        refuse_existing(out, &manifest, &sources)?;
    }
    for output in sources.iter().flat_map(|source| &source.outputs) {
        for folder in FOLDERS {
            let path = out.join(folder).join(output);
            let parent = path.parent().unwrap_or(out);
            create_folder(parent)?;
        }
    }

    // 2. the triplets, several pictures side by side. Threads of their own rather than the pool's: a pool's
    // thread that waits inside one picture would start on the next, and hold ever more of them in memory.
    let planned = sources.len() * options.count;
    let (done, queue) = (AtomicUsize::new(0), Mutex::new(sources.iter()));
    let made = Mutex::new((Vec::new(), Vec::new()));
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(source) = next.filter(|_| !observer.cancelled()) else { return };
            let tick = || {
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                observer.progress("damage", done as u64, planned as u64);
            };
            let (triplets, failure) = make_triplets(source, out, options, observer, &tick);
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made.0.extend(triplets);
            made.1.extend(failure.map(|error| (source.path.clone(), error)));
        }
    };
    let workers = rayon::current_num_threads().min(sources.len()).clamp(1, 8);
    if workers == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
    }

    // 3. the manifest
    let (mut triplets, mut failures): (Vec<Triplet>, Vec<(PathBuf, ImagingError)>) =
        made.into_inner().unwrap_or_else(PoisonError::into_inner);
    triplets.sort_by(|a, b| a.name.cmp(&b.name));
    failures.sort_by(|a, b| a.0.cmp(&b.0));
    let cancelled = observer.cancelled();
    write_manifest(&manifest, options.force, &triplets)?;
    Ok(Dataset { triplets, failures, planned, cancelled })
}

/// Lists the pictures and names their triplets.
fn plan(clean: &Path, out: &Path, options: &DatasetOptions) -> Result<Vec<Source>> {
    // Outputs of an earlier run may lie inside the folder; they are not sources.
    let real_out = out.canonicalize().ok();
    let real_clean = clean.canonicalize().ok();
    let is_output = |path: &Path| {
        real_out != real_clean
            && real_out
                .as_ref()
                .is_some_and(|out| path.canonicalize().is_ok_and(|real| real.starts_with(out)))
    };
    let mut owners: HashMap<String, String> = HashMap::new();
    let mut sources = Vec::new();
    for path in io::list_images(clean, options.recursive)? {
        if is_output(&path) {
            continue;
        }
        let relative = path.strip_prefix(clean).unwrap_or(&path);
        let name = slashed(relative);
        let stem = slashed(&relative.with_extension(""));
        let outputs: Vec<String> = match options.count {
            1 => vec![format!("{stem}.png")],
            count => (1..=count).map(|variant| format!("{stem}-{variant}.png")).collect(),
        };
        for output in &outputs {
            // On some systems names that differ in case are the same file.
            if let Some(other) = owners.insert(output.to_lowercase(), name.clone()) {
                return Err(ImagingError::Dataset {
                    path: clean.to_path_buf(),
                    problem: format!(
                        "expected pictures with different names, found {other} and {name}, which would both \
                         become {output}"
                    ),
                });
            }
        }
        sources.push(Source { path, name, outputs });
    }
    if sources.is_empty() {
        let problem = "expected a folder of clean pictures, found none in it".to_owned();
        return Err(ImagingError::Dataset { path: clean.to_path_buf(), problem });
    }
    Ok(sources)
}

/// The path's parts with `/` between them, the same on all systems.
fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

fn refuse_existing(out: &Path, manifest: &Path, sources: &[Source]) -> Result<()> {
    let outputs = sources.iter().flat_map(|source| &source.outputs);
    let files = outputs.flat_map(|name| FOLDERS.map(|folder| out.join(folder).join(name)));
    let existing = std::iter::once(manifest.to_path_buf()).chain(files).find(|path| path.exists());
    existing.map_or(Ok(()), |path| {
        let problem = "exists; only with force is it replaced".to_owned();
        Err(ImagingError::Dataset { path, problem })
    })
}

/// All versions of one picture; those that were made before a failure count.
fn make_triplets(
    source: &Source,
    out: &Path,
    options: &DatasetOptions,
    observer: &dyn Observer,
    tick: &dyn Fn(),
) -> (Vec<Triplet>, Option<ImagingError>) {
    let mut triplets = Vec::new();
    let clean = match io::read_image(&source.path, &options.read) {
        Ok(image) => fitted(image, options.size),
        Err(error) => return (triplets, Some(error)),
    };
    for (index, name) in source.outputs.iter().enumerate() {
        if observer.cancelled() {
            break;
        }
        match make_triplet(&clean, source, index + 1, out, options) {
            Ok(triplet) => triplets.push(triplet),
            Err(error) => {
                // No part of a triplet stays without the others.
                for folder in FOLDERS {
                    let _ = std::fs::remove_file(out.join(folder).join(name));
                }
                return (triplets, Some(error));
            }
        }
        tick();
    }
    (triplets, None)
}

fn make_triplet(
    clean: &Image,
    source: &Source,
    variant: usize,
    out: &Path,
    options: &DatasetOptions,
) -> Result<Triplet> {
    let seed = sub_seed(options.seed, &format!("{}#{variant}", source.name));
    // What is wanted back is the old picture with all that belongs to it: `clean` is what damage is put on.
    let mut clean = Cow::Borrowed(clean);
    if options.age {
        clean = Cow::Owned(age(&clean, seed)?);
    }
    if options.decoys {
        clean = Cow::Owned(draw_decoys(&clean, &DecoyOptions::default(), seed)?);
    }
    let damaged = damage(&clean, &options.recipe, seed)?;
    let name = &source.outputs[variant - 1];
    let write = WriteOptions { force: options.force, ..WriteOptions::default() };
    let [clean_path, damaged_path, mask_path] = FOLDERS.map(|folder| out.join(folder).join(name));
    io::write_mask(&mask_path, &damaged.mask, &write)?;
    io::write_image(&damaged_path, &damaged.image, &write)?;
    io::write_image(&clean_path, &clean, &write)?;

    let joined = |items: Vec<String>| items.join(";");
    let applied = &damaged.applied;
    let global = applied.iter().filter(|(kind, _)| kind.is_global());
    Ok(Triplet {
        name: name.clone(),
        source: source.name.clone(),
        variant,
        seed,
        kinds: joined(applied.iter().map(|(kind, _)| kind.to_string()).collect()),
        severity: joined(applied.iter().map(|(_, severity)| format!("{severity:.3}")).collect()),
        not_in_mask: joined(global.map(|(kind, _)| kind.to_string()).collect()),
        coverage: damaged.mask.coverage(),
        width: clean.width(),
        height: clean.height(),
    })
}

fn write_manifest(path: &Path, force: bool, triplets: &[Triplet]) -> Result<()> {
    io::write_atomically(path, force, |file| {
        let fail = |error: csv::Error| {
            ImagingError::io(path, "write", std::io::Error::other(error.to_string()))
        };
        let mut table = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        // Written here, so that an empty manifest has its columns too.
        table
            .write_record([
                "name",
                "source",
                "variant",
                "seed",
                "kinds",
                "severity",
                "not_in_mask",
                "coverage",
                "width",
                "height",
            ])
            .map_err(fail)?;
        for triplet in triplets {
            table.serialize(triplet).map_err(fail)?;
        }
        table.flush().map_err(|source| ImagingError::io(path, "write", source))
    })
}

/// The picture shrunk to a longest side of `size` and cropped to multiples of 8; sides below 8 stay.
fn fitted(image: Image, size: Option<usize>) -> Image {
    let Some(size) = size else { return image };
    let (width, height) = image.size();
    let longest = width.max(height);
    let image = if longest > size {
        let scaled = |side: usize| ((side * size + longest / 2) / longest).max(1);
        resized(&image, scaled(width), scaled(height))
    } else {
        image
    };
    let (width, height) = image.size();
    let even = |side: usize| if side < 8 { side } else { side / 8 * 8 };
    let (new_width, new_height) = (even(width), even(height));
    if (new_width, new_height) == (width, height) {
        return image;
    }
    let (x, y) = ((width - new_width) / 2, (height - new_height) / 2);
    cropped(&image, Rect::new(x, y, new_width, new_height))
}

/// Catmull-Rom, widened to cover what is shrunk: a polynomial, hence the same on every platform.
fn resized(image: &Image, width: usize, height: usize) -> Image {
    use ColorType as C;
    let samples = match (image.samples(), image.color()) {
        (Samples::U8(values), C::Gray) => {
            Samples::U8(resample::<Luma<u8>>(values, image, width, height))
        }
        (Samples::U8(values), C::GrayAlpha) => {
            Samples::U8(resample::<LumaA<u8>>(values, image, width, height))
        }
        (Samples::U8(values), C::Rgb) => {
            Samples::U8(resample::<Rgb<u8>>(values, image, width, height))
        }
        (Samples::U8(values), C::Rgba) => {
            Samples::U8(resample::<Rgba<u8>>(values, image, width, height))
        }
        (Samples::U16(values), C::Gray) => {
            Samples::U16(resample::<Luma<u16>>(values, image, width, height))
        }
        (Samples::U16(values), C::GrayAlpha) => {
            Samples::U16(resample::<LumaA<u16>>(values, image, width, height))
        }
        (Samples::U16(values), C::Rgb) => {
            Samples::U16(resample::<Rgb<u16>>(values, image, width, height))
        }
        (Samples::U16(values), C::Rgba) => {
            Samples::U16(resample::<Rgba<u16>>(values, image, width, height))
        }
    };
    with_metadata(image, width, height, samples)
}

fn resample<P: Pixel + Send + Sync + 'static>(
    values: &[P::Subpixel],
    image: &Image,
    width: usize,
    height: usize,
) -> Vec<P::Subpixel>
where
    P::Subpixel: Primitive + Send + Sync + 'static,
{
    let buffer: ImageBuffer<P, &[P::Subpixel]> =
        ImageBuffer::from_raw(image.width() as u32, image.height() as u32, values)
            .expect("a valid image has as many samples as its size says");
    resize(&buffer, width as u32, height as u32, FilterType::CatmullRom).into_raw()
}

fn cropped(image: &Image, rect: Rect) -> Image {
    fn take<T: Copy>(values: &[T], image: &Image, rect: Rect) -> Vec<T> {
        let channels = image.color().channels();
        let mut taken = Vec::with_capacity(rect.area() * channels);
        for y in rect.y..rect.bottom() {
            let start = (y * image.width() + rect.x) * channels;
            taken.extend_from_slice(&values[start..start + rect.width * channels]);
        }
        taken
    }
    let samples = match image.samples() {
        Samples::U8(values) => Samples::U8(take(values, image, rect)),
        Samples::U16(values) => Samples::U16(take(values, image, rect)),
    };
    with_metadata(image, rect.width, rect.height, samples)
}

fn with_metadata(image: &Image, width: usize, height: usize, samples: Samples) -> Image {
    let mut new = Image::new(width, height, image.color(), samples)
        .expect("as many samples as the new size has pixels");
    new.metadata = image.metadata.clone();
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize, color: ColorType) -> Image {
        let values = (0..width * height * color.channels()).map(|i| (i % 251) as u8).collect();
        Image::new(width, height, color, Samples::U8(values)).unwrap()
    }

    #[test]
    fn pictures_are_shrunk_and_cropped_to_multiples_of_eight() {
        for (from, size, to) in [
            ((100, 50), None, (100, 50)),
            ((100, 50), Some(64), (64, 32)),
            ((100, 50), Some(200), (96, 48)),
            ((50, 101), Some(64), (32, 64)),
            ((1000, 3), Some(64), (64, 1)),
            ((5, 5), Some(8), (5, 5)),
        ] {
            for color in [ColorType::Gray, ColorType::GrayAlpha, ColorType::Rgb, ColorType::Rgba] {
                assert_eq!(
                    fitted(ramp(from.0, from.1, color), size).size(),
                    to,
                    "{from:?} {size:?}"
                );
            }
        }
    }

    #[test]
    fn a_crop_takes_the_middle() {
        let image = ramp(10, 9, ColorType::Gray);
        let Samples::U8(values) = fitted(image, Some(64)).samples().clone() else { unreachable!() };
        assert_eq!((values.len(), values[0], values[63]), (64, 1, 78));
    }
}
