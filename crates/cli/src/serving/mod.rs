//! What the local page restores with: the building blocks of `photomend restore`, so that results are the same.

mod command;
mod finder;
mod model;

use std::sync::Arc;

use clap::ValueEnum as _;
use imaging::{Image, ImagingError, Mask, Observer, Plane, Repainter};
use server::{About, Choices, Engine, LoraChoice, Method};

use self::finder::Finder;
use self::model::Model;
use crate::args::{DiffusionArgs, FillArgs, MethodArg, PresetArg, ServeArgs};
use crate::context::Context;

/// The name of the way that repaints with a model.
const MODEL: &str = "model";

/// A fill and what the command line calls it.
type Fill = (MethodArg, Arc<dyn Repainter>);

/// The one that the server's arguments ask for.
fn own<'a>(fills: &'a [Fill], asked: &FillArgs) -> Option<&'a Arc<dyn Repainter>> {
    fills.iter().find(|(method, _)| *method == asked.method).map(|(_, fill)| fill)
}

/// Everything that one server restores with.
#[derive(Debug)]
pub(crate) struct PageEngine {
    finder: Finder,
    preset: PresetArg,
    /// The fill that is the server's own, which a model starts from.
    fill: FillArgs,
    /// All fills.
    fills: Vec<Fill>,
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
        let fill = args.fill.clone();
        let finder = Finder::new(&args.detection, args.preset)?;
        let with = |&method: &MethodArg| -> anyhow::Result<_> {
            Ok((method, method.repainter(fill.radius, fill.refiner.as_deref())?))
        };
        let fills: Vec<_> =
            MethodArg::value_variants().iter().map(with).collect::<Result<_, _>>()?;
        let diffusion = args.diffusion.seeded(args.noise.seed);
        let model = match (&diffusion.model, own(&fills, &fill)) {
            (Some(_), Some(own)) => Some(Model::load(&diffusion, own, context)?),
            _ => None,
        };
        Ok(Self { finder, preset: args.preset, fill, fills, model, diffusion })
    }

    /// The fill of this name.
    fn fill_of(&self, name: &str) -> Option<&Fill> {
        self.fills.iter().find(|(_, fill)| fill.name() == name)
    }

    /// The name of the way that is taken if none is chosen: the model, or else the server's own fill.
    fn default_method(&self) -> &str {
        let own = own(&self.fills, &self.fill).filter(|_| self.model.is_none());
        own.map_or(MODEL, |fill| fill.name())
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
        methods.extend(self.fills.iter().map(|(which, fill)| {
            let label = match which {
                MethodArg::Refined => "Refined fill",
                MethodArg::Biharmonic => "Biharmonic fill",
                MethodArg::Telea => "Telea’s fill",
            };
            method(fill.name(), label, false)
        }));
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
        match (self.fill_of(name), &self.model) {
            (Some((_, fill)), _) => fill.repaint(image, weights, observer).map(drop),
            (None, Some(model)) if name == MODEL => {
                model.repaint(image, weights, choices, observer)
            }
            _ => Err(ImagingError::argument("method", self.default_method(), format!("{name:?}"))),
        }
    }

    fn command(&self, choices: &Choices, input: &str, mask: Option<&str>) -> Vec<String> {
        command::words(self, choices, input, mask)
    }
}
