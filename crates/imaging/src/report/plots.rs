//! The figures of an evaluation: histograms and bar charts, as SVG text.

use super::axis::{Axis, Bins};
use super::svg::{Anchor, Color, Stroke, Svg, TextStyle, shortened, text_width};
use crate::metrics::Interval;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 28.0;
/// Height of a histogram's drawing area when it is the only one, and when it is one of several.
const SINGLE: f64 = 340.0;
const ROW: f64 = 170.0;
/// Images in a bar chart; of more, an even selection is drawn.
const MOST_BARS: usize = 300;

const GRID: Stroke = Stroke { color: Color::Grid, width: 1.0, dashed: false };
const AXIS: Stroke = Stroke { color: Color::Soft, width: 1.0, dashed: false };

/// The words around a figure.
pub(crate) struct Labels<'a> {
    pub(crate) title: &'a str,
    pub(crate) subtitle: &'a str,
    /// The measured quantity with its unit.
    pub(crate) quantity: &'a str,
}

/// Values drawn in one colour.
pub(crate) struct Layer<'a> {
    pub(crate) label: &'a str,
    pub(crate) color: Color,
    /// Finite values.
    pub(crate) values: &'a [f64],
}

/// Histograms below one another over the same axes, each of one or more overlaid layers.
pub(crate) fn histograms(labels: &Labels<'_>, rows: &[(String, Vec<Layer<'_>>)]) -> String {
    let layers: Vec<&Layer<'_>> = rows.iter().flat_map(|(_, layers)| layers).collect();
    let values: Vec<&[f64]> = layers.iter().map(|layer| layer.values).collect();
    let overlaid = rows.iter().any(|(_, layers)| layers.len() > 1);
    let row_height = if rows.len() == 1 { SINGLE } else { ROW };
    let top = if overlaid { 104.0 } else { 80.0 };
    // Above each drawing area: the run's name, if there are several, and the labels of the means.
    let above = if rows.len() > 1 { 20.0 } else { 0.0 } + if overlaid { 34.0 } else { 18.0 };
    let pitch = above + row_height + 34.0;
    let height = top + rows.len() as f64 * pitch + 30.0;
    let mut svg = Svg::new(WIDTH, height);
    head(&mut svg, labels);
    if overlaid {
        let mut entries: Vec<(&str, Color)> = Vec::new();
        for layer in &layers {
            if !entries.contains(&(layer.label, layer.color)) {
                entries.push((layer.label, layer.color));
            }
        }
        legend(&mut svg, &entries);
    }
    let Some(bins) = Bins::new(&values) else { return nothing(svg, height) };

    let counts: Vec<Vec<usize>> = values.iter().map(|values| bins.counts(values)).collect();
    let tallest = counts.iter().flatten().copied().max().unwrap_or(1);
    // The axis ends where the bins end, except that 0, the border between gain and loss, stays in sight if near.
    let near_zero = bins.low > 0.0 && bins.low <= bins.high() - bins.low && !overlaid;
    let low = if near_zero { 0.0 } else { bins.low };
    let x_axis = Axis::new(low, bins.high(), 8);
    let y_axis = Axis::counts(tallest, if rows.len() == 1 { 6 } else { 3 });
    let width = WIDTH - LEFT - RIGHT;
    let x = |value: f64| LEFT + x_axis.share(value) * width;

    let mut next = counts.iter();
    for (row, (label, layers)) in rows.iter().enumerate() {
        let base = top + row as f64 * pitch + above + row_height;
        let y = |count: f64| base - y_axis.share(count) * row_height;
        for tick in y_axis.ticks() {
            svg.line([LEFT, y(tick)], [WIDTH - RIGHT, y(tick)], GRID);
            let style = TextStyle::new(12.0, Color::Soft).anchored(Anchor::End);
            svg.text([LEFT - 8.0, y(tick) + 4.0], style, &y_axis.label(tick));
        }
        let opacity = if layers.len() > 1 { 0.62 } else { 0.88 };
        for layer in layers {
            let Some(counts) = next.next() else { break };
            for (bin, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let from = bins.low + bin as f64 * bins.width;
                let to = from + bins.width;
                let title = format!(
                    "{}: {count} between {} and {}",
                    layer.label,
                    decimal(from),
                    decimal(to)
                );
                svg.titled(&title, |svg| {
                    let area = [
                        x(from) + 1.0,
                        y(count as f64),
                        x(to) - x(from) - 2.0,
                        base - y(count as f64),
                    ];
                    svg.rect(area, layer.color, opacity);
                });
            }
        }
        svg.line([LEFT, base], [WIDTH - RIGHT, base], AXIS);
        if x_axis.low < 0.0 && x_axis.high > 0.0 {
            svg.line([x(0.0), base], [x(0.0), base - row_height], AXIS);
        }
        means(&mut svg, layers, &x, [base - row_height, base]);
        for tick in x_axis.ticks() {
            svg.line([x(tick), base], [x(tick), base + 5.0], AXIS);
            let style = TextStyle::new(12.0, Color::Soft).anchored(Anchor::Middle);
            svg.text([x(tick), base + 20.0], style, &x_axis.label(tick));
        }
        if rows.len() > 1 {
            let style = TextStyle::new(13.0, Color::Ink).bold();
            svg.text([LEFT, base - row_height - above + 14.0], style, label);
        }
    }
    let middle = TextStyle::new(13.0, Color::Soft).anchored(Anchor::Middle);
    svg.text([LEFT + width / 2.0, height - 16.0], middle, labels.quantity);
    let center = top + (height - 64.0 - top) / 2.0;
    svg.text([22.0, center], middle.turned(-90.0), "Number of images");
    svg.finish()
}

