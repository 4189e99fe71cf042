//! Classical inpainting: fills masked pixels from the pixels around them.
//!
//! The mask is split into regions far enough apart that none can see another; they are filled in parallel from the
//! picture as it was, then blended in. What is held in memory is the damage and its immediate neighbourhood.

mod dissection;
mod multigrid;
mod regions;
mod ribbon;

pub mod biharmonic;
pub mod telea;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::composite::blended;
use crate::error::{ImagingError, Result};
use crate::image::{Image, Samples};
use crate::mask::Mask;
use crate::observer::Observer;
use crate::plane::Plane;
use regions::Region;

/// The inpainting algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FillMethod {
    /// Fast marching: A. Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004.
    Telea,
    /// The biharmonic equation, as scikit-image's `inpaint_biharmonic`.
    #[default]
    Biharmonic,
}

/// How masked pixels are filled.
#[derive(Clone, Debug)]
pub struct FillOptions {
    /// The algorithm.
    pub method: FillMethod,
    /// Telea's neighbourhood radius in pixels, rounded to a whole number; `1 ..= 100`. Default: 3.
    pub radius: f32,
}

impl Default for FillOptions {
    fn default() -> Self {
        Self { method: FillMethod::default(), radius: 3.0 }
    }
}

/// What was filled, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FillReport {
    /// Separate regions that were filled; how far apart is separate depends on the method.
    pub regions: usize,
    /// Pixels that were filled.
    pub pixels: usize,
}

/// Fills the pixels whose mask weight is above 0, in place, blended by that weight.
///
/// Every sample whose weight is 0 keeps its bits, and is all that the fill looks at. An empty mask changes
/// nothing; a mask that leaves no pixel to fill from is an error.
///
/// # Errors
/// `Size` if mask and image differ; `Argument` if nothing is kept or the radius is out of range; `Numeric`;
/// `Cancelled` (the image is then as it was).
pub fn fill(
    image: &mut Image,
    mask: &Mask,
    options: &FillOptions,
    observer: &dyn Observer,
) -> Result<FillReport> {
    ImagingError::check_size("mask", image.size(), mask.size())?;
    match image.color().color_channels() {
        1 => fill_channels::<1>(image, mask, options, observer),
        _ => fill_channels::<3>(image, mask, options, observer),
    }
}

fn fill_channels<const C: usize>(
    image: &mut Image,
    mask: &Mask,
    options: &FillOptions,
    observer: &dyn Observer,
) -> Result<FillReport> {
    let (width, channels) = (image.width(), image.color().channels());
    let max = f32::from(image.samples().max_value());
    let depth = telea::Depth::Levels(max);
    let (regions, filled) = match image.samples() {
        Samples::U8(samples) => {
            let read = |x, y| pixel::<_, C>(samples, (y * width + x) * channels);
            solve(&read, max, depth, mask, options, observer)?
        }
        Samples::U16(samples) => {
            let read = |x, y| pixel::<_, C>(samples, (y * width + x) * channels);
            solve(&read, max, depth, mask, options, observer)?
        }
    };
    for (region, values) in regions.iter().zip(&filled) {
        match image.samples_mut() {
            Samples::U8(samples) => {
                blend(samples, (width, channels), region, values, mask, |value| value as u8);
            }
            Samples::U16(samples) => {
                blend(samples, (width, channels), region, values, mask, |value| value as u16);
            }
        }
    }
    Ok(FillReport {
        regions: regions.len(),
        pixels: regions.iter().map(|region| region.pixels).sum(),
    })
}

fn pixel<T: Copy + Into<f32>, const C: usize>(samples: &[T], first: usize) -> [f32; C] {
    std::array::from_fn(|channel| samples[first + channel].into())
}

/// A region's pixels, row by row, in the units that were read.
type Filled<const C: usize> = Vec<[f32; C]>;

