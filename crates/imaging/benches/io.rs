//! Decoding and encoding a 12-megapixel picture in each format.
//!
//! `cargo bench -p photomend-imaging --bench io`

use std::path::PathBuf;

use divan::Bencher;
use imaging::io::{ReadOptions, WriteOptions, read_image, write_image};
use imaging::{ColorType, Image, Samples};

const WIDTH: usize = 4000;
const HEIGHT: usize = 3000;

/// File name and bits a channel.
const FILES: [(&str, u8); 6] =
    [("8.png", 8), ("16.png", 16), ("8.jpg", 8), ("8.webp", 8), ("8.tif", 8), ("16.tif", 16)];

fn main() {
    divan::main();
}

/// Smooth light with grain, as a scan has it.
fn picture(bits: u8) -> Image {
    let mut state = 1_u32;
    let mut grain = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 16) / 65_536.0 * 0.02
    };
    let value = |i: usize| {
        let (x, y, c) = (i / 3 % WIDTH, i / 3 / WIDTH, i % 3);
        0.49 + 0.25 * (x as f64 * 0.004 + c as f64).sin() + 0.2 * (y as f64 * 0.003).cos()
    };
    let count = WIDTH * HEIGHT * 3;
    let samples = match bits {
        8 => Samples::U8((0..count).map(|i| ((value(i) + grain()) * 255.0) as u8).collect()),
        _ => Samples::U16((0..count).map(|i| ((value(i) + grain()) * 65_535.0) as u16).collect()),
    };
    Image::new(WIDTH, HEIGHT, ColorType::Rgb, samples).expect("three samples a pixel")
}

fn written(folder: &tempfile::TempDir, name: &str, image: &Image) -> PathBuf {
    let path = folder.path().join(name);
    write_image(&path, image, &WriteOptions { force: true, jpeg_quality: None }).expect("a file");
    path
}

#[divan::bench(args = FILES.map(|(name, _)| name), sample_count = 5)]
fn decode(bencher: Bencher, name: &str) {
    let bits = FILES.iter().find(|file| file.0 == name).map_or(8, |file| file.1);
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(&folder, name, &picture(bits));
    bencher.bench_local(|| read_image(&path, &ReadOptions::default()).expect("an image"));
}

#[divan::bench(args = FILES.map(|(name, _)| name), sample_count = 5)]
fn encode(bencher: Bencher, name: &str) {
    let bits = FILES.iter().find(|file| file.0 == name).map_or(8, |file| file.1);
    let folder = tempfile::tempdir().expect("a folder");
    let image = picture(bits);
    bencher.bench_local(|| written(&folder, name, &image));
}
