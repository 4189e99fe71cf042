//! The one drawing path of every figure: SVG text, and its pixels through resvg with an embedded font.
//!
//! Embedding the font (DejaVu Sans, cut down to Latin) makes the pixels the same on every machine. In an SVG file
//! a viewer without that font falls back to its own sans serif.

use std::fmt::Write as _;
use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use crate::error::{ImagingError, Result};

const REGULAR: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans-subset.ttf");
const BOLD: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans-Bold-subset.ttf");

/// Width of an average character of the font, as a share of its size; for layout decisions only.
const CHARACTER: f64 = 0.6;

/// Where a text's position lies in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextStyle {
    pub(crate) size: f64,
    pub(crate) bold: bool,
    pub(crate) anchor: Anchor,
    /// A colour's class and value: the class lets a page restyle it for a dark background.
    pub(crate) color: Color,
    /// Clockwise turn in degrees about the position.
    pub(crate) turn: f64,
}

impl TextStyle {
    pub(crate) const fn new(size: f64, color: Color) -> Self {
        Self { size, bold: false, anchor: Anchor::Start, color, turn: 0.0 }
    }

    pub(crate) const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(crate) const fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(crate) const fn turned(self, turn: f64) -> Self {
        Self { turn, ..self }
    }
}

/// A colour by the role it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    /// Titles and values.
    Ink,
    /// Axis labels, notes.
    Soft,
    /// Grid lines.
    Grid,
    /// The paper.
    Paper,
    /// What is compared against: the damaged picture.
    Before,
    /// The series of a method, in the order of the methods.
    Series(usize),
}

/// Okabe and Ito's colours, which people with any kind of colour vision tell apart.
const SERIES: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

impl Color {
    /// The colour on a white page.
    pub(crate) const fn value(self) -> &'static str {
        match self {
            Self::Ink => "#1d2430",
            Self::Soft => "#5b6675",
            Self::Grid => "#e3e7ec",
            Self::Paper => "#ffffff",
            Self::Before => "#9aa5b1",
            Self::Series(index) => SERIES[index % SERIES.len()],
        }
    }

    fn class(self) -> String {
        match self {
            Self::Ink => "ink".to_owned(),
            Self::Soft => "soft".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Paper => "paper".to_owned(),
            Self::Before => "before".to_owned(),
            Self::Series(index) => format!("series{}", index % SERIES.len()),
        }
    }
}

