//! The scores as CSV, one line a picture and run.
//!
//! With one run the two short tables read `filename,damaged_psnr,restored_psnr,psnr_gain` (and alike for SSIM); with
//! several runs a column `method` follows the name. A score that is not defined is an empty cell; the PSNR of equal
//! pictures is `inf`. Gains are positive where the restoration is better, for ΔE too.

use crate::error::{ImagingError, Result};
use crate::evaluate::{Evaluation, ImageScores, Metric};

/// `psnr_scores.csv` or `ssim_scores.csv`.
pub(super) fn short(evaluation: &Evaluation, metric: Metric) -> Result<Vec<u8>> {
    let several = evaluation.runs.len() > 1;
    let mut header = vec!["filename".to_owned()];
    if several {
        header.push("method".to_owned());
    }
    header.extend(score_columns(metric));
    table(evaluation, &header, |image, run, row| {
        row.push(image.name.clone());
        if several {
            row.push(evaluation.runs[run].name.clone());
        }
        push_scores(image, run, metric, row);
    })
}

/// `metrics.csv`: everything.
pub(super) fn wide(evaluation: &Evaluation) -> Result<Vec<u8>> {
    let mut header: Vec<String> =
        ["filename", "method", "width", "height", "bits", "channels", "damaged_share"]
            .map(str::to_owned)
            .to_vec();
    header.extend(Metric::ALL.into_iter().flat_map(score_columns));
    header.extend(
        ["detection_precision", "detection_recall", "detection_f1", "fill_s"].map(str::to_owned),
    );
    table(evaluation, &header, |image, run, row| {
        row.push(image.name.clone());
        row.push(evaluation.runs[run].name.clone());
        row.extend([image.width, image.height].map(|side| side.to_string()));
        row.extend([image.bits.to_string(), image.color_channels.to_string()]);
        row.push(cell(image.coverage));
        for metric in Metric::ALL {
            push_scores(image, run, metric, row);
        }
        let detection = image.detection;
        row.push(cell(detection.map(|score| score.precision)));
        row.push(cell(detection.map(|score| score.recall)));
        row.push(cell(detection.map(|score| score.f1)));
        let report = image.runs[run].report.as_ref();
        row.push(cell(report.map(|report| report.fill_time.as_secs_f64())));
    })
}

fn score_columns(metric: Metric) -> [String; 3] {
    let key = metric.key();
    [format!("damaged_{key}"), format!("restored_{key}"), format!("{key}_gain")]
}

fn push_scores(image: &ImageScores, run: usize, metric: Metric, row: &mut Vec<String>) {
    row.push(cell(image.damaged.get(metric)));
    row.push(cell(image.runs[run].restored.get(metric)));
    row.push(cell(image.gain(run, metric)));
}

/// Six decimals: the last is far below what any of the scores can be trusted to.
fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}

fn table(
    evaluation: &Evaluation,
    header: &[String],
    fill: impl Fn(&ImageScores, usize, &mut Vec<String>),
) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| ImagingError::Numeric {
        what: "CSV table",
        reason: error.to_string(),
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(|error| failed(&error))?;
    for image in &evaluation.images {
        for run in 0..evaluation.runs.len() {
            let mut row = Vec::with_capacity(header.len());
            fill(image, run, &mut row);
            writer.write_record(&row).map_err(|error| failed(&error))?;
        }
    }
    writer.into_inner().map_err(|error| failed(&error))
}
