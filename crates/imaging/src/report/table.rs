//! The table "Metric | Damaged → Clean | Restored → Clean | Gain", as Markdown that also reads well in a terminal.

use crate::evaluate::{DetectionSummary, Evaluation, Mean, MetricSummary};

/// The summary of an evaluation as Markdown: one table a run, with 95 % confidence intervals, and the detection's.
#[must_use]
pub fn markdown(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    for summary in &evaluation.summaries {
        text.push_str(&format!("**{}**\n\n", summary.name));
        let mut rows =
            vec![["Metric", "Damaged → Clean", "Restored → Clean", "Gain"].map(str::to_owned)];
        rows.extend(summary.metrics.iter().map(metric_row));
        text.push_str(&aligned(&rows));
        text.push('\n');
    }
    if let Some(detection) = &evaluation.detection {
        text.push_str(&format!(
            "**Damage detection, {} px tolerance**\n\n",
            detection.tolerance_px
        ));
        text.push_str(&aligned(&detection_rows(detection)));
        text.push('\n');
    }
    text.push_str(&format!(
        "{}. Brackets: 95 % confidence interval of the mean.\n",
        scope(evaluation)
    ));
    text
}

/// How many pictures the figures stand on; without a full stop.
pub(super) fn scope(evaluation: &Evaluation) -> String {
    let count = evaluation.images.len();
    let images = if count == 1 { "1 image".to_owned() } else { format!("{count} images") };
    let failed = match evaluation.failures.len() {
        0 => String::new(),
        1 => ", 1 problem".to_owned(),
        more => format!(", {more} problems"),
    };
    let infinite = evaluation
        .summaries
        .iter()
        .flat_map(|summary| summary.metrics.iter().map(|line| line.infinite))
        .max()
        .filter(|&count| count > 0)
        .map_or_else(String::new, |count| {
            format!("; up to {count} with an infinite score are left out of a mean")
        });
    format!("{images}{failed}{infinite}")
}

fn metric_row(line: &MetricSummary) -> [String; 4] {
    let decimals = line.metric.decimals();
    [
        line.metric.label().to_owned(),
        with_interval(&line.damaged, decimals, false),
        with_interval(&line.restored, decimals, false),
        with_interval(&line.gain, decimals, true),
    ]
}

fn detection_rows(detection: &DetectionSummary) -> Vec<[String; 3]> {
    let cell = |mean: &Mean| with_interval(mean, 3, false);
    vec![
        ["Precision", "Recall", "F1"].map(str::to_owned),
        [cell(&detection.precision), cell(&detection.recall), cell(&detection.f1)],
    ]
}

/// "23.41 [22.90, 24.02]", with a sign for gains.
pub(super) fn with_interval(mean: &Mean, decimals: usize, signed: bool) -> String {
    let value = number(mean.mean, decimals, signed);
    match mean.interval {
        Some(interval) => format!(
            "{value} [{}, {}]",
            number(interval.low, decimals, signed),
            number(interval.high, decimals, signed)
        ),
        None => value,
    }
}

/// A number with true minus signs and, if wanted, plus signs.
pub(super) fn number(value: f64, decimals: usize, signed: bool) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "∞".to_owned() } else { "−∞".to_owned() };
    }
    let text = format!("{:.decimals$}", value.abs());
    let is_zero = text.bytes().all(|byte| byte == b'0' || byte == b'.');
    match (value < 0.0 && !is_zero, signed && !is_zero) {
        (true, _) => format!("−{text}"),
        (false, true) => format!("+{text}"),
        (false, false) => text,
    }
}

/// A Markdown table whose columns line up: the first row is the header, the first column is flush left.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - cell.chars().count());
            if column == 0 {
                text.push_str(&format!("| {cell}{space} "));
            } else {
                text.push_str(&format!("| {space}{cell} "));
            }
        }
        text.push_str("|\n");
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                text.push_str(&if column == 0 {
                    format!("| :{dashes} ")
                } else {
                    format!("| {dashes}: ")
                });
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Interval;

    #[test]
    fn numbers_have_their_signs() {
        assert_eq!(number(1.236, 2, true), "+1.24");
        assert_eq!(number(-1.5, 1, false), "−1.5");
        assert_eq!([number(-0.001, 2, true), number(0.0, 1, true)], ["0.00", "0.0"]);
        assert_eq!(number(f64::INFINITY, 2, false), "∞");
        let mean = Mean { mean: 2.0, interval: Some(Interval { low: 1.0, high: 3.0 }) };
        assert_eq!(with_interval(&mean, 1, true), "+2.0 [+1.0, +3.0]");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["Metric", "Gain"], ["PSNR", "+1.00"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "| Metric |  Gain |\n| :----- | ----: |\n| PSNR   | +1.00 |\n");
    }
}
