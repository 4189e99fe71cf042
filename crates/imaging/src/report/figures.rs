//! Which figures an evaluation has, and what they show.

use super::plots::{BarSeries, Group, Labels, Layer, bars, histograms};
use super::svg::Color;
use super::table::with_interval;
use crate::evaluate::{Evaluation, Metric};

/// A figure: the name of its files without extension, its title, and the drawing.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) svg: String,
}

pub(super) fn all(evaluation: &Evaluation) -> Vec<Figure> {
    let figure = |name, svg| Figure { name, svg };
    vec![
        figure("psnr_improvement", improvement(evaluation)),
        figure("psnr_distribution", distribution(evaluation)),
        figure("psnr_bars", bar_chart(evaluation, Metric::Psnr, "PSNR Bar Chart")),
        figure("ssim_bars", bar_chart(evaluation, Metric::Ssim, "SSIM Bar Chart")),
    ]
}

/// The name of a run's colour in legends: "Restored" if there is only one.
fn label(evaluation: &Evaluation, run: usize) -> &str {
    if evaluation.runs.len() == 1 { "Restored" } else { &evaluation.runs[run].name }
}

/// "50 images · biharmonic", or the number of methods.
fn scope(evaluation: &Evaluation) -> String {
    let count = evaluation.images.len();
    let images = if count == 1 { "1 image".to_owned() } else { format!("{count} images") };
    match &evaluation.runs[..] {
        [only] => format!("{images} · {}", only.name),
        several => format!("{images} · {} methods", several.len()),
    }
}

fn improvement(evaluation: &Evaluation) -> String {
    let runs = 0..evaluation.runs.len();
    let gains: Vec<Vec<f64>> = runs
        .clone()
        .map(|run| {
            let gains = evaluation.images.iter().filter_map(|image| image.gain(run, Metric::Psnr));
            gains.filter(|gain| gain.is_finite()).collect()
        })
        .collect();
    let mut subtitle = scope(evaluation);
    if let ([summary], true) = (&evaluation.summaries[..], evaluation.runs.len() == 1)
        && let Some(line) = summary.metric(Metric::Psnr)
    {
        let mean = with_interval(&line.gain, 2, true);
        subtitle = format!(
            "{subtitle} · mean gain {mean} dB · {} of {} improved",
            summary.improved,
            evaluation.images.len()
        );
    }
    let rows: Vec<_> = runs
        .map(|run| {
            let name = label(evaluation, run);
            let layer = Layer { label: name, color: Color::Series(run), values: &gains[run] };
            (name.to_owned(), vec![layer])
        })
        .collect();
    let labels = Labels {
        title: "Distribution of PSNR Improvement",
        subtitle: &subtitle,
        quantity: "PSNR gain, restored − damaged (dB)",
    };
    histograms(&labels, &rows)
}

fn distribution(evaluation: &Evaluation) -> String {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let damaged: Vec<f64> = evaluation
        .images
        .iter()
        .filter_map(|image| finite(image.damaged.get(Metric::Psnr)))
        .collect();
    let runs = 0..evaluation.runs.len();
    let restored: Vec<Vec<f64>> = runs
        .clone()
        .map(|run| {
            let scores = evaluation.images.iter();
            scores.filter_map(|image| finite(image.runs[run].restored.get(Metric::Psnr))).collect()
        })
        .collect();
    let rows: Vec<_> = runs
        .map(|run| {
            let name = label(evaluation, run);
            let layers = vec![
                Layer { label: "Damaged", color: Color::Before, values: &damaged },
                Layer { label: name, color: Color::Series(run), values: &restored[run] },
            ];
            (name.to_owned(), layers)
        })
        .collect();
    let labels = Labels {
        title: "PSNR Distribution Comparison",
        subtitle: &format!("{} · each against its clean version", scope(evaluation)),
        quantity: "PSNR (dB)",
    };
    histograms(&labels, &rows)
}

fn bar_chart(evaluation: &Evaluation, metric: Metric, title: &str) -> String {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let mean = |run: usize, before: bool| {
        let line = evaluation.summaries[run].metric(metric)?;
        let mean = if before { &line.damaged } else { &line.restored };
        Some((mean.mean, mean.interval))
    };
    let mut series =
        vec![BarSeries { label: "Damaged", color: Color::Before, mean: mean(0, true) }];
    series.extend((0..evaluation.runs.len()).map(|run| BarSeries {
        label: label(evaluation, run),
        color: Color::Series(run),
        mean: mean(run, false),
    }));
    let groups = evaluation
        .images
        .iter()
        .map(|image| Group {
            name: &image.name,
            values: std::iter::once(finite(image.damaged.get(metric)))
                .chain(image.runs.iter().map(|run| finite(run.restored.get(metric))))
                .collect(),
        })
        .collect();
    let labels = Labels {
        title,
        subtitle: &format!(
            "{} · each against its clean version · mean with its 95 % confidence interval at the right",
            scope(evaluation)
        ),
        quantity: metric.label(),
    };
    let floor = (metric == Metric::Ssim).then_some(0.5);
    bars(&labels, &series, groups, floor)
}
