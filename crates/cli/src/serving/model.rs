//! The model of a page: loaded once, and again when a client wants other words or LoRA weights.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use diffusion::lora::LoraSpec;
use diffusion::pipelines::restore::Strength;
use imaging::{Image, ImagingError, Mask, Observer, Repainter};
use server::{Choices, LoraChoice};

use crate::args::DiffusionArgs;
use crate::context::Context;
use crate::engine::{self, Engine};
use crate::exit;

/// A model that clients may lead with words and weights.
pub(super) struct Model {
    args: DiffusionArgs,
    prefill: Arc<dyn Repainter>,
    context: Context,
    loaded: Mutex<Option<Loaded>>,
}

struct Loaded {
    wish: Wish,
    engine: Engine,
}

/// What a model is loaded for: everything else can be changed without loading it again.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    prompt: String,
    negative_prompt: String,
    loras: Vec<LoraSpec>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.args.model).finish()
    }
}

impl Model {
    /// Loads the model that the arguments name, so that one that cannot be loaded is told at the start.
    pub(super) fn load(
        args: &DiffusionArgs,
        prefill: &Arc<dyn Repainter>,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let model = Self {
            args: args.clone(),
            prefill: Arc::clone(prefill),
            context: context.shared(),
            loaded: Mutex::new(None),
        };
        let wish = model.wish(&Choices::default());
        let engine = model.fetch(&wish)?;
        *model.loaded.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Loaded { wish, engine });
        Ok(model)
    }

    /// What people read.
    pub(super) fn label(&self) -> String {
        let model = self.args.model.as_deref().unwrap_or_default();
        let name = Path::new(model).file_stem().unwrap_or_default().to_string_lossy();
        format!("Stable Diffusion: {name}")
    }

    /// The LoRAs by names that say nothing of where they are.
    pub(super) fn loras(&self) -> Vec<LoraChoice> {
        let mut known: Vec<LoraChoice> = Vec::new();
        for LoraSpec { path, weight } in &self.args.lora {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = free_name(&stem, &known);
            known.push(LoraChoice { name, weight: *weight });
        }
        known
    }

    /// The LoRAs that are wanted, with the weights that they are wanted at.
    pub(super) fn wanted_loras(&self, choices: &Choices) -> Vec<LoraSpec> {
        let Some(wanted) = &choices.loras else { return self.args.lora.clone() };
        let named = self.loras().into_iter().zip(&self.args.lora);
        let wanted = named.filter_map(|(known, spec)| {
            let weight = wanted.iter().find(|lora| lora.name == known.name)?.weight;
            (weight != 0.0).then(|| LoraSpec { weight, ..spec.clone() })
        });
        wanted.collect()
    }

    /// The arguments with which the command line would do what is wanted.
    pub(super) fn arguments(&self, choices: &Choices) -> DiffusionArgs {
        let mut args = self.args.clone();
        let Wish { prompt, negative_prompt, loras } = self.wish(choices);
        (args.prompt, args.negative_prompt, args.lora) = (prompt, negative_prompt, loras);
        args.steps = choices.steps.unwrap_or(args.steps);
        args.strength = choices.strength.map_or(args.strength, Strength::Fixed);
        args.guidance = choices.guidance.unwrap_or(args.guidance);
        args.seed = choices.seed.unwrap_or(args.seed);
        args
    }

    fn wish(&self, choices: &Choices) -> Wish {
        let text =
            |wanted: &Option<String>, own: &str| wanted.clone().unwrap_or_else(|| own.to_owned());
        Wish {
            prompt: text(&choices.prompt, &self.args.prompt),
            negative_prompt: text(&choices.negative_prompt, &self.args.negative_prompt),
            loras: self.wanted_loras(choices),
        }
    }

    fn fetch(&self, wish: &Wish) -> anyhow::Result<Engine> {
        let mut args = self.args.clone();
        args.prompt.clone_from(&wish.prompt);
        args.negative_prompt.clone_from(&wish.negative_prompt);
        args.lora.clone_from(&wish.loras);
        engine::load(&args, &self.prefill, &self.context)?.context("expected a model")
    }

    /// Repaints as `photomend restore` does with [`Model::arguments`].
    pub(super) fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        choices: &Choices,
        observer: &dyn Observer,
    ) -> imaging::Result<()> {
        // 1. the model as it is wanted; the one before makes room first
        let wish = self.wish(choices);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.as_ref().is_none_or(|loaded| loaded.wish != wish) {
            observer.progress("load", 0, 1);
            *loaded = None;
            let engine = self.fetch(&wish).map_err(|error| of_loading(&error))?;
            *loaded = Some(Loaded { wish, engine });
        }
        let Some(Loaded { engine, .. }) = &*loaded else { return Ok(()) };

        // 2. the work
        let options = self.arguments(choices).options(&self.prefill, engine.shown());
        engine.restorer_with(&options).repaint(image, weights, observer)?;
        Ok(())
    }
}

/// The strength if it is the same everywhere.
pub(super) const fn fixed(strength: Strength) -> Option<f64> {
    match strength {
        Strength::Auto => None,
        Strength::Fixed(strength) => Some(strength),
    }
}

/// The stem, with a number behind it if others have that name already.
fn free_name(stem: &str, taken: &[LoraChoice]) -> String {
    let mut name = stem.to_owned();
    let mut number = 2;
    while taken.iter().any(|lora| lora.name == name) {
        name = format!("{stem}-{number}");
        number += 1;
    }
    name
}

fn of_loading(error: &anyhow::Error) -> ImagingError {
    if exit::is_cancelled(error) {
        return ImagingError::Cancelled;
    }
    ImagingError::Method(exit::flatten(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loras_of_the_same_name_can_be_told_apart() {
        let mut known = Vec::new();
        for (stem, name) in
            [("face-2", "face-2"), ("face", "face"), ("face", "face-3"), ("faces", "faces")]
        {
            assert_eq!(free_name(stem, &known), name);
            known.push(LoraChoice { name: name.to_owned(), weight: 1.0 });
        }
    }
}
