//! The picture being damaged: painting layers of damage on it, and keeping the mask beside it.
//!
//! A [`Layer`] is a heap of shapes of one material. Each shape says how much of a pixel it covers and how far
//! it lifts the surface there. Light falls at a slant, so that a lifted edge is bright on one side and dark on
//! the other, and broken emulsion, being thicker than the paper under it, casts a thin shadow.
//!
//! Layers are rendered in bands of rows, each with the few rows around it that the shading looks at. Bands
//! share nothing and shapes combine by the maximum, so the result does not depend on the threads.

use rayon::prelude::*;

use super::material::{Color, Material, Medium};
use crate::image::{ColorType, Image, Samples};
use crate::mask::Mask;
use crate::plane::Plane;

/// Coverage below this changes nothing: the pixel keeps its value and stays out of the mask.
const MIN_ALPHA: f32 = 0.04;

/// Taken off all shading, so that it ends softly rather than in a step.
const SHADE_FLOOR: f32 = 0.04;

/// Shading weaker than this (after the floor) changes nothing: the pixel keeps its value and stays out of the mask.
const MIN_SHADE: f32 = 0.02;

/// Rows rendered together.
const BAND: usize = 64;

/// What a shape does to one pixel.
#[derive(Clone, Copy, Default)]
pub(super) struct Cover {
    /// How much of the pixel is covered, in `[0, 1]`.
    pub(super) alpha: f32,
    /// How far the surface is lifted; a difference of 1 over the light's reach is full shading.
    pub(super) height: f32,
}

/// Left, top, right and bottom in pixels.
pub(super) type Bounds = [f32; 4];

/// Something on the picture, at pixel centres with whole coordinates.
pub(super) trait Shape: Send + Sync {
    /// Outside these the shape does nothing.
    fn bounds(&self) -> Bounds;

    /// What it does to the pixel at `(x, y)`.
    fn cover(&self, x: f32, y: f32) -> Cover;

    /// Combines the shape into `row`, whose first pixel is at `(x, y)`.
    ///
    /// Here rather than in the loop over the shapes, so that `cover` is inlined into the loop over pixels.
    fn combine(&self, x: f32, y: f32, row: &mut [Cover]) {
        for (index, cover) in row.iter_mut().enumerate() {
            let new = self.cover(x + index as f32, y);
            cover.alpha = cover.alpha.max(new.alpha);
            cover.height = cover.height.max(new.height);
        }
    }
}

/// Shapes of one material.
pub(super) struct Layer {
    /// Combined by the maximum of coverage and height.
    pub(super) shapes: Vec<Box<dyn Shape>>,
    /// What covers the picture where the shapes do.
    pub(super) material: Material,
    /// How far the picture's surface stands above the material; its edges are shaded by that much.
    pub(super) thickness: f32,
}

impl Layer {
    /// An empty layer.
    pub(super) const fn new(material: Material, thickness: f32) -> Self {
        Self { shapes: Vec::new(), material, thickness }
    }

    /// Adds a shape.
    pub(super) fn push(&mut self, shape: impl Shape + 'static) {
        self.shapes.push(Box::new(shape));
    }
}

/// A channel value of either depth.
trait Sample: Copy + Send + Sync {
    fn to_unit(self) -> f32;
    fn from_unit(value: f32) -> Self;
}

impl Sample for u8 {
    fn to_unit(self) -> f32 {
        f32::from(self) * (1.0 / 255.0)
    }

    fn from_unit(value: f32) -> Self {
        // The conversion saturates, so that values outside [0, 1] are clamped.
        (value * 255.0 + 0.5) as Self
    }
}

impl Sample for u16 {
    fn to_unit(self) -> f32 {
        f32::from(self) * (1.0 / 65535.0)
    }

    fn from_unit(value: f32) -> Self {
        (value * 65535.0 + 0.5) as Self
    }
}

/// The colour of a pixel; grey is repeated.
fn read<T: Sample>(pixel: &[T], colors: usize) -> Color {
    if colors == 1 {
        [pixel[0].to_unit(); 3]
    } else {
        [pixel[0].to_unit(), pixel[1].to_unit(), pixel[2].to_unit()]
    }
}

/// Stores a colour; grey gets its luma (Rec. 601, as [`Image::luma8`]).
fn write<T: Sample>(pixel: &mut [T], colors: usize, color: Color) {
    if colors == 1 {
        pixel[0] = T::from_unit(luma(color));
    } else {
        for (value, new) in pixel.iter_mut().zip(color) {
            *value = T::from_unit(new);
        }
    }
}

