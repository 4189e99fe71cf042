//! Both fills on a synthetic scan of 12 megapixels: cracks and wide losses on 2 % of it.

use divan::{Bencher, black_box};
use imaging::fill::{FillMethod, FillOptions, fill};
use imaging::{ColorType, Image, Mask, Samples, Silent};

const WIDTH: usize = 4000;
const HEIGHT: usize = 3000;

fn main() {
    divan::main();
}

/// Waves of several lengths, the same in every run.
fn scan() -> Image {
    let value = |at: usize| {
        let (channel, x, y) = (at % 3, at / 3 % WIDTH, at / 3 / WIDTH);
        let (x, y) = (x as f32, y as f32);
        let waves = (x * 0.003 + y * 0.002).sin() * 60.0
            + (x * 0.09 - y * 0.05).sin() * 20.0
            + (x * 0.7 + y * 1.3 + channel as f32).sin() * 6.0;
        (128.0 + waves) as u8
    };
    let samples = (0..WIDTH * HEIGHT * 3).map(value).collect();
    Image::new(WIDTH, HEIGHT, ColorType::Rgb, Samples::U8(samples)).expect("three samples a pixel")
}

/// Wavy cracks from edge to edge, 2 to 6 pixels wide, and 12 round losses.
fn damage() -> Mask {
    let mut mask = Mask::empty(WIDTH, HEIGHT);
    for crack in 0..10 {
        let (start, thickness) = (150.0 + 390.0 * crack as f32, 2 + crack % 5);
        for y in 0..HEIGHT {
            let wave = (y as f32 * 0.011 + crack as f32).sin() * 70.0 + y as f32 * 0.1;
            let x = (start + wave) as usize;
            let row = mask.plane_mut().row_mut(y);
            let end = (x + thickness).min(WIDTH);
            row[x.min(end)..end].fill(Mask::DAMAGED);
        }
    }
    for loss in 0..12 {
        let (x, y, radius): (usize, usize, usize) =
            (300 + 310 * loss, 200 + loss * 947 % 2600, 25 + 4 * loss);
        for row in y - radius..y + radius {
            let half = (radius * radius - row.abs_diff(y).pow(2)).isqrt();
            mask.plane_mut().row_mut(row)[x - half..x + half].fill(Mask::DAMAGED);
        }
    }
    mask
}

fn run(bencher: Bencher<'_, '_>, method: FillMethod) {
    let (image, mask) = (scan(), damage());
    let options = FillOptions { method, ..FillOptions::default() };
    bencher.with_inputs(|| image.clone()).bench_local_values(|mut image| {
        fill(&mut image, black_box(&mask), &options, &Silent).expect("most pixels are kept");
        image
    });
}

#[divan::bench(sample_count = 5)]
fn telea(bencher: Bencher<'_, '_>) {
    run(bencher, FillMethod::Telea);
}

#[divan::bench(sample_count = 5)]
fn biharmonic(bencher: Bencher<'_, '_>) {
    run(bencher, FillMethod::Biharmonic);
}
