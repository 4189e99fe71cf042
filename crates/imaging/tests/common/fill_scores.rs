//! How well a fill does on the sample photographs, damaged by a generator that nothing was tuned on, masks given.

#[path = "independent_damage.rs"]
mod independent_damage;
#[path = "samples.rs"]
mod samples;

use imaging::fill::FillOptions;
use imaging::metrics::masked_psnr;
use imaging::{Repainter, Silent};

pub(crate) use independent_damage::Mark;
use independent_damage::damage;
use samples::photographs;

/// How much nearer to the clean photograph a way to repaint comes than the biharmonic fill: the mean of the PSNR over damaged pixels,
/// in dB, of the first `most` photographs.
pub(crate) fn mean_gain(repainter: &dyn Repainter, mark: Mark, most: usize) -> f64 {
    let mut photographs = photographs();
    photographs.truncate(most);
    let mut sum = 0.0;
    for (i, (name, clean)) in photographs.iter().enumerate() {
        let (damaged, truth) = damage(clean, mark, 2000 + i as u64);
        let score = |repainter: &dyn Repainter| {
            let mut restored = damaged.clone();
            repainter.repaint(&mut restored, &truth, &Silent).expect("a valid image");
            masked_psnr(clean, &restored, &truth).expect("equal sizes").expect("damage")
        };
        let (filled, repainted) = (score(&FillOptions::default()), score(repainter));
        println!("{mark:?} {name:15} {filled:.2} → {repainted:.2} dB");
        sum += repainted - filled;
    }
    let mean = sum / photographs.len() as f64;
    println!("{mark:?} mean {mean:+.2} dB");
    mean
}
