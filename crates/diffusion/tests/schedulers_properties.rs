//! What holds for every scheduler, whatever the reference says.

use candle_core::{DType, Device, Tensor};
use diffusion::Result;
use diffusion::noise::{GivenNoise, NoiseSource as _, TorchNoise};
use diffusion::schedulers::{SchedulerConfig, SchedulerKind};
use proptest::prelude::*;

/// Stable Diffusion 1.x's settings.
fn config() -> SchedulerConfig {
    SchedulerConfig {
        beta_start: Some(0.00085),
        beta_end: Some(0.012),
        beta_schedule: Some("scaled_linear".to_owned()),
        steps_offset: Some(1),
        clip_sample: Some(false),
        skip_prk_steps: Some(true),
        ..SchedulerConfig::default()
    }
}

fn pair(seed: u64) -> Result<(Tensor, Tensor)> {
    let mut noise = TorchNoise::new(seed);
    let mut randn = || noise.randn(&(1, 4, 3, 2).into(), DType::F32, &Device::Cpu);
    Ok((randn()?, randn()?))
}

fn largest(xs: &Tensor) -> Result<f32> {
    Ok(xs.abs()?.flatten_all()?.max(0)?.to_scalar()?)
}

fn any_kind() -> impl Strategy<Value = SchedulerKind> {
    prop::sample::select(SchedulerKind::ALL.to_vec())
}

/// From whatever index, a model that knows the noise leads back to the clean sample.
fn perfect_prediction(kind: SchedulerKind, steps: usize, begin: usize, seed: u64) -> Result<f32> {
    let (clean, noise) = pair(seed)?;
    let config = SchedulerConfig { set_alpha_to_one: Some(true), ..config() };
    let mut scheduler = config.build(Some(kind), steps)?;
    let begin = begin.min(scheduler.timesteps().len() - 1);
    let mut sample = scheduler.add_noise(&clean, &noise, begin)?;
    for index in begin..scheduler.timesteps().len() {
        let step = scheduler.step(&noise, index, &sample, &mut GivenNoise::default())?;
        sample = step.prev_sample;
    }
    largest(&(sample - clean)?)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_perfect_prediction_leads_back_to_the_clean_sample(
        kind in prop::sample::select(vec![
            SchedulerKind::Ddim,
            SchedulerKind::Euler,
            SchedulerKind::DpmSolver,
            SchedulerKind::DpmSolverKarras,
            SchedulerKind::UniPc,
        ]),
        steps in 1_usize..40,
        begin in 0_usize..40,
        seed: u64,
    ) {
        let distance = perfect_prediction(kind, steps, begin, seed).expect("valid settings");
        prop_assert!(distance < 2e-3, "{kind}: {distance}");
    }

    #[test]
    fn noise_of_zero_only_scales_the_sample(kind in any_kind(), steps in 1_usize..50, seed: u64) {
        let (clean, _) = pair(seed).expect("a small tensor");
        let scheduler = config().build(Some(kind), steps).expect("valid settings");
        let zeros = clean.zeros_like().expect("a small tensor");
        let noised = scheduler.add_noise(&clean, &zeros, 0).expect("index 0 is always there");
        let (noised, clean) = (largest(&noised).expect("finite"), largest(&clean).expect("finite"));
        prop_assert!(noised > 0.0 && noised <= clean * (1.0 + 1e-6), "{kind}: {noised}, {clean}");
    }

    #[test]
    fn timesteps_descend_within_the_training_steps(kind in any_kind(), steps in 1_usize..=50) {
        let scheduler = config().build(Some(kind), steps).expect("valid settings");
        let timesteps = scheduler.timesteps();
        prop_assert!(timesteps.windows(2).all(|pair| pair[1] <= pair[0]), "{kind}: {timesteps:?}");
        prop_assert!(timesteps.iter().all(|&t| (0.0..1000.0).contains(&t)), "{kind}");
    }

    #[test]
    fn no_number_of_steps_and_no_index_panics(kind in any_kind(), steps: usize, index: usize) {
        if let Ok(scheduler) = config().build(Some(kind), steps) {
            let sample = Tensor::zeros(1, DType::F32, &Device::Cpu).expect("one element");
            let found = scheduler.scale_model_input(&sample, index);
            prop_assert_eq!(found.is_ok(), index < scheduler.timesteps().len());
        }
    }
}

#[test]
fn a_run_that_begins_again_forgets_the_one_before() -> Result<()> {
    for kind in [SchedulerKind::Pndm, SchedulerKind::DpmSolver, SchedulerKind::UniPc] {
        let mut scheduler = config().build(Some(kind), 6)?;
        let mut run = |seed: u64| -> Result<Vec<f32>> {
            let (mut sample, output) = pair(seed)?;
            for index in 0..scheduler.timesteps().len() - 1 {
                let mut noise = GivenNoise::default();
                sample = scheduler.step(&output, index, &sample, &mut noise)?.prev_sample;
            }
            Ok(sample.flatten_all()?.to_vec1()?)
        };
        let first = run(1)?;
        run(2)?;
        assert_eq!(first, run(1)?, "{kind}");
    }
    Ok(())
}

#[test]
fn settings_that_cannot_be_honoured_are_named() {
    let cases = [
        (SchedulerConfig { thresholding: Some(true), ..config() }, "ddim", "thresholding"),
        (SchedulerConfig { use_beta_sigmas: Some(true), ..config() }, "euler", "use_beta_sigmas"),
        (SchedulerConfig { solver_order: Some(4), ..config() }, "unipc", "solver_order"),
        (SchedulerConfig { beta_schedule: Some("exp".to_owned()), ..config() }, "ddpm", "exp"),
        (
            SchedulerConfig { timestep_spacing: Some("odd".to_owned()), ..config() },
            "pndm",
            "leading",
        ),
        (
            SchedulerConfig { variance_type: Some("learned".to_owned()), ..config() },
            "ddpm",
            "fixed_small",
        ),
    ];
    for (config, kind, name) in cases {
        let kind = kind.parse().expect("a scheduler");
        let error = config.build(Some(kind), 10).err().expect("a setting that is refused");
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = config().build(None, 10).err().expect("no class");
    assert!(error.to_string().contains("_class_name"), "{error}");
    let error = config().build(Some(SchedulerKind::Ddim), 1001).err().expect("too many");
    assert!(error.to_string().starts_with("steps: "), "{error}");
}
