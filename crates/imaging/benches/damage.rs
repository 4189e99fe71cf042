//! Synthetic damage: each kind on a 512 px picture, and mixtures up to 12 megapixels; decoys and ageing.
//!
//! `cargo bench -p photomend-imaging --bench damage`

use divan::{Bencher, black_box};
use imaging::damage::{
    DamageKind, DamageRecipe, DecoyKind, DecoyOptions, age, damage, draw_decoys,
};
use imaging::{ColorType, Image, Samples};

fn main() {
    divan::main();
}

fn photograph(width: usize, height: usize) -> Image {
    let values = (0..width * height * 3).map(|i| (60 + i * 7 % 131) as u8).collect();
    Image::new(width, height, ColorType::Rgb, Samples::U8(values)).expect("sizes fit")
}

#[divan::bench(args = DamageKind::ALL, sample_count = 10)]
fn one_kind_512(bencher: Bencher, kind: DamageKind) {
    let clean = photograph(512, 512);
    let recipe = DamageRecipe::only(kind).with_severity(0.6..=0.6);
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        damage(black_box(&clean), &recipe, seed).expect("a sound recipe")
    });
}

/// Width of a 3:2 picture: 512, then 2 and 12 megapixels.
#[divan::bench(args = [512, 1732, 4243], sample_count = 10)]
fn mixed(bencher: Bencher, width: usize) {
    let clean = photograph(width, width * 2 / 3);
    let recipe = DamageRecipe::mixed();
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        damage(black_box(&clean), &recipe, seed).expect("a sound recipe")
    });
}

#[divan::bench(args = DecoyKind::ALL, sample_count = 10)]
fn one_decoy_512(bencher: Bencher, kind: DecoyKind) {
    let clean = photograph(512, 512);
    let options = DecoyOptions::only(kind);
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        draw_decoys(black_box(&clean), &options, seed).expect("sound options")
    });
}

#[divan::bench(args = [512, 1732], sample_count = 20)]
fn aged(bencher: Bencher, width: usize) {
    let clean = photograph(width, width * 2 / 3);
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        age(black_box(&clean), seed).expect("an aged picture")
    });
}
