//! Evaluation results as tables, plots, comparison sheets and one HTML page.

mod panel;
pub mod sheet;
mod svg;