/// Finds the regions of `mask` and fills each from `read(x, y)`, values in `0 ..= max`.
fn solve<const C: usize>(
    read: &(impl Fn(usize, usize) -> [f32; C] + Sync),
    max: f32,
    depth: telea::Depth,
    mask: &Mask,
    options: &FillOptions,
    observer: &dyn Observer,
) -> Result<(Vec<Region>, Vec<Filled<C>>)> {
    let radius = telea::checked_radius(options.radius)?;
    let reach = match options.method {
        FillMethod::Telea => telea::reach(radius),
        FillMethod::Biharmonic => biharmonic::REACH,
    };
    let regions = regions::find(mask, reach);
    let pixels: usize = regions.iter().map(|region| region.pixels).sum();
    if pixels == mask.width() * mask.height() && pixels > 0 {
        return Err(ImagingError::argument(
            "mask",
            "at least one pixel to keep and fill from",
            format!("all {pixels} pixels masked"),
        ));
    }
    if regions.is_empty() {
        return Ok((regions, Vec::new()));
    }
    let limits = match options.method {
        FillMethod::Telea => [(0.0, max); C],
        FillMethod::Biharmonic => biharmonic::known_range(read, mask),
    };
    let progress = Progress::new(observer, "fill", pixels);
    progress.advance(0)?;
    let mut filled = Vec::with_capacity(regions.len());
    for wave in waves(&regions) {
        let fills: Result<Vec<Filled<C>>> = wave
            .par_iter()
            .with_max_len(1)
            .map(|region| match options.method {
                FillMethod::Telea => {
                    telea::march(region, mask.size(), radius, depth, read, &progress)
                }
                FillMethod::Biharmonic => {
                    biharmonic::solve(region, mask.size(), limits, read, &progress)
                }
            })
            .collect();
        filled.append(&mut fills?);
    }
    Ok((regions, filled))
}

/// Splits the regions, in their order, into groups that are worked on at a time, which bounds the memory whatever the
/// number of threads: a pixel takes some hundred bytes while its region is solved.
fn waves(regions: &[Region]) -> impl Iterator<Item = &[Region]> {
    const PIXELS: usize = 1 << 20;
    let mut rest = regions;
    std::iter::from_fn(move || {
        let mut pixels = 0;
        let fitting = rest.iter().take_while(|region| {
            pixels += region.pixels;
            pixels <= PIXELS
        });
        let (wave, later) = rest.split_at(fitting.count().max(1).min(rest.len()));
        rest = later;
        (!wave.is_empty()).then_some(wave)
    })
}

fn blend<T: Copy + Into<f32>, const C: usize>(
    samples: &mut [T],
    (width, channels): (usize, usize),
    region: &Region,
    filled: &[[f32; C]],
    mask: &Mask,
    from_rounded: impl Fn(f32) -> T,
) {
    for ((x, y), values) in region.positions().zip(filled) {
        let weight = mask.plane().get(x, y);
        let first = (y * width + x) * channels;
        for (sample, &painted) in samples[first..first + C].iter_mut().zip(values) {
            *sample = from_rounded(blended((*sample).into(), painted, weight));
        }
    }
}

/// Fills the masked pixels of planes of one size, values in `[0, 1]`; a weight above 0 counts as masked.
fn fill_planes(
    planes: &[Plane<f32>],
    mask: &Mask,
    options: &FillOptions,
) -> Result<Vec<Plane<f32>>> {
    for plane in planes {
        ImagingError::check_size("plane", mask.size(), plane.size())?;
    }
    planes
        .chunks(3)
        .map(|group| match group {
            [red, green, blue] => fill_group::<3>([red, green, blue], mask, options),
            _ => group.iter().try_fold(Vec::new(), |mut done, plane| {
                done.extend(fill_group::<1>([plane], mask, options)?);
                Ok(done)
            }),
        })
        .collect::<Result<Vec<_>>>()
        .map(|groups| groups.concat())
}

