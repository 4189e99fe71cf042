//! Options of restoration with Stable Diffusion.

use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Parser, ValueEnum};
use diffusion::carried::COMPACT;
use diffusion::components::Shown;
use diffusion::lora::{LoraSet, LoraSpec};
use diffusion::pipelines::restore::{
    DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, Pipeline, RestoreOptions, Strength,
};
use diffusion::schedulers::SchedulerKind;
use imaging::Repainter;
use imaging::windows::WindowOptions;

use super::{EngineArgs, number_in};

/// Restoration with a Stable Diffusion checkpoint; all but the first need a model.
#[derive(Clone, Debug, Args)]
pub(crate) struct DiffusionArgs {
    /// Repaint with this Stable Diffusion 1.x or 2.x inpainting checkpoint, on top of the fill: a
    /// diffusers folder, a single .safetensors or .ckpt file, an id on the hub, or "compact", a small one
    /// that comes with the program
    #[arg(long, value_name = "PATH|ID", help_heading = "Diffusion")]
    pub(crate) model: Option<String>,

    /// Prefer this variant of a folder's or the hub's files, such as fp16
    #[arg(long, value_name = "NAME", help_heading = "Diffusion", requires = "model")]
    pub(crate) variant: Option<String>,

    /// Apply a LoRA, at a weight if one is given; may be given several times; "restoration" comes with the
    /// program, for the model "compact"
    #[arg(long, value_name = "FILE[:WEIGHT]", help_heading = "Diffusion", requires = "model")]
    pub(crate) lora: Vec<LoraSpec>,

    /// What the picture shows
    #[arg(
        long, value_name = "TEXT", help_heading = "Diffusion", requires = "model",
        default_value = DEFAULT_PROMPT
    )]
    pub(crate) prompt: String,

    /// What must not appear
    #[arg(
        long, value_name = "TEXT", help_heading = "Diffusion", requires = "model",
        default_value = DEFAULT_NEGATIVE_PROMPT
    )]
    pub(crate) negative_prompt: String,

    /// Steps at strength 1, 1 to 1000; 2 for the model "compact" unless told otherwise
    #[arg(
        long, value_name = "N", help_heading = "Diffusion", requires = "model", default_value = "30",
        default_value_if("model", COMPACT, "2"),
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub(crate) steps: u16,

    /// Paint every window so often, 1 to 64, and take the mean: nearer to the truth on average, and smoother;
    /// not with --pipeline diffusers; 4 for the model "compact" unless told otherwise
    #[arg(
        long, value_name = "N", help_heading = "Diffusion", requires = "model", default_value = "1",
        default_value_if("model", COMPACT, "4"),
        value_parser = clap::value_parser!(u8).range(1..=64)
    )]
    pub(crate) draws: u8,

    /// How strongly the prompts lead, 0 to 100; at 1 or below they do not, which takes half the time; 1 for the
    /// model "compact" unless told otherwise
    #[arg(
        long, value_name = "SCALE", help_heading = "Diffusion", requires = "model",
        default_value = "4", default_value_if("model", COMPACT, "1"), value_parser = number_in(0.0_f64..=100.0)
    )]
    pub(crate) guidance: f64,

    /// How much of the fill is painted over, above 0 to 1; "auto" goes by the width of the damage; 0.5 for the model
    /// "compact" unless told otherwise
    #[arg(
        long, value_name = "S", help_heading = "Diffusion", requires = "model",
        default_value = "auto", default_value_if("model", COMPACT, "0.5"), value_parser = strength
    )]
    pub(crate) strength: Strength,

    /// The sampler: ddim, ddpm, pndm, euler, euler-a, dpmpp-2m, dpmpp-2m-karras, unipc or lcm [default: the checkpoint's]
    #[arg(
        long, value_name = "NAME", help_heading = "Diffusion", requires = "model",
        value_parser = SchedulerKind::from_str
    )]
    pub(crate) scheduler: Option<SchedulerKind>,

    /// The seed of all noise, which verbs have an option of their own for ([`NoiseSeed`]).
    #[arg(skip)]
    pub(crate) seed: u64,

    /// How the picture is shown to the network
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        help_heading = "Diffusion",
        requires = "model",
        default_value_t
    )]
    pub(crate) pipeline: PipelineArg,

    /// What the network sees where it repaints: grey, the fill (filled), or the damage: for LoRAs trained so, against
    /// blur, fading or stains [default: what the LoRA says that it was trained with, else grey; filled for the model
    /// "compact"]
    #[arg(
        long, value_name = "NAME", help_heading = "Diffusion", requires = "model",
        value_parser = Shown::from_str
    )]
    pub(crate) show: Option<Shown>,

    /// The side of what the network sees, in its pixels; 256 for the model "compact" unless told otherwise
    #[arg(
        long, value_name = "PX", help_heading = "Diffusion", requires = "model",
        default_value = "512", default_value_if("model", COMPACT, "256"), value_parser = clap::value_parser!(u16).range(64..=4096)
    )]
    pub(crate) window_size: u16,

    /// The strongest enlargement of small damage, 1 to 8; less is faster; 1 for the model "compact" unless told
    /// otherwise
    #[arg(
        long, value_name = "FACTOR", help_heading = "Diffusion", requires = "model",
        default_value = "2", default_value_if("model", COMPACT, "1"), value_parser = number_in(1.0_f64..=8.0)
    )]
    pub(crate) max_zoom: f64,

    /// Windows that go through the network together, 1 to 64; the result is the same
    #[arg(
        long, value_name = "N", help_heading = "Diffusion", requires = "model", default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=64)
    )]
    pub(crate) batch: u8,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// The seed of what a checkpoint paints.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct NoiseSeed {
    /// The seed of all noise; the same seed gives the same picture
    #[arg(
        long,
        value_name = "N",
        help_heading = "Diffusion",
        requires = "model",
        default_value = "0"
    )]
    pub(crate) seed: u64,
}

