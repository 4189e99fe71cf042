//! Crops of pages as the network takes them.

use candle_core::{Device, Tensor};
use imaging::{Image, Rect, Samples};

use super::options::PixelTask;
use super::pages::Page;
use crate::error::Result;
use crate::pixels::luma;

/// What goes into the network, and what is right.
#[derive(Clone, Debug)]
pub(super) struct CropBatch {
    /// `(b, h, w, in_channels)`, f32.
    pub(super) input: Tensor,
    /// The clean picture, `b · h · w · 3` values in `[-1, 1]`.
    pub(super) clean: Vec<f32>,
    /// 1 where the picture is damaged, `b · h · w` values.
    pub(super) mask: Vec<f32>,
    /// What the network is shown of the picture, as `clean`.
    pub(super) shown: Vec<f32>,
}

impl CropBatch {
    /// Crops of equal size, for a network that takes so many channels: all there is of them, clean ones too, is luma if a detector
    /// takes one.
    pub(super) fn new(task: PixelTask, channels: usize, crops: &[(&Page, Rect)]) -> Result<Self> {
        let (mut clean, mut shown, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for &(page, rect) in crops {
            push_pixels(&page.clean, rect, &mut clean);
            push_pixels(&page.shown, rect, &mut shown);
            let plane = page.mask.mask().plane();
            for y in rect.y..rect.bottom() {
                let row = &plane.row(y)[rect.x..rect.right()];
                mask.extend(row.iter().map(|&weight| f32::from(weight > 0)));
            }
        }
        let is_luma = task == PixelTask::Detector && channels == 1;
        if is_luma {
            [&mut clean, &mut shown].into_iter().for_each(|pixels| to_luma(pixels));
        }
        let (height, width) = crops.first().map_or((0, 0), |(_, rect)| (rect.height, rect.width));
        let shape = (crops.len(), height, width, channels);
        let values = if is_luma {
            shown.iter().step_by(3).copied().collect()
        } else {
            network_input(task, &shown, &mask)
        };
        let input = Tensor::from_vec(values, shape, &Device::Cpu)?;
        Ok(Self { input, clean, mask, shown })
    }

    /// Height and width of each crop.
    pub(super) fn size(&self) -> (usize, usize) {
        let dims = self.input.dims();
        (dims[1], dims[2])
    }
}

/// The channels that the network of a task takes, from the picture in `[-1, 1]` and the mask.
fn network_input(task: PixelTask, shown: &[f32], mask: &[f32]) -> Vec<f32> {
    match task {
        PixelTask::Detector | PixelTask::Autoencoder => shown.to_vec(),
        PixelTask::Refiner => {
            let pixels = shown.chunks_exact(3).zip(mask);
            pixels.flat_map(|(pixel, &mask)| [pixel[0], pixel[1], pixel[2], mask]).collect()
        }
    }
}

/// All three values of each pixel become its luma, rounded as that of 8-bit pictures.
fn to_luma(pixels: &mut [f32]) {
    for pixel in pixels.chunks_exact_mut(3) {
        let level = 127.5 * (luma([pixel[0], pixel[1], pixel[2]]) + 1.0);
        pixel.fill(level.round() / 127.5 - 1.0);
    }
}

/// The pixels of an 8-bit RGB picture in `[-1, 1]`.
fn push_pixels(image: &Image, rect: Rect, out: &mut Vec<f32>) {
    let Samples::U8(samples) = image.samples() else { return };
    for y in rect.y..rect.bottom() {
        let start = 3 * (y * image.width() + rect.x);
        let row = &samples[start..start + 3 * rect.width];
        out.extend(row.iter().map(|&value| f32::from(value) * (2.0 / 255.0) - 1.0));
    }
}
