//! Painting one layer: shapes to cover, cover to light and colour.

use rayon::prelude::*;

use super::canvas::{Bounds, Cover, Layer};
use super::material::Medium;
use super::pixel::{Sample, read, write};
use crate::image::ColorType;
use crate::mask::Mask;

/// Coverage below this changes nothing: the pixel keeps its value and stays out of the mask.
const MIN_ALPHA: f32 = 0.04;

/// Taken off all shading, so that it ends softly rather than in a step.
const SHADE_FLOOR: f32 = 0.04;

/// Shading weaker than this (after the floor) changes nothing: the pixel keeps its value and stays out of the mask.
const MIN_SHADE: f32 = 0.02;

/// Rows rendered together.
const BAND: usize = 32;

/// Columns that are looked at or left alone together.
const BLOCK: usize = 16;

/// One layer on its way to the picture.
pub(super) struct Painter<'a> {
    pub(super) layer: &'a Layer,
    pub(super) color: ColorType,
    pub(super) width: usize,
    /// Away from the light, in pixels.
    pub(super) offset: (i32, i32),
    pub(super) medium: &'a Medium,
}

/// Pixels beside the picture that the shading looks at, and what the shapes do there, for one band.
struct Band {
    cover: Vec<Cover>,
    /// Cover a line.
    stride: usize,
    /// For each row of the picture its blocks of columns in which something may change.
    touched: Vec<bool>,
    blocks: usize,
}