/// A dashed line at the mean of each layer, labelled above the drawing area; labels that would meet are stacked.
fn means(svg: &mut Svg, layers: &[Layer<'_>], x: &dyn Fn(f64) -> f64, [top, base]: [f64; 2]) {
    let mut taken: Option<[f64; 2]> = None;
    for layer in layers.iter().filter(|layer| !layer.values.is_empty()) {
        let mean = layer.values.iter().sum::<f64>() / layer.values.len() as f64;
        let at = x(mean);
        let text = if layers.len() > 1 {
            format!("{} mean {}", layer.label, decimal(mean))
        } else {
            format!("mean {}", decimal(mean))
        };
        let half = text_width(&text, 12.0) / 2.0;
        let middle = at.clamp(half + 4.0, WIDTH - half - 4.0);
        let meets = taken.is_some_and(|[from, to]| middle - half < to && from < middle + half);
        let rise = if meets { 16.0 } else { 0.0 };
        taken = Some([middle - half - 8.0, middle + half + 8.0]);
        let stroke = Stroke { color: Color::Ink, width: 1.5, dashed: true };
        svg.line([at, base], [at, top - 2.0 - rise], stroke);
        let style = TextStyle::new(12.0, Color::Ink).anchored(Anchor::Middle);
        svg.text([middle, top - 6.0 - rise], style, &text);
    }
}

/// One image in a bar chart: its name, and a value for each series.
pub(crate) struct Group<'a> {
    pub(crate) name: &'a str,
    pub(crate) values: Vec<Option<f64>>,
}

/// A series of a bar chart with its mean over all images.
pub(crate) struct BarSeries<'a> {
    pub(crate) label: &'a str,
    pub(crate) color: Color,
    pub(crate) mean: Option<(f64, Option<Interval>)>,
}