/// Only to have the defaults of all options.
#[derive(Debug, Parser)]
struct Defaults {
    #[command(flatten)]
    diffusion: DiffusionArgs,
}

impl DiffusionArgs {
    /// This model, if one is named, with everything else as if it had not been given.
    pub(crate) fn defaults(model: Option<&str>) -> Self {
        let model = model.map(|model| format!("--model={model}"));
        Defaults::parse_from([String::new()].into_iter().chain(model)).diffusion
    }

    /// The same with this seed.
    pub(crate) fn seeded(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }

    /// What the network is shown by these arguments with these LoRAs, which are theirs.
    ///
    /// # Errors
    /// Those of [`Shown::of_loras`].
    pub(crate) fn shown(&self, loras: &LoraSet) -> diffusion::Result<Shown> {
        let own = match self.model.as_deref() {
            Some(COMPACT) => RestoreOptions::compact().shown,
            _ => Shown::default(),
        };
        let of_loras = Shown::of_loras(loras)?;
        Ok(self.show.or(of_loras).unwrap_or(own))
    }

    /// The library's options; what it starts from is `prefill`, and what the network sees of the damage `shown`.
    pub(crate) fn options(&self, prefill: &Arc<dyn Repainter>, shown: Shown) -> RestoreOptions {
        RestoreOptions {
            pipeline: self.pipeline.into(),
            num_inference_steps: usize::from(self.steps),
            draws: usize::from(self.draws),
            guidance_scale: self.guidance,
            strength: self.strength,
            scheduler: self.scheduler,
            seed: self.seed,
            windows: WindowOptions {
                size: usize::from(self.window_size),
                max_zoom: self.max_zoom,
                ..WindowOptions::default()
            },
            batch_size: usize::from(self.batch),
            shown,
            prefill: Arc::clone(prefill),
        }
    }
}

/// How the picture is shown to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PipelineArg {
    /// Through windows that enlarge the damage, from a classical fill, thin cracks kept
    #[default]
    Windows,
    /// As diffusers does: all of it at once, resized to the window
    Diffusers,
}

impl From<PipelineArg> for Pipeline {
    fn from(pipeline: PipelineArg) -> Self {
        match pipeline {
            PipelineArg::Windows => Self::Windows,
            PipelineArg::Diffusers => Self::Diffusers,
        }
    }
}

fn strength(text: &str) -> Result<Strength, String> {
    if text == "auto" {
        return Ok(Strength::Auto);
    }
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(Strength::Fixed(value)),
        _ => Err("expected auto, or a number above 0 and up to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use imaging::fill::FillOptions;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let prefill: Arc<dyn Repainter> = Arc::new(FillOptions::default());
        let of = |model| {
            let args = DiffusionArgs::defaults(model);
            let shown = args.shown(&LoraSet::default()).expect("no LoRA");
            format!("{:?}", args.options(&prefill, shown))
        };
        assert_eq!(of(None), format!("{:?}", RestoreOptions::default()));
        assert_eq!(of(Some(COMPACT)), format!("{:?}", RestoreOptions::compact()));
    }
}
