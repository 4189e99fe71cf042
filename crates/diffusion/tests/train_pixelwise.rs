//! Runs of the networks on pixels: interrupted, resumed, refused, and what is done with the file that they leave.

use std::path::{Path, PathBuf};

use diffusion::checkpoint::{Checkpoint, Component, NewCheckpoint, OpenOptions, write_new};
use diffusion::pipelines::pixelwise::{LearnedDetectParams, LearnedDetector, Refiner};
use diffusion::train::pixelwise::{
    PageOptions, PixelTask, PixelTrainJob, PixelTrainOptions, export_pages, train_pixelwise,
};
use diffusion::train::{LogEntry, TrainObserver, TrainReport, read_log};
use imaging::fill::FillOptions;
use imaging::io::{WriteOptions, write_image};
use imaging::{ColorType, Detector as _, Image, Mask, Observer, Repainter as _, Samples, Silent};
use serde_json::json;

/// A photograph of soft shapes.
fn photograph(number: usize, (width, height): (usize, usize)) -> Image {
    let value = |i: usize| {
        let (x, y, c) = ((i / 3) % width, i / 3 / width, i % 3);
        let wave = (x as f32 / (7 + number) as f32).sin() + (y as f32 / 11.0 + c as f32).cos();
        (127.0 + 50.0 * wave) as u8
    };
    let samples = (0..3 * width * height).map(value).collect();
    Image::new(width, height, ColorType::Rgb, Samples::U8(samples)).expect("a picture")
}

fn photographs(folder: &Path, count: usize) -> PathBuf {
    let clean = folder.join("clean");
    std::fs::create_dir_all(&clean).expect("a folder");
    for number in 0..count {
        let path = clean.join(format!("{number}.png"));
        write_image(&path, &photograph(number, (90, 70)), &WriteOptions::default())
            .expect("a file");
    }
    clean
}

fn options(task: PixelTask, clean: PathBuf, steps: u64) -> PixelTrainOptions {
    let mut options = PixelTrainOptions::new(task);
    options.steps = steps;
    options.save_every = 2;
    options.optimizer.batch_size = 2;
    options.optimizer.warmup_steps = 2;
    options.optimizer.learning_rate = 3e-3;
    if let Some(network) = &mut options.network {
        (network.widths, network.blocks) = (vec![6, 9], vec![1, 1]);
        network.norm_num_groups = network.norm_num_groups.map(|_| 3);
    }
    options.pages = PageOptions {
        clean,
        held_out: 1,
        longest_side: [64, 90],
        page_side: 64,
        pages: 3,
        steps_per_page: 2,
        crop: 32,
        ..options.pages
    };
    options
}

fn run(
    options: &PixelTrainOptions,
    output: &Path,
    resume: bool,
    observer: &dyn TrainObserver,
) -> diffusion::Result<TrainReport> {
    let checkpoint = options.model.as_ref().map(|model| {
        Checkpoint::open(model.as_ref(), &OpenOptions::default()).expect("a checkpoint")
    });
    let checkpoint = checkpoint.as_ref();
    train_pixelwise(PixelTrainJob { options, checkpoint, output, resume, force: false }, observer)
}

/// Stops after so many steps.
struct StopAfter(u64, std::sync::atomic::AtomicU64);

impl Observer for StopAfter {
    fn cancelled(&self) -> bool {
        self.1.load(std::sync::atomic::Ordering::Relaxed) >= self.0
    }
}

