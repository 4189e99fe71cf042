//! The metrics on 12 megapixels of 8-bit RGB of which a tenth of the rows differ: `cargo bench --bench metrics`.

use divan::Bencher;
use imaging::metrics::{SsimWindow, delta_e, detection_score, psnr, ssim, ssimulacra2};
use imaging::{ColorType, Image, Mask, Samples};

const WIDTH: usize = 4000;
const HEIGHT: usize = 3000;

fn main() {
    divan::main();
}

fn image(changed: bool) -> Image {
    let samples = (0..WIDTH * HEIGHT * 3).map(|i| {
        let (x, y) = (i / 3 % WIDTH, i / 3 / WIDTH);
        let base = (x * 31 + y * 17 + i % 3 * 50) / 64 % 200;
        (base + if changed && y % 10 == 0 { x % 40 } else { 0 }) as u8
    });
    Image::new(WIDTH, HEIGHT, ColorType::Rgb, Samples::U8(samples.collect())).expect("12 MP")
}

fn compare(bencher: Bencher, metric: impl Fn(&Image, &Image) + Sync) {
    let (reference, test) = (image(false), image(true));
    bencher.bench(|| metric(&reference, &test));
}

#[divan::bench(sample_count = 5)]
fn psnr_12mp(bencher: Bencher) {
    compare(bencher, |a, b| {
        divan::black_box(psnr(a, b).expect("comparable"));
    });
}

#[divan::bench(sample_count = 5)]
fn ssim_12mp(bencher: Bencher) {
    compare(bencher, |a, b| {
        divan::black_box(ssim(a, b, SsimWindow::Uniform).expect("comparable"));
    });
}

#[divan::bench(sample_count = 5)]
fn ssim_gaussian_12mp(bencher: Bencher) {
    compare(bencher, |a, b| {
        divan::black_box(ssim(a, b, SsimWindow::Gaussian).expect("comparable"));
    });
}

#[divan::bench(sample_count = 5)]
fn delta_e_12mp(bencher: Bencher) {
    compare(bencher, |a, b| {
        divan::black_box(delta_e(a, b).expect("comparable"));
    });
}

#[divan::bench(sample_count = 1)]
fn ssimulacra2_12mp(bencher: Bencher) {
    compare(bencher, |a, b| {
        divan::black_box(ssimulacra2(a, b).expect("comparable"));
    });
}

#[divan::bench(sample_count = 5)]
fn detection_12mp(bencher: Bencher) {
    let truth = Mask::from_fn(WIDTH, HEIGHT, |x, y| (x + y) % 97 < 4);
    let found = Mask::from_fn(WIDTH, HEIGHT, |x, y| (x + y + 3) % 97 < 5);
    bencher.bench(|| detection_score(&found, &truth, 2.0).expect("same size"));
}
