//! The report page: one file that needs nothing else, for a browser or for paper.

use std::fmt::Write as _;

use super::base64;
use super::figures::Figure;
use super::svg::escape;
use super::table::{number, scope, with_interval};
use crate::evaluate::{Evaluation, Exhibit, ImageScores, Mean, Metric, RunSummary};

const STYLE: &str = include_str!("../../assets/report/report.css");
const SCRIPT: &str = include_str!("../../assets/report/report.js");

/// Metrics in the table of single pictures.
const TABLED: [Metric; 4] = [Metric::Psnr, Metric::MaskedPsnr, Metric::Ssim, Metric::DeltaE];

/// The whole page.
pub(super) fn page(evaluation: &Evaluation, figures: &[Figure], command: Option<&str>) -> String {
    let mut html = String::new();
    let name = evaluation.dataset.file_name().map_or_else(
        || evaluation.dataset.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    push(
        &mut html,
        format_args!(
            concat!(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
                "<title>Restoration of {name}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n",
                "<header>\n<p class=\"brand\">photomend evaluate</p>\n<h1>Restoration of <em>{name}</em></h1>\n",
                "<button id=\"theme\" type=\"button\" title=\"Light or dark\" aria-label=\"Switch between light and dark\">◐</button>\n",
                "</header>\n"
            ),
            name = escape(&name),
            style = STYLE,
        ),
    );
    tiles(&mut html, evaluation);
    exhibits(&mut html, evaluation);
    means(&mut html, evaluation);
    plots(&mut html, figures);
    single_pictures(&mut html, evaluation);
    failures(&mut html, evaluation);
    settings(&mut html, evaluation, command);
    push(&mut html, format_args!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    html
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("writing to a String cannot fail");
}

/// The run whose figures come first: the largest mean PSNR gain.
fn best(evaluation: &Evaluation) -> Option<&RunSummary> {
    let gain = |run: &RunSummary| run.metric(Metric::Psnr).map_or(f64::MIN, |line| line.gain.mean);
    evaluation.summaries.iter().reduce(|a, b| if gain(b) > gain(a) { b } else { a })
}

fn interval(mean: &Mean, decimals: usize, signed: bool) -> String {
    mean.interval.map_or_else(String::new, |found| {
        format!(
            "95 % confidence: {} to {}",
            number(found.low, decimals, signed),
            number(found.high, decimals, signed)
        )
    })
}

/// The few figures that matter most, large.
fn tiles(html: &mut String, evaluation: &Evaluation) {
    let Some(run) = best(evaluation) else { return };
    html.push_str("<section class=\"tiles\">\n");
    let mut tile = |value: &str, unit: &str, what: &str, note: &str| {
        push(
            html,
            format_args!(
                "<div class=\"tile\"><p class=\"value\">{value}<small>{unit}</small></p><p class=\"what\">{}</p><p class=\"note\">{}</p></div>\n",
                escape(what),
                escape(note),
            ),
        );
    };
    let of = if evaluation.runs.len() > 1 { format!(", {}", run.name) } else { String::new() };
    if let Some(line) = run.metric(Metric::Psnr) {
        let value = number(line.gain.mean, 2, true);
        let what = format!("mean PSNR gain{of}");
        tile(&value, " dB", &what, &interval(&line.gain, 2, true));
    }
    if let Some(line) = run.metric(Metric::Ssim) {
        let value = format!(
            "{} → {}",
            number(line.damaged.mean, 3, false),
            number(line.restored.mean, 3, false)
        );
        let note = format!("gain {}", with_interval(&line.gain, 4, true));
        tile(&value, "", &format!("mean SSIM{of}"), &note);
    }
    let worse = match run.worsened {
        0 => "none became worse".to_owned(),
        1 => "1 became worse".to_owned(),
        more => format!("{more} became worse"),
    };
    let improved = format!("{}", run.improved);
    let count = format!(" of {}", evaluation.images.len());
    tile(&improved, &count, &format!("pictures improved in PSNR{of}"), &worse);
    if let Some(detection) = &evaluation.detection {
        let note = format!(
            "precision {:.2}, recall {:.2} at {} px",
            detection.precision.mean, detection.recall.mean, detection.tolerance_px
        );
        tile(&format!("{:.2}", detection.f1.mean), "", "F1 of the damage detection", &note);
    }
    html.push_str("</section>\n");
}

fn exhibits(html: &mut String, evaluation: &Evaluation) {
    if evaluation.exhibits.is_empty() {
        return;
    }
    let gains: Vec<f64> = evaluation
        .images
        .iter()
        .filter_map(|image| image.gain(0, Metric::Psnr))
        .filter(|gain| gain.is_finite())
        .collect();
    let most = gains.iter().copied().fold(f64::MIN, f64::max);
    let least = gains.iter().copied().fold(f64::MAX, f64::min);
    let mut exhibits: Vec<_> = evaluation
        .exhibits
        .iter()
        .filter_map(|exhibit| {
            let scores = evaluation.images.iter().find(|image| image.name == exhibit.name)?;
            Some((exhibit, scores, scores.gain(0, Metric::Psnr)))
        })
        .collect();
    exhibits.sort_by(|a, b| b.2.unwrap_or(f64::MIN).total_cmp(&a.2.unwrap_or(f64::MIN)));
    html.push_str("<section id=\"look\">\n<h2>Before and after</h2>\n");
    html.push_str("<p class=\"lead\">Drag across a picture, or use the arrow keys. Left of the line it is damaged. The largest gain comes first.</p>\n<div class=\"gallery\">\n");
    for (exhibit, scores, gain) in exhibits {
        let badge = match gain {
            Some(gain) if gain == most && gains.len() > 1 => "largest gain",
            Some(gain) if gain == least && gains.len() > 1 => "smallest gain",
            _ => "",
        };
        one_exhibit(html, exhibit, scores, badge);
    }
    html.push_str("</div>\n</section>\n");
}

fn one_exhibit(html: &mut String, exhibit: &Exhibit, scores: &ImageScores, badge: &str) {
    let score = |value: Option<f64>| {
        value.map_or_else(String::new, |value| format!("{} dB", number(value, 2, false)))
    };
    let Some(((first, damaged), others)) = exhibit.pictures.split_first() else { return };
    let ratio = format!("{}/{}", scores.width, scores.height);
    push(
        html,
        format_args!(
            "<figure class=\"exhibit\">\n<div class=\"compare\" style=\"aspect-ratio:{ratio}\">\n"
        ),
    );
    for (i, (heading, jpeg)) in others.iter().enumerate() {
        let shown = if i == 0 { "" } else { " hidden" };
        push(
            html,
            format_args!(
                "<img class=\"after\" alt=\"{}: {}\" src=\"data:image/jpeg;base64,{}\"{shown}>\n",
                escape(&exhibit.name),
                escape(heading),
                base64::encode(jpeg),
            ),
        );
    }
    push(
        html,
        format_args!(
            "<img class=\"before\" alt=\"{}: {}\" src=\"data:image/jpeg;base64,{}\">\n",
            escape(&exhibit.name),
            escape(first),
            base64::encode(damaged),
        ),
    );
    push(
        html,
        format_args!(
            "<span class=\"divider\"></span><input type=\"range\" min=\"0\" max=\"100\" step=\"0.1\" value=\"50\" aria-label=\"Damaged against restored, {}\">\n</div>\n",
            escape(&exhibit.name)
        ),
    );
    push(html, format_args!("<figcaption><strong>{}</strong>", escape(&exhibit.name)));
    if !badge.is_empty() {
        push(html, format_args!(" <span class=\"badge\">{badge}</span>"));
    }
    push(
        html,
        format_args!(
            "<span class=\"choices\"><span class=\"choice\">{} <small>{}</small></span> →",
            escape(first),
            score(scores.damaged.get(Metric::Psnr)),
        ),
    );
    for (i, (heading, _)) in others.iter().enumerate() {
        let heading = heading.strip_prefix("Restored: ").unwrap_or(heading);
        let value = scores
            .runs
            .get(i)
            .map_or_else(String::new, |run| score(run.restored.get(Metric::Psnr)));
        push(
            html,
            format_args!(
                "<button type=\"button\" aria-pressed=\"{}\">{} <small>{value}</small></button>",
                i == 0,
                escape(heading),
            ),
        );
    }
    html.push_str("</span></figcaption>\n</figure>\n");
}

/// The table of means: one block a run, or with several runs all of them side by side.
fn means(html: &mut String, evaluation: &Evaluation) {
    html.push_str("<section id=\"means\">\n<h2>Means over all pictures</h2>\n<div class=\"scroll\">\n<table>\n<thead><tr><th>Metric</th>");
    let several = evaluation.summaries.len() > 1;
    html.push_str("<th class=\"n\">Damaged → Clean</th>");
    if several {
        for summary in &evaluation.summaries {
            let name = escape(&summary.name);
            push(
                html,
                format_args!(
                    "<th class=\"n\">{name} → Clean<small>gain and its interval</small></th>"
                ),
            );
        }
    } else {
        html.push_str("<th class=\"n\">Restored → Clean</th><th class=\"n\">Gain</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let cell = |mean: &Mean, decimals: usize, signed: bool| {
        let range = mean.interval.map_or_else(String::new, |found| {
            format!(
                "<small>{} … {}</small>",
                number(found.low, decimals, signed),
                number(found.high, decimals, signed)
            )
        });
        format!("{}{range}", number(mean.mean, decimals, signed))
    };
    for metric in Metric::ALL {
        let lines: Vec<_> = evaluation.summaries.iter().map(|run| run.metric(metric)).collect();
        let Some(first) = lines.iter().copied().flatten().next() else { continue };
        let top = lines.iter().flatten().map(|line| line.gain.mean).fold(f64::MIN, f64::max);
        let decimals = metric.decimals();
        push(
            html,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{}</td>",
                escape(metric.label()),
                cell(&first.damaged, decimals, false),
            ),
        );
        for line in lines {
            match line {
                Some(line) if several => push(
                    html,
                    format_args!(
                        "<td class=\"n{}\">{}<small>{}</small></td>",
                        if line.gain.mean == top { " best" } else { "" },
                        number(line.restored.mean, decimals, false),
                        with_interval(&line.gain, decimals, true),
                    ),
                ),
                Some(line) => push(
                    html,
                    format_args!(
                        "<td class=\"n\">{}</td><td class=\"n\">{}</td>",
                        cell(&line.restored, decimals, false),
                        cell(&line.gain, decimals, true),
                    ),
                ),
                None => html.push_str("<td></td>"),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    if let Some(detection) = &evaluation.detection {
        push(
            html,
            format_args!(
                "<h3>Damage detection</h3>\n<div class=\"scroll\">\n<table><thead><tr><th>Tolerance</th><th class=\"n\">Precision</th><th class=\"n\">Recall</th><th class=\"n\">F1</th></tr></thead><tbody><tr><td>{} px</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr></tbody></table>\n</div>\n",
                detection.tolerance_px,
                cell(&detection.precision, 3, false),
                cell(&detection.recall, 3, false),
                cell(&detection.f1, 3, false),
            ),
        );
    }
    let times: Vec<String> = evaluation
        .summaries
        .iter()
        .filter_map(|run| Some(format!("{} {:.2} s", run.name, run.fill_seconds_per_image?)))
        .collect();
    let times = if times.is_empty() {
        String::new()
    } else {
        format!(" Filling took, a picture: {}.", times.join(", "))
    };
    push(
        html,
        format_args!(
            "<p class=\"note\">{}. Small: 95 % confidence interval of the mean. A gain is positive where the restoration is better, for ΔE too.{}</p>\n</section>\n",
            escape(&scope(evaluation)),
            escape(&times),
        ),
    );
}

fn plots(html: &mut String, figures: &[Figure]) {
    html.push_str("<section id=\"plots\">\n<h2>Distributions</h2>\n<div class=\"plots\">\n");
    for figure in figures {
        push(html, format_args!("<figure class=\"plot\">{}</figure>\n", figure.svg));
    }
    html.push_str("</div>\n</section>\n");
}

fn single_pictures(html: &mut String, evaluation: &Evaluation) {
    let several = evaluation.runs.len() > 1;
    let metrics: Vec<Metric> = TABLED
        .into_iter()
        .filter(|&metric| evaluation.images.iter().any(|one| one.damaged.get(metric).is_some()))
        .collect();
    html.push_str("<section id=\"pictures\">\n<h2>Every picture</h2>\n<p class=\"lead\"><input id=\"filter\" type=\"search\" placeholder=\"Filter by name\" aria-label=\"Filter by name\"> Click a heading to sort.</p>\n<div class=\"scroll\">\n<table class=\"sortable\">\n<thead><tr><th>Picture</th>");
    if several {
        html.push_str("<th>Method</th>");
    }
    html.push_str("<th class=\"n\">Damage</th>");
    for metric in &metrics {
        push(
            html,
            format_args!(
                "<th class=\"n\">{0}<small>damaged</small></th><th class=\"n\">{0}<small>restored</small></th>",
                escape(short_label(*metric)),
            ),
        );
        if has_gain(*metric) {
            let label = escape(short_label(*metric));
            push(html, format_args!("<th class=\"n\">{label}<small>gain</small></th>"));
        }
    }
    if evaluation.detection.is_some() {
        html.push_str("<th class=\"n\">Detection<small>F1</small></th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for image in &evaluation.images {
        for (run, result) in image.runs.iter().enumerate() {
            push(html, format_args!("<tr><td>{}</td>", escape(&image.name)));
            if several {
                push(html, format_args!("<td>{}</td>", escape(&evaluation.runs[run].name)));
            }
            number_cell(html, image.coverage.map(|share| share * 100.0), "", |v| {
                format!("{v:.2} %")
            });
            for &metric in &metrics {
                let decimals = metric.decimals();
                let plain = |value: f64| number(value, decimals, false);
                number_cell(html, image.damaged.get(metric), "", plain);
                number_cell(html, result.restored.get(metric), "", plain);
                if !has_gain(metric) {
                    continue;
                }
                let gain = image.gain(run, metric);
                let class = match gain {
                    Some(gain) if gain > 0.0 => " up",
                    Some(gain) if gain < 0.0 => " down",
                    _ => "",
                };
                number_cell(html, gain, class, |value| number(value, decimals, true));
            }
            if evaluation.detection.is_some() {
                number_cell(html, image.detection.map(|score| score.f1), "", |v| format!("{v:.3}"));
            }
            html.push_str("</tr>\n");
        }
    }
    html.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

/// A cell that sorts by its value, not by its text.
fn number_cell(html: &mut String, value: Option<f64>, class: &str, text: impl Fn(f64) -> String) {
    match value {
        Some(value) => push(
            html,
            format_args!(
                "<td class=\"n{class}\" data-v=\"{}\">{}</td>",
                value.clamp(-1e12, 1e12),
                text(value),
            ),
        ),
        None => html.push_str("<td class=\"n\" data-v=\"-1e13\">–</td>"),
    }
}

/// Metrics with a column for the gain; the others would only repeat it, or are read without.
const fn has_gain(metric: Metric) -> bool {
    matches!(metric, Metric::Psnr | Metric::Ssim)
}

const fn short_label(metric: Metric) -> &'static str {
    match metric {
        Metric::Psnr => "PSNR",
        Metric::MaskedPsnr => "PSNR in damage",
        Metric::DeltaE => "ΔE2000",
        other => other.label(),
    }
}

fn failures(html: &mut String, evaluation: &Evaluation) {
    if evaluation.failures.is_empty() {
        return;
    }
    html.push_str("<section id=\"failures\">\n<h2>Not scored</h2>\n<ul>\n");
    for failure in &evaluation.failures {
        push(
            html,
            format_args!(
                "<li><strong>{}</strong>: {}</li>\n",
                escape(&failure.filename),
                escape(&failure.error),
            ),
        );
    }
    html.push_str("</ul>\n</section>\n");
}

fn settings(html: &mut String, evaluation: &Evaluation, command: Option<&str>) {
    let options = &evaluation.options;
    html.push_str("<section id=\"settings\">\n<h2>How this was made</h2>\n");
    if let Some(command) = command {
        push(html, format_args!("<pre><code>{}</code></pre>\n", escape(command)));
    }
    let sample = options.sample.map_or_else(
        || "all pictures".to_owned(),
        |count| format!("a sample of {count}, seed {}", options.seed),
    );
    let runs: Vec<String> = evaluation
        .runs
        .iter()
        .map(|run| match (&run.method, run.masks, &run.folder) {
            (Some(_), Some(masks), _) => format!("{} ({masks:?} masks)", run.name).to_lowercase(),
            (_, _, Some(folder)) => format!("{} ({})", run.name, folder.display()),
            _ => run.name.clone(),
        })
        .collect();
    push(
        html,
        format_args!(
            "<dl>\n<dt>Data set</dt><dd>{}: {}</dd>\n<dt>Methods</dt><dd>{}</dd>\n<dt>Version</dt><dd>photomend {}</dd>\n</dl>\n",
            escape(&evaluation.dataset.display().to_string()),
            escape(&sample),
            escape(&runs.join("; ")),
            env!("CARGO_PKG_VERSION"),
        ),
    );
    html.push_str(concat!(
        "<details><summary>What the figures mean</summary>\n<ul>\n",
        "<li><strong>PSNR</strong>: peak signal-to-noise ratio against the clean picture, over all pixels, in dB; 6 dB more is half the error. “In damage” counts the masked pixels alone. ∞ means no difference.</li>\n",
        "<li><strong>SSIM</strong>: structural similarity, 1 for equal pictures; uniform 7×7 window, as scikit-image.</li>\n",
        "<li><strong>ΔE2000</strong>: mean colour difference; 0 for equal pictures, about 1 is just visible.</li>\n",
        "<li><strong>SSIMULACRA 2</strong>: perceptual score, 100 for equal pictures, 70 high and 50 medium quality.</li>\n",
        "<li><strong>Detection</strong>: precision is the share of found pixels within the tolerance of a truly damaged one, recall the share of damaged pixels within it of a found one, F1 their harmonic mean.</li>\n",
        "<li><strong>Intervals</strong>: the mean lies between these bounds with 95 % confidence (percentile bootstrap over the pictures, 10 000 resamples).</li>\n",
        "</ul></details>\n</section>\n",
    ));
}
