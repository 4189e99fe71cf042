//! What the local page restores with: the building blocks of `photomend restore`, so that results are the same.

mod command;
mod finder;
mod model;

use std::path::PathBuf;

use diffusion::pipelines::pixelwise::Refiner;
use imaging::fill::{FillMethod, FillOptions};
use imaging::{Image, ImagingError, Mask, Observer, Plane, Repainter};
use server::{About, Choices, Engine, LoraChoice, Method};

use self::finder::Finder;
use self::model::Model;
use crate::args::{DiffusionArgs, PresetArg, ServeArgs};
use crate::context::Context;

/// The name of the way that repaints with a model.
const MODEL: &str = "model";

/// Everything that one server restores with.
#[derive(Debug)]
pub(crate) struct PageEngine {
    finder: Finder,
    preset: PresetArg,
    /// What fills where no method says otherwise, and what networks start from.
    fill: FillOptions,
    refiner: Option<(PathBuf, Refiner)>,
    model: Option<Model>,
    /// The defaults of what a model can be told.
    diffusion: DiffusionArgs,
}

impl PageEngine {
    /// Loads what the arguments name.
    ///
    /// # Errors
    /// Those of reading networks, and usage errors for settings that do not go together.
    pub(crate) fn new(args: &ServeArgs, context: &Context) -> anyhow::Result<Self> {
        let fill = args.fill.options();
        let finder = Finder::new(&args.detection, args.preset)?;
        let refiner = match &args.refiner {
            Some(path) => Some((path.clone(), Refiner::open(path)?.with_prefill(fill.clone()))),
            None => None,
        };
        let model = match &args.diffusion.model {
            Some(_) => Some(Model::load(&args.diffusion, &fill, context)?),
            None => None,
        };
        let diffusion = args.diffusion.clone();
        Ok(Self { finder, preset: args.preset, fill, refiner, model, diffusion })
    }

    /// The classical fill of this name.
    fn fill_of(&self, name: &str) -> Option<FillOptions> {
        [FillMethod::Biharmonic, FillMethod::Telea]
            .map(|method| FillOptions { method, ..self.fill.clone() })
            .into_iter()
            .find(|fill| fill.name() == name)
    }

    /// The name of the way that is taken if none is chosen: the best that there is.
    fn default_method(&self) -> &str {
        match (&self.model, &self.refiner) {
            (Some(_), _) => MODEL,
            (None, Some((_, refiner))) => refiner.name(),
            (None, None) => self.fill.name(),
        }
    }

    fn method_of<'a>(&'a self, choices: &'a Choices) -> &'a str {
        choices.method.as_deref().unwrap_or_else(|| self.default_method())
    }
}

impl Engine for PageEngine {
    fn about(&self) -> About {
        let method = |name: &str, label: &str, is_model| Method {
            name: name.to_owned(),
            label: label.to_owned(),
            is_model,
        };
        let mut methods = Vec::new();
        if let Some(model) = &self.model {
            methods.push(method(MODEL, &model.label(), true));
        }
        if let Some((_, refiner)) = &self.refiner {
            methods.push(method(refiner.name(), "Refined fill", false));
        }
        methods.push(method("biharmonic", "Biharmonic fill", false));
        methods.push(method("telea", "Telea’s fill", false));
        let diffusion = &self.diffusion;
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            detector: self.finder.label(),
            methods,
            method: self.default_method().to_owned(),
            loras: self.model.as_ref().map(Model::loras).unwrap_or_default(),
            prompt: diffusion.prompt.clone(),
            negative_prompt: diffusion.negative_prompt.clone(),
            steps: diffusion.steps,
            strength: model::fixed(diffusion.strength),
            guidance: diffusion.guidance,
            seed: diffusion.seed,
        }
    }

    fn evidence(
        &self,
        image: &Image,
        observer: &dyn Observer,
    ) -> imaging::Result<Option<Plane<u8>>> {
        self.finder.evidence(image, observer)
    }

    fn detect(
        &self,
        image: &Image,
        evidence: Option<&Plane<u8>>,
        sensitivity: f32,
        observer: &dyn Observer,
    ) -> imaging::Result<Mask> {
        self.finder.detect(image, evidence, sensitivity, observer)
    }

    fn check(&self, choices: &Choices) -> imaging::Result<()> {
        let About { methods, loras, .. } = self.about();
        let name = self.method_of(choices);
        if !methods.iter().any(|method| method.name == name) {
            let names: Vec<_> = methods.iter().map(|method| method.name.as_str()).collect();
            return Err(ImagingError::argument("method", names.join(" or "), format!("{name:?}")));
        }
        for LoraChoice { name, .. } in choices.loras.iter().flatten() {
            if !loras.iter().any(|lora| lora.name == *name) {
                let names: Vec<_> = loras.iter().map(|lora| lora.name.as_str()).collect();
                let expected = if names.is_empty() {
                    "none, as the server was started without".to_owned()
                } else {
                    names.join(" or ")
                };
                return Err(ImagingError::argument("loras", expected, format!("{name:?}")));
            }
        }
        Ok(())
    }

    fn repaint(
        &self,
        image: &mut Image,
        weights: &Mask,
        choices: &Choices,
        observer: &dyn Observer,
    ) -> imaging::Result<()> {
        let name = self.method_of(choices);
        if let Some(fill) = self.fill_of(name) {
            return fill.repaint(image, weights, observer).map(drop);
        }
        match (&self.model, &self.refiner) {
            (Some(model), _) if name == MODEL => model.repaint(image, weights, choices, observer),
            (_, Some((_, refiner))) => refiner.repaint(image, weights, observer).map(drop),
            _ => Err(ImagingError::argument("method", self.default_method(), format!("{name:?}"))),
        }
    }

    fn command(&self, choices: &Choices, input: &str, mask: Option<&str>) -> Vec<String> {
        command::words(self, choices, input, mask)
    }
}
