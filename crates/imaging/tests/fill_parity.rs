//! The fill against OpenCV and scikit-image on the fixtures of `fixtures/generate_fill.py`.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::npy;
use image::DynamicImage;
use imaging::fill::{FillMethod, FillOptions, biharmonic, fill};
use imaging::{ColorType, Image, Mask, Plane, Samples, Silent};

/// A damaged picture, the clean one, and the reference's results.
struct Case {
    name: String,
    clean: Image,
    damaged: Image,
    mask: Mask,
    telea: Image,
    /// Masked pixels row by row, channels interleaved, in `[0, 1]`.
    biharmonic: Vec<f64>,
}

fn open(path: &Path) -> DynamicImage {
    image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(path: &Path) -> Image {
    let decoded = open(path);
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (color, samples) = match decoded {
        DynamicImage::ImageLuma8(pixels) => (ColorType::Gray, Samples::U8(pixels.into_raw())),
        DynamicImage::ImageLuma16(pixels) => (ColorType::Gray, Samples::U16(pixels.into_raw())),
        DynamicImage::ImageRgb8(pixels) => (ColorType::Rgb, Samples::U8(pixels.into_raw())),
        other => panic!("{}: unexpected pixels {:?}", path.display(), other.color()),
    };
    Image::new(width, height, color, samples).unwrap()
}

fn cases() -> Vec<Case> {
    let folder = common::fixtures("fill");
    let cases: Vec<Case> = (0..)
        .map(|number| format!("{number:02}_"))
        .take_while(|stem| folder.join(format!("{stem}clean.png")).exists())
        .map(|stem| {
            let path = |name: &str| folder.join(format!("{stem}{name}"));
            let mask = open(&path("mask.png")).into_luma8();
            let (width, height) = (mask.width() as usize, mask.height() as usize);
            Case {
                clean: read(&path("clean.png")),
                damaged: read(&path("damaged.png")),
                mask: Mask::from_plane(Plane::from_vec(width, height, mask.into_raw()).unwrap()),
                telea: read(&path("telea.png")),
                biharmonic: npy::read(path("biharmonic.npy")).1,
                name: stem,
            }
        })
        .collect();
    assert!(cases.len() >= 20, "{}: {} cases", folder.display(), cases.len());
    cases
}

/// The samples of the pixels that `wanted(x, y)`, as parts of the largest value.
fn samples_of(image: &Image, wanted: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let max = f64::from(image.samples().max_value());
    let values: Vec<f64> = match image.samples() {
        Samples::U8(values) => values.iter().map(|&value| f64::from(value) / max).collect(),
        Samples::U16(values) => values.iter().map(|&value| f64::from(value) / max).collect(),
    };
    values
        .chunks_exact(image.color().channels())
        .enumerate()
        .filter(|(pixel, _)| wanted(pixel % image.width(), pixel / image.width()))
        .flat_map(|(_, pixel)| pixel.to_vec())
        .collect()
}

fn psnr(a: &[f64], b: &[f64]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    -10.0 * (sum / a.len() as f64).log10()
}

fn filled(case: &Case, method: FillMethod) -> Image {
    let mut image = case.damaged.clone();
    let options = FillOptions { method, ..FillOptions::default() };
    let report = fill(&mut image, &case.mask, &options, &Silent).unwrap();
    assert_eq!(report.pixels, case.mask.count(), "{}", case.name);
    let kept = |x, y| case.mask.plane().get(x, y) == 0;
    assert_eq!(samples_of(&image, kept), samples_of(&case.damaged, kept), "{}", case.name);
    image
}

#[test]
fn telea_parity_with_opencv() {
    let mut differences = Vec::new();
    for case in cases() {
        let image = filled(&case, FillMethod::Telea);
        let masked = |x, y| case.mask.plane().get(x, y) > 0;
        // OpenCV leaves the damage in the first row and column; we do not.
        let inner = |x, y| masked(x, y) && x > 0 && y > 0;
        let first =
            (0..image.width()).any(|x| masked(x, 0)) || (0..image.height()).any(|y| masked(0, y));

        // 1. pixel by pixel, in levels of 8 bits
        let [found, expected] = [&image, &case.telea].map(|image| samples_of(image, inner));
        let level = f64::from(image.samples().max_value());
        let count = found.len() as f64;
        let steps: Vec<f64> =
            found.iter().zip(&expected).map(|(a, b)| (a - b).abs() * level).collect();
        let same = steps.iter().filter(|&&step| step < 0.5).count() as f64 / count;
        let close = steps.iter().filter(|&&step| step < 2.5).count() as f64 / count;
        let mean = steps.iter().sum::<f64>() / count * 255.0 / level;
        let (least_same, least_close) = if first { (0.6, 0.9) } else { (0.95, 0.99) };
        assert!(same >= least_same, "{}: {:.1} % identical", case.name, 100.0 * same);
        assert!(close >= least_close || level > 255.0, "{}: {close} within two levels", case.name);
        assert!(mean <= 0.5, "{}: {mean} levels apart on average", case.name);

        // 2. against the clean picture
        let clean = samples_of(&case.clean, inner);
        let difference = psnr(&found, &clean) - psnr(&expected, &clean);
        assert!(first || difference.abs() <= 0.2, "{}: {difference:+.3} dB", case.name);
        differences.push(difference);
    }
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    assert!(mean.abs() <= 0.2, "masked PSNR differs from OpenCV's by {mean:+.3} dB");
}

#[test]
fn biharmonic_parity_with_scikit_image() {
    let mut differences = Vec::new();
    for case in cases() {
        let masked = |x, y| case.mask.plane().get(x, y) > 0;

        // 1. the core, unrounded
        let planes = case.damaged.color_planes(case.damaged.bounds());
        let solved = biharmonic::inpaint(&planes, &case.mask).unwrap();
        let (width, height) = case.mask.size();
        let mut expected = case.biharmonic.chunks_exact(planes.len());
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for (plane, before) in solved.iter().zip(&planes) {
                assert!(masked(x, y) || plane.get(x, y) == before.get(x, y));
            }
            if masked(x, y) {
                let expected = expected.next().unwrap();
                for (plane, &expected) in solved.iter().zip(expected) {
                    let error = (f64::from(plane.get(x, y)) - expected).abs();
                    assert!(error <= 1e-5, "{}: {error} at ({x}, {y})", case.name);
                }
            }
        }
        assert!(expected.next().is_none());

        // 2. the picture, rounded
        let image = filled(&case, FillMethod::Biharmonic);
        let level = f64::from(image.samples().max_value());
        let found = samples_of(&image, masked);
        for (found, expected) in found.iter().zip(&case.biharmonic) {
            // Half a level is what rounding may take away.
            assert!((found - expected).abs() * level <= 0.5 + 1e-2, "{}", case.name);
        }

        // 3. against the clean picture, both rounded to its depth
        let clean = samples_of(&case.clean, masked);
        let rounded: Vec<f64> =
            case.biharmonic.iter().map(|value| (value * level).round() / level).collect();
        let difference = psnr(&found, &clean) - psnr(&rounded, &clean);
        assert!(difference.abs() <= 0.1, "{}: {difference:+.3} dB", case.name);
        differences.push(difference);
    }
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    assert!(mean.abs() <= 0.1, "masked PSNR differs from scikit-image's by {mean:+.3} dB");
}