/// A picture being drawn, in user units that are pixels of its natural size.
#[derive(Clone, Debug)]
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    pub(crate) const fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Covers everything with the paper's colour.
    pub(crate) fn paper(&mut self) {
        let (width, height) = (self.width, self.height);
        self.rect([0.0, 0.0, width, height], Color::Paper, 1.0);
    }

    /// A filled rectangle: x, y, width, height.
    pub(crate) fn rect(&mut self, [x, y, width, height]: [f64; 4], color: Color, opacity: f64) {
        let opacity =
            if opacity < 1.0 { format!(r#" fill-opacity="{opacity}""#) } else { String::new() };
        self.element(format_args!(
            r#"<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill="{}"{opacity}/>"#,
            color.class(),
            number(x),
            number(y),
            number(width.max(0.0)),
            number(height.max(0.0)),
            color.value(),
        ));
    }

    /// A straight line from the first to the second point.
    pub(crate) fn line(&mut self, from: [f64; 2], to: [f64; 2], stroke: Stroke) {
        let dash = if stroke.dashed { r#" stroke-dasharray="5 4""# } else { "" };
        self.element(format_args!(
            r#"<line class="s-{}" x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="{}"{dash}/>"#,
            stroke.color.class(),
            number(from[0]),
            number(from[1]),
            number(to[0]),
            number(to[1]),
            stroke.color.value(),
            number(stroke.width),
        ));
    }

    /// A line through all of the points, its corners rounded. Where it crosses itself it is not more opaque.
    pub(crate) fn polyline(&mut self, points: &[[f64; 2]], stroke: Stroke, opacity: f64) {
        let mut list = String::with_capacity(points.len() * 14);
        for [x, y] in points {
            if !list.is_empty() {
                list.push(' ');
            }
            list.push_str(&number(*x));
            list.push(',');
            list.push_str(&number(*y));
        }
        let dash = if stroke.dashed { r#" stroke-dasharray="7 4""# } else { "" };
        let opacity =
            if opacity < 1.0 { format!(r#" stroke-opacity="{opacity}""#) } else { String::new() };
        self.element(format_args!(
            r#"<polyline class="s-{}" points="{list}" fill="none" stroke="{}" stroke-width="{}" stroke-linejoin="round"{opacity}{dash}/>"#,
            stroke.color.class(),
            stroke.color.value(),
            number(stroke.width),
        ));
    }

    /// A filled circle.
    pub(crate) fn dot(&mut self, [x, y]: [f64; 2], radius: f64, color: Color) {
        self.element(format_args!(
            r#"<circle class="{}" cx="{}" cy="{}" r="{}" fill="{}"/>"#,
            color.class(),
            number(x),
            number(y),
            number(radius),
            color.value(),
        ));
    }

    /// The outline of a rectangle, in any CSS colour.
    pub(crate) fn outline(&mut self, [x, y, width, height]: [f64; 4], stroke: f64, color: &str) {
        self.element(format_args!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="{color}" stroke-width="{}"/>"#,
            number(x),
            number(y),
            number(width),
            number(height),
            number(stroke),
        ));
    }

    /// One line of text whose baseline is at `at`.
    pub(crate) fn text(&mut self, at: [f64; 2], style: TextStyle, text: &str) {
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if style.bold { r#" font-weight="bold""# } else { "" };
        let (x, y) = (number(at[0]), number(at[1]));
        let turn = if style.turn == 0.0 {
            String::new()
        } else {
            format!(r#" transform="rotate({} {x} {y})""#, number(style.turn))
        };
        self.element(format_args!(
            r#"<text class="{}" x="{x}" y="{y}" font-size="{}" fill="{}"{weight}{anchor}{turn}>{}</text>"#,
            style.color.class(),
            number(style.size),
            style.color.value(),
            escape(text),
        ));
    }

    /// Draws what `draw` draws as a group that a viewer explains with `title` under the pointer.
    pub(crate) fn titled(&mut self, title: &str, draw: impl FnOnce(&mut Self)) {
        self.element(format_args!("<g><title>{}</title>", escape(title)));
        draw(self);
        self.element(format_args!("</g>"));
    }

    /// The SVG document.
    pub(crate) fn finish(self) -> String {
        let (width, height) = (number(self.width), number(self.height));
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" "#,
                r#"font-family="'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif">"#,
                "\n{body}</svg>\n"
            ),
            w = width,
            h = height,
            body = self.body
        )
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a String cannot fail");
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stroke {
    pub(crate) color: Color,
    pub(crate) width: f64,
    pub(crate) dashed: bool,
}

/// About how wide a text of this size will be.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * CHARACTER
}

/// A text cut to about `width`, with an ellipsis in the middle where names often differ least.
pub(crate) fn shortened(text: &str, size: f64, width: f64) -> String {
    let room = (width / (size * CHARACTER)) as usize;
    let count = text.chars().count();
    if count <= room.max(3) {
        return text.to_owned();
    }
    let (head, tail) = (room.max(3) / 2, (room.max(3) - 1) / 2);
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(count - tail).collect();
    format!("{head}…{tail}")
}

/// Text for an XML or HTML document. Control characters, which XML does not allow, become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(' '),
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with at most two decimals and no trailing zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Draws an SVG document at `scale` pixels a unit.
///
/// # Errors
/// [`ImagingError::Encode`]-free: [`ImagingError::Numeric`] if the document is not valid or has no size.
pub(crate) fn rasterize(svg: &str, scale: f32) -> Result<Pixmap> {
    let failed = |reason: String| ImagingError::Numeric { what: "drawing of a figure", reason };
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(BOLD.to_vec());
    let options = usvg::Options {
        font_family: "DejaVu Sans".to_owned(),
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale);
    let mut pixmap = size
        .and_then(|size| Pixmap::new(size.width(), size.height()))
        .ok_or_else(|| failed("the figure has no pixels or too many".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    Ok(pixmap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_shapes_reach_the_pixels() {
        let mut svg = Svg::new(120.0, 40.0);
        svg.paper();
        svg.text([10.0, 25.0], TextStyle::new(18.0, Color::Ink).bold(), "Δ <&> →");
        let pixmap = rasterize(&svg.finish(), 2.0).expect("valid SVG");
        assert_eq!((pixmap.width(), pixmap.height()), (240, 80));
        let dark = pixmap.pixels().iter().filter(|p| p.red() < 100).count();
        assert!(dark > 100, "{dark} dark pixels");
    }

    #[test]
    fn hostile_names_stay_text() {
        assert_eq!(escape("a<b>&\"'\u{1}"), "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}");
        assert_eq!(shortened("abcdefghijkl", 10.0, 42.0), "abc…jkl");
        assert_eq!(shortened("abc", 10.0, 1.0), "abc");
        assert_eq!([number(1.50), number(-0.001), number(20.0)], ["1.5", "0", "20"]);
    }
}