fn fill_group<const C: usize>(
    planes: [&Plane<f32>; C],
    mask: &Mask,
    options: &FillOptions,
) -> Result<Vec<Plane<f32>>> {
    // Telea's gradient term is a step of up to √2 of its units, which are those of 8-bit pictures.
    let unit = match options.method {
        FillMethod::Telea => 255.0,
        FillMethod::Biharmonic => 1.0,
    };
    let read = |x: usize, y: usize| planes.map(|plane| plane.get(x, y) * unit);
    let depth = telea::Depth::Continuous(unit);
    let (regions, filled) = solve(&read, unit, depth, mask, options, &crate::Silent)?;
    let mut done = planes.map(Clone::clone);
    for (region, values) in regions.iter().zip(&filled) {
        for ((x, y), pixel) in region.positions().zip(values) {
            for (plane, value) in done.iter_mut().zip(pixel) {
                plane.set(x, y, value / unit);
            }
        }
    }
    Ok(done.into())
}

/// Pixels filled so far, over all threads.
pub(crate) struct Progress<'a> {
    observer: &'a dyn Observer,
    stage: &'static str,
    done: AtomicU64,
    total: u64,
}

impl<'a> Progress<'a> {
    fn new(observer: &'a dyn Observer, stage: &'static str, total: usize) -> Self {
        Self { observer, stage, done: AtomicU64::new(0), total: total as u64 }
    }

    /// Adds finished pixels, and stops the work if that is asked for.
    pub(crate) fn advance(&self, pixels: usize) -> Result<()> {
        let done = self.done.fetch_add(pixels as u64, Ordering::Relaxed) + pixels as u64;
        self.observer.progress(self.stage, done, self.total);
        self.observer.check()
    }

    /// Stops the work if that is asked for.
    pub(crate) fn check(&self) -> Result<()> {
        self.observer.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ColorType;
    use crate::observer::Silent;

    fn grey(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Image {
        let plane = Plane::from_fn(width, height, value);
        Image::new(width, height, ColorType::Gray, Samples::U8(plane.into_vec()))
            .expect("one sample for each pixel")
    }

    fn options(method: FillMethod) -> FillOptions {
        FillOptions { method, ..FillOptions::default() }
    }

    const METHODS: [FillMethod; 2] = [FillMethod::Telea, FillMethod::Biharmonic];

    #[test]
    fn an_empty_mask_changes_nothing_and_a_full_one_is_refused() {
        for method in METHODS {
            let mut image = grey(5, 4, |x, y| (x * y) as u8);
            let before = image.clone();
            let report = fill(&mut image, &Mask::empty(5, 4), &options(method), &Silent)
                .expect("nothing to do");
            assert_eq!((report, &image), (FillReport::default(), &before));

            let error =
                fill(&mut image, &Mask::from_fn(5, 4, |_, _| true), &options(method), &Silent)
                    .expect_err("nothing is kept");
            assert_eq!(
                error.to_string(),
                "mask: expected at least one pixel to keep and fill from, found all 20 pixels masked"
            );
            assert_eq!(image, before);
        }
    }

    #[test]
    fn one_kept_pixel_fills_the_rest() {
        for method in METHODS {
            for (width, height, x, y) in [(1, 9, 0, 4), (9, 1, 8, 0), (2, 2, 1, 0), (7, 6, 3, 3)] {
                let mut image =
                    grey(width, height, |at, row| if (at, row) == (x, y) { 90 } else { 3 });
                let mask = Mask::from_fn(width, height, |at, row| (at, row) != (x, y));
                fill(&mut image, &mask, &options(method), &Silent).expect("one pixel is kept");
                assert_eq!(image, grey(width, height, |_, _| 90), "{method:?} {width}×{height}");
            }
        }
    }

    #[test]
    fn soft_weights_blend() {
        for method in METHODS {
            let mut image = grey(9, 9, |x, y| if (x, y) == (4, 4) { 0 } else { 100 });
            let mut mask = Mask::empty(9, 9);
            mask.plane_mut().set(4, 4, 51);
            fill(&mut image, &mask, &options(method), &Silent).expect("one pixel to fill");
            // 51 / 255 = 0.2 of the way from 0 to 100
            assert_eq!(image, grey(9, 9, |x, y| if (x, y) == (4, 4) { 20 } else { 100 }));
        }
    }
}
