//! What must hold for every picture and mask.

#![allow(clippy::unwrap_used)]

use imaging::fill::{FillMethod, FillOptions, biharmonic, fill, telea};
use imaging::{ColorType, Image, ImagingError, Mask, Observer, Plane, Samples, Silent};
use proptest::prelude::*;

const METHODS: [FillMethod; 2] = [FillMethod::Telea, FillMethod::Biharmonic];
const COLORS: [ColorType; 4] =
    [ColorType::Gray, ColorType::GrayAlpha, ColorType::Rgb, ColorType::Rgba];

fn options(method: FillMethod) -> FillOptions {
    FillOptions { method, ..FillOptions::default() }
}

fn image(width: usize, height: usize, color: ColorType, deep: bool, values: &[u16]) -> Image {
    let values = values.iter().copied().cycle().take(width * height * color.channels());
    let samples = if deep {
        Samples::U16(values.collect())
    } else {
        Samples::U8(values.map(|value| (value >> 8) as u8).collect())
    };
    Image::new(width, height, color, samples).unwrap()
}

fn samples(image: &Image) -> Vec<u16> {
    match image.samples() {
        Samples::U8(values) => values.iter().copied().map(u16::from).collect(),
        Samples::U16(values) => values.clone(),
    }
}

/// Soft weights: blocks and thin lines, so that regions join, part and touch the edges.
fn mask(width: usize, height: usize) -> impl Strategy<Value = Mask> {
    let shape = (0..width, 0..height, 1..8usize, 1..8usize, 1..=255u8);
    prop::collection::vec(shape, 0..5).prop_map(move |shapes| {
        let mut mask = Mask::empty(width, height);
        for (x, y, across, down, weight) in shapes {
            for y in y..(y + down).min(height) {
                let end = (x + across).min(width);
                mask.plane_mut().row_mut(y)[x..end].fill(weight);
            }
        }
        mask
    })
}

fn sized_mask() -> impl Strategy<Value = Mask> {
    (1..40usize, 1..40usize).prop_flat_map(|(width, height)| mask(width, height))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn kept_samples_and_alpha_keep_their_bits(
        mask in sized_mask(),
        color in prop::sample::select(&COLORS[..]),
        method in prop::sample::select(&METHODS[..]),
        deep: bool,
        values in prop::collection::vec(any::<u16>(), 1..4000),
    ) {
        let before = image(mask.width(), mask.height(), color, deep, &values);
        let mut after = before.clone();
        let result = fill(&mut after, &mask, &options(method), &Silent);
        if mask.count() == mask.width() * mask.height() {
            prop_assert!(matches!(result, Err(ImagingError::Argument { .. })), "{:?}", result);
            prop_assert_eq!(&after, &before);
        } else {
            prop_assert_eq!(result.unwrap().pixels, mask.count());
        }
        let (channels, colors) = (color.channels(), color.color_channels());
        for (at, (a, b)) in samples(&after).iter().zip(&samples(&before)).enumerate() {
            let weight = mask.plane().data()[at / channels];
            prop_assert!(a == b || (weight > 0 && at % channels < colors));
        }
    }

    #[test]
    fn a_constant_stays_constant_whatever_is_under_the_mask(
        mask in sized_mask(),
        color in prop::sample::select(&COLORS[..]),
        method in prop::sample::select(&METHODS[..]),
        deep: bool,
        value: u16,
        damage: u16,
    ) {
        prop_assume!(mask.count() < mask.width() * mask.height());
        let mask = mask.binarized(1);
        let expected = image(mask.width(), mask.height(), color, deep, &[value]);
        let mut damaged = expected.clone();
        let (channels, colors) = (color.channels(), color.color_channels());
        for (pixel, weight) in mask.plane().data().iter().enumerate().filter(|(_, w)| **w > 0) {
            prop_assert_eq!(*weight, 255);
            for at in pixel * channels..pixel * channels + colors {
                match damaged.samples_mut() {
                    Samples::U8(values) => values[at] = (damage >> 8) as u8,
                    Samples::U16(values) => values[at] = damage,
                }
            }
        }
        fill(&mut damaged, &mask, &options(method), &Silent).unwrap();
        prop_assert_eq!(damaged, expected);
    }

    #[test]
    fn biharmonic_restores_a_linear_ramp(
        holes in prop::collection::vec((3..20usize, 3..20usize, 1..9usize, 1..9usize), 1..4),
        slope in (1..700u16, 1..700u16),
    ) {
        // Every equation is that of the open plane: the holes stay 2 pixels away from the edges.
        let mask = Mask::from_fn(32, 32, |x, y| {
            holes.iter().any(|&(left, top, across, down)| {
                (left..left + across).contains(&x) && (top..top + down).contains(&y)
            })
        });
        let ramp: Vec<u16> = (0..32u16)
            .flat_map(|y| (0..32u16).map(move |x| 100 + x * slope.0 + y * slope.1))
            .collect();
        let expected = image(32, 32, ColorType::Gray, true, &ramp);
        let mut damaged = expected.clone();
        if let Samples::U16(values) = damaged.samples_mut() {
            for (value, weight) in values.iter_mut().zip(mask.plane().data()) {
                *value = if *weight > 0 { 7 } else { *value };
            }
        }
        fill(&mut damaged, &mask, &options(FillMethod::Biharmonic), &Silent).unwrap();
        prop_assert_eq!(damaged, expected);
    }
}