impl TrainObserver for StopAfter {
    fn step(&self, entry: &LogEntry, _: u64) {
        self.1.store(entry.step(), std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    for task in [PixelTask::Detector, PixelTask::Refiner] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(task, photographs(folder.path(), 4), 7);
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        let once = run(&options, &whole, false, &Silent).expect("a run");
        assert!(once.finished && once.steps == 7 && once.images == 3);

        let stopped = run(&options, &parts, false, &StopAfter(3, 0.into())).expect("a part of it");
        assert!(!stopped.finished && stopped.steps == 3);
        let refused = run(&options, &parts, false, &Silent).expect_err("there is a run");
        assert!(refused.to_string().contains("resume it"), "{refused}");
        let resumed = run(&options, &parts, true, &Silent).expect("the rest");
        assert!(resumed.finished && resumed.resumed_at == 3);
        let bytes = |path: &Path| std::fs::read(path).expect("a file");
        assert_eq!(bytes(&once.files[0]), bytes(&resumed.files[0]), "{task:?}");
        let steps = |folder: &Path| read_log(&folder.join("log.jsonl")).expect("a log").len();
        assert_eq!(steps(&whole), steps(&parts));

        let mut other = options.clone();
        other.optimizer.learning_rate = 1e-2;
        let refused = run(&other, &parts, true, &Silent).expect_err("another rate");
        assert!(refused.to_string().contains("learning_rate"), "{refused}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let clean = photographs(folder.path(), 2);
    let good = options(PixelTask::Detector, clean, 1);
    let with = |change: &dyn Fn(&mut PixelTrainOptions)| {
        let mut options = good.clone();
        change(&mut options);
        options
    };
    let cases: [(PixelTrainOptions, &str); 9] = [
        (with(&|o| o.pages.crop = 33), "multiple of 2"),
        (with(&|o| o.network.iter_mut().for_each(|n| n.in_channels = 4)), "3 in and 1 out"),
        (with(&|o| o.pages.held_out = 2), "more than 2 photographs"),
        (with(&|o| o.pages.damage = "rust".to_owned()), "rust"),
        (with(&|o| (o.pages.crop, o.pages.page_side) = (128, 128)), "86×86"),
        (with(&|o| o.pages.clean = "nowhere".into()), "nowhere"),
        (with(&|o| o.network = None), "widths and blocks"),
        (with(&|o| o.task = PixelTask::Autoencoder), "a checkpoint with an autoencoder"),
        (with(&|o| (o.task, o.pages.held_out) = (PixelTask::Autoencoder, 0)), "at least 1"),
    ];
    for (options, word) in cases {
        let output = folder.path().join("out");
        let error = run(&options, &output, false, &Silent).expect_err(word).to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
        assert!(!output.exists(), "{word}");
    }
}

#[test]
fn pages_are_written_for_other_trainers() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(PixelTask::Refiner, photographs(folder.path(), 3), 4);
    let try_export = |name: &str, count: u64, resume: bool, observer: &dyn TrainObserver| {
        let output = folder.path().join(name);
        let job = PixelTrainJob {
            options: &options,
            checkpoint: None,
            output: &output,
            resume,
            force: false,
        };
        export_pages(job, count, observer)
    };
    let export = |name: &str, count: u64, resume: bool, observer: &dyn TrainObserver| {
        try_export(name, count, resume, observer).expect("pages")
    };
    assert_eq!(export("once", 5, false, &Silent), 5);
    assert_eq!(export("parts", 2, false, &Silent), 2);
    let error = try_export("parts", 2, false, &Silent).expect_err("there are some already");
    assert!(error.to_string().contains("resume it or replace it"), "{error}");
    assert_eq!(export("parts", 5, true, &StopAfter(0, 0.into())), 0);
    assert_eq!(export("parts", 5, true, &Silent), 5);
    for number in 0..5 {
        let path = |name: &str| folder.path().join(format!("{name}/pages/{number:06}.safetensors"));
        let bytes = |path: PathBuf| std::fs::read(path).expect("a page");
        assert_eq!(bytes(path("once")), bytes(path("parts")), "{number}");

        let page = candle_core::safetensors::load(path("once"), &candle_core::Device::Cpu)
            .expect("tensors");
        let values = |name: &str| {
            page[name].flatten_all().and_then(|all| all.to_vec1::<u8>()).expect("u8 values")
        };
        let (clean, shown, mask) = (values("clean"), values("shown"), values("mask"));
        let (height, width) = page["mask"].dims2().expect("a mask");
        assert_eq!(page["clean"].dims(), [height, width, 3]);
        assert_eq!(page["shown"].dims(), [height, width, 3]);
        let kept = |(pixel, &mask): (usize, &u8)| {
            mask == 1 || clean[3 * pixel..3 * pixel + 3] == shown[3 * pixel..3 * pixel + 3]
        };
        assert!(mask.iter().enumerate().all(kept), "filled outside the mask");
        assert!(mask.contains(&1) && mask.iter().all(|&value| value <= 1));
    }
}

#[test]
fn settings_go_to_toml_and_back() {
    for task in [PixelTask::Detector, PixelTask::Refiner, PixelTask::Autoencoder] {
        let options = PixelTrainOptions::new(task);
        let text = options.to_toml().expect("TOML");
        assert_eq!(PixelTrainOptions::from_toml(&text).expect("the same"), options);
    }
    let error = PixelTrainOptions::from_toml("task = 3").expect_err("no task").to_string();
    assert!(error.contains("run file") && !error.contains('\n'), "{error}");
}

#[test]
fn a_network_that_adds_nothing_leaves_the_fill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(PixelTask::Refiner, photographs(folder.path(), 3), 1);
    // The last layer starts at 0, and stays there at this rate.
    options.optimizer.learning_rate = 0.0;
    let report = run(&options, &folder.path().join("run"), false, &Silent).expect("a run");
    let refiner = Refiner::open(&report.files[0]).expect("its own file");

    let before = photograph(9, (83, 61));
    let weights = Mask::from_plane(imaging::Plane::from_fn(83, 61, |x, y| match (x, y) {
        (10..=12, _) => 255,
        (40..=60, 20..=30) => 100,
        _ => 0,
    }));
    let (mut refined, mut filled) = (before.clone(), before.clone());
    refiner.repaint(&mut refined, &weights, &Silent).expect("a repainted picture");
    FillOptions::default().repaint(&mut filled, &weights, &Silent).expect("a filled picture");
    let (Samples::U8(refined), Samples::U8(filled), Samples::U8(before)) =
        (refined.samples(), filled.samples(), before.samples())
    else {
        panic!("8 bits stay 8 bits")
    };
    for (i, ((refined, filled), before)) in refined.iter().zip(filled).zip(before).enumerate() {
        if weights.plane().data()[i / 3] == 0 {
            assert_eq!(refined, before);
        } else {
            // The fill is rounded once before the network sees it.
            assert!(refined.abs_diff(*filled) <= 1, "{refined} and {filled}");
        }
    }
    let error = LearnedDetector::open(&report.files[0]).expect_err("it is none").to_string();
    assert!(error.contains("expected a detector, found a refiner"), "{error}");
}

/// Damage that is sharper than the photograph, which few steps learn.
fn easily_learned(options: &mut PixelTrainOptions) {
    options.pages.damage = "losses".to_owned();
    options.pages.severity = [1.0, 1.0];
    options.pages.scanned = 0.0;
    options.optimizer.learning_rate = 1e-2;
    options.optimizer.ema_decay = 0.0;
}

fn assert_learned(report: &TrainReport) {
    let (first, last) = (report.first_loss.expect("steps"), report.last_loss.expect("steps"));
    assert!(last < 0.8 * first, "{first} to {last}");
}

#[test]
fn a_detector_learns_to_find_losses() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(PixelTask::Detector, photographs(folder.path(), 4), 60);
    easily_learned(&mut options);
    let report = run(&options, &folder.path().join("run"), false, &Silent).expect("a run");
    assert_learned(&report);

