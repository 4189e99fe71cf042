//! What ageing and decoys promise: the same bytes for the same seed, every size, depth and colour type, and
//! nothing of them in a mask.

use imaging::damage::{
    DamageRecipe, DatasetOptions, DecoyKind, DecoyOptions, age, damage, draw_decoys, make_dataset,
};
use imaging::io::{ReadOptions, WriteOptions, read_image, read_mask, write_image};
use imaging::{ColorType, Image, Samples, Silent};

/// A picture with shapes, edges and some texture, of any colour type and depth.
fn photograph(width: usize, height: usize, color: ColorType, bits: u8) -> Image {
    let channels = color.channels();
    let mut values = Vec::with_capacity(width * height * channels);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                let shape = if (x / 23 + y / 31) % 2 == 0 { 60 } else { 130 };
                let wave = shape + (x * (3 + channel) + y * 2) % 47 + (x * y) % 13;
                values.push(wave as u16 * 257);
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

type Stage = Box<dyn Fn(&Image, u64) -> Image + Sync>;

/// Each stage by itself, all kinds of decoys included.
fn stages() -> Vec<(String, Stage)> {
    let ageing: Stage = Box::new(|image, seed| age(image, seed).expect("an aged picture"));
    let mut stages = vec![("age".to_owned(), ageing)];
    for kind in DecoyKind::ALL {
        let options = DecoyOptions::only(kind);
        let stage: Stage =
            Box::new(move |image, seed| draw_decoys(image, &options, seed).expect("sound options"));
        stages.push((kind.to_string(), stage));
    }
    stages
}

#[test]
fn the_bytes_depend_on_the_seed_alone() {
    let clean = photograph(310, 170, ColorType::Rgb, 8);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for (name, stage) in stages() {
        for seed in 0..6 {
            let one = pool(1).install(|| stage(&clean, seed));
            let three = pool(3).install(|| stage(&clean, seed));
            assert!(one == three, "{name} {seed}");
            assert!(one != stage(&clean, seed + 100), "{name} {seed}");
        }
    }
}

#[test]
fn every_size_depth_and_color_type_works_and_alpha_stays() {
    use ColorType::{Gray, GrayAlpha, Rgb, Rgba};
    for (width, height) in [(1, 1), (7, 300), (300, 2), (65, 50)] {
        for color in [Gray, GrayAlpha, Rgb, Rgba] {
            for bits in [8, 16] {
                let mut clean = photograph(width, height, color, bits);
                clean.metadata.icc_profile = Some(vec![1, 2, 3]);
                for (name, stage) in stages() {
                    for seed in 0..4 {
                        let made = stage(&clean, seed);
                        let what = format!("{name} {seed} on {width}×{height} {color:?} {bits}");
                        assert_eq!(made.size(), clean.size(), "{what}");
                        assert_eq!(made.color(), color, "{what}");
                        assert_eq!(made.samples().bits(), bits, "{what}");
                        assert_eq!(made.metadata, clean.metadata, "{what}");
                        assert!(alpha(&made) == alpha(&clean), "{what}: alpha");
                    }
                }
            }
        }
    }
}

fn alpha(image: &Image) -> Vec<u16> {
    let (channels, last) = (image.color().channels(), image.color().color_channels());
    if channels == last {
        return Vec::new();
    }
    match image.samples() {
        Samples::U8(values) => {
            values.iter().skip(last).step_by(channels).map(|&value| u16::from(value)).collect()
        }
        Samples::U16(values) => values.iter().skip(last).step_by(channels).copied().collect(),
    }
}

#[test]
fn two_in_five_aged_pictures_are_black_and_white_and_one_in_four_is_toned() {
    let clean = photograph(24, 24, ColorType::Rgb, 8);
    let (mut neutral, mut toned) = (0, 0);
    for seed in 0..400 {
        let aged = age(&clean, seed).unwrap();
        let Samples::U8(values) = aged.samples() else { unreachable!() };
        let spread = |pixel: &[u8]| pixel.iter().max().unwrap() - pixel.iter().min().unwrap();
        // The scanner's noise and rounding may leave a few levels of colour in a black-and-white picture.
        let mean =
            values.chunks_exact(3).map(|pixel| f64::from(spread(pixel))).sum::<f64>() / 576.0;
        // Along the grey axis the colour of a toned print is the same for the same tone.
        let mut first = vec![None; 256];
        let same = values.chunks_exact(3).filter(|pixel| {
            let seen = *first[usize::from(pixel[1])].get_or_insert(pixel[0]);
            seen.abs_diff(pixel[0]) <= 12
        });
        let same = same.count() as f64 / 576.0;
        if mean < 9.0 {
            neutral += 1;
        } else if same > 0.9 {
            toned += 1;
        }
    }
    assert!((120..240).contains(&neutral), "{neutral} of 400 are neutral");
    assert!((50..180).contains(&toned), "{toned} of 400 are toned");
}

#[test]
fn decoys_are_drawn_as_often_as_told_and_bad_options_refused() {
    let clean = photograph(200, 150, ColorType::Rgb, 8);
    let none = DecoyOptions { count: 0..=0, ..DecoyOptions::default() };
    assert_eq!(draw_decoys(&clean, &none, 3).unwrap(), clean);
    for kind in DecoyKind::ALL {
        let drawn = (0..12)
            .filter(|&seed| draw_decoys(&clean, &DecoyOptions::only(kind), seed).unwrap() != clean);
        // One may lie outside, or have the colour of what it lies on.
        assert!(drawn.count() >= 8, "{kind}");
    }
    let empty = DecoyOptions { kinds: Vec::new(), ..DecoyOptions::default() };
    assert!(draw_decoys(&clean, &empty, 0).is_err());
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = DecoyOptions { count: 3..=1, ..DecoyOptions::default() };
    assert!(draw_decoys(&clean, &reversed, 0).unwrap_err().to_string().contains("3..1"));
    let many = DecoyOptions { count: 0..=usize::MAX, ..DecoyOptions::default() };
    assert!(draw_decoys(&clean, &many, 0).is_err());
}

#[test]
fn the_mask_marks_damage_and_neither_age_nor_decoys() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&source).unwrap();
    let clean = photograph(160, 120, ColorType::Rgb, 8);
    write_image(&source.join("a.png"), &clean, &WriteOptions::default()).unwrap();
    let options = DatasetOptions {
        recipe: DamageRecipe::structural(),
        age: true,
        decoys: true,
        count: 5,
        ..DatasetOptions::default()
    };
    let made = make_dataset(&source, &out, &options, &Silent).unwrap();
    for triplet in &made.triplets {
        let path = |kind: &str| out.join(kind).join(&triplet.name);
        let read = |kind: &str| read_image(&path(kind), &ReadOptions::default()).unwrap();
        let (page, damaged) = (read("clean"), read("damaged"));
        assert_ne!(page.samples(), clean.samples());
        let mask = read_mask(&path("mask"), &ReadOptions::default()).unwrap();
        let (Samples::U8(page), Samples::U8(damaged)) = (page.samples(), damaged.samples()) else {
            unreachable!()
        };
        let pixels = page.chunks_exact(3).zip(damaged.chunks_exact(3));
        for ((before, after), &weight) in pixels.zip(mask.plane().data()) {
            assert!(weight == 255 || before == after);
        }
        // The page and the seed make the damaged picture again.
        let again = damage(&read("clean"), &options.recipe, triplet.seed).unwrap();
        assert_eq!(again.mask, mask);
    }
}

#[test]
fn a_mixture_that_is_always_masked_masks_a_photograph_with_any_seed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/photos/cat.jpg");
    let photograph = read_image(path.as_ref(), &ReadOptions::default()).unwrap();
    let recipe = DamageRecipe::mixed().with_always_masked(true);
    for seed in 0..200 {
        let damaged = damage(&photograph, &recipe, seed).unwrap();
        assert!(!damaged.mask.is_empty(), "{seed}: {:?}", damaged.applied);
    }
}
