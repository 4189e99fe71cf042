//! The command line that does what a client of the page has chosen.

use clap::ValueEnum;
use diffusion::pipelines::pixelwise::LearnedDetectParams;
use imaging::detect::{DetectParams, LineParams, LossParams};
use imaging::restore::DETECTED_DILATE;
use server::{Choices, classical_params, learned_threshold};

use super::model::fixed;
use super::{MODEL, PageEngine};
use crate::args::{
    CLASSICAL, DetectorChoice, DiffusionArgs, EngineArgs, MethodArg, PresetArg, TELEA_RADIUS,
};

/// `photomend restore …`, with what differs from its defaults.
pub(super) fn words(
    engine: &PageEngine,
    choices: &Choices,
    input: &str,
    mask: Option<&str>,
) -> Vec<String> {
    let mut words: Vec<String> = ["photomend", "restore", input].map(str::to_owned).into();

    // 1. the mask; what a given one is grown by has another default
    let own_grow = match mask {
        Some(mask) => {
            words.extend(["--mask".to_owned(), mask.to_owned()]);
            0
        }
        None => {
            detection(&mut words, engine, f32::from(choices.sensitivity));
            DETECTED_DILATE
        }
    };
    option(&mut words, "--dilate", &usize::from(choices.grow), &own_grow);
    option(&mut words, "--feather", &choices.feather, &0.0);

    // 2. the repainting
    let method = engine.method_of(choices);
    let fill = engine.fill_of(method).map_or(engine.fill.method, |(fill, _)| *fill);
    choice(&mut words, "--method", &fill, &MethodArg::default());
    match (fill, &engine.fill.refiner) {
        (MethodArg::Refined, Some(path)) => {
            words.extend(["--refiner".to_owned(), path.display().to_string()]);
        }
        (MethodArg::Telea, _) => option(&mut words, "--radius", &engine.fill.radius, &TELEA_RADIUS),
        _ => {}
    }
    if let Some(model) = engine.model.as_ref().filter(|_| method == MODEL) {
        diffusion(&mut words, &model.arguments(choices));
    }
    words
}

/// `name value`, if the value is not the command line's own.
fn option<T: PartialEq + ToString>(words: &mut Vec<String>, name: &str, value: &T, own: &T) {
    if value != own {
        words.extend([name.to_owned(), value.to_string()]);
    }
}

/// The same for a value that is one of a few.
fn choice<T: PartialEq + ValueEnum>(words: &mut Vec<String>, name: &str, value: &T, own: &T) {
    if value != own
        && let Some(value) = value.to_possible_value()
    {
        words.extend([name.to_owned(), value.get_name().to_owned()]);
    }
}

fn flag(words: &mut Vec<String>, name: &str, set: bool) {
    if set {
        words.push(name.to_owned());
    }
}

fn detection(words: &mut Vec<String>, engine: &PageEngine, sensitivity: f32) {
    match &engine.finder.0 {
        DetectorChoice::Learned(path, network) => {
            if let Some(path) = path {
                words.extend(["--detector".to_owned(), path.display().to_string()]);
            }
            let threshold = learned_threshold(network.params().threshold, sensitivity);
            let own = LearnedDetectParams::default().threshold;
            option(words, "--threshold", &threshold, &own);
        }
        DetectorChoice::Classical(params) => {
            words.extend(["--detector", CLASSICAL].map(str::to_owned));
            choice(words, "--preset", &engine.preset, &PresetArg::default());
            classical(words, &classical_params(params, sensitivity), engine.preset);
        }
    }
}

/// Taken apart by name, here and in [`diffusion()`], so that a parameter that is added is not forgotten.
fn classical(words: &mut Vec<String>, params: &DetectParams, preset: PresetArg) {
    let own = DetectParams::preset(preset.into());
    // How far marks are grown is the restoration's business.
    let DetectParams { dark, bright, wide, lines, losses, dilate: _ } = params;
    flag(words, "--no-dark", own.dark && !dark);
    flag(words, "--no-bright", own.bright && !bright);
    flag(words, "--no-wide", own.wide && !wide);
    let LineParams {
        length,
        directions,
        near,
        far,
        low,
        high,
        noise,
        min_length,
        window,
        activity_cap,
        other_activity,
        same_activity,
        own_contrast,
        octave_side,
    } = lines;
    option(words, "--low", low, &own.lines.low);
    option(words, "--high", high, &own.lines.high);
    option(words, "--noise", noise, &own.lines.noise);
    option(words, "--min-length", min_length, &own.lines.min_length);
    option(words, "--length", length, &own.lines.length);
    option(words, "--directions", directions, &own.lines.directions);
    option(words, "--near", near, &own.lines.near);
    option(words, "--far", far, &own.lines.far);
    option(words, "--window", window, &own.lines.window);
    option(words, "--activity-cap", activity_cap, &own.lines.activity_cap);
    option(words, "--other-activity", other_activity, &own.lines.other_activity);
    option(words, "--same-activity", same_activity, &own.lines.same_activity);
    option(words, "--own-contrast", own_contrast, &own.lines.own_contrast);
    option(words, "--octave-side", octave_side, &own.lines.octave_side);
    let LossParams { max_side, min_area, max_area, score, dark_score } = losses;
    option(words, "--loss-max-side", max_side, &own.losses.max_side);
    option(words, "--loss-min-area", min_area, &own.losses.min_area);
    option(words, "--loss-max-area", max_area, &own.losses.max_area);
    option(words, "--loss-score", score, &own.losses.score);
    option(words, "--loss-dark-score", dark_score, &own.losses.dark_score);
}

fn diffusion(words: &mut Vec<String>, args: &DiffusionArgs) {
    let own = DiffusionArgs::defaults(args.model.as_deref());
    let DiffusionArgs {
        model,
        variant,
        lora,
        prompt,
        negative_prompt,
        steps,
        draws,
        guidance,
        strength,
        scheduler,
        seed,
        pipeline,
        show,
        window_size,
        max_zoom,
        batch,
        engine: EngineArgs { device, dtype },
    } = args;
    for (name, value) in [("--model", model), ("--variant", variant)] {
        words.extend(value.iter().flat_map(|value| [name.to_owned(), value.clone()]));
    }
    words.extend(lora.iter().flat_map(|lora| ["--lora".to_owned(), lora.to_string()]));
    option(words, "--prompt", prompt, &own.prompt);
    option(words, "--negative-prompt", negative_prompt, &own.negative_prompt);
    option(words, "--steps", steps, &own.steps);
    option(words, "--draws", draws, &own.draws);
    option(words, "--guidance", guidance, &own.guidance);
    if *strength != own.strength {
        let strength = fixed(*strength).map_or("auto".to_owned(), |strength| strength.to_string());
        words.extend(["--strength".to_owned(), strength]);
    }
    if let Some(scheduler) = scheduler {
        words.extend(["--scheduler".to_owned(), scheduler.to_string()]);
    }
    option(words, "--seed", seed, &own.seed);
    choice(words, "--pipeline", pipeline, &own.pipeline);
    if let Some(shown) = show {
        words.extend(["--show".to_owned(), shown.to_string()]);
    }
    option(words, "--window-size", window_size, &own.window_size);
    option(words, "--max-zoom", max_zoom, &own.max_zoom);
    option(words, "--batch", batch, &own.batch);
    choice(words, "--device", device, &own.engine.device);
    choice(words, "--dtype", dtype, &own.engine.dtype);
}
