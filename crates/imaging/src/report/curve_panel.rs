//! One panel of a line chart: its legend, its grid, and the curves in it.

use super::scale::Scale;
use super::series::{Point, extremes, last};
use super::svg::{Anchor, Color, Stroke, Svg, TextStyle, shortened, text_width};

const ROW: f64 = 22.0;
const SWATCH: f64 = 22.0;
/// Colours before they are used again, dashed.
const COLORS: usize = 6;
const PALE: f64 = 0.3;
/// Up to so many points of a curve are marked.
const MARKED: usize = 60;
/// Fewer points of a smoothed curve are all in sight; of more, this share at either end may lie beyond the axis.
const FEW: usize = 200;
const BEYOND: f64 = 0.005;

const GRID: Stroke = Stroke { color: Color::Grid, width: 1.0, dashed: false };
const AXIS: Stroke = Stroke { color: Color::Soft, width: 1.0, dashed: false };

/// A curve ready to be drawn.
pub(super) struct Drawn<'a> {
    pub(super) label: &'a str,
    pub(super) color: usize,
    /// From left to right, finite.
    pub(super) points: Vec<Point>,
    pub(super) smooth: Option<Vec<Point>>,
}

impl Drawn<'_> {
    fn stroke(&self, width: f64) -> Stroke {
        Stroke { color: Color::Series(self.color), width, dashed: self.color >= COLORS }
    }

    /// The lowest and highest value that must be in sight.
    pub(super) fn range(&self, log: bool) -> Option<[f64; 2]> {
        let mut sorted: Vec<f64> = self.points.iter().map(|point| point.1).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let all = [*sorted.first()?, *sorted.last()?];
        let Some(smooth) = self.smooth.as_ref().filter(|_| sorted.len() >= FEW) else {
            return Some(all);
        };
        let rank = (sorted.len() as f64 * BEYOND) as usize;
        let bulk = [sorted[rank], sorted[sorted.len() - 1 - rank]];
        let bulk = smooth.iter().fold(bulk, |[a, b], point| [a.min(point.1), b.max(point.1)]);
        let span = |[a, b]: [f64; 2]| if log { b.log10() - a.log10() } else { b - a };
        // A few more values in sight are worth a slightly larger range.
        Some(if span(all) > 1.4 * span(bulk) { bulk } else { all })
    }
}

/// The row or rows above a panel's drawing area.
pub(super) struct Legend<'a> {
    /// Each with its place from the left and its row.
    entries: Vec<(&'a Drawn<'a>, f64, usize)>,
    /// At the right of the last row, which is one of its own if the entries leave no room.
    note: String,
    rows: usize,
    width: f64,
}

impl<'a> Legend<'a> {
    /// A legend of at most `width`.
    pub(super) fn new(curves: &'a [Drawn<'a>], scale: Option<&Scale>, width: f64) -> Self {
        let (mut x, mut row) = (0.0, 0);
        let mut entries = Vec::new();
        for curve in curves {
            let entry = SWATCH + 8.0 + text_width(curve.label, 13.0).min(width / 2.0);
            if x > 0.0 && x + entry > width {
                (x, row) = (0.0, row + 1);
            }
            entries.push((curve, x, row));
            x += entry + 14.0;
        }
        let note = note(curves, scale);
        let crowded = x + text_width(&note, 12.0) > width && !note.is_empty();
        Self { entries, note, rows: row + 1 + usize::from(crowded), width }
    }

    pub(super) fn height(&self) -> f64 {
        self.rows as f64 * ROW + 8.0
    }

    /// Draws the legend with its upper left corner at `left`, `top`.
    pub(super) fn draw(&self, svg: &mut Svg, [left, top]: [f64; 2]) {
        for (curve, x, row) in &self.entries {
            let (x, y) = (left + x, top + *row as f64 * ROW + 14.0);
            let swatch = [[x, y - 4.5], [x + SWATCH, y - 4.5]];
            if curve.smooth.is_some() {
                let stroke = Stroke { dashed: false, ..curve.stroke(9.0) };
                svg.polyline(&swatch, stroke, PALE);
            }
            svg.polyline(&swatch, curve.stroke(2.5), 1.0);
            let label = shortened(curve.label, 13.0, self.width / 2.0);
            svg.text([x + SWATCH + 8.0, y], TextStyle::new(13.0, Color::Ink), &label);
        }
        let style = TextStyle::new(12.0, Color::Soft).anchored(Anchor::End);
        let baseline = top + (self.rows - 1) as f64 * ROW + 14.0;
        svg.text([left + self.width, baseline], style, &self.note);
    }
}

