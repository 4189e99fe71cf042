//! The photographs that pages are made of.

use std::path::{Path, PathBuf};

use imaging::imgproc::resize_lanczos;
use imaging::io::{ReadOptions, list_images, read_image};
use imaging::{ColorType, Image, Plane, Rect, Samples};

use super::options::PageOptions;
use crate::error::{DiffusionError, Result};
use crate::random::{SplitMix64, sub_seed};

/// Files to train on, and files to judge by.
#[derive(Debug)]
pub(super) struct Photographs {
    files: Vec<PathBuf>,
    held_out: Vec<PathBuf>,
}

impl Photographs {
    /// Lists the folder and holds some of the files back, chosen by the seed.
    pub(super) fn open(options: &PageOptions, seed: u64) -> Result<Self> {
        let mut files = list_images(&options.clean, options.recursive)?;
        if files.len() <= options.held_out {
            return Err(DiffusionError::argument(
                options.clean.display().to_string(),
                format!("more than {} photographs", options.held_out),
                files.len(),
            ));
        }
        SplitMix64::named(seed, "held out").shuffle(&mut files);
        let held_out = files.split_off(files.len() - options.held_out);
        Ok(Self { files, held_out })
    }

    pub(super) fn held_out(&self) -> &[PathBuf] {
        &self.held_out
    }

    pub(super) const fn len(&self) -> usize {
        self.files.len()
    }

    /// The photograph of a page: all of them in a new order, again and again.
    pub(super) fn of_page(&self, page: u64, seed: u64) -> &Path {
        let count = self.files.len();
        let (round, at) = (page / count as u64, (page % count as u64) as usize);
        let mut order: Vec<_> = (0..count).collect();
        SplitMix64::new(sub_seed(seed, &format!("order {round}"))).shuffle(&mut order);
        &self.files[order[at]]
    }

    /// Names and sizes of the files, to tell whether a resumed run has the same.
    pub(super) fn fingerprint(&self) -> String {
        let mut lines: Vec<_> =
            self.files.iter().chain(&self.held_out).map(|path| line(path)).collect();
        lines.sort();
        let hash = lines
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, line| crate::random::fnv1a64(hash, line));
        format!("{} photographs, {hash:016x}", lines.len())
    }
}

fn line(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{name} {}\n", std::fs::metadata(path).map_or(0, |file| file.len()))
}

/// A photograph whose longer side is about `longest_side`, cut to a page at a random place, mirrored, turned and recoloured or
/// not: 8-bit RGB. The shorter side stays at least as long as a crop.
pub(super) fn cut(
    path: &Path,
    longest_side: usize,
    options: &PageOptions,
    random: &mut SplitMix64,
) -> Result<Image> {
    // 1. at its size
    let image = read_image(path, &ReadOptions::default())?;
    let (width, height) = image.size();
    let (longest, shortest) = (width.max(height), width.min(height));
    let least = (options.crop as f64 / options.enlarged).ceil() as usize;
    if shortest < least {
        return Err(DiffusionError::argument(
            path.display().to_string(),
            format!("at least {least}×{least} pixels, which are enlarged to the size of crops"),
            format!("{width}×{height}"),
        ));
    }
    let wanted = longest_side as f64 / longest as f64;
    let scale = wanted.max(options.crop as f64 / shortest as f64).min(options.enlarged);
    let side = |side: usize| ((side as f64 * scale).round() as usize).max(options.crop);
    let size = (side(width), side(height));
    let page_side = options.page_side;

    // 2. a part of it; only what the part needs is resized
    let (part_width, part_height) = (size.0.min(page_side), size.1.min(page_side));
    let (x, y) = (random.below(size.0 - part_width + 1), random.below(size.1 - part_height + 1));
    let to = |at: usize, new: usize, old: usize| at * old / new;
    let (left, top) = (to(x, size.0, width), to(y, size.1, height));
    let (right, bottom) = (to(x + part_width, size.0, width), to(y + part_height, size.1, height));
    let rect = Rect::new(left, top, (right - left).max(1), (bottom - top).max(1));
    let planes = image.color_planes(rect);
    let mut planes: Vec<_> = planes
        .iter()
        .map(|plane| resize_lanczos(plane, part_width, part_height))
        .collect::<Result<_, _>>()?;

    // 3. as it could have been as well
    let (is_mirrored, is_turned) = (random.chance(0.5), random.chance(options.turned));
    if random.chance(options.recoloured) {
        let only = planes[0].clone();
        planes.resize(3, only);
        recolour(&mut planes, random);
    }
    if is_turned {
        planes.iter_mut().for_each(|plane| *plane = turned(plane));
    }
    Ok(rgb8(&planes, is_mirrored)?)
}

/// A quarter turn.
fn turned(plane: &Plane<f32>) -> Plane<f32> {
    let (width, height) = plane.size();
    Plane::from_fn(height, width, |x, y| plane.get(y, height - 1 - x))
}

/// Colours that the photograph does not have, for networks that see few photographs: channels in another order, stronger or
/// weaker saturation, another gamma and gain of each channel.
fn recolour(planes: &mut [Plane<f32>], random: &mut SplitMix64) {
    let mut between = |low: f32, high: f32| low + (high - low) * random.unit();
    let (saturation, gamma) = (between(0.0, 1.8), between(-0.6, 0.6).exp());
    let gains = [between(0.75, 1.25), between(0.75, 1.25), between(0.75, 1.25)];
    let order = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]];
    let order = order[random.below(order.len())];
    let count = planes[0].data().len();
    for at in 0..count {
        let color = [0, 1, 2].map(|channel: usize| planes[channel].data()[at]);
        let grey = (color[0] + color[1] + color[2]) / 3.0;
        for channel in 0..3 {
            let value = grey + saturation * (color[order[channel]] - grey);
            let value = (gains[channel] * value.clamp(0.0, 1.0).powf(gamma)).clamp(0.0, 1.0);
            planes[channel].data_mut()[at] = value;
        }
    }
}

/// One or three planes in `[0, 1]` as an 8-bit RGB picture.
pub(super) fn rgb8(planes: &[Plane<f32>], mirrored: bool) -> imaging::Result<Image> {
    let (width, height) = planes[0].size();
    let mut samples = vec![0_u8; 3 * width * height];
    for channel in 0..3 {
        let plane = &planes[channel.min(planes.len() - 1)];
        for (row, out) in plane.rows().zip(samples.chunks_exact_mut(3 * width)) {
            let quantised = row.iter().map(|value| (255.0 * value.clamp(0.0, 1.0)).round() as u8);
            let pixels = out.iter_mut().skip(channel).step_by(3);
            if mirrored {
                pixels.rev().zip(quantised).for_each(|(out, value)| *out = value);
            } else {
                pixels.zip(quantised).for_each(|(out, value)| *out = value);
            }
        }
    }
    Image::new(width, height, ColorType::Rgb, Samples::U8(samples))
}