/// A picture with texture and a mask of many regions.
fn scene() -> (Image, Mask) {
    let values: Vec<u16> = (0..90_000u32)
        .map(|at| {
            let (x, y) = (at / 3 % 200, at / 600);
            (((x * 211 + y * 97) % 40_000) + (at % 3) * 5000 + (x * y) % 900) as u16
        })
        .collect();
    let mask = Mask::from_fn(200, 150, |x, y| {
        (x % 40 < 3 && y % 50 != 9) || (y + 2 * x) % 90 == 0 || (x / 9 + y / 9) % 11 == 5
    });
    (image(200, 150, ColorType::Rgb, true, &values), mask)
}

#[test]
fn the_result_does_not_depend_on_the_threads() {
    for method in METHODS {
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (mut image, mask) = scene();
            pool.install(|| fill(&mut image, &mask, &options(method), &Silent)).unwrap();
            image
        });
        assert_eq!(one, three, "{method:?}");
    }
}

#[test]
fn a_request_to_stop_leaves_the_picture_as_it_was() {
    struct Stop;
    impl Observer for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    for method in METHODS {
        let (before, mask) = scene();
        let mut image = before.clone();
        let result = fill(&mut image, &mask, &options(method), &Stop);
        assert!(matches!(result, Err(ImagingError::Cancelled)), "{method:?}: {result:?}");
        assert_eq!(image, before);
    }
}

#[test]
fn planes_are_filled_like_the_picture() {
    let (mut image, mask) = scene();
    let planes = image.color_planes(image.bounds());
    let cores = [
        (FillMethod::Telea, telea::inpaint(&planes, &mask, 3.0).unwrap()),
        (FillMethod::Biharmonic, biharmonic::inpaint(&planes, &mask).unwrap()),
    ];
    for (method, filled) in cores {
        fill(&mut image, &mask, &options(method), &Silent).unwrap();
        let expected = image.color_planes(image.bounds());
        // Telea's gradient step is one of 8 bits on planes, of 16 bits in this picture.
        let tolerance = if method == FillMethod::Telea { 0.06 } else { 1e-4 };
        for (a, b) in filled.iter().zip(&expected) {
            for (a, b) in a.data().iter().zip(b.data()) {
                assert!((a - b).abs() <= tolerance, "{method:?}: {a} and {b}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let mut image = image(4, 3, ColorType::Gray, false, &[1000]);
    let mask = Mask::from_fn(3, 4, |x, _| x == 1);
    let error = fill(&mut image, &mask, &FillOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "mask: expected 4×3 pixels, found 3×4");

    let planes = [Plane::filled(3, 4, 0.5)];
    for radius in [0.0, -3.0, f32::NAN, f32::INFINITY, 101.0] {
        let error = telea::inpaint(&planes, &mask, radius).unwrap_err();
        assert_eq!(error.to_string(), format!("radius: expected 1 to 100 pixels, found {radius}"));
    }
}