/// What a reader must know to read the curves.
fn note(curves: &[Drawn<'_>], scale: Option<&Scale>) -> String {
    let Some(scale) = scale.filter(|_| curves.iter().any(|curve| curve.smooth.is_some())) else {
        return String::new();
    };
    let points = curves.iter().flat_map(|curve| &curve.points);
    let beyond = match points.filter(|point| !scale.contains(point.1)).count() {
        0 => String::new(),
        1 => " · 1 value beyond the axis".to_owned(),
        count => format!(" · {count} values beyond the axis"),
    };
    format!("pale: as logged, thick: smoothed{beyond}")
}

/// Where curves are drawn.
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    /// Grid, axes and, below the lowest panel, the labels of the axis across.
    pub(super) fn frame(&self, svg: &mut Svg, x: Option<&Scale>, y: Option<&Scale>, last: bool) {
        let (right, base) = (self.left + self.width, self.top + self.height);
        for (share, label) in y.iter().flat_map(|scale| scale.labels()) {
            let at = base - share * self.height;
            svg.line([self.left, at], [right, at], GRID);
            let style = TextStyle::new(12.0, Color::Soft).anchored(Anchor::End);
            svg.text([self.left - 8.0, at + 4.0], style, label);
        }
        for (share, label) in x.iter().flat_map(|scale| scale.labels()) {
            let at = self.left + share * self.width;
            svg.line([at, self.top], [at, base], GRID);
            svg.line([at, base], [at, base + 5.0], AXIS);
            if last {
                let style = TextStyle::new(12.0, Color::Soft).anchored(Anchor::Middle);
                svg.text([at, base + 20.0], style, label);
            }
        }
        svg.line([self.left, base], [right, base], AXIS);
    }

    /// The curves: first all that are pale, so that none covers a smoothed one.
    pub(super) fn curves(&self, svg: &mut Svg, curves: &[Drawn<'_>], x: &Scale, y: &Scale) {
        let across = |value: f64| self.left + x.share(value) * self.width;
        let column = |value: f64| across(value) as usize;
        let placed = |points: Vec<Point>| -> Vec<[f64; 2]> {
            let down = |value: f64| self.top + (1.0 - y.share(value)) * self.height;
            points.into_iter().map(|point| [across(point.0), down(point.1)]).collect()
        };
        // The more noise lies over each other, the paler it must be.
        let noisy = curves.iter().filter(|curve| curve.smooth.is_some());
        let opacity = PALE / (1.0 + 0.35 * noisy.clone().count().saturating_sub(1) as f64);
        let opacity = (opacity * 100.0).round() / 100.0;
        for curve in noisy {
            let stroke = Stroke { dashed: false, ..curve.stroke(1.0) };
            svg.polyline(&placed(extremes(&curve.points, column)), stroke, opacity);
        }
        for curve in curves {
            let line = placed(match &curve.smooth {
                Some(smooth) => last(smooth, column),
                None => extremes(&curve.points, column),
            });
            let marked =
                curve.points.len() == 1 || (curve.smooth.is_none() && curve.points.len() <= MARKED);
            svg.titled(curve.label, |svg| {
                svg.polyline(&line, curve.stroke(2.25), 1.0);
                for &at in line.iter().filter(|_| marked) {
                    svg.dot(at, 3.5, Color::Series(curve.color));
                }
            });
        }
    }

    pub(super) fn nothing(&self, svg: &mut Svg) {
        let style = TextStyle::new(15.0, Color::Soft).anchored(Anchor::Middle);
        let middle = [self.left + self.width / 2.0, self.top + self.height / 2.0];
        svg.text(middle, style, "No values to draw");
    }
}
