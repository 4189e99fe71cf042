//! The picture being damaged: painting layers of damage on it, and keeping the mask beside it.
//!
//! A [`Layer`] is a heap of shapes of one material. Each shape says how much of a pixel it covers and how far
//! it lifts the surface there. Light falls at a slant, so that a lifted edge is bright on one side and dark on
//! the other, and broken emulsion, being thicker than the paper under it, casts a thin shadow.
//!
//! Layers are rendered in bands of rows, each with the few rows around it that the shading looks at. Bands
//! share nothing and shapes combine by the maximum, so the result does not depend on the threads.

use super::material::{Material, Medium};
use super::painter::Painter;
use super::pixel::{Row, Sample, filter, read, recolor};
use crate::error::Result;
use crate::image::{ColorType, Image, Samples};
use crate::mask::Mask;
use crate::plane::Plane;

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

/// The picture so far.
pub(super) struct Canvas {
    image: Image,
    mask: Mask,
    /// Pixels that one unit of length measures: 1 on a picture of 512 × 512, in proportion to √area else.
    pub(super) unit: f32,
    /// What the print is made of, and the light on it.
    pub(super) medium: Medium,
    /// In pixels.
    softness: f32,
}

impl Canvas {
    /// A canvas over a clean picture.
    pub(super) fn new(image: Image, seed: u64) -> Self {
        let (width, height) = image.size();
        // Below an eighth nothing gets smaller, so that strokes on tiny pictures stay a few steps long.
        let unit = (((width as f32) * (height as f32)).sqrt() / 512.0).max(0.125);
        let mut medium = Medium::new(seed, unit);
        medium.colorful = colorful(&image);
        let softness = (unit * 0.45 * medium.blur).max(1.0);
        Self { mask: Mask::empty(width, height), image, unit, medium, softness }
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
    pub(super) const fn softness(&self) -> f32 {
        self.softness
    }

    /// Blurs what is painted from now on over so many pixels, at least 1.
    pub(super) const fn set_softness(&mut self, pixels: f32) {
        self.softness = pixels.max(1.0);
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
        let painter = Painter { layer, color, width, offset, medium: &self.medium };
        let mask = self.mask.plane_mut().data_mut();
        match self.image.samples_mut() {
            Samples::U8(samples) => painter.paint(samples, mask),
            Samples::U16(samples) => painter.paint(samples, mask),
        }
    }

    /// Replaces the colours row by row by what `new` makes of them; `state` is what rows of a strip share. The
    /// mask stays.
    pub(super) fn recolor<S>(
        &mut self,
        state: impl Fn() -> S + Sync,
        new: impl Fn(&mut S, Row<'_>) + Sync,
    ) {
        let (width, color) = (self.image.width(), self.image.color());
        match self.image.samples_mut() {
            Samples::U8(samples) => recolor(samples, width, color, &state, &new),
            Samples::U16(samples) => recolor(samples, width, color, &state, &new),
        }
    }

    /// Replaces each colour channel by `new(channel)`, one after the other. The mask stays.
    ///
    /// # Errors
    /// The first that `new` gives; later channels are as they were.
    pub(super) fn try_filter(
        &mut self,
        new: impl Fn(Plane<f32>) -> Result<Plane<f32>>,
    ) -> Result<()> {
        let size = self.image.size();
        let channels = self.image.color().channels();
        for channel in 0..self.image.color().color_channels() {
            match self.image.samples_mut() {
                Samples::U8(samples) => filter(samples, size, channels, channel, &new)?,
                Samples::U16(samples) => filter(samples, size, channels, channel, &new)?,
            }
        }
        Ok(())
    }

    /// As [`try_filter`](Self::try_filter) with a filter that cannot fail.
    pub(super) fn filter(&mut self, new: impl Fn(Plane<f32>) -> Plane<f32>) {
        let done = self.try_filter(|plane| Ok(new(plane)));
        debug_assert!(done.is_ok(), "nothing above fails");
    }

    /// The picture so far, to change without regard to the mask.
    pub(super) const fn image_mut(&mut self) -> &mut Image {
        &mut self.image
    }
}

/// How colourful a picture is, from 0 for greys and tints of them to 1: the spread of its pixels' casts.
fn colorful(image: &Image) -> f32 {
    fn spread<T: Sample>(samples: &[T], color: ColorType) -> f32 {
        let (channels, colors) = (color.channels(), color.color_channels());
        // About a thousand pixels, an odd number apart.
        let apart = (samples.len() / channels / 1000).max(1) | 1;
        let (mut count, mut sums) = (0.0_f32, [0.0_f32; 4]);
        for pixel in samples.chunks_exact(channels).step_by(apart) {
            let [r, g, b] = read(pixel, colors);
            let (u, v) = (r - g, b - g);
            count += 1.0;
            for (sum, value) in sums.iter_mut().zip([u, v, u * u, v * v]) {
                *sum += value;
            }
        }
        let [u, v, uu, vv] = sums.map(|sum| sum / count);
        (uu - u * u + vv - v * v).max(0.0).sqrt()
    }
    let color = image.color();
    let spread = match image.samples() {
        Samples::U8(samples) => spread(samples, color),
        Samples::U16(samples) => spread(samples, color),
    };
    ((spread - 0.03) * 16.0).clamp(0.0, 1.0)
}
