//! The curves of a training run: quantities over its steps, in panels below one another.
//!
//! Noisy curves are shown as TensorBoard shows them, thin and pale as logged and thick as smoothed. Of a smoothed curve
//! a few far values, as the losses of diffusion models have, may lie beyond the axis; the panel then says how many.

use super::curve_panel::{Area, Drawn, Legend};
use super::scale::Scale;
use super::series::{drawable, smoothed};
use super::svg::{Anchor, Color, Svg, TextStyle, rasterize, shortened, text_width};
use crate::error::{ImagingError, Result};
use crate::image::{ColorType, Image, Samples};

const WIDTH: f64 = 960.0;
const RIGHT: f64 = 36.0;
/// Height of a drawing area: the only one, the first of several, the others.
const SINGLE: f64 = 360.0;
const FIRST: f64 = 270.0;
const OTHER: f64 = 190.0;
/// From a drawing area to the next legend.
const GAP: f64 = 26.0;
const MOST_PANELS: usize = 12;
const MOST_CURVES: usize = 24;

/// A quantity over the steps of a run.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    /// Its name in the legend. Curves of one name have one colour in all panels.
    pub label: &'a str,
    /// Places across and heights, in any order. Points that are not finite, or above 1e300, are left out.
    pub points: &'a [(f64, f64)],
    /// Draw the points thin and pale, and a moving average thick.
    pub smoothed: bool,
}

/// Curves over one height axis.
#[derive(Clone, Copy, Debug)]
pub struct CurvePanel<'a> {
    /// The quantity with its unit, beside the axis.
    pub quantity: &'a str,
    /// A logarithmic axis. Values that are not above 0 are left out.
    pub log: bool,
    /// The curves, at most 24; later ones are drawn over earlier ones.
    pub curves: &'a [Curve<'a>],
}

/// What stands around the curves.
#[derive(Clone, Debug)]
pub struct CurvesOptions {
    /// The heading. Default: "Training".
    pub title: String,
    /// A line below the heading; may be empty. Default: empty.
    pub subtitle: String,
    /// The quantity across, below the lowest panel. Default: "Step".
    pub across: String,
    /// Pixels a unit; at 1 the picture is 960 pixels wide. Default: 2.
    pub scale: f32,
}

impl Default for CurvesOptions {
    fn default() -> Self {
        Self {
            title: "Training".to_owned(),
            subtitle: String::new(),
            across: "Step".to_owned(),
            scale: 2.0,
        }
    }
}

/// A drawn figure.
#[derive(Clone, Debug)]
pub struct CurvesFigure {
    /// 8-bit RGB on white.
    pub image: Image,
    /// The same as an SVG document.
    pub svg: String,
}