    // The less probability it takes, the more is found.
    let found = |threshold: f32| {
        let params = LearnedDetectParams { threshold, min_area: 1, dilate: 0 };
        let detector = LearnedDetector::open(&report.files[0]).expect("its own file");
        let detector = detector.with_params(params).expect("in range");
        detector.detect(&photograph(2, (90, 70)), &Silent).expect("a mask").mask.count()
    };
    assert!(found(0.01) >= found(0.5) && found(0.5) >= found(0.99));
}

#[test]
fn a_detector_can_learn_from_luma_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(PixelTask::Detector, photographs(folder.path(), 4), 60);
    options.network.iter_mut().for_each(|network| network.in_channels = 1);
    easily_learned(&mut options);
    let report = run(&options, &folder.path().join("run"), false, &Silent).expect("a run");
    assert_learned(&report);

    // Pictures of one channel and of three that are equal get the same answer.
    let params = LearnedDetectParams { threshold: 0.02, min_area: 1, dilate: 0 };
    let detector = LearnedDetector::open(&report.files[0]).expect("its own file");
    let detector = detector.with_params(params).expect("in range");
    let (width, height) = (90, 70);
    let tone = |at: usize| 60 + (at * at % 97) as u8;
    let of = |color: ColorType, pixel: &dyn Fn(u8) -> Vec<u8>| {
        let samples = (0..width * height).flat_map(|at| pixel(tone(at))).collect();
        Image::new(width, height, color, Samples::U8(samples)).expect("a picture")
    };
    let grey = of(ColorType::Gray, &|tone| vec![tone]);
    let rgb = of(ColorType::Rgb, &|tone| vec![tone; 3]);
    let found = |image: &Image| detector.probabilities(image, &Silent).expect("probabilities");
    assert_eq!(found(&grey), found(&rgb));
}

/// A checkpoint with a tiny autoencoder that shrinks sides to a half.
fn tiny_model(folder: &Path) -> String {
    let mut new = NewCheckpoint::compact();
    let widths = json!([8, 8]);
    new.vae["block_out_channels"] = widths;
    for key in ["down_block_types", "up_block_types"] {
        new.vae[key].as_array_mut().expect("a list").truncate(2);
    }
    let path = folder.join("model");
    write_new(&path, &new, 1).expect("a checkpoint");
    path.display().to_string()
}

#[test]
fn an_autoencoder_learns_to_give_pictures_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(PixelTask::Autoencoder, photographs(folder.path(), 4), 30);
    options.model = Some(tiny_model(folder.path()));
    options.optimizer.learning_rate = 1e-2;
    options.optimizer.ema_decay = 0.5;
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let report = run(&options, &whole, false, &Silent).expect("a run");
    let (first, last) = (report.first_loss.expect("steps"), report.last_loss.expect("steps"));
    assert!(last < first - 3.0, "{first} to {last} dB");
    let Some(LogEntry::Reconstruction { latent_std, .. }) = report.validation else {
        panic!("{:?}", report.validation)
    };

    // The checkpoint is whole, and its latents are scaled to a deviation of 1.
    let trained =
        Checkpoint::open(&report.files[0], &OpenOptions::default()).expect("a checkpoint");
    let config = trained.config(Component::Vae).expect("a configuration");
    let factor = config["scaling_factor"].as_f64().expect("a number");
    assert!((factor * latent_std - 1.0).abs() < 1e-3, "{factor} and {latent_std}");
    assert_eq!(trained.components().len(), 3);

    // Interrupted and resumed: the same bytes.
    let stopped = run(&options, &parts, false, &StopAfter(7, 0.into())).expect("a part of it");
    assert!(!stopped.finished);
    let resumed = run(&options, &parts, true, &Silent).expect("the rest");
    let bytes = |report: &TrainReport| {
        std::fs::read(report.files[0].join("vae/diffusion_pytorch_model.safetensors"))
            .expect("weights")
    };
    assert_eq!(bytes(&report), bytes(&resumed));
}
