//! What detection finds, and what it leaves alone.

use imaging::detect::{DetectParams, Detection, Preset, detect, overlay};
use imaging::metrics::detection_score;
use imaging::{ColorType, Image, Mask, Observer, Samples, Silent};

/// Deterministic noise in -1 ..= 1, uniform.
fn noise(x: usize, y: usize) -> f64 {
    let mut h = (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (y as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    h = (h ^ (h >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    h ^= h >> 32;
    (h % 10_000) as f64 / 5_000.0 - 1.0
}

/// A grainy scene: a gradient, waves, and a dark object with sharp edges.
fn scene(x: usize, y: usize) -> f64 {
    let (fx, fy) = (x as f64, y as f64);
    let base = 90.0 + 0.25 * fx + 18.0 * (fy / 23.0).sin() + 12.0 * (fx / 31.0).cos();
    let object = (fx - 60.0).hypot(fy - 150.0) < 40.0;
    (if object { 45.0 + 0.1 * fy } else { base }) + 3.0 * noise(x, y)
}

/// How far a pixel is from a wavy line across the picture.
fn from_line(x: usize, y: usize) -> f64 {
    (y as f64 - 90.0 - 25.0 * (x as f64 / 40.0).sin() - 0.2 * x as f64).abs()
}

fn picture(damage: impl Fn(usize, usize) -> Option<f64>) -> Image {
    let mut values = Vec::new();
    for y in 0..220 {
        for x in 0..260 {
            let value = damage(x, y).unwrap_or_else(|| scene(x, y)).clamp(0.0, 255.0) as u8;
            values.extend([value, value, value.saturating_sub(10)]);
        }
    }
    Image::new(260, 220, ColorType::Rgb, Samples::U8(values)).expect("whole")
}

fn found(image: &Image) -> Detection {
    detect(image, &DetectParams::default(), &Silent).expect("valid parameters")
}

fn is_loss(x: usize, y: usize) -> bool {
    (x as f64 - 180.0).hypot(y as f64 - 60.0) < 22.0 + 3.0 * (y as f64 / 4.0).sin()
}

#[test]
fn a_clean_picture_stays_clean() {
    let coverage = found(&picture(|_, _| None)).mask.coverage();
    assert!(coverage < 0.002, "{coverage}");
}

#[test]
fn lines_and_losses_are_found() {
    let line = |value: f64| move |x: usize, y: usize| (from_line(x, y) < 1.6).then_some(value);
    let on_line = |x: usize, y: usize| from_line(x, y) < 1.6;
    type Truth = fn(usize, usize) -> bool;
    let cases: [(&str, Image, Truth); 3] = [
        ("dark", picture(line(20.0)), on_line),
        ("bright", picture(line(240.0)), on_line),
        ("wide", picture(|x, y| is_loss(x, y).then(|| 235.0 + 2.0 * noise(x, y))), is_loss),
    ];
    for (name, image, truth) in cases {
        let truth = Mask::from_fn(260, 220, truth);
        let found = found(&image);
        let score = detection_score(&found.mask, &truth, 2.0).expect("same size");
        assert!(score.f1 > 0.85, "{name}: {score:?}");
        let stats = &found.stats;
        let kind = [("dark", stats.dark), ("bright", stats.bright), ("wide", stats.wide)]
            .into_iter()
            .find_map(|(kind, stats)| (kind == name).then_some(stats));
        assert!(kind.is_some_and(|kind| kind.components > 0), "{name}: {stats:?}");
        assert!(found.core.coverage() <= found.mask.coverage());
    }
}

#[test]
fn depth_grey_and_alpha_change_nothing() {
    let image = picture(|x, y| (from_line(x, y) < 1.6).then_some(245.0));
    let Samples::U8(values) = image.samples() else { panic!("8 bits") };
    let expected = found(&image).mask;
    let deep: Vec<u16> = values.iter().map(|&value| u16::from(value) * 257).collect();
    let deep = Image::new(260, 220, ColorType::Rgb, Samples::U16(deep)).expect("whole");
    assert_eq!(found(&deep).mask, expected);
    let alpha = values.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 7]).collect();
    let alpha = Image::new(260, 220, ColorType::Rgba, Samples::U8(alpha)).expect("whole");
    assert_eq!(found(&alpha).mask, expected);

    let grey: Vec<u8> = values.iter().step_by(3).copied().collect();
    let with_alpha = grey.iter().flat_map(|&value| [value, 0]).collect();
    let rgb = grey.iter().flat_map(|&value| [value; 3]).collect();
    let masks =
        [(ColorType::Gray, grey), (ColorType::GrayAlpha, with_alpha), (ColorType::Rgb, rgb)].map(
            |(color, data)| found(&Image::new(260, 220, color, Samples::U8(data)).expect("whole")),
        );
    assert!(!masks[0].mask.is_empty());
    assert!(masks.iter().all(|other| other.mask == masks[0].mask));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let image =
        picture(
            |x, y| {
                if is_loss(x, y) { Some(230.0) } else { (from_line(x, y) < 1.0).then_some(25.0) }
            },
        );
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| found(&image))
    };
    let (one, three) = (with(1), with(3));
    assert_eq!((one.core, one.mask, one.stats), (three.core, three.mask, three.stats));
}

#[test]
fn odd_sizes_work() {
    for (width, height) in [(1, 1), (1, 300), (300, 1), (2, 2), (17, 16), (3000, 20)] {
        for value in [0, 128, 255] {
            let samples = Samples::U8(vec![value; width * height]);
            let image = Image::new(width, height, ColorType::Gray, samples).expect("whole");
            for preset in [Preset::Photo, Preset::Painting] {
                let found =
                    detect(&image, &DetectParams::preset(preset), &Silent).expect("any size");
                assert!(found.mask.is_empty(), "{width}×{height} of {value}");
                assert_eq!(found.mask.size(), (width, height));
            }
        }
    }
}

#[test]
fn parameters_survive_json_and_are_checked() {
    let params = DetectParams::preset(Preset::Painting);
    let text = serde_json::to_string(&params).expect("plain values");
    assert_eq!(serde_json::from_str::<DetectParams>(&text).expect("the same"), params);
    assert!(serde_json::from_str::<DetectParams>(r#"{"lenght": 3}"#).is_err());
    let image = picture(|_, _| None);
    let wrong = DetectParams { dilate: 51, ..params };
    let error = detect(&image, &wrong, &Silent).expect_err("out of range").to_string();
    assert_eq!(error, "dilate: expected 0 to 50, found 51");
}

#[test]
fn it_stops_when_asked() {
    struct Stop;
    impl Observer for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    assert!(detect(&picture(|_, _| None), &DetectParams::default(), &Stop).is_err());
}

#[test]
fn the_overlay_tints_damage_only() {
    let image = picture(|_, _| None);
    let mask = Mask::from_fn(260, 220, |x, _| x == 3);
    let tinted = overlay(&image, &mask).expect("same size");
    let (Samples::U8(before), Samples::U8(after)) = (image.samples(), tinted.samples()) else {
        panic!("8 bits")
    };
    assert_eq!(before[..9], after[..9]);
    assert!(after[9] > before[9] && after[10] < before[10]);
    assert!(overlay(&image, &Mask::empty(1, 1)).is_err());
}
