//! What a finished run leaves: the LoRA in the forms that programs read, or the whole model, and a card about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use imaging::ImagingError;
use imaging::io::write_atomically;

use super::learner::Learner;
use super::log::LogEntry;
use super::options::NetworkOptions;
use super::settings::TrainOptions;
use super::state::States;
use super::trainer::{TrainJob, TrainReport, Trained};
use crate::checkpoint::{Checkpoint, Component, MemorySource, SaveOptions, save_folder};
use crate::components::Shown;
use crate::error::{DiffusionError, Result};
use crate::lora::{LoraFormat, ModuleNames, WriteOptions};

/// The name that diffusers looks for.
const DIFFUSERS: &str = "pytorch_lora_weights.safetensors";
/// For ComfyUI, A1111 and everything else that reads kohya's names.
const KOHYA: &str = "lora_kohya.safetensors";
/// A whole model.
const MODEL: &str = "model";

/// Writes the finished weights, and returns where.
pub(super) fn write_models(
    trained: &Trained,
    learner: &Learner,
    job: &TrainJob<'_>,
) -> Result<Vec<PathBuf>> {
    let network = match trained {
        Trained::Lora(network) => network,
        Trained::Full(_) => return write_full(learner, job),
    };
    let names = |component| -> Result<ModuleNames> {
        Ok(ModuleNames::from_source(job.checkpoint.weights(component)?.as_ref()))
    };
    let unet = names(Component::Unet)?;
    let trains_text = !job.options.network.text_encoder_target_modules.is_empty();
    let text_encoder = trains_text.then(|| names(Component::TextEncoder)).transpose()?;
    let mut files = Vec::new();
    for (format, name) in [(LoraFormat::Diffusers, DIFFUSERS), (LoraFormat::Kohya, KOHYA)] {
        let path = job.output.join(name);
        let file = network.to_file(name, learner.ema_weights())?;
        let write = WriteOptions {
            format,
            force: true,
            unet: Some(unet.clone()),
            text_encoder: text_encoder.clone(),
        };
        file.with_metadata(metadata(job)).write(&path, &write)?;
        files.push(path);
    }
    Ok(files)
}

/// Every weight of the UNet in the base's other parts, as a diffusers folder.
fn write_full(learner: &Learner, job: &TrainJob<'_>) -> Result<Vec<PathBuf>> {
    let tensors = learner.optimizer.final_tensors(Component::Unet.name())?;
    let source = MemorySource::new("the trained UNet", tensors);
    let checkpoint = job.checkpoint.clone().with_weights(Component::Unet, Arc::new(source));
    Ok(vec![write_checkpoint(&checkpoint, job.output)?])
}

/// Writes a checkpoint into the folder of the run that trained a part of it, and returns where.
pub(super) fn write_checkpoint(checkpoint: &Checkpoint, output: &Path) -> Result<PathBuf> {
    let folder = output.join(MODEL);
    if folder.is_dir() {
        // Of the same run, finished before and resumed once more.
        std::fs::remove_dir_all(&folder)
            .map_err(|source| DiffusionError::io(&folder, "replace", source))?;
    }
    save_folder(checkpoint, &folder, &SaveOptions::default())?;
    Ok(folder)
}

/// Notes for the headers of LoRA files, in kohya's terms where it has them. Nothing in them changes from one run with the
/// same settings to the next.
fn metadata(job: &TrainJob<'_>) -> BTreeMap<String, String> {
    let TrainOptions { base, data, network, objective, optimizer, run, .. } = job.options;
    let base_version = match job.checkpoint.config(Component::Unet) {
        Ok(config) if config["cross_attention_dim"] == 1024 => "sd_v2",
        _ => "sd_v1",
    };
    let notes = [
        ("ss_base_model_version", base_version.to_owned()),
        ("ss_sd_model_name", base.model.clone()),
        ("ss_learning_rate", optimizer.learning_rate.to_string()),
        ("ss_lr_scheduler", format!("{:?}", optimizer.lr_scheduler).to_lowercase()),
        ("ss_lr_warmup_steps", optimizer.warmup_steps.to_string()),
        ("ss_optimizer", "AdamW".to_owned()),
        ("ss_gradient_accumulation_steps", optimizer.gradient_accumulation_steps.to_string()),
        ("ss_max_grad_norm", optimizer.max_grad_norm.to_string()),
        ("ss_min_snr_gamma", objective.snr_gamma.to_string()),
        ("ss_noise_offset", objective.noise_offset.to_string()),
        ("ss_network_dropout", network.dropout.to_string()),
        ("ss_resolution", format!("({0}, {0})", data.resolution)),
        ("ss_seed", run.seed.to_string()),
        ("ss_num_epochs", run.epochs.to_string()),
        ("photomend_prompt", data.prompt.clone()),
        (Shown::NOTE, data.masked_image.shown().to_string()),
        ("photomend_version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    notes.into_iter().map(|(key, text)| (key.to_owned(), text)).collect()
}

/// Refuses a folder that holds a run already, unless that `may_be_there`.
pub(super) fn check_folder(output: &Path, states: &States, may_be_there: bool) -> Result<()> {
    let has_run = !states.list()?.is_empty() || output.join("log.jsonl").exists();
    if has_run && !may_be_there {
        return Err(is_there(output));
    }
    Ok(())
}

/// What is said of a folder with something from a run that nobody asked to go on with or to replace.
pub(super) fn is_there(folder: &Path) -> DiffusionError {
    let problem = "there is one already; resume it or replace it";
    let problem = std::io::Error::new(std::io::ErrorKind::AlreadyExists, problem);
    DiffusionError::io(folder, "start a run in", problem)
}

/// Makes a folder, and those above it, if it is not there.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|source| DiffusionError::io(folder, "create the folder", source))
}

/// Writes a text that replaces what was there.
pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    Ok(write_atomically(path, true, |file| {
        file.write_all(text.as_bytes()).map_err(|source| ImagingError::io(path, "write", source))
    })?)
}

