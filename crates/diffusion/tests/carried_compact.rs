//! The carried checkpoint and its LoRA on photographs that they were not trained on, damaged by a generator that nothing was tuned on.

#[path = "../../imaging/tests/common/fill_scores.rs"]
mod fill_scores;

use std::sync::Arc;

use diffusion::carried::{COMPACT, RESTORATION};
use diffusion::checkpoint::{Checkpoint, OpenOptions};
use diffusion::components::{Components, DEFAULT_PROMPT, LoadOptions, Shown, encode_prompts};
use diffusion::lora::{AdapterMode, LoraSet, LoraSpec};
use diffusion::pipelines::pixelwise::Refiner;
use diffusion::pipelines::restore::{RestoreOptions, Restorer};
use fill_scores::{Mark, mean_gain};

/// How much nearer to the truth `photomend restore --model compact` comes than the biharmonic fill, in dB.
fn gains(loras: &[LoraSpec], marks: &[Mark]) -> Vec<f64> {
    let checkpoint =
        Checkpoint::open(COMPACT.as_ref(), &OpenOptions::default()).expect("a whole program");
    let loras = LoraSet::open(loras).expect("a whole program");
    let mut load = LoadOptions::default();
    if !loras.is_empty() {
        assert_eq!(Shown::of_loras(&loras).expect("a known note"), Some(Shown::Filled));
        let fitted =
            loras.fit(&checkpoint, AdapterMode::Merged, &load.device).expect("a fitting LoRA");
        for report in &fitted.reports {
            assert!(report.unet_layers > 0, "{report:?}");
            assert!(report.unused.is_empty() && report.unknown.is_empty(), "{report:?}");
        }
        load.unet_adapters = fitted.unet;
    }
    let prefill = Arc::new(Refiner::carried().expect("a whole program"));
    let restorer = Restorer {
        components: &Components::load(&checkpoint, &load).expect("a whole program"),
        prompts: &encode_prompts(&checkpoint, &load, DEFAULT_PROMPT, "").expect("short words"),
        options: &RestoreOptions { prefill, ..RestoreOptions::compact() },
    };
    marks.iter().map(|&mark| mean_gain(&restorer, mark, MOST)).collect()
}

/// Photographs that are looked at.
const MOST: usize = 3;

#[test]
fn damage_is_repainted_better_than_classically_and_better_with_the_lora() {
    let thin = [Mark::DarkCracks, Mark::BrightScratches];
    let with_lora = gains(&[LoraSpec::new(RESTORATION)], &[thin[0], thin[1], Mark::WideLosses]);
    for (mark, gain) in thin.iter().zip(&with_lora) {
        assert!(*gain >= 0.3, "{mark:?}: {gain}");
    }
    let (gain, alone) = (with_lora[2], gains(&[], &[Mark::WideLosses])[0]);
    assert!(alone >= 1.0, "{alone}");
    assert!(gain > alone, "{gain} {alone}");
}
