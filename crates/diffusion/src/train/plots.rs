//! The curves of a run as a picture: `loss.png`.

use std::path::Path;

use imaging::io::{WriteOptions, write_image};
use imaging::report::{Curve, CurvePanel, CurvesOptions, curves};

use super::log::LogEntry;
use crate::error::Result;

/// Draws the loss and the learning rate, and the scores of validations if there were any.
pub(super) fn write(history: &[LogEntry], subtitle: String, output: &Path) -> Result<()> {
    // 1. the series
    let (mut loss, mut rate) = (Vec::new(), Vec::new());
    let (mut masked, mut whole, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for entry in history {
        match entry {
            LogEntry::Step { step, loss: value, learning_rate, .. } => {
                loss.push((*step as f64, *value));
                rate.push((*step as f64, *learning_rate));
            }
            LogEntry::Validation { step, psnr, masked_psnr, .. } => {
                masked.push((*step as f64, *masked_psnr));
                whole.push((*step as f64, *psnr));
            }
            LogEntry::Refinement { step, masked_psnr, .. } => {
                masked.push((*step as f64, *masked_psnr));
            }
            LogEntry::Reconstruction { step, psnr, .. } => whole.push((*step as f64, *psnr)),
            LogEntry::Detection { step, f1, .. } => found.push((*step as f64, *f1)),
        }
    }
    if loss.is_empty() {
        return Ok(());
    }
    let curve = |label, points, smoothed| [Curve { label, points, smoothed }];
    let losses = curve("Loss", &loss, true);
    let masked = curve("Damaged pixels", &masked, false);
    let whole = curve("Whole picture", &whole, false);
    let found = curve("Damage found", &found, false);
    let rates = curve("Learning rate", &rate, false);
    let panel = |quantity, curves| CurvePanel { quantity, log: false, curves };

    // 2. the panels
    let mut panels = vec![CurvePanel { log: true, ..panel("Loss", &losses[..]) }];
    if !masked[0].points.is_empty() {
        panels.push(panel("PSNR (dB)", &masked));
    }
    if !whole[0].points.is_empty() {
        panels.push(panel("PSNR (dB)", &whole));
    }
    if !found[0].points.is_empty() {
        panels.push(panel("F1", &found));
    }
    panels.push(panel("Learning rate", &rates));
    let figure = curves(&panels, &CurvesOptions { subtitle, ..CurvesOptions::default() })?;
    let write = WriteOptions { force: true, ..WriteOptions::default() };
    Ok(write_image(&output.join("loss.png"), &figure.image, &write)?)
}
