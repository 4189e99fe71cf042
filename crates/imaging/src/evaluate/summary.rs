//! Means over the pictures and how sure they are.

use serde::{Serialize, Serializer};

use super::score::Metric;
use super::{Evaluation, ImageScores};
use crate::metrics::{Interval, mean_confidence};

/// A mean and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its interval, as `[low, high]` in JSON; none for fewer than two pictures.
    #[serde(serialize_with = "as_pair", rename = "ci95")]
    pub interval: Option<Interval>,
}

fn as_pair<S: Serializer>(interval: &Option<Interval>, serializer: S) -> Result<S::Ok, S::Error> {
    interval.map(|interval| [interval.low, interval.high]).serialize(serializer)
}

impl Mean {
    /// The mean of finite values; `None` if there are none.
    fn new(values: &[f64], seed: u64) -> Option<Self> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (!values.is_empty()).then(|| Self { mean, interval: mean_confidence(values, seed) })
    }
}

/// One line of the table "Metric | Damaged → Clean | Restored → Clean | Gain".
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricSummary {
    /// The metric.
    pub metric: Metric,
    /// Pictures that have this score and where it is finite both before and after; the means are over these.
    pub images: usize,
    /// Pictures left out because the score is infinite before or after: no difference from the clean picture.
    pub infinite: usize,
    /// The damaged pictures' scores.
    pub damaged: Mean,
    /// The restored pictures' scores.
    pub restored: Mean,
    /// The gains, positive where the restoration is better.
    pub gain: Mean,
}

/// A run's line in the summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// The run's name.
    pub name: String,
    /// The metrics that any picture has.
    pub metrics: Vec<MetricSummary>,
    /// Pictures whose PSNR is better after restoration.
    pub improved: usize,
    /// Pictures whose PSNR is worse after restoration.
    pub worsened: usize,
    /// Mean seconds a picture for filling the damage; `None` for results made elsewhere.
    pub fill_seconds_per_image: Option<f64>,
}

/// How well the damage was found, over the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DetectionSummary {
    /// Pictures.
    pub images: usize,
    /// Distance in pixels within which a pixel counts as found.
    pub tolerance_px: f64,
    /// Mean precision.
    pub precision: Mean,
    /// Mean recall.
    pub recall: Mean,
    /// Mean F1.
    pub f1: Mean,
}

impl RunSummary {
    pub(super) fn new(evaluation: &Evaluation, run: usize, seed: u64) -> Self {
        let images = &evaluation.images;
        let metrics =
            Metric::ALL.iter().filter_map(|&metric| summarize(images, run, metric, seed)).collect();
        let gains = || images.iter().filter_map(|image| image.gain(run, Metric::Psnr));
        let times: Vec<f64> = images
            .iter()
            .filter_map(|image| image.runs[run].report.as_ref())
            .map(|report| report.fill_time.as_secs_f64())
            .collect();
        Self {
            name: evaluation.runs[run].name.clone(),
            metrics,
            improved: gains().filter(|gain| *gain > 0.0).count(),
            worsened: gains().filter(|gain| *gain < 0.0).count(),
            fill_seconds_per_image: (!times.is_empty())
                .then(|| times.iter().sum::<f64>() / times.len() as f64),
        }
    }

    /// The line of one metric.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> Option<&MetricSummary> {
        self.metrics.iter().find(|line| line.metric == metric)
    }
}

fn summarize(
    images: &[ImageScores],
    run: usize,
    metric: Metric,
    seed: u64,
) -> Option<MetricSummary> {
    let pairs = || {
        images
            .iter()
            .filter_map(|image| image.damaged.get(metric).zip(image.runs[run].restored.get(metric)))
    };
    let is_finite = |(damaged, restored): &(f64, f64)| damaged.is_finite() && restored.is_finite();
    let (damaged, restored): (Vec<f64>, Vec<f64>) = pairs().filter(is_finite).unzip();
    let gains: Vec<f64> = damaged.iter().zip(&restored).map(|(&a, &b)| metric.gain(a, b)).collect();
    Some(MetricSummary {
        metric,
        images: gains.len(),
        infinite: pairs().count() - gains.len(),
        damaged: Mean::new(&damaged, seed)?,
        restored: Mean::new(&restored, seed)?,
        gain: Mean::new(&gains, seed)?,
    })
}

impl DetectionSummary {
    pub(super) fn new(images: &[ImageScores], tolerance: f64, seed: u64) -> Option<Self> {
        let scores: Vec<_> = images.iter().filter_map(|image| image.detection).collect();
        let mean = |values: Vec<f64>| Mean::new(&values, seed);
        Some(Self {
            images: scores.len(),
            tolerance_px: tolerance,
            precision: mean(scores.iter().map(|score| score.precision).collect())?,
            recall: mean(scores.iter().map(|score| score.recall).collect())?,
            f1: mean(scores.iter().map(|score| score.f1).collect())?,
        })
    }
}
