//! What synthetic damage promises: the same bytes for the same seed, a mask that tells the truth, every kind
//! on every size, depth and colour type.

use imaging::damage::{DamageKind, DamageRecipe, Damaged, damage};
use imaging::{ColorType, Image, Samples};

/// A picture with soft shapes and some texture, of any colour type and depth.
fn photograph(width: usize, height: usize, color: ColorType, bits: u8) -> Image {
    let channels = color.channels();
    let mut values = Vec::with_capacity(width * height * channels);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                let wave = (x * (3 + channel) + y * 2) % 97 + (x * y) % 31 + (y / 5) % 60;
                values.push((30 + wave) as u16 * 257);
            }
        }
    }
    let samples = if bits == 8 {
        Samples::U8(values.iter().map(|&value| (value / 257) as u8).collect())
    } else {
        Samples::U16(values)
    };
    Image::new(width, height, color, samples).expect("as many samples as pixels and channels")
}

fn values(image: &Image) -> Vec<u16> {
    match image.samples() {
        Samples::U8(values) => values.iter().map(|&value| u16::from(value)).collect(),
        Samples::U16(values) => values.clone(),
    }
}

/// Checks that pixels outside the mask, and alpha everywhere, are those of `clean`.
fn assert_kept(clean: &Image, damaged: &Damaged, what: &str) {
    assert_eq!(clean.size(), damaged.image.size(), "{what}");
    assert_eq!(clean.size(), damaged.mask.size(), "{what}");
    assert_eq!(clean.color(), damaged.image.color(), "{what}");
    assert_eq!(clean.samples().bits(), damaged.image.samples().bits(), "{what}");
    let channels = clean.color().channels();
    let global = damaged.applied.iter().any(|(kind, _)| kind.is_global());
    let (before, after) = (values(clean), values(&damaged.image));
    let pixels = before.chunks(channels).zip(after.chunks(channels));
    for ((before, after), &weight) in pixels.zip(damaged.mask.plane().data()) {
        assert!(weight == 0 || weight == 255, "{what}: a mask is hard");
        if weight == 0 && !global {
            assert_eq!(before, after, "{what}: changed outside the mask");
        }
        if clean.color().has_alpha() {
            assert_eq!(before.last(), after.last(), "{what}: alpha");
        }
    }
}

#[test]
fn the_bytes_depend_on_the_seed_alone() {
    let clean = photograph(210, 150, ColorType::Rgb, 8);
    let recipe = DamageRecipe::mixed().with_mix(12..=12);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let one = pool(1).install(|| damage(&clean, &recipe, 11)).unwrap();
    let three = pool(3).install(|| damage(&clean, &recipe, 11)).unwrap();
    let again = damage(&clean, &recipe, 11).unwrap();
    let other = damage(&clean, &recipe, 12).unwrap();
    for same in [three, again] {
        assert_eq!(one.image, same.image);
        assert_eq!(one.mask, same.mask);
        assert_eq!(one.applied, same.applied);
    }
    assert_ne!(one.image, other.image);
    assert_eq!(one.applied.len(), DamageKind::ALL.len());
}

#[test]
fn every_kind_works_on_every_size_and_severity() {
    for (width, height) in [(1, 1), (3, 500), (500, 2), (64, 48), (129, 201)] {
        let clean = photograph(width, height, ColorType::Rgb, 8);
        for kind in DamageKind::ALL {
            for severity in [0.0, 0.5, 1.0] {
                let recipe = DamageRecipe::only(kind).with_severity(severity..=severity);
                let damaged = damage(&clean, &recipe, 5).unwrap();
                assert_eq!(damaged.applied, [(kind, severity)]);
                assert_kept(&clean, &damaged, &format!("{kind} {severity} on {width}×{height}"));
            }
        }
    }
}

#[test]
fn depth_and_color_type_stay() {
    use ColorType::{Gray, GrayAlpha, Rgb, Rgba};
    for color in [Gray, GrayAlpha, Rgb, Rgba] {
        for bits in [8, 16] {
            let clean = photograph(90, 70, color, bits);
            for recipe in [DamageRecipe::structural(), DamageRecipe::mixed()] {
                let recipe = recipe.with_mix(12..=12);
                let damaged = damage(&clean, &recipe, 3).unwrap();
                assert!(!damaged.mask.is_empty());
                assert_kept(&clean, &damaged, &format!("{color:?} {bits}"));
            }
        }
    }
}

#[test]
fn metadata_is_carried() {
    let mut clean = photograph(20, 20, ColorType::Gray, 8);
    clean.metadata.icc_profile = Some(vec![1, 2, 3]);
    let damaged = damage(&clean, &DamageRecipe::default(), 1).unwrap();
    assert_eq!(damaged.image.metadata, clean.metadata);
}

#[test]
fn a_structural_kind_is_in_the_mask_and_a_global_one_is_not() {
    let clean = photograph(160, 120, ColorType::Rgb, 8);
    for kind in DamageKind::ALL {
        let recipe = DamageRecipe::only(kind).with_severity(0.7..=0.7);
        let damaged = damage(&clean, &recipe, 9).unwrap();
        assert_ne!(damaged.image, clean, "{kind}");
        assert_eq!(damaged.mask.is_empty(), kind.is_global(), "{kind}");
    }
}

#[test]
fn coverage_grows_with_severity() {
    let clean = photograph(128, 128, ColorType::Gray, 8);
    for kind in DamageKind::ALL.into_iter().filter(|kind| !kind.is_global()) {
        let coverage = |severity: f32| {
            let recipe = DamageRecipe::only(kind).with_severity(severity..=severity);
            let seeds = 0..24;
            let sum: f64 =
                seeds.map(|seed| damage(&clean, &recipe, seed).unwrap().mask.coverage()).sum();
            sum / 24.0
        };
        let (low, middle, high) = (coverage(0.0), coverage(0.5), coverage(1.0));
        assert!(0.0 < low && low < middle && middle < high, "{kind}: {low} {middle} {high}");
    }
}

#[test]
fn damage_looks_the_same_at_twice_the_size() {
    // Sizes follow the picture: the share that is covered stays about the same.
    let small = photograph(256, 256, ColorType::Gray, 8);
    let large = photograph(512, 512, ColorType::Gray, 8);
    for kind in [DamageKind::Losses, DamageKind::Cracks, DamageKind::Folds] {
        let recipe = DamageRecipe::only(kind).with_severity(0.6..=0.6);
        let coverage = |clean: &Image| -> f64 {
            (0..12).map(|seed| damage(clean, &recipe, seed).unwrap().mask.coverage()).sum()
        };
        let ratio = coverage(&small) / coverage(&large);
        assert!((0.6..2.2).contains(&ratio), "{kind}: {ratio}");
    }
}

#[test]
fn a_recipe_without_sense_is_refused() {
    let clean = photograph(8, 8, ColorType::Gray, 8);
    let recipe = DamageRecipe::mixed().with_severity(0.9..=0.2);
    let error = damage(&clean, &recipe, 0).unwrap_err().to_string();
    assert!(error.contains("severity") && error.contains("0.9"), "{error}");
}
