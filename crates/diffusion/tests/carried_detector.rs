//! The carried detector on photographs that it was not trained on, damaged by a generator that training knows nothing of.

#[path = "../../imaging/tests/common/detection_scores.rs"]
mod detection_scores;

use detection_scores::{Mark, mean_f1, mean_flagged};
use diffusion::pipelines::pixelwise::LearnedDetector;

fn detector() -> LearnedDetector {
    LearnedDetector::carried().expect("a whole program")
}

#[test]
fn thin_dark_cracks_are_found() {
    assert!(mean_f1(&detector(), Mark::DarkCracks) >= 0.73);
}

#[test]
fn thin_bright_scratches_are_found() {
    assert!(mean_f1(&detector(), Mark::BrightScratches) >= 0.80);
}

#[test]
fn wide_losses_are_found() {
    assert!(mean_f1(&detector(), Mark::WideLosses) >= 0.87);
}

#[test]
fn clean_photographs_stay_nearly_unmarked() {
    assert!(mean_flagged(&detector()) <= 0.005);
}