/// Draws one to twelve panels below one another over the same axis across.
///
/// A curve of any number of points takes at most two for each unit of its width. A panel without a point that can be
/// drawn says so.
///
/// # Errors
/// [`ImagingError::Argument`] for no or too many panels or curves, or a scale outside `0.25 ..= 8`.
pub fn curves(panels: &[CurvePanel<'_>], options: &CurvesOptions) -> Result<CurvesFigure> {
    if panels.is_empty() || panels.len() > MOST_PANELS {
        let expected = format!("1 to {MOST_PANELS}");
        return Err(ImagingError::argument("panels", expected, panels.len()));
    }
    if let Some(panel) = panels.iter().find(|panel| panel.curves.len() > MOST_CURVES) {
        let (expected, found) = (format!("at most {MOST_CURVES}"), panel.curves.len());
        return Err(ImagingError::argument(
            format!("curves of {}", panel.quantity),
            expected,
            found,
        ));
    }
    if !(0.25..=8.0).contains(&options.scale) {
        return Err(ImagingError::argument("scale of the figure", "0.25 to 8", options.scale));
    }
    let svg = document(panels, options);
    let pixmap = rasterize(&svg, options.scale)?;
    let (width, height) = (pixmap.width() as usize, pixmap.height() as usize);
    // Everything stands on paper, so that no pixel is transparent.
    let rgb = pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    let image = Image::new(width, height, ColorType::Rgb, Samples::U8(rgb))?;
    Ok(CurvesFigure { image, svg })
}

fn document(panels: &[CurvePanel<'_>], options: &CurvesOptions) -> String {
    // 1. the data
    let drawn = prepared(panels);
    let points = || drawn.iter().flatten().flat_map(|curve| &curve.points);
    let across = points().fold(None, |range: Option<[f64; 2]>, &(x, _)| {
        Some(range.map_or([x, x], |[a, b]| [a.min(x), b.max(x)]))
    });
    let whole = points().all(|point| point.0.fract() == 0.0);
    let x_scale = across.map(|[low, high]| Scale::snug(low, high, 8, whole));
    let y_scales: Vec<Option<Scale>> =
        panels.iter().zip(&drawn).map(|(panel, curves)| height_scale(panel, curves)).collect();

    // 2. the layout
    let labels = y_scales.iter().flatten().flat_map(Scale::labels);
    let widest = labels.map(|(_, label)| text_width(label, 12.0)).fold(0.0, f64::max);
    let left = (widest * 1.08 + 50.0).max(72.0);
    let legends: Vec<Legend<'_>> = drawn
        .iter()
        .zip(&y_scales)
        .map(|(curves, scale)| Legend::new(curves, scale.as_ref(), WIDTH - RIGHT - left))
        .collect();
    let top = match (options.title.is_empty(), options.subtitle.is_empty()) {
        (true, true) => 16.0,
        (false, true) => 58.0,
        (_, false) => 78.0,
    };
    let tall = |index| match (panels.len(), index) {
        (1, _) => SINGLE,
        (_, 0) => FIRST,
        _ => OTHER,
    };
    let areas = (0..panels.len()).map(|index| legends[index].height() + tall(index) + GAP);
    let height = top + areas.sum::<f64>() + 34.0;

    // 3. the drawing
    let mut svg = Svg::new(WIDTH, height);
    svg.paper();
    let title = TextStyle::new(20.0, Color::Ink).bold();
    svg.text([24.0, 36.0], title, &shortened(&options.title, 21.0, WIDTH - 48.0));
    let subtitle = shortened(&options.subtitle, 13.0, WIDTH - 48.0);
    svg.text([24.0, 59.0], TextStyle::new(13.0, Color::Soft), &subtitle);
    let mut y = top;
    for (index, panel) in panels.iter().enumerate() {
        legends[index].draw(&mut svg, [left, y]);
        y += legends[index].height();
        let area = Area { left, top: y, width: WIDTH - RIGHT - left, height: tall(index) };
        let last = index + 1 == panels.len();
        area.frame(&mut svg, x_scale.as_ref(), y_scales[index].as_ref(), last);
        let quantity = TextStyle::new(13.0, Color::Soft).anchored(Anchor::Middle).turned(-90.0);
        let middle = [22.0, area.top + area.height / 2.0];
        svg.text(middle, quantity, &shortened(panel.quantity, 13.0, area.height));
        match (&x_scale, &y_scales[index]) {
            (Some(x), Some(y)) => area.curves(&mut svg, &drawn[index], x, y),
            _ => area.nothing(&mut svg),
        }
        y += area.height + GAP;
    }
    let style = TextStyle::new(13.0, Color::Soft).anchored(Anchor::Middle);
    let middle = [left + (WIDTH - RIGHT - left) / 2.0, height - 16.0];
    svg.text(middle, style, &shortened(&options.across, 13.0, WIDTH - RIGHT - left));
    svg.finish()
}

fn prepared<'a>(panels: &[CurvePanel<'a>]) -> Vec<Vec<Drawn<'a>>> {
    let mut names: Vec<&str> = Vec::new();
    let mut prepare = |curve: &Curve<'a>, log: bool| {
        let color = names.iter().position(|name| *name == curve.label).unwrap_or_else(|| {
            names.push(curve.label);
            names.len() - 1
        });
        let points = drawable(curve.points, log);
        let smooth = curve.smoothed.then(|| smoothed(&points));
        Drawn { label: curve.label, color, points, smooth }
    };
    panels
        .iter()
        .map(|panel| panel.curves.iter().map(|curve| prepare(curve, panel.log)).collect())
        .collect()
}

