//! Detection against the same chain in OpenCV, on the fixtures of `fixtures/generate_detect.py`.

mod common;

use std::path::{Path, PathBuf};

use common::npy;
use imaging::detect::lines::{Polarity, line_response};
use imaging::detect::{DetectParams, detect};
use imaging::{ColorType, Image, Plane, Samples, Silent};

/// The pictures by name.
fn pictures() -> Vec<(PathBuf, Image)> {
    let folder = common::fixtures("detect");
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|name| name == "npy"))
        .filter(|path| !path.file_stem().is_some_and(|name| name.to_string_lossy().contains('.')))
        .map(|path| {
            let (shape, values) = npy::read::<u8>(&path);
            let (color, height, width) = match shape[..] {
                [height, width] => (ColorType::Gray, height, width),
                [height, width, 3] => (ColorType::Rgb, height, width),
                _ => panic!("{}: shape {shape:?}", path.display()),
            };
            let image = Image::new(width, height, color, Samples::U8(values)).expect("whole");
            (path.with_extension(""), image)
        })
        .collect();
    assert!(!found.is_empty(), "no fixtures in {}", folder.display());
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn beside(name: &Path, part: &str) -> PathBuf {
    name.with_extension(format!("{part}.npy"))
}

#[test]
fn parity_of_the_line_responses() {
    for (name, image) in pictures() {
        let extreme = |choose: fn(u8, u8) -> u8| {
            let Samples::U8(values) = image.samples() else { panic!("8 bits") };
            let pixels = values.chunks_exact(image.color().channels());
            let data = pixels.map(|p| p.iter().copied().reduce(choose).expect("a channel"));
            Plane::from_vec(image.width(), image.height(), data.collect()).expect("whole")
        };
        let params = DetectParams::default().lines;
        for (part, polarity, plane) in [
            ("dark", Polarity::Dark, extreme(u8::max)),
            ("bright", Polarity::Bright, extreme(u8::min)),
        ] {
            let (_, expected) = npy::read::<f32>(&beside(&name, part));
            let found = line_response(&plane, polarity, &params, &Silent).expect("not stopped");
            for (index, (&found, &expected)) in found.data().iter().zip(&expected).enumerate() {
                // Rounded to whole levels (0.5), from means cut to eighths (0.25).
                let difference = (f32::from(found) - expected).abs();
                assert!(difference <= 0.76, "{} {part} {index}: {difference}", name.display());
            }
        }
    }
}

#[test]
fn parity_of_the_thin_mask() {
    for (name, image) in pictures() {
        let (_, expected) = npy::read::<u8>(&beside(&name, "mask"));
        let params = DetectParams { wide: false, ..DetectParams::default() };
        let found = detect(&image, &params, &Silent).expect("valid parameters").core;
        let differ = found.plane().data().iter().zip(&expected).filter(|(a, b)| a != b).count();
        // Rounding moves a pixel at a threshold; a line of the least length may come or go with it.
        let allowed = 60 + expected.len() / 200;
        assert!(differ <= allowed, "{}: {differ} of {}", name.display(), expected.len());
    }
}
