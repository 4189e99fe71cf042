//! The carried refiner on photographs that it was not trained on, damaged by a generator that nothing was tuned on.

#[path = "../../imaging/tests/common/fill_scores.rs"]
mod fill_scores;

use diffusion::pipelines::pixelwise::Refiner;
use fill_scores::{Mark, mean_gain};

const ALL: usize = usize::MAX;

fn refiner() -> Refiner {
    Refiner::carried().expect("a whole program")
}

#[test]
fn thin_dark_cracks_are_filled_better_than_classically() {
    assert!(mean_gain(&refiner(), Mark::DarkCracks, ALL) >= 0.5);
}

#[test]
fn thin_bright_scratches_are_filled_better_than_classically() {
    assert!(mean_gain(&refiner(), Mark::BrightScratches, ALL) >= 0.5);
}

#[test]
fn wide_losses_are_filled_better_than_classically() {
    assert!(mean_gain(&refiner(), Mark::WideLosses, ALL) >= 1.0);
}
