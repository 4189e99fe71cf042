//! Pages: parts of photographs, damaged, from which many crops are cut before the next ones take their places.
//!
//! Making a page costs as much as training on several crops. So a step draws its crops from the last few pages, one of
//! which is replaced every so many steps. A page is a function of the seed and its number, and so are a step's crops: a run
//! that goes on from a checkpoint makes the pages again that it had.

use std::collections::BTreeMap;
use std::path::Path;

use imaging::damage::{DecoyKind, DecoyOptions, age, damage, draw_decoys};
use imaging::fill::{FillOptions, fill};
use imaging::imgproc::{StructuringElement, dilate};
use imaging::{ColorType, Image, Mask, Rect, Samples, Silent};
use rayon::prelude::*;

use super::options::{PageOptions, PixelTask, PixelTrainOptions};
use super::photographs::{Photographs, cut};
use super::scan::Scan;
use crate::error::Result;
use crate::random::{SplitMix64, sub_seed};
use crate::train::data::DamagedPixels;

/// A part of a photograph before and after.
#[derive(Debug)]
pub(super) struct Page {
    /// 8-bit RGB.
    pub(super) clean: Image,
    /// What the network is shown: for the detector the damaged picture, for the refiner the filled one; for the autoencoder
    /// the same as `clean`, which has grey holes then.
    pub(super) shown: Image,
    /// What it is to find, or to repaint.
    pub(super) mask: DamagedPixels,
}

impl Page {
    /// Makes a page.
    pub(super) fn make(
        photograph: &Path,
        task: PixelTask,
        options: &PageOptions,
        seed: u64,
    ) -> Result<Self> {
        // 1. the clean picture
        let mut random = SplitMix64::named(seed, "page");
        let [low, high] = options.longest_side.map(|side| (side as f64).ln());
        let longest = (low + f64::from(random.unit()) * (high - low)).exp().round() as usize;
        let mut clean = cut(photograph, longest, options, &mut random)?;
        let (is_aged, has_decoys) = (random.chance(options.aged), random.chance(options.decoys));
        if random.chance(options.objects) {
            let objects = DecoyOptions { kinds: vec![DecoyKind::Objects], count: 1..=3 };
            clean = draw_decoys(&clean, &objects, sub_seed(seed, "objects"))?;
        }
        if is_aged {
            clean = age(&clean, seed)?;
        }
        if has_decoys {
            clean = draw_decoys(&clean, &DecoyOptions::default(), seed)?;
        }

        // 2. damaged
        let is_undamaged = random.chance(options.undamaged) && task != PixelTask::Refiner;
        if is_undamaged {
            let mask = Mask::empty(clean.width(), clean.height());
            let page = Self { shown: clean.clone(), clean, mask: DamagedPixels::new(mask) };
            return page.scanned_or_not(task, options, seed);
        }
        let damaged = damage(&clean, &options.recipe()?, seed)?;
        if task == PixelTask::Detector {
            let is_reversed = random.chance(options.reversed);
            let shown = if is_reversed { reversed(&clean, &damaged.image)? } else { damaged.image };
            let page = Self { clean, shown, mask: DamagedPixels::new(damaged.mask) };
            return page.scanned_or_not(task, options, seed);
        }
        if task == PixelTask::Autoencoder {
            let hidden = hide(&clean, &damaged.mask)?;
            return Ok(Self {
                clean: hidden.clone(),
                shown: hidden,
                mask: DamagedPixels::new(damaged.mask),
            });
        }

        // 3. filled, with a rim as restoration grows masks by
        let element = StructuringElement::disc(2 * random.below(4) + 1)?;
        let mask = Mask::from_plane(dilate(damaged.mask.plane(), &element));
        let mut filled = clean.clone();
        if mask.count() < mask.width() * mask.height() {
            fill(&mut filled, &mask, &FillOptions::default(), &Silent)?;
        }
        Ok(Self { clean, shown: filled, mask: DamagedPixels::new(mask) })
    }

    /// The page, or what a scan with more pixels than detail shows of it.
    fn scanned_or_not(self, task: PixelTask, options: &PageOptions, seed: u64) -> Result<Self> {
        let is_scanned = SplitMix64::named(seed, "scanned").chance(options.scanned);
        if !is_scanned || task != PixelTask::Detector {
            return Ok(self);
        }
        let scan = Scan::any(self.clean.size(), seed);
        Ok(Self {
            clean: scan.of_image(&self.clean)?,
            shown: scan.of_image(&self.shown)?,
            mask: DamagedPixels::new(scan.of_mask(self.mask.mask())?),
        })
    }