/// Rec. 601 luma.
pub(super) fn luma([r, g, b]: Color) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// The picture so far.
pub(super) struct Canvas {
    image: Image,
    mask: Mask,
    /// Pixels that one unit of length measures: 1 on a picture of 512 × 512, in proportion to √area else.
    pub(super) unit: f32,
    /// What the print is made of, and the light on it.
    pub(super) medium: Medium,
}

impl Canvas {
    /// A canvas over a clean picture.
    pub(super) fn new(image: Image, seed: u64) -> Self {
        let (width, height) = image.size();
        // Below an eighth nothing gets smaller, so that strokes on tiny pictures stay a few steps long.
        let unit = (((width as f32) * (height as f32)).sqrt() / 512.0).max(0.125);
        Self { mask: Mask::empty(width, height), image, unit, medium: Medium::new(seed, unit) }
    }

    /// Columns, in pixels.
    pub(super) fn width(&self) -> f32 {
        self.image.width() as f32
    }

    /// Rows, in pixels.
    pub(super) fn height(&self) -> f32 {
        self.image.height() as f32
    }

    /// How wide an edge is blurred, in pixels: real scans are not sharp to the pixel at high resolutions.
    pub(super) fn softness(&self) -> f32 {
        (self.unit * 0.45).max(1.0)
    }

    /// How far apart the two heights are that make the shading, in pixels.
    pub(super) fn reach(&self) -> f32 {
        (self.unit * 0.6).max(1.0)
    }

    /// The picture and the mask of its structural damage.
    pub(super) fn finish(self) -> (Image, Mask) {
        (self.image, self.mask)
    }

    /// Paints the layer and marks what it changed.
    pub(super) fn paint(&mut self, layer: &Layer) {
        let color = self.image.color();
        let (width, _) = self.image.size();
        let reach = self.reach();
        let (light_x, light_y) = self.medium.light;
        let mut offset = ((light_x * reach).round() as i32, (light_y * reach).round() as i32);
        if offset == (0, 0) {
            offset.0 = 1;
        }
        let painter = Painter {
            layer,
            color,
            width,
            offset,
            bounds: layer.shapes.iter().map(|shape| shape.bounds()).collect(),
            medium: &self.medium,
        };
        let mask = self.mask.plane_mut().data_mut();
        match self.image.samples_mut() {
            Samples::U8(samples) => painter.paint(samples, mask),
            Samples::U16(samples) => painter.paint(samples, mask),
        }
    }

    /// Replaces every colour by `new(x, y, colour)`. The mask stays.
    pub(super) fn recolor(&mut self, new: impl Fn(f32, f32, Color) -> Color + Sync) {
        let (width, color) = (self.image.width(), self.image.color());
        match self.image.samples_mut() {
            Samples::U8(samples) => recolor(samples, width, color, &new),
            Samples::U16(samples) => recolor(samples, width, color, &new),
        }
    }

    /// Replaces each colour channel by `new(channel)`, one after the other. The mask stays.
    pub(super) fn filter(&mut self, new: impl Fn(Plane<f32>) -> Plane<f32>) {
        let size = self.image.size();
        let channels = self.image.color().channels();
        for channel in 0..self.image.color().color_channels() {
            match self.image.samples_mut() {
                Samples::U8(samples) => filter(samples, size, channels, channel, &new),
                Samples::U16(samples) => filter(samples, size, channels, channel, &new),
            }
        }
    }
}

fn recolor<T: Sample>(
    samples: &mut [T],
    width: usize,
    color: ColorType,
    new: &(impl Fn(f32, f32, Color) -> Color + Sync),
) {
    let (channels, colors) = (color.channels(), color.color_channels());
    samples.par_chunks_mut(width * channels).enumerate().for_each(|(y, row)| {
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            write(pixel, colors, new(x as f32, y as f32, read(pixel, colors)));
        }
    });
}

fn filter<T: Sample>(
    samples: &mut [T],
    (width, height): (usize, usize),
    channels: usize,
    channel: usize,
    new: &impl Fn(Plane<f32>) -> Plane<f32>,
) {
    let values = samples.iter().skip(channel).step_by(channels);
    let plane = Plane::from_vec(width, height, values.map(|value| value.to_unit()).collect())
        .expect("one value for each pixel of a valid image");
    let plane = new(plane);
    for (value, &filtered) in samples.iter_mut().skip(channel).step_by(channels).zip(plane.data()) {
        *value = T::from_unit(filtered);
    }
}

/// One layer on its way to the picture.
struct Painter<'a> {
    layer: &'a Layer,
    bounds: Vec<Bounds>,
    color: ColorType,
    width: usize,
    /// Away from the light, in pixels.
    offset: (i32, i32),
    medium: &'a Medium,
}