/// The model card: `README.md`, as model hubs show it.
pub(super) fn write_card(
    job: &TrainJob<'_>,
    report: &TrainReport,
    history: &[LogEntry],
) -> Result<()> {
    let text = card(job.options, report, history)?;
    write_text(&job.output.join("README.md"), &text)
}

fn card(options: &TrainOptions, report: &TrainReport, history: &[LogEntry]) -> Result<String> {
    let TrainOptions { base, data, network, optimizer, .. } = options;
    let NetworkOptions { full, rank, .. } = *network;
    let mut text = String::from("---\nlibrary_name: diffusers\ntags:\n");
    let tags: &[&str] = if full { &["inpainting"] } else { &["lora", "inpainting"] };
    for tag in tags.iter().chain(&["image-restoration", "stable-diffusion", "photomend"]) {
        let _ = writeln!(text, "- {tag}");
    }
    // A path on somebody's disk is no model's name.
    let public = !Path::new(&base.model).exists();
    if public {
        let _ = writeln!(text, "base_model: {}", base.model);
    }
    let name = if public {
        base.model.clone()
    } else {
        Path::new(&base.model).file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let kind = if full { "inpainting model".to_owned() } else { format!("LoRA of rank {rank}") };
    let _ = writeln!(
        text,
        "---\n\n# Restoration of damaged photographs\n\nA {kind} for restoring damaged photographs, trained on top of \
         `{name}` with photomend.\n"
    );

    text.push_str("## Use\n\n");
    if full {
        let _ = writeln!(text, "    photomend restore scan.png --model {MODEL}\n");
    } else {
        let _ =
            writeln!(text, "    photomend restore scan.png --model {name} --lora {DIFFUSERS}\n");
        let _ = writeln!(
            text,
            "In diffusers: `pipe.load_lora_weights(\".\", weight_name=\"{DIFFUSERS}\")`. For ComfyUI and A1111 there is \
             `{KOHYA}`, the same in the names that they read.\n"
        );
    }
    let _ = write!(text, "Prompt it was trained with: *{}*", data.prompt);
    if data.clean.is_some() && data.condition_words {
        text.push_str(", followed by what was repaired:\n\n");
        for condition in data.conditions.iter().filter(|condition| condition.weight > 0.0) {
            let _ = writeln!(text, "- *, restored from {}*", condition.words);
        }
    }

    let _ = writeln!(text, "\n\n## Scores\n");
    match &report.validation {
        Some(LogEntry::Validation {
            images,
            psnr,
            masked_psnr,
            ssim,
            damaged_psnr,
            damaged_masked_psnr,
            damaged_ssim,
            ..
        }) => {
            let base = history.iter().find_map(|entry| match entry {
                LogEntry::Validation { step: 0, psnr, masked_psnr, ssim, .. } => {
                    Some((*psnr, *masked_psnr, *ssim))
                }
                _ => None,
            });
            let _ = writeln!(
                text,
                "{images} pictures that were not trained on, masks given:\n\n\
                 | | PSNR (dB) | PSNR, damaged pixels (dB) | SSIM |\n| --- | --- | --- | --- |\n\
                 | damaged | {damaged_psnr:.2} | {damaged_masked_psnr:.2} | {damaged_ssim:.4} |"
            );
            if let Some((psnr, masked, ssim)) = base {
                let _ = writeln!(text, "| base | {psnr:.2} | {masked:.2} | {ssim:.4} |");
            }
            let _ = writeln!(text, "| trained | {psnr:.2} | {masked_psnr:.2} | {ssim:.4} |");
        }
        _ => text.push_str("Not measured: the run had no pictures held back.\n"),
    }
    if let (Some(first), Some(last)) = (report.first_loss, report.last_loss) {
        let _ = writeln!(
            text,
            "\nMean loss of the first tenth of the steps {first:.4}, of the last {last:.4}:\n\n![](loss.png)"
        );
    }

    let source = if data.triplets.is_some() {
        "triplets (clean, damaged, mask)"
    } else {
        "clean photographs, damaged anew in every epoch"
    };
    let _ = writeln!(
        text,
        "\n## Training\n\n- data: {} {source}, at {} pixels\n- {} optimizer steps, {} samples each\n- {} numbers in {} \
         layers trained\n\nEvery setting, to run it again with `photomend train --run run.toml -o FOLDER`:\n\n```toml\n{}```",
        report.images,
        data.resolution,
        report.steps,
        optimizer.batch_size * optimizer.gradient_accumulation_steps,
        report.parameters,
        if full { "all".to_owned() } else { report.modules.to_string() },
        options.to_toml()?
    );
    Ok(text)
}

/// Seconds since 1970.
pub(super) fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The mean loss of the first or the last tenth of the steps.
pub(super) fn mean_loss(history: &[LogEntry], last: bool) -> Option<f64> {
    let losses: Vec<f64> = history
        .iter()
        .filter_map(|entry| match entry {
            LogEntry::Step { loss, .. } => Some(*loss),
            _ => None,
        })
        .collect();
    let count = losses.len().div_ceil(10);
    let part = if last { &losses[losses.len() - count..] } else { &losses[..count] };
    (count > 0).then(|| part.iter().sum::<f64>() / count as f64)
}

/// The last validation of a log.
pub(super) fn last_validation(history: &[LogEntry]) -> Option<LogEntry> {
    history.iter().rev().find(|entry| entry.is_validation()).cloned()
}

pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