impl Painter<'_> {
    /// Paints `samples`, and marks in `mask` what changed.
    pub(super) fn paint<T: Sample>(&self, samples: &mut [T], mask: &mut [u8]) {
        let bounds: Vec<Bounds> = self.layer.shapes.iter().map(|shape| shape.bounds()).collect();
        // 1. Which shapes reach which band with its margin.
        let height = mask.len() / self.width;
        let pad = self.offset.1.unsigned_abs() as f32;
        let mut queues: Vec<Vec<u32>> = vec![Vec::new(); height.div_ceil(BAND)];
        for (shape, &[left, top, right, bottom]) in bounds.iter().enumerate() {
            let margin = self.offset.0.unsigned_abs() as f32;
            let (low, high) = (top - pad, bottom + pad + 1.0);
            if right < -margin || left > self.width as f32 + margin || high < 0.0 {
                continue;
            }
            // Casts saturate: what lies above the picture starts at band 0.
            let first = low as usize / BAND;
            let last = (high as usize / BAND).min(queues.len() - 1);
            if first <= last {
                queues[first..=last].iter_mut().for_each(|queue| queue.push(shape as u32));
            }
        }
        let band = BAND * self.width;
        samples
            .par_chunks_mut(band * self.color.channels())
            .zip(mask.par_chunks_mut(band))
            .zip(&queues)
            .enumerate()
            .filter(|(_, (_, queue))| !queue.is_empty())
            .for_each(|(index, ((samples, mask), queue))| {
                let cover = self.cover(index * BAND, mask.len() / self.width, queue, &bounds);
                self.light(index * BAND, &cover, samples, mask);
            });
    }

    /// What the shapes of the queue do to the band, with a margin for the shading.
    fn cover(&self, first_row: usize, rows: usize, queue: &[u32], bounds: &[Bounds]) -> Band {
        let (pad_x, pad_y) =
            (self.offset.0.unsigned_abs() as usize, self.offset.1.unsigned_abs() as usize);
        let (stride, lines) = (self.width + 2 * pad_x, rows + 2 * pad_y);
        let blocks = self.width.div_ceil(BLOCK);
        let mut cover = vec![Cover::default(); stride * lines];
        let mut touched = vec![false; blocks * rows];
        let (origin_x, origin_y) = (-(pad_x as f32), first_row as f32 - pad_y as f32);
        for &shape in queue {
            let [left, top, right, bottom] = bounds[shape as usize];
            let from = ((left - origin_x).floor() as usize).min(stride);
            let to = ((right - origin_x).ceil().max(0.0) as usize + 1).min(stride);
            let from_line = ((top - origin_y).floor() as usize).min(lines);
            let to_line = ((bottom - origin_y).ceil().max(0.0) as usize + 1).min(lines);
            if from >= to || from_line >= to_line {
                continue;
            }
            for line in from_line..to_line {
                let row = &mut cover[line * stride + from..line * stride + to];
                let (x, y) = (origin_x + from as f32, origin_y + line as f32);
                self.layer.shapes[shape as usize].combine(x, y, row);
            }
            // Column c of the cover is looked at from the pixels c - 2 · pad to c, and so for lines.
            let first = from.saturating_sub(2 * pad_x) / BLOCK;
            let last = (to.div_ceil(BLOCK)).min(blocks);
            for row in from_line.saturating_sub(2 * pad_y)..to_line.min(rows) {
                touched[row * blocks + first.min(last)..row * blocks + last].fill(true);
            }
        }
        Band { cover, stride, touched, blocks }
    }

    /// Light, material and mask.
    fn light<T: Sample>(&self, first_row: usize, band: &Band, samples: &mut [T], mask: &mut [u8]) {
        let (channels, colors) = (self.color.channels(), self.color.color_channels());
        let thickness = self.layer.thickness;
        let level = |cover: Cover| cover.height - thickness * cover.alpha;
        let (dx, dy) = self.offset;
        let (pad_x, pad_y) = (dx.unsigned_abs() as usize, dy.unsigned_abs() as usize);
        let step = dy as isize * band.stride as isize + dx as isize;
        for (block, _) in band.touched.iter().enumerate().filter(|(_, touched)| **touched) {
            let (row, first) = (block / band.blocks, block % band.blocks * BLOCK);
            for x in first..(first + BLOCK).min(self.width) {
                let at = (row + pad_y) * band.stride + x + pad_x;
                let behind = level(band.cover[at.wrapping_add_signed(step)]);
                let before = level(band.cover[at.wrapping_add_signed(-step)]);
                let here = band.cover[at];
                let mut shade = (behind - before).clamp(-0.85, 0.85);
                shade = (shade.abs() - SHADE_FLOOR).max(0.0).copysign(shade);
                let mut alpha = here.alpha.min(1.0);
                if shade.abs() < MIN_SHADE {
                    shade = 0.0;
                }
                if alpha < MIN_ALPHA {
                    alpha = 0.0;
                }
                let index = row * self.width + x;
                if shade == 0.0 && alpha == 0.0 {
                    // The crest of a crease has light on one side and shade on the other and lies between them
                    // unchanged; it is damaged all the same.
                    let crest = 2.0 * level(here) - behind - before;
                    if here.height > 0.0 && crest > 0.75 * SHADE_FLOOR {
                        mask[index] = Mask::DAMAGED;
                    }
                    continue;
                }
                let pixel = &mut samples[index * channels..(index + 1) * channels];
                let under = read(pixel, colors);
                let mixed = if alpha == 0.0 {
                    under.map(|value| lit(value, shade))
                } else {
                    let position = (x as f32, (first_row + row) as f32);
                    let over = self.layer.material.color(position, under, alpha, self.medium);
                    [0, 1, 2].map(|channel| {
                        let value = under[channel] + alpha * (over[channel] - under[channel]);
                        lit(value, shade)
                    })
                };
                write(pixel, colors, mixed);
                mask[index] = Mask::DAMAGED;
            }
        }
    }
}

/// `value` under more (`shade > 0`) or less light.
fn lit(value: f32, shade: f32) -> f32 {
    if shade > 0.0 {
        // Gloss: even black emulsion shines where its edge faces the light.
        value + shade * (1.0 - value) * 0.55
    } else {
        value * (1.0 + shade)
    }
}