fn height_scale(panel: &CurvePanel<'_>, curves: &[Drawn<'_>]) -> Option<Scale> {
    let [low, high] = curves
        .iter()
        .filter_map(|curve| curve.range(panel.log))
        .reduce(|[a, b], [low, high]| [a.min(low), b.max(high)])?;
    Some(if panel.log { Scale::log(low, high, 6) } else { Scale::round(low, high, 5) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve<'a>(label: &'a str, points: &'a [(f64, f64)], smoothed: bool) -> Curve<'a> {
        Curve { label, points, smoothed }
    }

    fn draw(panels: &[CurvePanel<'_>]) -> CurvesFigure {
        let options = CurvesOptions { scale: 1.0, ..CurvesOptions::default() };
        curves(panels, &options).expect("valid arguments")
    }

    fn panel<'a>(curves: &'a [Curve<'a>], log: bool) -> CurvePanel<'a> {
        CurvePanel { quantity: "Loss <a & b>", log, curves }
    }

    /// Pixels of a series' colour, Okabe and Ito's blue.
    fn blue(figure: &CurvesFigure) -> usize {
        let Samples::U8(values) = figure.image.samples() else { return 0 };
        values.as_chunks::<3>().0.iter().filter(|pixel| **pixel == [0x00, 0x72, 0xb2]).count()
    }

    #[test]
    fn any_points_can_be_drawn() {
        let noise: Vec<(f64, f64)> =
            (0..1000).map(|i| (f64::from(i), f64::from(i * i % 97))).collect();
        let cases: [(&[(f64, f64)], bool); 8] = [
            (&[], false),
            (&[(3.0, 0.5)], true),
            (&[(0.0, 0.0), (0.0, 0.0)], false),
            (&[(1.0, 1e-9), (2.0, 1e-9)], true),
            (&[(f64::NAN, 1.0), (1.0, f64::INFINITY)], false),
            (&[(-1e300, 1e300), (1e300, -1e300)], true),
            (&[(1.0, 5e-324), (2.0, 1e300)], true),
            (&noise, true),
        ];
        for (points, visible_on_log) in cases {
            for smoothed in [false, true] {
                let one = [curve("<one>", points, smoothed)];
                let figure = draw(&[panel(&one, false), panel(&one, true), panel(&[], false)]);
                assert_eq!(figure.image.width(), 960);
                assert!(!figure.svg.contains("NaN") && !figure.svg.contains("inf"), "{points:?}");
                let lonely = draw(&[panel(&one, true)]);
                let empty = lonely.svg.contains("No values to draw");
                assert_eq!(empty, !visible_on_log, "{points:?}");
            }
        }
    }

    #[test]
    fn a_long_curve_takes_two_points_a_column_and_a_far_value_leaves_the_axis() {
        let points: Vec<(f64, f64)> = (0..100_000_u32)
            .map(|i| (f64::from(i), if i == 70_000 { 500.0 } else { f64::from(i % 10) }))
            .collect();
        let one = [curve("loss", &points, true)];
        let figure = draw(&[panel(&one, false)]);
        // two lines of at most 2 · 860 points of at most 14 characters, and the rest of the figure
        assert!(figure.svg.len() < 2 * 2 * 860 * 14 + 8000, "{}", figure.svg.len());
        assert!(figure.svg.contains("1 value beyond the axis"));
        let raw = [curve("loss", &points, false)];
        assert!(!draw(&[panel(&raw, false)]).svg.contains("beyond"));
    }

    #[test]
    fn a_name_has_one_colour_in_all_panels() {
        let points = [(0.0, 1.0), (9.0, 2.0)];
        let (above, below) = ([curve("a", &points, false)], [curve("b", &points, false)]);
        let once = blue(&draw(&[panel(&above, false), panel(&below, false)]));
        let twice = blue(&draw(&[panel(&above, false), panel(&above, false)]));
        assert!(once > 300 && twice > once + 300, "{once} {twice}");
    }

    #[test]
    fn arguments_are_checked() {
        let message = |panels: &[CurvePanel<'_>], scale| {
            let options = CurvesOptions { scale, ..CurvesOptions::default() };
            curves(panels, &options).expect_err("refused").to_string()
        };
        assert_eq!(message(&[], 1.0), "panels: expected 1 to 12, found 0");
        let many = [curve("a", &[], false); 25];
        let found = message(&[panel(&many, false)], 1.0);
        assert_eq!(found, "curves of Loss <a & b>: expected at most 24, found 25");
        assert!(message(&[panel(&[], false)], f32::NAN).starts_with("scale of the figure"));
    }
}
