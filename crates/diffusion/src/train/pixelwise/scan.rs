//! Pages as they would be scanned with more pixels than they have detail: damage is as soft as all else, and as wide.

use imaging::imgproc::{Interpolation, resize, resize_lanczos};
use imaging::{Image, Mask, Plane, Rect};

use super::photographs::rgb8;
use crate::error::Result;
use crate::random::SplitMix64;

/// The strongest enlargement: what is enlarged by two or more is halved before it is looked at
/// ([`reduced_to_detail`](imaging::detect::reduced_to_detail)).
const ENLARGED: f32 = 2.2;
/// The strongest noise, a standard deviation in parts of the range: 4 grey levels.
const NOISE: f32 = 4.0 / 255.0;

/// A part of a page enlarged to the page's size, with a scanner's noise.
#[derive(Debug)]
pub(super) struct Scan {
    part: Rect,
    size: (usize, usize),
    noise: Plane<f32>,
}

impl Scan {
    /// A scan of any part of a page of this size.
    pub(super) fn any(size: (usize, usize), seed: u64) -> Self {
        let mut random = SplitMix64::named(seed, "scan");
        let scale = ENLARGED.powf(random.unit());
        let [width, height] = [size.0, size.1].map(|side| ((side as f32 / scale) as usize).max(1));
        let (x, y) = (random.below(size.0 - width + 1), random.below(size.1 - height + 1));
        let sigma = NOISE * random.unit();
        let noise = Plane::from_fn(size.0, size.1, |_, _| sigma * random.nearly_normal());
        Self { part: Rect::new(x, y, width, height), size, noise }
    }

    /// What the scan shows of a picture: 8-bit RGB.
    pub(super) fn of_image(&self, image: &Image) -> Result<Image> {
        let mut planes = image
            .color_planes(self.part)
            .iter()
            .map(|plane| resize_lanczos(plane, self.size.0, self.size.1))
            .collect::<imaging::Result<Vec<_>>>()?;
        for plane in &mut planes {
            let noise = self.noise.data();
            plane.data_mut().iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
        }
        Ok(rgb8(&planes, false)?)
    }

    /// Where damage is on the scan: hard.
    pub(super) fn of_mask(&self, mask: &Mask) -> Result<Mask> {
        let part = mask.binarized(1).plane().crop(self.part);
        let enlarged = resize(&part, self.size.0, self.size.1, Interpolation::Linear)?;
        Ok(Mask::from_plane(enlarged).binarized(128))
    }
}

#[cfg(test)]
mod tests {
    use imaging::{ColorType, Samples};

    use super::*;

    #[test]
    fn picture_and_mask_stay_aligned() {
        let (width, height) = (90, 70);
        let is_damaged = |x: usize, y: usize| (x / 9 + y / 7).is_multiple_of(2);
        let mask = Mask::from_fn(width, height, is_damaged);
        let samples = mask.plane().data().iter().flat_map(|&value| [value; 3]).collect();
        let image = Image::new(width, height, ColorType::Rgb, Samples::U8(samples)).unwrap();
        for seed in 0..20 {
            let scan = Scan::any((width, height), seed);
            let (shown, found) = (scan.of_image(&image).unwrap(), scan.of_mask(&mask).unwrap());
            assert_eq!((shown.size(), found.size()), ((width, height), (width, height)));
            let Samples::U8(samples) = shown.samples() else { panic!("expected 8 bits") };
            let differing = samples.chunks_exact(3).zip(found.plane().data());
            let differing = differing.filter(|(pixel, mask)| (pixel[0] >= 128) != (**mask > 0));
            // Where linear and Lanczos' interpolation cross one half differs at edges, by a pixel at most.
            let count = differing.count();
            assert!(count < width * height / 10, "{seed}: {count}");
        }
    }
}
