//! The carried checkpoint and its LoRA on photographs that they were not trained on, damaged by a generator that nothing was tuned on.

#[path = "../../imaging/tests/common/fill_scores.rs"]
mod fill_scores;

use std::sync::Arc;

use diffusion::carried::{COMPACT, RESTORATION};
use diffusion::checkpoint::{Checkpoint, Component, OpenOptions};
use diffusion::components::{
    Components, DEFAULT_PROMPT, LoadOptions, PromptEmbeds, Shown, encode_prompts,
};
use diffusion::lora::{AdapterMode, LoraSet, LoraSpec, LoraTargets, ModuleNames};
use diffusion::pipelines::pixelwise::Refiner;
use diffusion::pipelines::restore::{RestoreOptions, Restorer, Strength};
use fill_scores::{Mark, mean_gain};
use imaging::fill::FillReport;
use imaging::windows::WindowOptions;
use imaging::{Image, Mask, Observer, Repainter};
use serde_json::Value;

/// The checkpoint, as `photomend restore --model compact` uses it.
#[derive(Debug)]
struct Model {
    components: Components,
    prompts: PromptEmbeds,
    options: RestoreOptions,
}

impl Model {
    fn load(loras: &[LoraSpec]) -> Self {
        let checkpoint =
            Checkpoint::open(COMPACT.as_ref(), &OpenOptions::default()).expect("a whole program");
        let names = |component| {
            ModuleNames::from_source(checkpoint.weights(component).expect("carried").as_ref())
        };
        let (unet, text_encoder) = (names(Component::Unet), names(Component::TextEncoder));
        let targets = LoraTargets { unet: &unet, text_encoder: &text_encoder };
        let loras = LoraSet::open(loras).expect("a whole program");
        let mut load = LoadOptions::default();
        if !loras.is_empty() {
            assert_eq!(Shown::of_loras(&loras).expect("a known note"), Some(Shown::Filled));
            let fitted =
                loras.adapters(targets, AdapterMode::Merged, &load.device).expect("a fitting LoRA");
            for report in &fitted.reports {
                assert!(report.unet_layers > 0, "{report:?}");
                assert!(report.unused.is_empty() && report.unknown.is_empty(), "{report:?}");
            }
            load.unet_adapters = fitted.unet;
        }
        let options = RestoreOptions {
            num_inference_steps: 2,
            draws: 4,
            guidance_scale: 1.0,
            strength: Strength::Fixed(0.5),
            shown: Shown::Filled,
            windows: WindowOptions { size: 256, max_zoom: 1.0, ..WindowOptions::default() },
            prefill: Arc::new(Refiner::carried().expect("a whole program")),
            ..RestoreOptions::default()
        };
        Self {
            prompts: encode_prompts(&checkpoint, &load, DEFAULT_PROMPT, "").expect("short words"),
            components: Components::load(&checkpoint, &load).expect("a whole program"),
            options,
        }
    }
}

impl Repainter for Model {
    fn name(&self) -> &'static str {
        COMPACT
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        observer: &dyn Observer,
    ) -> imaging::Result<FillReport> {
        let Self { components, prompts, options } = self;
        let restorer = Restorer { components, prompts, options };
        Ok(restorer.repaint(image, weights, observer)?.prefill)
    }

    fn is_heavy(&self) -> bool {
        true
    }

    fn parameters(&self) -> Value {
        Value::Null
    }
}

/// Photographs that are looked at.
const MOST: usize = 3;

#[test]
fn damage_is_repainted_better_than_classically_and_better_with_the_lora() {
    let with_lora = Model::load(&[LoraSpec::new(RESTORATION)]);
    for mark in [Mark::DarkCracks, Mark::BrightScratches] {
        let gain = mean_gain(&with_lora, mark, MOST);
        assert!(gain >= 0.3, "{mark:?}: {gain}");
    }
    let gain = mean_gain(&with_lora, Mark::WideLosses, MOST);
    let alone = mean_gain(&Model::load(&[]), Mark::WideLosses, MOST);
    assert!(alone >= 1.0, "{alone}");
    assert!(gain > alone, "{gain} {alone}");
}
