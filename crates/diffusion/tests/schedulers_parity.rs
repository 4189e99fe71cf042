//! Schedulers and noise against diffusers and torch, by the fixtures of `generate_schedulers.py`.

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use common::{fixtures, json};
use diffusion::noise::{GivenNoise, NoiseSource, TorchNoise};
use diffusion::schedulers::{SchedulerConfig, SchedulerKind};
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
    train: Vec<TrainCase>,
    normals: Vec<NormalsCase>,
}

/// One trajectory.
#[derive(Deserialize)]
struct Case {
    kind: String,
    config: serde_json::Value,
    steps: usize,
    begin: usize,
    timesteps: Vec<f64>,
    init_noise_sigma: f64,
    drawn: usize,
}

#[derive(Deserialize)]
struct TrainCase {
    config: SchedulerConfig,
    timesteps: Vec<usize>,
}

#[derive(Deserialize)]
struct NormalsCase {
    seed: u64,
    sizes: Vec<usize>,
}

type Tensors = HashMap<String, Tensor>;

fn load() -> (Cases, Tensors) {
    let path = fixtures().join("schedulers/tensors.safetensors");
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (json("schedulers/cases.json"), tensors)
}

/// The largest difference, in units of max(1, |reference|); infinite if something is not a number.
fn difference(found: &Tensor, reference: &Tensor) -> candle_core::Result<f32> {
    let unit = reference.abs()?.clamp(1_f32, f32::MAX)?;
    let differences = ((found - reference)?.abs()? / unit)?.flatten_all()?.to_vec1::<f32>()?;
    let worse = |worst: f32, d: f32| if d.is_nan() { f32::INFINITY } else { worst.max(d) };
    Ok(differences.into_iter().fold(0.0, worse))
}

/// What a trajectory may differ by.
///
/// 1e-5, unless diffusers in f32 differs by more from itself in f64: its multi-step solvers divide differences of
/// logarithms that are nearly equal; with the cosine schedule clean samples are divided by a signal of
/// 1e-4; with a zero terminal SNR Euler's samples are of size 4096 · 4, of which f32 resolves 1e-3.
fn tolerance(case: &Case) -> f32 {
    let multi_step = case.kind.starts_with("dpmpp") || case.kind == "unipc";
    if case.kind.starts_with("euler") && case.config["rescale_betas_zero_snr"] == true {
        3e-3
    } else if multi_step && case.config["beta_schedule"] == "squaredcos_cap_v2" {
        5e-4
    } else if multi_step {
        5e-5
    } else {
        1e-5
    }
}

/// The largest difference over a trajectory, its levels and its estimate of the clean sample.
fn run(case: &Case, number: usize, tensors: &Tensors) -> diffusion::Result<f32> {
    let Case { steps, begin, .. } = *case;
    let config = SchedulerConfig::from_value(case.config.clone(), "cases.json".as_ref())?;
    let mut scheduler = config.build(Some(case.kind.parse::<SchedulerKind>()?), steps)?;
    let expected = |name: &str| &tensors[&format!("{number}.{name}")];
    let pool = |name: &str, i: usize| tensors[name].get(i);

    // 1. the schedule
    assert_eq!(scheduler.timesteps().len(), case.timesteps.len());
    for (found, expected) in scheduler.timesteps().iter().zip(&case.timesteps) {
        assert!((found - expected).abs() <= 1e-5 * expected.max(1.0), "{found}, {expected}");
    }
    let sigma = scheduler.init_noise_sigma();
    assert!((sigma - case.init_noise_sigma).abs() <= 1e-5 * case.init_noise_sigma, "{sigma}");

    // 2. the first sample
    let noised = scheduler.add_noise(&tensors["original"], &tensors["noise"], begin)?;
    let mut worst = difference(&noised, expected("noised"))?;
    let mut sample = if begin > 0 { noised } else { (&tensors["noise"] * sigma)? };

    // 3. the trajectory
    let draws = (0..case.drawn).map(|i| pool("noises", i)).collect::<Result<Vec<_>, _>>()?;
    let mut noise = GivenNoise::new(draws);
    let mut original = None;
    for (i, index) in (begin..scheduler.timesteps().len()).enumerate() {
        let input = scheduler.scale_model_input(&sample, index)?;
        let output = ((pool("outputs", i)? * 0.6)? + (input.tanh()? * 0.4)?)?;
        let step = scheduler.step(&output, index, &sample, &mut noise)?;
        worst = worst.max(difference(&step.prev_sample, &expected("samples").get(i)?)?);
        (sample, original) = (step.prev_sample, step.pred_original_sample);
    }
    assert_eq!(noise.remaining(), 0, "as many draws as in diffusers");
    if let Some(expected) = tensors.get(&format!("{number}.original")) {
        let original = original.expect("a clean sample where diffusers gives one");
        worst = worst.max(difference(&original, expected)?);
    }
    Ok(worst)
}

#[test]
fn trajectories_parity() {
    let (cases, tensors) = load();
    let mut failures = Vec::new();
    let mut worst = HashMap::<&str, f32>::new();
    for (number, case) in cases.cases.iter().enumerate() {
        let Case { kind, config, steps, begin, .. } = case;
        let what = format!("{kind}, {steps} steps from {begin}, {config}");
        match run(case, number, &tensors) {
            Ok(found) => {
                let entry = worst.entry(kind).or_default();
                *entry = entry.max(found);
                if found > tolerance(case) {
                    failures.push(format!("{found:e}: {what}"));
                }
            }
            Err(error) => failures.push(format!("{error}: {what}")),
        }
    }
    println!("{worst:?}");
    assert!(failures.is_empty(), "{} differ\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_forward_process_parity() -> diffusion::Result<()> {
    let (cases, tensors) = load();
    let (original, noise) = (&tensors["train.original"], &tensors["train.noise"]);
    for (i, TrainCase { config, timesteps }) in cases.train.iter().enumerate() {
        let expected = |name: &str| &tensors[&format!("train.{i}.{name}")];
        let schedule = config.train_schedule()?;
        let n = schedule.num_train_timesteps();
        let alphas = Tensor::from_vec(config.alphas_cumprod()?, n, &Device::Cpu)?;
        let worst = difference(&alphas, expected("alphas_cumprod"))?;
        assert!(worst <= 1e-6, "case {i}: {worst:e}");
        let noised = schedule.add_noise(original, noise, timesteps)?;
        assert!(difference(&noised, expected("noised"))? <= 1e-6);
        let velocity = schedule.velocity(original, noise, timesteps)?;
        assert!(difference(&velocity, expected("velocity"))? <= 1e-6);
        let snr = Tensor::from_vec(schedule.snr(timesteps)?, timesteps.len(), &Device::Cpu)?;
        assert!(difference(&snr, expected("snr"))? <= 1e-5);
    }
    Ok(())
}

#[test]
fn normal_numbers_parity() -> diffusion::Result<()> {
    let (cases, tensors) = load();
    for (i, NormalsCase { seed, sizes }) in cases.normals.iter().enumerate() {
        let mut noise = TorchNoise::new(*seed);
        let draws = sizes
            .iter()
            .map(|&n| noise.randn(&n.into(), DType::F32, &Device::Cpu))
            .collect::<diffusion::Result<Vec<_>>>()?;
        let found = Tensor::cat(&draws, 0)?;
        let worst = difference(&found, &tensors[&format!("normals.{i}")])?;
        println!("seed {seed}: {worst:e}");
        assert!(worst <= 1e-6, "seed {seed}: {worst:e}");
    }
    Ok(())
}
