//! `summary.json`: means, intervals and settings. Infinite scores are counted, never written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{ImagingError, Result};
use crate::evaluate::{DetectionSummary, Evaluation, Failure, Run, RunSummary};
use crate::metrics::SsimWindow;

#[derive(Serialize)]
struct Summary<'a> {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    dataset: &'a Path,
    images: usize,
    runs: Vec<RunEntry<'a>>,
    detection: Option<&'a DetectionSummary>,
    failures: &'a [Failure],
    settings: Settings<'a>,
}

#[derive(Serialize)]
struct RunEntry<'a> {
    #[serde(flatten)]
    summary: &'a RunSummary,
    #[serde(flatten)]
    run: RunSettings<'a>,
}

#[derive(Serialize)]
struct RunSettings<'a> {
    settings: &'a Run,
}

#[derive(Serialize)]
struct Settings<'a> {
    sample: Option<usize>,
    seed: u64,
    methods: BTreeMap<&'a str, Value>,
    detect: Value,
    feather_px: f32,
    ssim_window: &'static str,
    max_pixels: u64,
}

/// The summary as a JSON value.
///
/// # Errors
/// [`ImagingError::Numeric`] if a figure cannot be written as JSON.
pub fn summary(evaluation: &Evaluation, command: Option<&str>) -> Result<Value> {
    let options = &evaluation.options;
    let summary = Summary {
        version: env!("CARGO_PKG_VERSION"),
        command,
        dataset: &evaluation.dataset,
        images: evaluation.images.len(),
        runs: evaluation
            .summaries
            .iter()
            .zip(&evaluation.runs)
            .map(|(summary, run)| RunEntry { summary, run: RunSettings { settings: run } })
            .collect(),
        detection: evaluation.detection.as_ref(),
        failures: &evaluation.failures,
        settings: Settings {
            sample: options.sample,
            seed: options.seed,
            methods: options
                .methods
                .iter()
                .map(|method| (method.name(), method.parameters()))
                .collect(),
            detect: options.detector.parameters(),
            feather_px: options.feather,
            ssim_window: match options.ssim_window {
                SsimWindow::Uniform => "uniform 7×7",
                SsimWindow::Gaussian => "gaussian 11×11, sigma 1.5",
            },
            max_pixels: options.read.max_pixels,
        },
    };
    serde_json::to_value(summary)
        .map_err(|error| ImagingError::Numeric { what: "summary", reason: error.to_string() })
}
