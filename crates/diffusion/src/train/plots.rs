//! The curves of a run as a picture: `loss.png`.

use std::path::Path;

use imaging::io::{WriteOptions, write_image};
use imaging::report::{Curve, CurvePanel, CurvesOptions, curves};

use super::log::LogEntry;
use super::settings::TrainOptions;
use crate::error::Result;

/// Draws the loss and the learning rate, and the scores of validations if there were any.
pub(super) fn write(history: &[LogEntry], options: &TrainOptions, output: &Path) -> Result<()> {
    // 1. the series
    let (mut loss, mut rate) = (Vec::new(), Vec::new());
    let (mut masked, mut whole) = (Vec::new(), Vec::new());
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
        }
    }
    if loss.is_empty() {
        return Ok(());
    }
    let curve = |label, points, smoothed| [Curve { label, points, smoothed }];
    let losses = curve("Loss", &loss, true);
    let masked = curve("Damaged pixels", &masked, false);
    let whole = curve("Whole picture", &whole, false);
    let rates = curve("Learning rate", &rate, false);
    let panel = |quantity, curves| CurvePanel { quantity, log: false, curves };

    // 2. the panels
    let mut panels = vec![CurvePanel { log: true, ..panel("Loss", &losses[..]) }];
    if !masked[0].points.is_empty() {
        panels.push(panel("PSNR (dB)", &masked));
        panels.push(panel("PSNR (dB)", &whole));
    }
    panels.push(panel("Learning rate", &rates));
    let what = if options.network.full {
        "every weight of the UNet".to_owned()
    } else {
        format!("LoRA of rank {}", options.network.rank)
    };
    let subtitle = format!("{what}, {} px, seed {}", options.data.resolution, options.run.seed);
    let figure = curves(&panels, &CurvesOptions { subtitle, ..CurvesOptions::default() })?;
    let write = WriteOptions { force: true, ..WriteOptions::default() };
    Ok(write_image(&output.join("loss.png"), &figure.image, &write)?)
}
