//! Learning is real: on a small trained checkpoint a LoRA memorises one picture, and restores pictures that it has not
//! seen better than the same base without it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use diffusion::checkpoint::{Checkpoint, OpenOptions};
use diffusion::train::data::{CropPolicy, DataOptions};
use diffusion::train::{
    LogEntry, LrScheduler, NetworkOptions, ObjectiveOptions, OptimizerOptions, RunOptions,
    TrainJob, TrainOptions, TrainReport, ValidationOptions, read_log, train,
};
use diffusion::validate::RestoreValidator;
use imaging::Silent;
use imaging::damage::{DamageRecipe, DatasetOptions, make_dataset};
use imaging::fill::FillOptions;

/// The base of `fixtures/generate_tiny.py`.
fn base() -> Checkpoint {
    // The checked-in one: it is a trained model, not a parity fixture.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny");
    Checkpoint::open(Path::new(path), &OpenOptions::default()).expect("a fixture")
}

/// Damages sample photographs of these names, `count` times each.
fn triplets(out: &Path, names: &[&str], count: usize) -> PathBuf {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/photos");
    let clean = out.join("photographs");
    std::fs::create_dir_all(&clean).expect("a new folder");
    for name in names {
        std::fs::copy(photos.join(name), clean.join(name)).expect("a sample");
    }
    let options = DatasetOptions {
        recipe: DamageRecipe::parse("cracks=1,losses=1,scratches=1").expect("kinds"),
        size: Some(160),
        count,
        seed: 3,
        ..DatasetOptions::default()
    };
    let set = out.join("set");
    make_dataset(&clean, &set, &options, &Silent).expect("triplets");
    set
}

/// Attention, feed-forward layers, convolutions and the time embedding.
const EVERYTHING: [&str; 15] = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
    "proj_in",
    "proj_out",
    "conv1",
    "conv2",
    "conv_shortcut",
    "conv_in",
    "conv_out",
    "conv",
    "time_emb_proj",
];

fn options(triplets: PathBuf, rank: usize, targets: &[&str], learning_rate: f64) -> TrainOptions {
    TrainOptions {
        data: DataOptions {
            triplets: Some(triplets),
            resolution: 64,
            buckets: false,
            prompt: String::new(),
            ..DataOptions::default()
        },
        network: NetworkOptions {
            rank,
            target_modules: targets.iter().map(|&name| name.to_owned()).collect(),
            ..NetworkOptions::default()
        },
        objective: ObjectiveOptions { prompt_dropout: 0.0, ..ObjectiveOptions::default() },
        optimizer: OptimizerOptions {
            learning_rate,
            lr_scheduler: LrScheduler::Cosine,
            warmup_steps: 10,
            batch_size: 4,
            gradient_checkpointing: false,
            ..OptimizerOptions::default()
        },
        run: RunOptions { max_steps: Some(200), save_every: 0, ..RunOptions::default() },
        validation: ValidationOptions { steps: 15, images: 0, ..ValidationOptions::default() },
        ..TrainOptions::default()
    }
}

fn run(options: &TrainOptions, output: &Path) -> (TrainReport, Vec<LogEntry>) {
    let job = TrainJob {
        checkpoint: &base(),
        options,
        output,
        resume: false,
        fill: Arc::new(FillOptions::default()),
        force: false,
        device: Device::Cpu,
    };
    let report = train(&job, Some(&RestoreValidator), &Silent).expect("a run");
    (report, read_log(&output.join("log.jsonl")).expect("a log"))
}

fn losses(log: &[LogEntry]) -> Vec<f64> {
    let loss = |entry: &LogEntry| match entry {
        LogEntry::Step { loss, .. } => Some(*loss),
        _ => None,
    };
    log.iter().filter_map(loss).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// 200 steps on one triplet, with new noise at new timesteps in every step: the loss falls to a tenth.
#[test]
fn one_triplet_is_memorised() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = triplets(folder.path(), &["dunes.jpg"], 1);
    let mut options = options(set, 32, &EVERYTHING, 8e-3);
    // For a short run: moments that forget sooner, and nothing that pulls back.
    options.optimizer.beta2 = 0.95;
    options.optimizer.weight_decay = 0.0;
    options.data.crop = CropPolicy::Fixed;
    options.data.flip = false;
    options.data.repeats = 4;
    let (_, log) = run(&options, &folder.path().join("run"));
    let losses = losses(&log);
    let (first, last) = (mean(&losses[..10]), mean(&losses[180..]));
    println!("loss {first:.4} → {last:.4}, {:.1} times less", first / last);
    assert!(last * 10.0 <= first, "the mean loss went from {first} to {last}");
}

/// Photographs that the LoRA has not seen are restored better with it than without.
#[test]
fn held_out_photographs_are_restored_better_than_by_the_base() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let seen = triplets(&folder.path().join("seen"), &SEEN, 3);
    let unseen = triplets(&folder.path().join("unseen"), &UNSEEN, 2);
    let mut options = options(seen, 16, &EVERYTHING, 2e-3);
    options.validation.triplets = Some(unseen);
    let (report, log) = run(&options, &folder.path().join("run"));
    let scores = |entry: &LogEntry| match entry {
        LogEntry::Validation { psnr, masked_psnr, .. } => Some((*psnr, *masked_psnr)),
        _ => None,
    };
    let base = log.iter().find_map(scores).expect("a validation before the first step");
    let trained = report.validation.as_ref().and_then(scores).expect("one after the last");
    println!("whole pictures, damaged pixels (dB): base {base:.2?}, trained {trained:.2?}");
    assert!(trained.1 > base.1 + 0.5, "damaged pixels: {} dB to {} dB", base.1, trained.1);
    assert!(trained.0 > base.0, "whole pictures: {} dB to {} dB", base.0, trained.0);
}

const SEEN: [&str; 8] = [
    "assembly_hall.jpg",
    "cypresses.jpg",
    "dunes.jpg",
    "harbour.jpg",
    "launch_pad.jpg",
    "mountain.jpg",
    "sea.jpg",
    "skyline.jpg",
];
/// The base has not seen them either.
const UNSEEN: [&str; 4] = ["astronaut.jpg", "cat.jpg", "coffee.jpg", "rocks.jpg"];