impl Painter<'_> {
    fn paint<T: Sample>(&self, samples: &mut [T], mask: &mut [u8]) {
        let band = BAND * self.width;
        samples
            .par_chunks_mut(band * self.color.channels())
            .zip(mask.par_chunks_mut(band))
            .enumerate()
            .for_each(|(index, (samples, mask))| self.paint_band(index * BAND, samples, mask));
    }

    fn paint_band<T: Sample>(&self, first_row: usize, samples: &mut [T], mask: &mut [u8]) {
        let rows = mask.len() / self.width;
        let (dx, dy) = self.offset;
        let (pad_x, pad_y) = (dx.unsigned_abs() as usize, dy.unsigned_abs() as usize);
        // 1. The shapes that touch the band with its margin, and the columns that they touch.
        let top = first_row as f32 - pad_y as f32;
        let bottom = (first_row + rows + pad_y) as f32;
        let touching: Vec<usize> = (0..self.bounds.len())
            .filter(|&shape| {
                let [left, shape_top, right, shape_bottom] = self.bounds[shape];
                shape_bottom >= top
                    && shape_top <= bottom
                    && right >= -(pad_x as f32)
                    && left <= (self.width + pad_x) as f32
            })
            .collect();
        if touching.is_empty() {
            return;
        }
        let left = touching.iter().map(|&shape| self.bounds[shape][0]).fold(f32::MAX, f32::min);
        let right = touching.iter().map(|&shape| self.bounds[shape][2]).fold(f32::MIN, f32::max);
        // Casts saturate: what lies left of the picture starts at column 0.
        let first_column = (left.floor() as usize).saturating_sub(pad_x).min(self.width);
        let end_column = (right.max(0.0).ceil() as usize + pad_x + 1).min(self.width);
        if first_column >= end_column {
            return;
        }
        let columns = end_column - first_column;

        // 2. Their cover, with a margin for the shading.
        let (stride, lines) = (columns + 2 * pad_x, rows + 2 * pad_y);
        let mut cover = vec![Cover::default(); stride * lines];
        let origin_x = first_column as f32 - pad_x as f32;
        for shape in touching {
            let [left, shape_top, right, shape_bottom] = self.bounds[shape];
            let from = ((left - origin_x).floor() as usize).min(stride);
            let to = ((right - origin_x).ceil().max(0.0) as usize + 1).min(stride);
            let from_line = ((shape_top - top).floor() as usize).min(lines);
            let to_line = ((shape_bottom - top).ceil().max(0.0) as usize + 1).min(lines);
            if from >= to {
                continue;
            }
            for line in from_line..to_line {
                let row = &mut cover[line * stride + from..line * stride + to];
                self.layer.shapes[shape].combine(origin_x + from as f32, top + line as f32, row);
            }
        }

        // 3. Light, material and mask.
        let (channels, colors) = (self.color.channels(), self.color.color_channels());
        let thickness = self.layer.thickness;
        let level = |cover: Cover| cover.height - thickness * cover.alpha;
        for row in 0..rows {
            for column in 0..columns {
                let at = (row + pad_y) * stride + column + pad_x;
                let step = dy as isize * stride as isize + dx as isize;
                let behind = level(cover[at.wrapping_add_signed(step)]);
                let before = level(cover[at.wrapping_add_signed(-step)]);
                let mut shade = (behind - before).clamp(-0.85, 0.85);
                shade = (shade.abs() - SHADE_FLOOR).max(0.0).copysign(shade);
                let mut alpha = cover[at].alpha.min(1.0);
                if shade.abs() < MIN_SHADE {
                    shade = 0.0;
                }
                if alpha < MIN_ALPHA {
                    alpha = 0.0;
                }
                let x = first_column + column;
                let index = row * self.width + x;
                if shade == 0.0 && alpha == 0.0 {
                    // The crest of a crease has light on one side and shade on the other and lies between them
                    // unchanged; it is damaged all the same.
                    let crest = 2.0 * level(cover[at]) - behind - before;
                    if cover[at].height > 0.0 && crest > 0.75 * SHADE_FLOOR {
                        mask[index] = Mask::DAMAGED;
                    }
                    continue;
                }
                let pixel = &mut samples[index * channels..(index + 1) * channels];
                let under = read(pixel, colors);
                let position = (x as f32, (first_row + row) as f32);
                let over = self.layer.material.color(position, under, alpha, self.medium);
                let mixed = [0, 1, 2].map(|channel| {
                    let value = under[channel] + alpha * (over[channel] - under[channel]);
                    lit(value, shade)
                });
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