    /// Where to cut a crop of `side` pixels, no more than the page has: with probability `near` around a damaged pixel, if
    /// there is any, anywhere else.
    pub(super) fn place(&self, side: usize, near: f64, random: &mut SplitMix64) -> Rect {
        let (width, height) = self.clean.size();
        let (most_x, most_y) = (width - side, height - side);
        let anywhere = (random.below(most_x + 1), random.below(most_y + 1));
        let offsets = (random.below(side), random.below(side));
        let wanted = random.chance(near);
        let index = random.below(self.mask.total().max(1));
        let (x, y) = match self.mask.pixel(index).filter(|_| wanted) {
            Some((x, y)) => {
                (x.saturating_sub(offsets.0).min(most_x), y.saturating_sub(offsets.1).min(most_y))
            }
            None => anywhere,
        };
        Rect::new(x, y, side, side)
    }
}

/// The damage in its opposite tones: what lightens a pixel darkens it by as much, and the other way round.
fn reversed(clean: &Image, damaged: &Image) -> Result<Image> {
    let (Samples::U8(clean), Samples::U8(changed)) = (clean.samples(), damaged.samples()) else {
        return Ok(damaged.clone());
    };
    let reverse = |(&clean, &changed): (&u8, &u8)| {
        (2 * i16::from(clean) - i16::from(changed)).clamp(0, 255) as u8
    };
    let samples = clean.iter().zip(changed).map(reverse).collect();
    Ok(Image::new(damaged.width(), damaged.height(), damaged.color(), Samples::U8(samples))?)
}

/// The picture with the masked pixels grey, as networks are shown what is to be repainted.
fn hide(image: &Image, mask: &Mask) -> Result<Image> {
    let Samples::U8(mut samples) = image.samples().clone() else { return Ok(image.clone()) };
    for (pixel, &weight) in samples.chunks_exact_mut(3).zip(mask.plane().data()) {
        if weight > 0 {
            pixel.fill(128);
        }
    }
    Ok(Image::new(image.width(), image.height(), ColorType::Rgb, Samples::U8(samples))?)
}

/// The pages that are in use.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    photographs: &'a Photographs,
    task: PixelTask,
    options: &'a PageOptions,
    seed: u64,
    made: BTreeMap<u64, Page>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(photographs: &'a Photographs, options: &'a PixelTrainOptions) -> Self {
        let PixelTrainOptions { task, seed, pages, .. } = options;
        let seed = sub_seed(*seed, "pages");
        Self { photographs, task: *task, options: pages, seed, made: BTreeMap::new() }
    }

    /// Makes what the step needs that is not there yet, and lets go of what no later step needs.
    pub(super) fn turn_to(&mut self, step: u64) -> Result<()> {
        let first = step / self.options.steps_per_page;
        let numbers = first..first + self.options.pages;
        self.made = self.made.split_off(&first);
        let missing: Vec<_> = numbers.filter(|number| !self.made.contains_key(number)).collect();
        let made: Vec<_> = missing
            .into_par_iter()
            .map(|number| Ok((number, self.make(number)?)))
            .collect::<Result<_>>()?;
        self.made.extend(made);
        Ok(())
    }

    /// A page by its number.
    pub(super) fn make(&self, number: u64) -> Result<Page> {
        let photograph = self.photographs.of_page(number, self.seed);
        let seed = sub_seed(self.seed, &format!("page {number}"));
        Page::make(photograph, self.task, self.options, seed)
    }

    /// One of the pages in use.
    pub(super) fn any(&self, random: &mut SplitMix64) -> Option<&Page> {
        self.made.values().nth(random.below(self.made.len().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversed_damage_is_as_far_on_the_other_side() {
        let image = |samples: Vec<u8>| Image::new(2, 1, ColorType::Rgb, Samples::U8(samples));
        let clean = image(vec![100, 100, 100, 30, 200, 7]).unwrap();
        let damaged = image(vec![100, 160, 40, 90, 90, 7]).unwrap();
        let Samples::U8(samples) = reversed(&clean, &damaged).unwrap().samples().clone() else {
            panic!("expected 8 bits")
        };
        assert_eq!(samples, [100, 40, 160, 0, 255, 7]);
    }
}
