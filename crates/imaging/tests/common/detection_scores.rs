//! How well a detector does on the sample photographs, damaged by a generator that nothing was tuned on.

#[path = "independent_damage.rs"]
mod independent_damage;
#[path = "samples.rs"]
mod samples;

use imaging::metrics::{DetectionScore, detection_score};
use imaging::{Detector, Silent};

pub(crate) use independent_damage::Mark;
use independent_damage::damage;
use samples::photographs;

/// Mean F1 over all photographs at 2 px.
pub(crate) fn mean_f1(detector: &dyn Detector, mark: Mark) -> f64 {
    let photographs = photographs();
    let mut sum = 0.0;
    for (i, (name, clean)) in photographs.iter().enumerate() {
        let (damaged, truth) = damage(clean, mark, 1000 + i as u64);
        let found = detector.detect(&damaged, &Silent).expect("a valid image");
        let DetectionScore { precision, recall, f1, .. } =
            detection_score(&found.mask, &truth, 2.0).expect("equal sizes");
        println!("{mark:?} {name:15} P {precision:.3}  R {recall:.3}  F1 {f1:.3}");
        sum += f1;
    }
    let mean = sum / photographs.len() as f64;
    println!("{mark:?} mean F1 {mean:.3}");
    mean
}

/// The mean share of clean photographs' pixels that are taken for damage.
pub(crate) fn mean_flagged(detector: &dyn Detector) -> f64 {
    let photographs = photographs();
    let mut sum = 0.0;
    for (name, clean) in &photographs {
        let found = detector.detect(clean, &Silent).expect("a valid image");
        println!("{name:15} {:.3} % flagged", 100.0 * found.mask.coverage());
        sum += found.mask.coverage();
    }
    let mean = sum / photographs.len() as f64;
    println!("mean {:.3} % flagged", 100.0 * mean);
    mean
}
