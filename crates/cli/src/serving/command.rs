//! The command line that does what a client of the page has chosen.

use clap::ValueEnum;
use diffusion::pipelines::restore::Strength;
use imaging::detect::DetectParams;
use imaging::fill::{FillMethod, FillOptions};
use imaging::restore::{DETECTED_DILATE, DETECTED_FEATHER};
use server::{Choices, classical_params, learned_threshold};

use super::finder::Finder;
use super::{MODEL, PageEngine};
use crate::args::{DiffusionArgs, PresetArg};

/// `photomend restore …`, with what differs from its defaults.
pub(super) fn words(
    engine: &PageEngine,
    choices: &Choices,
    input: &str,
    mask: Option<&str>,
) -> Vec<String> {
    let mut words: Vec<String> = ["photomend", "restore", input].map(str::to_owned).into();

    // 1. the mask; what a given one is grown by has other defaults
    let (grow, feather) = (usize::from(choices.grow), choices.feather);
    let (own_grow, own_feather) = match mask {
        Some(mask) => {
            words.extend(["--mask".to_owned(), mask.to_owned()]);
            (0, 0.0)
        }
        None => {
            detection(&mut words, engine, f32::from(choices.sensitivity));
            (DETECTED_DILATE, DETECTED_FEATHER)
        }
    };
    option(&mut words, "--dilate", &grow, &own_grow);
    option(&mut words, "--feather", &feather, &own_feather);

    // 2. the repainting
    let method = engine.method_of(choices);
    let fill = engine.fill_of(method).unwrap_or_else(|| engine.fill.clone());
    let own = FillOptions::default();
    if fill.method != own.method {
        let name = match fill.method {
            FillMethod::Telea => "telea",
            FillMethod::Biharmonic => "biharmonic",
        };
        words.extend(["--method", name].map(str::to_owned));
    }
    if fill.method == FillMethod::Telea {
        option(&mut words, "--radius", &fill.radius, &own.radius);
    }
    match (&engine.model, &engine.refiner) {
        (Some(model), _) if method == MODEL => diffusion(&mut words, &model.arguments(choices)),
        (_, Some((path, refiner))) if method == imaging::Repainter::name(refiner) => {
            words.extend(["--refiner".to_owned(), path.display().to_string()]);
        }
        _ => {}
    }
    words
}

/// `name value`, if the value is not the command line's own.
fn option<T: PartialEq + ToString>(words: &mut Vec<String>, name: &str, value: &T, own: &T) {
    if value != own {
        words.extend([name.to_owned(), value.to_string()]);
    }
}

fn flag(words: &mut Vec<String>, name: &str, set: bool) {
    if set {
        words.push(name.to_owned());
    }
}

fn detection(words: &mut Vec<String>, engine: &PageEngine, sensitivity: f32) {
    if engine.preset as u8 != PresetArg::default() as u8 {
        words.extend(["--preset".to_owned(), name_of(&engine.preset)]);
    }
    match &engine.finder {
        Finder::Learned(path, network) => {
            words.extend(["--detector".to_owned(), path.display().to_string()]);
            let threshold = learned_threshold(network.params().threshold, sensitivity);
            option(words, "--threshold", &threshold, &0.5);
        }
        Finder::Classical(params) => {
            let params = classical_params(params, sensitivity);
            let own = DetectParams::preset(engine.preset.into());
            flag(words, "--no-dark", own.dark && !params.dark);
            flag(words, "--no-bright", own.bright && !params.bright);
            flag(words, "--no-wide", own.wide && !params.wide);
            let (lines, own_lines) = (&params.lines, &own.lines);
            option(words, "--low", &lines.low, &own_lines.low);
            option(words, "--high", &lines.high, &own_lines.high);
            option(words, "--noise", &lines.noise, &own_lines.noise);
            option(words, "--min-length", &lines.min_length, &own_lines.min_length);
            option(words, "--length", &lines.length, &own_lines.length);
            option(words, "--directions", &lines.directions, &own_lines.directions);
            option(words, "--near", &lines.near, &own_lines.near);
            option(words, "--far", &lines.far, &own_lines.far);
            option(words, "--window", &lines.window, &own_lines.window);
            option(words, "--activity-cap", &lines.activity_cap, &own_lines.activity_cap);
            option(words, "--other-activity", &lines.other_activity, &own_lines.other_activity);
            option(words, "--same-activity", &lines.same_activity, &own_lines.same_activity);
            option(words, "--own-contrast", &lines.own_contrast, &own_lines.own_contrast);
            option(words, "--octave-side", &lines.octave_side, &own_lines.octave_side);
            let (losses, own_losses) = (&params.losses, &own.losses);
            option(words, "--loss-max-side", &losses.max_side, &own_losses.max_side);
            option(words, "--loss-min-area", &losses.min_area, &own_losses.min_area);
            option(words, "--loss-max-area", &losses.max_area, &own_losses.max_area);
            option(words, "--loss-score", &losses.score, &own_losses.score);
            option(words, "--loss-dark-score", &losses.dark_score, &own_losses.dark_score);
        }
    }
}

fn diffusion(words: &mut Vec<String>, args: &DiffusionArgs) {
    let own = DiffusionArgs::defaults();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    option(words, "--model", &text(&args.model), &text(&own.model));
    option(words, "--variant", &text(&args.variant), &text(&own.variant));
    for lora in &args.lora {
        words.extend(["--lora".to_owned(), lora.to_string()]);
    }
    option(words, "--prompt", &args.prompt, &own.prompt);
    option(words, "--negative-prompt", &args.negative_prompt, &own.negative_prompt);
    option(words, "--steps", &args.steps, &own.steps);
    option(words, "--guidance", &args.guidance, &own.guidance);
    if let Strength::Fixed(strength) = args.strength {
        words.extend(["--strength".to_owned(), strength.to_string()]);
    }
    if let Some(scheduler) = args.scheduler {
        words.extend(["--scheduler".to_owned(), scheduler.to_string()]);
    }
    option(words, "--seed", &args.seed, &own.seed);
    if args.pipeline != own.pipeline {
        words.extend(["--pipeline".to_owned(), name_of(&args.pipeline)]);
    }
    flag(words, "--show-damage", args.show_damage);
    option(words, "--window-size", &args.window_size, &own.window_size);
    option(words, "--max-zoom", &args.max_zoom, &own.max_zoom);
    option(words, "--batch", &args.batch, &own.batch);
    if args.engine.device != own.engine.device {
        words.extend(["--device".to_owned(), name_of(&args.engine.device)]);
    }
    if args.engine.dtype != own.engine.dtype {
        words.extend(["--dtype".to_owned(), name_of(&args.engine.dtype)]);
    }
}

/// What the command line calls a value.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
