//! Evaluation results as tables, plots, comparison sheets and one HTML page; the curves of a training run.
//!
//! Figures are drawn once, as SVG, and turned into pixels with an embedded font, so that they look the same on
//! every machine. The same evaluation gives the same bytes, save for measured times.

mod axis;
mod base64;
mod csv;
mod curve_panel;
mod curves;
mod figures;
mod html;
mod json;
pub(crate) mod panel;
mod plots;
mod scale;
mod series;
pub mod sheet;
mod svg;
mod table;
mod write;

pub use self::curves::{Curve, CurvePanel, CurvesFigure, CurvesOptions, curves};
pub use self::json::summary;
pub use self::table::markdown;
pub use self::write::{ReportOptions, prepare_output, write_report};
