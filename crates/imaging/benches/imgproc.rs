//! The pixel operations on 12 megapixels: `cargo bench --bench imgproc`.
//! `tools/peers/imgproc.py` compares them with OpenCV.

use divan::{Bencher, black_box};
use imaging::imgproc::{
    AdaptiveThreshold, Connectivity, Gaussian, StructuringElement, ThresholdKind,
    adaptive_threshold, black_hat, close, connected_components, distance_transform, gaussian_blur,
};
use imaging::{Mask, Plane};

const WIDTH: usize = 4000;
const HEIGHT: usize = 3000;

fn main() {
    divan::main();
}

/// Slow waves, fine texture and dark lines.
fn picture() -> Plane<u8> {
    Plane::from_fn(WIDTH, HEIGHT, |x, y| {
        let wave = ((x / 7 + y / 11) % 200) as u8 / 2 + 60;
        let texture = ((x * 31) ^ (y * 17)) as u8 % 8;
        if (x + 2 * y) % 997 < 3 { 20 } else { wave + texture }
    })
}

fn thresholded() -> Mask {
    let params = AdaptiveThreshold {
        kind: ThresholdKind::BinaryInv,
        c: 8.0,
        ..AdaptiveThreshold::default()
    };
    adaptive_threshold(&picture(), &params).expect("valid parameters")
}

#[divan::bench(sample_count = 10)]
fn gaussian_sigma_2(bencher: Bencher) {
    let picture = picture();
    bencher.bench(|| gaussian_blur(black_box(&picture), Gaussian::sigma(2.0)));
}

#[divan::bench(sample_count = 10)]
fn black_hat_rect_25(bencher: Bencher) {
    let picture = picture();
    let element = StructuringElement::square(25).expect("25 is odd");
    bencher.bench(|| black_hat(black_box(&picture), &element));
}

#[divan::bench(sample_count = 10)]
fn closing_ellipse_9(bencher: Bencher) {
    let picture = picture();
    let element = StructuringElement::disc(9).expect("9 is odd");
    bencher.bench(|| close(black_box(&picture), &element));
}

#[divan::bench(sample_count = 5)]
fn closing_lines_21_at_8_angles(bencher: Bencher) {
    let picture = picture();
    let line = |i: i32| StructuringElement::line(21, f64::from(i) * 22.5).expect("a short line");
    let lines: Vec<_> = (0..8).map(line).collect();
    bencher.bench(|| lines.iter().map(|line| close(black_box(&picture), line)).collect::<Vec<_>>());
}

#[divan::bench(sample_count = 10)]
fn adaptive_threshold_51(bencher: Bencher) {
    let picture = picture();
    let params = AdaptiveThreshold::default();
    bencher.bench(|| adaptive_threshold(black_box(&picture), &params));
}

#[divan::bench(sample_count = 10)]
fn components(bencher: Bencher) {
    let mask = thresholded();
    bencher.bench(|| connected_components(black_box(&mask), Connectivity::Eight));
}

#[divan::bench(sample_count = 10)]
fn distance(bencher: Bencher) {
    let mask = thresholded();
    bencher.bench(|| distance_transform(black_box(&mask)));
}
