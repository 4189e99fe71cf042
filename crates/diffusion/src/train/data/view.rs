//! A part of a picture as tensors: cut, resized, and damaged if it is not yet.

use candle_core::Tensor;
use imaging::damage::{DamageKind, DamageRecipe};
use imaging::imgproc::resize_lanczos;
use imaging::{ColorType, Image, Mask, Rect, Repainter, Samples, Silent};

use super::crops::DamagedPixels;
use super::damaging;
use crate::error::Result;
use crate::pixels::{decoded_planes, image_tensor, mask_tensor, paste_all};

/// What is seen of a picture.
pub(super) struct View {
    /// `(1, 3, h, w)` in [-1, 1].
    pub(super) clean: Tensor,
    /// Likewise.
    pub(super) damaged: Tensor,
    /// `(1, 1, h, w)`, 1 = repaint.
    pub(super) mask: Tensor,
    /// True if damage changed all of it.
    pub(super) everywhere: bool,
    /// What it was damaged with, as far as that is known.
    pub(super) kinds: Vec<DamageKind>,
}

impl View {
    /// Looks at a triplet. `rect` lies inside all three; `size` is `(width, height)` in pixels.
    pub(super) fn of_triplet(
        clean: &Image,
        damaged: &Image,
        damage: &DamagedPixels,
        rect: Rect,
        size: (usize, usize),
    ) -> Result<Self> {
        Ok(Self {
            clean: image_tensor(clean, rect, size)?,
            damaged: image_tensor(damaged, rect, size)?,
            mask: mask_tensor(damage.mask(), rect, size)?,
            everywhere: false,
            kinds: Vec::new(),
        })
    }

    /// Looks at a clean picture and damages what is seen, at the size at which it is seen, so that damage is as coarse
    /// as the network's own picture of it.
    pub(super) fn of_clean(
        clean: &Image,
        recipe: &DamageRecipe,
        seed: u64,
        rect: Rect,
        size: (usize, usize),
    ) -> Result<Self> {
        let clean = cut(clean, rect, size)?;
        let drawn = damaging::damaged(&clean, recipe, seed)?;
        Ok(Self {
            clean: image_tensor(&clean, clean.bounds(), size)?,
            damaged: image_tensor(&drawn.image, clean.bounds(), size)?,
            mask: mask_tensor(&drawn.mask, clean.bounds(), size)?,
            everywhere: drawn.everywhere,
            kinds: drawn.kinds,
        })
    }

    /// Masks more of it.
    pub(super) fn add_holes(&mut self, severity: [f32; 2], seed: u64) -> Result<()> {
        let (_, _, height, width) = self.mask.dims4()?;
        let holes = damaging::holes((width, height), severity, seed)?;
        let holes = mask_tensor(&holes, Rect::new(0, 0, width, height), (width, height))?;
        self.mask = self.mask.maximum(&holes)?;
        Ok(())
    }

    /// The damaged picture, filled where it is to be repainted: `(1, 3, h, w)` in [-1, 1].
    pub(super) fn filled(&self, fill: &dyn Repainter) -> Result<Tensor> {
        let (_, _, height, width) = self.damaged.dims4()?;
        let black = Samples::U16(vec![0; 3 * width * height]);
        let mut image = Image::new(width, height, ColorType::Rgb, black)?;
        let planes = decoded_planes(&self.damaged, image.bounds(), image.color())?;
        paste_all(&mut image, &planes, &Mask::from_fn(width, height, |_, _| true))?;
        let mask: Vec<f32> = self.mask.flatten_all()?.to_vec1()?;
        let mask = Mask::from_fn(width, height, |x, y| mask[y * width + x] > 0.0);
        fill.repaint(&mut image, &mask, &Silent)?;
        image_tensor(&image, image.bounds(), (width, height))
    }

    /// Mirrors it left to right.
    pub(super) fn flip(&mut self) -> Result<()> {
        for tensor in [&mut self.clean, &mut self.damaged, &mut self.mask] {
            *tensor = tensor.flip(&[3])?;
        }
        Ok(())
    }
}

/// A part of a picture at another size, with 8 bits a channel and without alpha. Grey stays grey, so that its damage is.
fn cut(image: &Image, rect: Rect, (width, height): (usize, usize)) -> Result<Image> {
    let mut planes = Vec::with_capacity(3);
    for plane in image.color_planes(rect) {
        planes.push(resize_lanczos(&plane, width, height)?);
    }
    let mut samples = vec![0_u8; planes.len() * width * height];
    for (channel, plane) in planes.iter().enumerate() {
        let values = samples.iter_mut().skip(channel).step_by(planes.len());
        for (sample, value) in values.zip(plane.data()) {
            // Lanczos overshoots; the conversion cuts that off.
            *sample = (value * 255.0).round() as u8;
        }
    }
    let color = if planes.len() == 1 { ColorType::Gray } else { ColorType::Rgb };
    Ok(Image::new(width, height, color, Samples::U8(samples))?)
}
