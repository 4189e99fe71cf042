//! Restoration with a small model of random weights: what must hold whatever the network paints.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device};
use diffusion::checkpoint::{Checkpoint, OpenOptions};
use diffusion::components::{Components, LoadOptions, PromptEmbeds, Shown};
use diffusion::noise::{NoiseSource, TorchNoise};
use diffusion::pipelines::restore::{Pipeline, RestoreOptions, Restorer, Strength};
use imaging::composite::composite;
use imaging::restore::MaskSource;
use imaging::windows::WindowOptions;
use imaging::{ColorType, Image, ImagingError, Mask, Observer, Plane, Samples, Silent};

/// The model of `fixtures/generate_inpaint.py` that has this name.
fn model(name: &str, dtype: DType) -> Components {
    // The checked-in one: other fixtures may have the size of SD 1.5.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inpaint/");
    let path = std::path::Path::new(path).join(name);
    let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).expect("a fixture");
    Components::load(&checkpoint, &LoadOptions { dtype, ..LoadOptions::default() })
        .expect("a fixture")
}

fn prompts(components: &Components) -> PromptEmbeds {
    let shape = (1, 77, components.unet.config().context_dim());
    let mut noise = TorchNoise::new(7);
    let mut draw = || noise.randn(&shape.into(), DType::F32, &Device::Cpu).expect("small");
    PromptEmbeds { positive: draw(), negative: draw(), truncated: Vec::new() }
}

/// Two steps through windows of 64 pixels, without guidance.
fn quick() -> RestoreOptions {
    RestoreOptions {
        num_inference_steps: 2,
        guidance_scale: 1.0,
        windows: WindowOptions { size: 64, max_zoom: 1.0, ..WindowOptions::default() },
        ..RestoreOptions::default()
    }
}

fn picture(width: usize, height: usize, color: ColorType, deep: bool) -> Image {
    let values = (0..width * height * color.channels()).map(|at| (at * 7919) >> 3);
    let samples = if deep {
        Samples::U16(values.map(|value| value as u16).collect())
    } else {
        Samples::U8(values.map(|value| value as u8).collect())
    };
    Image::new(width, height, color, samples).expect("as many samples")
}

/// A crack from corner to corner, a spot, a loss, and a stretch that is blended.
fn damage(width: usize, height: usize) -> Mask {
    let mut mask = Mask::from_fn(width, height, |x, y| {
        x * height / width == y
            || (x / 3 == 30 && y / 3 == 2)
            || (x > 60 && x < 90 && y > 70 && y < 90)
    });
    for x in 60..width.min(90) {
        mask.plane_mut().set(x, 20, 100);
    }
    mask
}

fn restore(components: &Components, options: &RestoreOptions, image: Image, mask: Mask) -> Image {
    let prompts = prompts(components);
    let restorer = Restorer { components, prompts: &prompts, options };
    let source = MaskSource::Given { mask, dilate: 0, feather: 0.0 };
    restorer.restore(image, source, &Silent).expect("a mask that fits").image
}

/// Panics unless exactly the damaged samples may differ, alpha never, and most damaged ones do.
fn check_kept(before: &Image, after: &Image, mask: &Mask) {
    assert_eq!((before.size(), before.color()), (after.size(), after.color()));
    let values = |image: &Image| -> Vec<u16> {
        match image.samples() {
            Samples::U8(values) => values.iter().map(|&value| u16::from(value)).collect(),
            Samples::U16(values) => values.clone(),
        }
    };
    let color = before.color();
    let (mut changed, mut damaged) = (0, 0);
    for (at, (was, is)) in values(before).into_iter().zip(values(after)).enumerate() {
        let alpha = color.has_alpha() && at % color.channels() == color.channels() - 1;
        if mask.plane().data()[at / color.channels()] == 0 || alpha {
            assert_eq!(was, is, "sample {at} was to be kept");
        } else {
            damaged += 1;
            changed += usize::from(was != is);
        }
    }
    assert!(changed * 10 > damaged * 8, "{changed} of {damaged} damaged samples changed");
}

#[test]
fn kept_samples_keep_their_bits_at_every_depth_and_colour() {
    let components = model("pndm", DType::F32);
    let mask = damage(150, 110);
    for (color, deep) in [
        (ColorType::Rgb, false),
        (ColorType::Gray, true),
        (ColorType::Rgba, true),
        (ColorType::GrayAlpha, false),
    ] {
        let before = picture(150, 110, color, deep);
        let after = restore(&components, &quick(), before.clone(), mask.clone());
        check_kept(&before, &after, &mask);
    }
}

#[test]
fn weights_stored_in_16_bits_and_other_networks_work_alike() {
    let mask = damage(150, 110);
    let before = picture(150, 110, ColorType::Rgb, false);
    for (name, dtype) in [
        ("pndm", DType::BF16),
        ("pndm", DType::F16),
        ("four_channels", DType::F32),
        ("asymmetric", DType::F32),
        ("lcm", DType::F32),
    ] {
        let components = model(name, dtype);
        let after = restore(&components, &quick(), before.clone(), mask.clone());
        check_kept(&before, &after, &mask);
    }
}

