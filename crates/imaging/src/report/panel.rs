//! Pictures at the size of a page: 8-bit RGB, by the area that each screen pixel covers.

use crate::geometry::Rect;
use crate::image::{Image, Samples};

/// Interleaved 8-bit RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Panel {
    /// The part `rect` of a picture, at `width × height`. Shrinking averages; enlarging shows the pixels as squares.
    /// Alpha is left out.
    pub(crate) fn new(image: &Image, rect: Rect, (width, height): (usize, usize)) -> Self {
        match image.samples() {
            Samples::U8(values) => scaled(image, values, rect, (width, height), 1.0),
            Samples::U16(values) => scaled(image, values, rect, (width, height), 1.0 / 257.0),
        }
    }

    /// Copies the panel into a larger one with its corner at column `x`, row `y`, cut at the borders.
    pub(crate) fn paste(&mut self, x: usize, y: usize, panel: &Self) {
        let columns = panel.width.min(self.width.saturating_sub(x));
        for row in 0..panel.height.min(self.height.saturating_sub(y)) {
            let from = &panel.rgb[row * panel.width * 3..][..columns * 3];
            let start = ((y + row) * self.width + x) * 3;
            self.rgb[start..start + columns * 3].copy_from_slice(from);
        }
    }
}

/// The size of a picture whose longer side becomes `longest`; small pictures grow by a whole factor.
pub(crate) fn fitted((width, height): (usize, usize), longest: usize) -> (usize, usize) {
    let side = width.max(height).max(1);
    if side <= longest {
        let factor = (longest / side).clamp(1, 4);
        return (width * factor, height * factor);
    }
    let shrink = |length: usize| ((length * longest + side / 2) / side).max(1);
    (shrink(width), shrink(height))
}

/// The source pixels that output pixel `index` covers, and how much of each.
fn covered(index: usize, start: usize, length: usize, outputs: usize) -> Vec<(usize, f32)> {
    let scale = length as f64 / outputs as f64;
    let (from, to) = (index as f64 * scale, (index + 1) as f64 * scale);
    let last = (to.ceil() as usize).min(length);
    (from as usize..last)
        .map(|i| {
            let share = (to.min((i + 1) as f64) - from.max(i as f64)) / (to - from);
            (start + i, share as f32)
        })
        .collect()
}

fn scaled<T: Copy + Into<f32>>(
    image: &Image,
    values: &[T],
    rect: Rect,
    (width, height): (usize, usize),
    factor: f32,
) -> Panel {
    let channels = image.color().channels();
    let color = image.color().color_channels();
    let columns: Vec<Vec<(usize, f32)>> =
        (0..width).map(|x| covered(x, 0, rect.width, width)).collect();
    let mut rgb = Vec::with_capacity(width * height * 3);
    let mut row_sum = vec![0.0_f32; rect.width * channels];
    for y in 0..height {
        row_sum.fill(0.0);
        for (source, share) in covered(y, rect.y, rect.height, height) {
            let start = (source * image.width() + rect.x) * channels;
            for (sum, &value) in row_sum.iter_mut().zip(&values[start..]) {
                *sum += share * value.into();
            }
        }
        for sources in &columns {
            let mut pixel = [0.0_f32; 3];
            for &(source, share) in sources {
                for (channel, sum) in pixel.iter_mut().enumerate() {
                    *sum += share * row_sum[source * channels + channel.min(color - 1)];
                }
            }
            rgb.extend(pixel.map(|value| (value * factor).round().clamp(0.0, 255.0) as u8));
        }
    }
    Panel { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ColorType;

    #[test]
    fn shrinking_averages_and_enlarging_repeats() {
        let samples = Samples::U16([0, 100, 200, 255].map(|value| value * 257).to_vec());
        let image = Image::new(4, 1, ColorType::Gray, samples).expect("4 px");
        let small = Panel::new(&image, image.bounds(), (2, 1));
        // (0 + 100) / 2 = 50, (200 + 255) / 2 = 227.5
        assert_eq!(small.rgb, [50, 50, 50, 228, 228, 228]);
        let large = Panel::new(&image, Rect::new(1, 0, 2, 1), (4, 1));
        let gray: Vec<u8> = large.rgb.iter().copied().step_by(3).collect();
        assert_eq!(gray, [100, 100, 200, 200]);
    }

    #[test]
    fn sizes_keep_their_shape() {
        assert_eq!(fitted((4000, 3000), 640), (640, 480));
        assert_eq!(fitted((100, 200), 640), (300, 600));
        assert_eq!(fitted((10_000, 3), 100), (100, 1));
    }
}
