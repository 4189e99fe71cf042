//! Pages as files of scans show them: softened, grey, noisy, sharpened and compressed *after* they were damaged, so that damage is as
//! soft and as colourless as all else and went through the same file.

use imaging::damage::compress;
use imaging::imgproc::{Gaussian, Interpolation, gaussian_blur_f32, resize, resize_lanczos};
use imaging::{Image, Mask, Plane, Rect};

use super::photographs::rgb8;
use crate::error::Result;
use crate::random::SplitMix64;

/// The strongest enlargement: what is enlarged by two or more is halved before it is looked at
/// ([`reduced_to_detail`](imaging::detect::reduced_to_detail)).
const ENLARGED: f32 = 2.2;
/// From the least to the strongest softness of what is not enlarged: σ in pixels.
const BLUR: [f32; 2] = [0.3, 1.0];
/// The strongest noise, a standard deviation in parts of the range: 4 grey levels.
const NOISE: f32 = 4.0 / 255.0;
/// From the least to the strongest sharpening: how much of the difference from a copy blurred by σ = 1 pixel is added.
const SHARPENING: [f32; 2] = [0.3, 1.2];
/// From the worst to the best quality of JPEG files.
const QUALITY: [f32; 2] = [0.55, 0.97];
/// The share of files without colour, of the damage neither: a network that always saw coloured damage on grey prints found a tenth
/// of it in grey files.
const GREY: f64 = 0.4;

/// A part of a page, as a file of the page's size shows it.
#[derive(Debug)]
pub(super) struct Scan {
    part: Rect,
    size: (usize, usize),
    blur: Option<f32>,
    noise: Option<Plane<f32>>,
    sharpening: Option<f32>,
    quality: Option<f32>,
    is_grey: bool,
}

impl Scan {
    /// A scan of any part of a page of this size.
    pub(super) fn any(size: (usize, usize), seed: u64) -> Self {
        let mut random = SplitMix64::named(seed, "scan");
        let is_enlarged = random.chance(0.5);
        let scale = if is_enlarged { ENLARGED.powf(random.unit()) } else { 1.0 };
        let [width, height] = [size.0, size.1].map(|side| ((side as f32 / scale) as usize).max(1));
        let (x, y) = (random.below(size.0 - width + 1), random.below(size.1 - height + 1));
        let mut at_times = |chance: f64, [low, high]: [f32; 2]| {
            let (drawn, value) = (random.chance(chance), low + (high - low) * random.unit());
            drawn.then_some(value)
        };
        let blur = at_times(0.5, BLUR).filter(|_| !is_enlarged);
        let sigma = at_times(0.6, [0.0, NOISE]);
        let sharpening = at_times(0.25, SHARPENING);
        let quality = at_times(0.6, QUALITY);
        let is_grey = random.chance(GREY);
        let noise = sigma
            .map(|sigma| Plane::from_fn(size.0, size.1, |_, _| sigma * random.nearly_normal()));
        Self {
            part: Rect::new(x, y, width, height),
            size,
            blur,
            noise,
            sharpening,
            quality,
            is_grey,
        }
    }

    /// What the file shows of a picture: 8-bit RGB.
    pub(super) fn of_image(&self, image: &Image) -> Result<Image> {
        let planes = if self.is_grey {
            vec![image.luma8().crop(self.part).map(|value| f32::from(value) / 255.0)]
        } else {
            image.color_planes(self.part)
        };
        let planes =
            planes.iter().map(|plane| self.of_plane(plane)).collect::<imaging::Result<Vec<_>>>()?;
        let mut shown = rgb8(&planes, false)?;
        if let Some(quality) = self.quality {
            compress(&mut shown, quality);
        }
        Ok(shown)
    }

    fn of_plane(&self, plane: &Plane<f32>) -> imaging::Result<Plane<f32>> {
        let mut plane = resize_lanczos(plane, self.size.0, self.size.1)?;
        if let Some(sigma) = self.blur {
            plane = gaussian_blur_f32(&plane, Gaussian::sigma(f64::from(sigma)))?;
        }
        if let Some(noise) = &self.noise {
            let values = plane.data_mut().iter_mut().zip(noise.data());
            values.for_each(|(value, noise)| *value += noise);
        }
        if let Some(amount) = self.sharpening {
            let blurred = gaussian_blur_f32(&plane, Gaussian::sigma(1.0))?;
            let values = plane.data_mut().iter_mut().zip(blurred.data());
            values.for_each(|(value, blurred)| *value += amount * (*value - blurred));
        }
        Ok(plane)
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

    #[test]
    fn some_files_have_no_colour() {
        let (width, height) = (40, 30);
        let red = [200, 40, 60].repeat(width * height);
        let image = Image::new(width, height, ColorType::Rgb, Samples::U8(red)).unwrap();
        let is_grey = |&seed: &u64| {
            let scan = Scan::any((width, height), seed);
            let shown = scan.of_image(&image).unwrap();
            let Samples::U8(samples) = shown.samples() else { panic!("expected 8 bits") };
            let is_grey = samples.chunks_exact(3).all(|pixel| pixel[0].abs_diff(pixel[1]) <= 2);
            assert_eq!(is_grey, scan.is_grey, "{seed}");
            is_grey
        };
        let count = (0..50).filter(is_grey).count();
        assert!((10..=30).contains(&count), "{count}");
    }
}
