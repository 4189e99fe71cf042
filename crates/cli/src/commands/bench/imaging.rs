//! The stages of the picture: on a seeded synthetic scan, or on the user's own.

use std::time::Instant;

use imaging::detect::{DetectParams, detect};
use imaging::fill::{FillMethod, FillOptions, fill};
use imaging::{ColorType, Image, ImagingError, Mask, Samples, io};
use serde::Serialize;

use super::timing::Timer;
use crate::args::{BenchArgs, Stage};

/// The picture, and the seconds for one run of each stage.
#[derive(Default, Serialize)]
pub(super) struct PictureTimes {
    width: Option<usize>,
    height: Option<usize>,
    megapixels: Option<f64>,
    coverage: Option<f64>,
    detect_s: Option<f64>,
    telea_s: Option<f64>,
    biharmonic_s: Option<f64>,
}

impl PictureTimes {
    /// What the picture is; `None` if no stage needed one.
    pub(super) fn describe(&self) -> Option<String> {
        let (width, height, megapixels) = (self.width?, self.height?, self.megapixels?);
        let percent = self.coverage? * 100.0;
        Some(format!("{width}×{height} ({megapixels:.1} MP), {percent:.2} % masked"))
    }

    pub(super) fn table(&self) -> String {
        let stages =
            [("detect", self.detect_s), ("telea", self.telea_s), ("biharmonic", self.biharmonic_s)];
        let mut text = "stage         seconds     MP/s\n".to_owned();
        for (name, seconds) in stages {
            if let (Some(seconds), Some(megapixels)) = (seconds, self.megapixels) {
                text += &format!("{name:<11} {seconds:>9.3} {:>8.1}\n", megapixels / seconds);
            }
        }
        text
    }
}

/// Times the stages that are wanted.
pub(super) fn times(
    args: &BenchArgs,
    timer: &Timer<'_>,
    wanted: impl Fn(Stage) -> bool,
) -> anyhow::Result<PictureTimes> {
    // 1. the scan
    let (image, mask) = match (&args.image, &args.mask) {
        (Some(image), Some(path)) => {
            let options = args.read.options();
            let (image, mask) = (io::read_image(image, &options)?, io::read_mask(path, &options)?);
            let name = path.display().to_string();
            ImagingError::check_size(&name, image.size(), mask.size())?;
            (image, mask)
        }
        _ => synthetic_scan(args.megapixels)?,
    };
    let mut times = PictureTimes {
        width: Some(image.width()),
        height: Some(image.height()),
        megapixels: Some((image.width() * image.height()) as f64 / 1e6),
        coverage: Some(mask.coverage()),
        ..PictureTimes::default()
    };

    // 2. each stage
    let filled = |stage, method| {
        let options = FillOptions { method, ..FillOptions::default() };
        timer.median(stage, || {
            let mut image = image.clone();
            let started = Instant::now();
            fill(&mut image, &mask, &options, timer.context)?;
            Ok(started.elapsed().as_secs_f64())
        })
    };
    if wanted(Stage::Detect) {
        let params = DetectParams::default();
        times.detect_s = Some(timer.median(Stage::Detect, || {
            let started = Instant::now();
            detect(&image, &params, timer.context)?;
            Ok(started.elapsed().as_secs_f64())
        })?);
    }
    if wanted(Stage::Telea) {
        times.telea_s = Some(filled(Stage::Telea, FillMethod::Telea)?);
    }
    if wanted(Stage::Biharmonic) {
        times.biharmonic_s = Some(filled(Stage::Biharmonic, FillMethod::Biharmonic)?);
    }
    Ok(times)
}

/// A 3:2 RGB scan of a soft scene with grain, dark and bright cracks and a few losses, and the cracks' mask.
///
/// The same pixels for the same size, on every machine.
fn synthetic_scan(megapixels: f64) -> imaging::Result<(Image, Mask)> {
    let height = (megapixels * 1e6 / 1.5).sqrt().round().max(16.0) as usize;
    let width = height * 3 / 2;
    let mut random = SplitMix64(2024);

    // 1. cracks: random walks across the picture, about one for every 100 000 pixels
    let mut mask = Mask::empty(width, height);
    let mut dark = Mask::empty(width, height);
    let cracks = (width * height / 100_000).max(4);
    for crack in 0..cracks {
        let thickness = 1 + (random.next() % 4) as usize;
        let mut angle = random.unit() * std::f64::consts::TAU;
        let (mut x, mut y) = (random.unit() * width as f64, random.unit() * height as f64);
        let length = (0.05 + 0.2 * random.unit()) * height as f64;
        for _ in 0..length as usize {
            angle += (random.unit() - 0.5) * 0.4;
            x += angle.cos();
            y += angle.sin();
            stamp(&mut mask, x, y, thickness);
            if crack % 2 == 0 {
                stamp(&mut dark, x, y, thickness);
            }
        }
    }

    // 2. losses: discs of up to 1 % of the height, one for every eight cracks
    for _ in 0..cracks.div_ceil(8) {
        let diameter = 4 + (random.unit() * 0.02 * height as f64) as usize;
        let (x, y) = (random.unit() * width as f64, random.unit() * height as f64);
        stamp(&mut mask, x, y, diameter);
    }

    // 3. the scene: slow waves, grain of a few levels, the damage on top
    let mut values = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let down = y as f64 / height as f64;
        for x in 0..width {
            let across = x as f64 / width as f64;
            let wave = (across * 17.0).sin() * (down * 11.0 + across * 5.0).cos();
            for channel in 0..3 {
                let grain = (random.next() % 9) as f64 - 4.0;
                let scene = 120.0 + 50.0 * wave + 12.0 * f64::from(channel) + grain;
                let value = match (mask.plane().get(x, y), dark.plane().get(x, y)) {
                    (0, _) => scene,
                    (_, 0) => 235.0 + grain,
                    _ => 25.0 + grain,
                };
                values.push(value.round() as u8);
            }
        }
    }
    Ok((Image::new(width, height, ColorType::Rgb, Samples::U8(values))?, mask))
}

/// Marks a disc of `diameter` pixels around (`x`, `y`), clipped to the mask.
fn stamp(mask: &mut Mask, x: f64, y: f64, diameter: usize) {
    let (width, height) = (mask.width() as i64, mask.height() as i64);
    let radius = diameter as f64 / 2.0;
    let reach = radius.ceil() as i64;
    let (left, top) = (x.round() as i64, y.round() as i64);
    for row in (top - reach).max(0)..=(top + reach).min(height - 1) {
        for column in (left - reach).max(0)..=(left + reach).min(width - 1) {
            let (dx, dy) = (column as f64 - x, row as f64 - y);
            if dx * dx + dy * dy <= radius * radius {
                mask.plane_mut().set(column as usize, row as usize, Mask::DAMAGED);
            }
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough for grain and wandering cracks, the same everywhere.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_has_the_size_asked_for_and_some_damage() {
        let (image, mask) = synthetic_scan(0.15).expect("a small scan");
        // height = sqrt(150000 / 1.5) = 316.2, width = 316 · 3 / 2 = 474
        assert_eq!(image.size(), (474, 316));
        assert!((0.001..0.1).contains(&mask.coverage()), "{}", mask.coverage());
        assert_eq!(synthetic_scan(0.15).expect("the same").0, image);
    }
}
