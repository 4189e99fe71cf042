//! The classical detector on photographs damaged by a generator that it was not tuned on.

#[path = "common/detection_scores.rs"]
mod detection_scores;

use detection_scores::{Mark, mean_f1, mean_flagged};
use imaging::detect::DetectParams;

#[test]
fn thin_dark_cracks_are_found() {
    assert!(mean_f1(&DetectParams::default(), Mark::DarkCracks) >= 0.63);
}

#[test]
fn thin_bright_scratches_are_found() {
    assert!(mean_f1(&DetectParams::default(), Mark::BrightScratches) >= 0.58);
}

#[test]
fn wide_losses_are_found() {
    assert!(mean_f1(&DetectParams::default(), Mark::WideLosses) >= 0.35);
}

#[test]
fn clean_photographs_stay_nearly_unmarked() {
    assert!(mean_flagged(&DetectParams::default()) <= 0.02);
}