/// A bar for each series of each image, and at the right the means with their confidence intervals.
///
/// Images come in the order of their first series. `floor`, if given, lets the axis start at a round number below the
/// smallest value when all values are above it; the label then says so.
pub(crate) fn bars(
    labels: &Labels<'_>,
    series: &[BarSeries<'_>],
    mut groups: Vec<Group<'_>>,
    floor: Option<f64>,
) -> String {
    let first = |group: &Group<'_>| group.values.first().copied().flatten().unwrap_or(f64::MAX);
    groups.sort_by(|a, b| first(a).total_cmp(&first(b)).then(a.name.cmp(b.name)));
    let total = groups.len();
    if total > MOST_BARS {
        let mut index = 0;
        groups.retain(|_| {
            let keep = index * MOST_BARS / total != (index + 1) * MOST_BARS / total;
            index += 1;
            keep
        });
    }

    // 1. the axis
    let values = || groups.iter().flat_map(|group| group.values.iter().flatten().copied());
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let low = values().fold(f64::INFINITY, f64::min);
    let start = match floor {
        Some(floor) if low > floor => low - 0.1 * (high - low).max(0.01),
        _ => low.min(0.0),
    };
    let axis = Axis::new(start, high, 6);

    // 2. how much room each image has
    let bar_count = series.len() as f64;
    let slot = ((WIDTH - LEFT - RIGHT - 110.0) / groups.len().max(1) as f64)
        .clamp(bar_count * 2.5 + 1.5, bar_count * 34.0 + 20.0);
    let labelled = slot >= 13.0;
    let means_width = (bar_count * 20.0 + 16.0).max(60.0);
    let bars_width = slot * groups.len() as f64;
    let width = (LEFT + bars_width + 30.0 + means_width + RIGHT).max(WIDTH);
    let longest =
        groups.iter().map(|group| text_width(group.name, 11.0)).fold(40.0, f64::max).min(150.0);
    let below = if labelled { longest * 0.72 + 34.0 } else { 44.0 };
    let (top, plot_height) = (116.0, 340.0);
    let height = top + plot_height + below + 22.0;

    let mut svg = Svg::new(width, height);
    head(&mut svg, labels);
    let entries: Vec<(&str, Color)> = series.iter().map(|one| (one.label, one.color)).collect();
    legend(&mut svg, &entries);
    if !high.is_finite() {
        return nothing(svg, height);
    }
    let base = top + plot_height;
    let y = |value: f64| base - axis.share(value) * plot_height;

    // 3. grid and value axis
    let means_left = LEFT + bars_width + 30.0;
    let right = means_left + means_width;
    for tick in axis.ticks() {
        svg.line([LEFT, y(tick)], [right, y(tick)], GRID);
        let style = TextStyle::new(12.0, Color::Soft).anchored(Anchor::End);
        svg.text([LEFT - 8.0, y(tick) + 4.0], style, &axis.label(tick));
    }
    let zero = y(axis.low.max(0.0));

    // 4. a group of bars for each image
    let gap = (slot * 0.18).clamp(1.0, 14.0);
    let bar = (slot - gap) / bar_count;
    for (index, group) in groups.iter().enumerate() {
        let left = LEFT + index as f64 * slot + gap / 2.0;
        let title = format!("{}: {}", group.name, described(series, &group.values));
        svg.titled(&title, |svg| {
            for (i, (value, one)) in group.values.iter().zip(series).enumerate() {
                let Some(value) = *value else { continue };
                let (a, b) = (y(value).min(zero), y(value).max(zero));
                let x = left + i as f64 * bar;
                svg.rect([x, a, (bar - bar.min(1.0) * 0.3).max(0.5), b - a], one.color, 1.0);
            }
        });
        if labelled {
            let style = TextStyle::new(11.0, Color::Soft).anchored(Anchor::End).turned(-45.0);
            let at = [left + (slot - gap) / 2.0 + 4.0, base + 16.0];
            svg.text(at, style, &shortened(group.name, 11.0, 150.0));
        }
    }
    svg.line([LEFT, zero], [LEFT + bars_width, zero], AXIS);

    // 5. the means
    svg.line([means_left, zero], [right, zero], AXIS);
    let bar = (means_width - 16.0) / bar_count;
    for (i, one) in series.iter().enumerate() {
        let Some((mean, interval)) = one.mean else { continue };
        let x = means_left + 8.0 + i as f64 * bar;
        let (a, b) = (y(mean).min(zero), y(mean).max(zero));
        let title = format!("{}: mean {}", one.label, decimal(mean));
        svg.titled(&title, |svg| svg.rect([x, a, bar - 1.0, b - a], one.color, 1.0));
        if let Some(Interval { low, high }) = interval {
            let center = x + (bar - 1.0) / 2.0;
            let whisker = Stroke { color: Color::Ink, width: 1.5, dashed: false };
            svg.line([center, y(low)], [center, y(high)], whisker);
            for end in [low, high] {
                svg.line([center - 4.0, y(end)], [center + 4.0, y(end)], whisker);
            }
        }
    }
    let style = TextStyle::new(12.0, Color::Ink).bold().anchored(Anchor::Middle);
    svg.text([means_left + means_width / 2.0, base + 18.0], style, "Mean");

    // 6. the axes' names
    let middle = TextStyle::new(13.0, Color::Soft).anchored(Anchor::Middle);
    let quantity = if axis.low > 0.0 {
        format!("{} (axis starts at {})", labels.quantity, axis.label(axis.low))
    } else {
        labels.quantity.to_owned()
    };
    svg.text([22.0, top + plot_height / 2.0], middle.turned(-90.0), &quantity);
    let order = format!("by {} score", series.first().map_or("", |one| one.label).to_lowercase());
    let images = if total > groups.len() {
        format!("{} of {total} images, evenly chosen, {order}", groups.len())
    } else {
        format!("Images, {order}")
    };
    svg.text([LEFT + bars_width / 2.0, height - 14.0], middle, &images);
    svg.finish()
}

fn described(series: &[BarSeries<'_>], values: &[Option<f64>]) -> String {
    let parts: Vec<String> = series
        .iter()
        .zip(values)
        .map(|(one, value)| {
            format!("{} {}", one.label, value.map_or_else(|| "–".to_owned(), decimal))
        })
        .collect();
    parts.join(", ")
}

fn head(svg: &mut Svg, labels: &Labels<'_>) {
    svg.paper();
    svg.text([24.0, 36.0], TextStyle::new(20.0, Color::Ink).bold(), labels.title);
    svg.text([24.0, 59.0], TextStyle::new(13.0, Color::Soft), labels.subtitle);
}

fn legend(svg: &mut Svg, entries: &[(&str, Color)]) {
    let mut x = 24.0;
    for (label, color) in entries {
        svg.rect([x, 75.0, 12.0, 12.0], *color, 1.0);
        svg.text([x + 18.0, 86.0], TextStyle::new(13.0, Color::Ink), label);
        x += 18.0 + text_width(label, 13.0) + 22.0;
    }
}

fn nothing(mut svg: Svg, height: f64) -> String {
    let style = TextStyle::new(15.0, Color::Soft).anchored(Anchor::Middle);
    svg.text([WIDTH / 2.0, height / 2.0], style, "No finite values to draw");
    svg.finish()
}

/// A value with two decimals, three below 1, and a true minus sign.
fn decimal(value: f64) -> String {
    let decimals = if value.abs() < 1.0 { 3 } else { 2 };
    format!("{value:.decimals$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::svg::rasterize;

    const LABELS: Labels<'_> = Labels { title: "T", subtitle: "<s>", quantity: "dB" };

    fn dark_pixels(svg: &str) -> usize {
        let pixmap = rasterize(svg, 0.5).expect("valid SVG");
        pixmap.pixels().iter().filter(|pixel| pixel.red() < 120).count()
    }

    #[test]
    fn histograms_of_any_values_are_valid() {
        for values in [&[][..], &[3.0], &[-2.0, 0.0, 7.5, 7.5], &[1e-9, 2e-9], &[1e9, -1e9]] {
            let row = |name: &str| {
                let layers = [Color::Before, Color::Series(0)].map(|color| Layer {
                    label: "<name>",
                    color,
                    values,
                });
                (name.to_owned(), Vec::from(layers))
            };
            assert!(dark_pixels(&histograms(&LABELS, &[row("a")])) > 30);
            assert!(dark_pixels(&histograms(&LABELS, &[row("a"), row("b"), row("c")])) > 30);
        }
    }

    #[test]
    fn bar_charts_of_any_size_are_valid() {
        for count in [0, 1, 7, 60, 1000] {
            let names: Vec<String> = (0..count).map(|i| format!("photo & {i}.png")).collect();
            let groups = names
                .iter()
                .enumerate()
                .map(|(i, name)| Group {
                    name,
                    values: vec![Some(i as f64 * 0.01 - 1.0), (i % 3 > 0).then_some(9.0)],
                })
                .collect();
            let interval = Some(Interval { low: 4.0, high: 6.0 });
            let series = ["Damaged", "Restored"].map(|label| BarSeries {
                label,
                color: Color::Before,
                mean: Some((5.0, interval)),
            });
            assert!(dark_pixels(&bars(&LABELS, &series, groups, Some(0.5))) > 30, "{count}");
        }
    }
}