#[test]
fn the_same_seed_gives_the_same_picture_whatever_the_batch() {
    let components = model("asymmetric", DType::F32);
    let mask = damage(150, 110);
    let before = picture(150, 110, ColorType::Rgb, false);
    let paint =
        |options: RestoreOptions| restore(&components, &options, before.clone(), mask.clone());
    let first = paint(quick());
    assert_eq!(paint(quick()), first);
    assert_ne!(paint(RestoreOptions { seed: 1, ..quick() }), first);

    // Sums over a batch may differ in the last bits, which can turn a rounding.
    let batched = paint(RestoreOptions { batch_size: 3, ..quick() });
    let (Samples::U8(one), Samples::U8(three)) = (first.samples(), batched.samples()) else {
        panic!("8 bits went in");
    };
    assert!(one.iter().zip(three).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn the_whole_picture_can_be_shown_as_diffusers_shows_it() {
    let components = model("pndm", DType::F32);
    let mask = damage(150, 110);
    let before = picture(150, 110, ColorType::Rgb, false);
    let options = RestoreOptions { pipeline: Pipeline::Diffusers, ..quick() };
    check_kept(&before, &restore(&components, &options, before.clone(), mask.clone()), &mask);
}

#[test]
fn an_empty_mask_returns_the_input() {
    let components = model("pndm", DType::F32);
    let before = picture(80, 70, ColorType::Rgb, false);
    for pipeline in [Pipeline::Windows, Pipeline::Diffusers] {
        let options = RestoreOptions { pipeline, ..quick() };
        let after = restore(&components, &options, before.clone(), Mask::empty(80, 70));
        assert_eq!(after, before);
    }
}

/// Stops after a number of reports, and keeps the last.
struct StopAfter(u64, AtomicU64);

impl Observer for StopAfter {
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        assert!(done <= total);
        if stage == "repaint" {
            self.1.store(done, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

#[test]
fn a_stop_between_steps_leaves_the_picture_as_it_was() {
    let components = model("pndm", DType::F32);
    let (prompts, options) = (prompts(&components), quick());
    let restorer = Restorer { components: &components, prompts: &prompts, options: &options };
    let before = picture(150, 110, ColorType::Rgb, false);
    let mut image = before.clone();
    let observer = StopAfter(3, AtomicU64::new(0));
    let error = restorer.repaint(&mut image, &damage(150, 110), &observer).expect_err("stopped");
    assert!(error.is_cancelled());
    assert_eq!(image, before);
}

#[test]
fn options_and_masks_that_do_not_fit_are_named() {
    let components = model("pndm", DType::F32);
    let prompts = prompts(&components);
    let refused = |options: &RestoreOptions, mask: Mask| {
        let restorer = Restorer { components: &components, prompts: &prompts, options };
        let mut image = picture(80, 70, ColorType::Rgb, false);
        restorer.repaint(&mut image, &mask, &Silent).expect_err("refused").to_string()
    };
    let mask = || damage(80, 70);
    let bad = |change: fn(&mut RestoreOptions)| {
        let mut options = quick();
        change(&mut options);
        refused(&options, mask())
    };
    assert!(bad(|options| options.batch_size = 0).starts_with("batch size: "));
    assert!(bad(|options| options.guidance_scale = f64::NAN).starts_with("guidance scale: "));
    assert!(bad(|options| options.strength = Strength::Fixed(0.1)).starts_with("strength: "));
    assert!(bad(|options| options.num_inference_steps = 0).contains("steps"));
    assert!(bad(|options| options.windows.size = 66).starts_with("window size: "));

    let error = refused(&quick(), Mask::empty(70, 80));
    assert_eq!(
        error,
        ImagingError::check_size("mask", (80, 70), (70, 80)).unwrap_err().to_string()
    );
}

#[test]
fn the_network_sees_what_it_is_to_be_shown() {
    let components = model("pndm", DType::F32);
    let mask = damage(150, 110).binarized(1);
    let before = picture(150, 110, ColorType::Rgb, false);
    let hidden = restore(&components, &quick(), before.clone(), mask.clone());
    let of = |shown| {
        let options = RestoreOptions { shown, ..quick() };
        let after = restore(&components, &options, before.clone(), mask.clone());
        check_kept(&before, &after, &mask);
        after
    };
    let (damage, filled) = (of(Shown::Damage), of(Shown::Filled));
    assert_ne!(damage, hidden);
    assert_ne!(filled, hidden);
    assert_ne!(filled, damage);
    // Where nothing is kept there is no fill, and what sees the damage needs none.
    let everywhere = Mask::from_fn(150, 110, |_, _| true);
    let options = RestoreOptions { shown: Shown::Damage, ..quick() };
    assert_ne!(restore(&components, &options, before.clone(), everywhere), before);
    // What is shown the fill does not see the damage.
    let other = RestoreOptions { shown: Shown::Filled, ..quick() };
    let mut repainted = before.clone();
    let grey = vec![Plane::filled(150, 110, 0.5_f32); 3];
    composite(&mut repainted, before.bounds(), &grey, &mask).expect("sizes agree");
    assert_eq!(restore(&components, &other, repainted, mask), filled);
}
