//! Evaluation results as tables, plots, comparison sheets and one HTML page.
