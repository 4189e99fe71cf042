//! `photomend train`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use diffusion::components::MaskShrink;
use diffusion::train::data::{Condition, CropPolicy, MaskedImage};
use diffusion::train::{BaseDtype, LoraInit, LrScheduler, NetworkOptions, TrainOptions};
use serde::de::DeserializeOwned;

use super::damage::{mix, severity};
use super::engine::DeviceArg;
use super::{JsonArgs, number_in};

/// Trains a restoration LoRA on your own pictures, on top of a Stable Diffusion inpainting checkpoint.
///
/// DATA is a folder of triplets as `photomend damage` writes them: clean/, damaged/ and mask/. Or give clean
/// photographs with --clean, which are damaged anew in every epoch. The folder of the run gets the LoRA in the forms
/// that diffusers (pytorch_lora_weights.safetensors) and ComfyUI or A1111 (lora_kohya.safetensors) read, run.toml to
/// run it again, log.jsonl, TensorBoard logs, loss.png, a model card, and checkpoints: with --resume an interrupted
/// run goes on to the same weights that it would have had.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Folder of triplets: clean/, damaged/ and mask/
    #[arg(value_name = "DATA", conflicts_with = "clean")]
    pub(crate) data: Option<PathBuf>,

    /// Folder of the run
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// The checkpoint to train on top of: a diffusers folder, a single .safetensors or .ckpt file, or an id on the hub
    #[arg(long, value_name = "PATH|ID", help_heading = "Model")]
    pub(crate) model: Option<String>,

    /// Prefer this variant of a folder's or the hub's files, such as fp16
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub(crate) variant: Option<String>,

    /// What frozen weights are stored in: f32, bf16 or f16; the LoRA itself is always f32 [default: f32]
    #[arg(long, value_name = "DTYPE", help_heading = "Model", value_parser = named::<BaseDtype>)]
    pub(crate) dtype: Option<BaseDtype>,

    /// Where to compute
    #[arg(long, value_enum, value_name = "DEVICE", default_value_t, help_heading = "Model")]
    pub(crate) device: DeviceArg,

    #[command(flatten)]
    pub(crate) run: TrainRunArgs,

    #[command(flatten)]
    pub(crate) pictures: TrainDataArgs,

    #[command(flatten)]
    pub(crate) network: TrainNetworkArgs,

    #[command(flatten)]
    pub(crate) objective: TrainObjectiveArgs,

    #[command(flatten)]
    pub(crate) optimizer: TrainOptimizerArgs,

    #[command(flatten)]
    pub(crate) validation: TrainValidationArgs,

    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// How long, from which settings, and what is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct TrainRunArgs {
    /// Settings from a run.toml; options given beside it come on top
    #[arg(long, value_name = "FILE")]
    pub(crate) run: Option<PathBuf>,

    /// Settings to start from
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "run")]
    pub(crate) recipe: Option<RecipeArg>,

    /// Go on from the newest checkpoint in the folder, with the settings of its run.toml if no others are given
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,

    /// Replace a run that is in the folder
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Passes over the pictures [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) epochs: Option<u64>,

    /// Optimizer steps, in place of epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "epochs")]
    pub(crate) steps: Option<u64>,

    /// The seed of everything random [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: Option<u64>,

    /// Steps between checkpoints; 0 for none but at the end [default: 100]
    #[arg(long, value_name = "N")]
    pub(crate) save_every: Option<u64>,

    /// Checkpoints that are kept, at least 1 [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,

    /// Where encoded pictures and prompts are kept; runs may share it [default: cache/ in the run's folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,

    /// Keep no encoded pictures and prompts
    #[arg(long, conflicts_with = "cache")]
    pub(crate) no_cache: bool,
}

/// A set of settings to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecipeArg {
    /// This program's defaults
    Default,
    /// AdamW at 1e-5, constant, unclipped; 5 epochs in f32; MSE over the damage alone; rank 4 on the attention
    Baseline,
}

/// Which pictures, and what the network sees of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct TrainDataArgs {
    /// Folder of clean photographs, to be damaged anew in every epoch
    #[arg(long, value_name = "DIR")]
    pub(crate) clean: Option<PathBuf>,

    /// Also take the photographs in folders inside that folder
    #[arg(short, long, requires = "clean")]
    pub(crate) recursive: bool,

    /// Take only the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// How often each picture is seen in an epoch [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) repeats: Option<u16>,

    /// Kinds of damage for --clean with their weights, such as cracks=2,losses,blur=0.5
    /// [default: cracks, scratches, tears, folds, losses, blur and occlusion alike]
    #[arg(long, value_name = "KINDS", value_parser = conditions)]
    pub(crate) conditions: Option<Conditions>,

    /// How bad that damage is, from 0 (slight) to 1 (worst) [default: 0.3..0.8]
    #[arg(long, value_name = "S..T", value_parser = severity)]
    pub(crate) severity: Option<RangeInclusive<f32>>,

    /// How many kinds of it meet on one picture [default: 1..2]
    #[arg(long, value_name = "N..M", value_parser = mix)]
    pub(crate) mix: Option<RangeInclusive<usize>>,

    /// The prompt of every picture
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,

    /// Take each picture's prompt from a text file beside the clean picture (NAME.txt), if there is one
    #[arg(long)]
    pub(crate) captions: bool,

    /// Leave the kinds of damage out of the prompts of --clean
    #[arg(long)]
    pub(crate) no_condition_words: bool,

    /// The side of what the network sees, in pixels, a multiple of 8 [default: 512]
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(8..=8192))]
    pub(crate) resolution: Option<u32>,

    /// Cut every picture square, in place of buckets of mixed aspect ratios
    #[arg(long)]
    pub(crate) no_buckets: bool,

    /// Which part of a picture is seen: damage (a part with damage, another one in every epoch), fixed (always the
    /// same one) or center (the whole picture, the edges cut to the aspect ratio) [default: damage]
    #[arg(long, value_name = "POLICY", value_parser = named::<CropPolicy>)]
    pub(crate) crop: Option<CropPolicy>,

    /// Never mirror a picture
    #[arg(long)]
    pub(crate) no_flip: bool,

    /// What is shown beside the noise: damaged (the damaged picture with grey holes, as restoration shows it), clean
    /// (the clean one with holes), whole (the damaged one without) or filled (the damaged one, filled as without a model)
    /// [default: damaged]
    #[arg(long, value_name = "NAME", value_parser = named::<MaskedImage>)]
    pub(crate) masked_image: Option<MaskedImage>,

    /// The share of samples with further holes, 0 to 1 [default: 0]
    #[arg(long, value_name = "P", value_parser = number_in(0.0_f64..=1.0))]
    pub(crate) extra_masks: Option<f64>,
}

/// What is trained.
#[derive(Debug, Args)]
#[command(next_help_heading = "LoRA")]
pub(crate) struct TrainNetworkArgs {
    /// Train every weight of the UNet, and no LoRA
    #[arg(long)]
    pub(crate) full: bool,

    /// Rank [default: 8]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) rank: Option<u16>,

    /// The LoRA's scale is ALPHA / R [default: the rank]
    #[arg(long, value_name = "ALPHA", value_parser = number_in(1e-6_f64..=1e6))]
    pub(crate) alpha: Option<f64>,

    /// The share of a layer's inputs that its LoRA does not see in a step [default: 0]
    #[arg(long, value_name = "P", value_parser = number_in(0.0_f64..=0.99))]
    pub(crate) lora_dropout: Option<f64>,

    /// How it starts: gaussian (as diffusers' scripts) or kaiming (as kohya's) [default: gaussian]
    #[arg(long, value_name = "NAME", value_parser = named::<LoraInit>)]
    pub(crate) init: Option<LoraInit>,

    /// The layers that get one, by the ends of their names [default: to_q,to_k,to_v,to_out.0]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) target_modules: Option<Vec<String>>,

    /// Also the convolutions and the projections around the attention
    #[arg(long)]
    pub(crate) convolutions: bool,

    /// Also the attention of the text encoder
    #[arg(long)]
    pub(crate) text_encoder: bool,
}

/// What is minimised.
#[derive(Debug, Args)]
#[command(next_help_heading = "Objective")]
pub(crate) struct TrainObjectiveArgs {
    /// The weight of undamaged latents in the loss, 0 to 1 [default: 0.1]
    #[arg(long, value_name = "W", value_parser = number_in(0.0_f64..=1.0))]
    pub(crate) unmasked_weight: Option<f64>,

    /// Divide by the number of latents and not by their weights, so that large damage counts more
    #[arg(long)]
    pub(crate) no_normalize: bool,

    /// γ of min-SNR weighting; 0 for none [default: 5]
    #[arg(long, value_name = "G", value_parser = number_in(0.0_f64..=1e6))]
    pub(crate) snr_gamma: Option<f64>,

    /// Noise added to whole channels; 0 for none [default: 0]
    #[arg(long, value_name = "N", value_parser = number_in(0.0_f64..=10.0))]
    pub(crate) noise_offset: Option<f64>,

    /// The share of samples without their prompt [default: 0.1]
    #[arg(long, value_name = "P", value_parser = number_in(0.0_f64..=1.0))]
    pub(crate) prompt_dropout: Option<f64>,

    /// How masks become those of latents: max (thin cracks stay) or nearest (as in diffusers) [default: max]
    #[arg(long, value_name = "NAME", value_parser = named::<MaskShrink>)]
    pub(crate) mask_shrink: Option<MaskShrink>,
}

/// How weights are changed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Optimizer")]
pub(crate) struct TrainOptimizerArgs {
    /// AdamW's learning rate at its highest [default: 1e-4]
    #[arg(long, visible_alias = "lr", value_name = "LR", value_parser = number_in(0.0_f64..=10.0))]
    pub(crate) learning_rate: Option<f64>,

    /// How it goes on: constant, constant_with_warmup, linear or cosine [default: constant_with_warmup]
    #[arg(long, value_name = "NAME", value_parser = named::<LrScheduler>)]
    pub(crate) lr_scheduler: Option<LrScheduler>,

    /// Steps from 0 up to it [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) warmup_steps: Option<u64>,

    /// AdamW's weight decay [default: 0.01]
    #[arg(long, value_name = "W", value_parser = number_in(0.0_f64..=10.0))]
    pub(crate) weight_decay: Option<f64>,

    /// The greatest norm of the gradients; 0 for no limit [default: 1]
    #[arg(long, value_name = "N", value_parser = number_in(0.0_f64..=1e9))]
    pub(crate) max_grad_norm: Option<f64>,

    /// Samples that go through the network together [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) batch_size: Option<u16>,

    /// Batches whose gradients are added up for one step [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) gradient_accumulation_steps: Option<u16>,

    /// Keep all activations in memory: a quarter less time, many times the memory
    #[arg(long)]
    pub(crate) no_gradient_checkpointing: bool,

    /// The decay of an average of the weights, which is then what is saved; 0 for none [default: 0]
    #[arg(long, value_name = "D", value_parser = number_in(0.0_f64..=0.999_999))]
    pub(crate) ema_decay: Option<f64>,
}

/// How progress is judged.
#[derive(Debug, Args)]
#[command(next_help_heading = "Validation")]
pub(crate) struct TrainValidationArgs {
    /// Triplets to restore before, during and after training
    #[arg(long, value_name = "DIR", conflicts_with = "held_out")]
    pub(crate) validation: Option<PathBuf>,

    /// Hold back N triplets of DATA for that
    #[arg(long, value_name = "N")]
    pub(crate) held_out: Option<u32>,

    /// Steps from one validation to the next; 0 for one before and one after [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) validate_every: Option<u64>,

    /// Denoising steps of each restoration [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) validation_steps: Option<u16>,

    /// Comparison sheets of each validation [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) validation_images: Option<u32>,
}

/// Puts what was given in its place.
fn put<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

impl TrainArgs {
    /// The settings to start from, before a run file and [`TrainArgs::apply`].
    pub(crate) fn recipe(&self) -> TrainOptions {
        match self.run.recipe {
            Some(RecipeArg::Baseline) => TrainOptions::baseline(),
            Some(RecipeArg::Default) | None => TrainOptions::default(),
        }
    }

    /// Puts the options that were given on top of `options`.
    pub(crate) fn apply(&self, options: &mut TrainOptions) {
        put(&mut options.base.model, self.model.clone());
        put(&mut options.base.variant, self.variant.clone().map(Some));
        put(&mut options.base.dtype, self.dtype);

        let (given, run) = (&self.run, &mut options.run);
        if let Some(epochs) = given.epochs {
            (run.epochs, run.max_steps) = (epochs, None);
        }
        put(&mut run.max_steps, given.steps.map(Some));
        put(&mut run.seed, given.seed);
        put(&mut run.save_every, given.save_every);
        put(&mut run.keep, given.keep.map(|n| n as usize));
        put(&mut run.cache_folder, given.cache.clone().map(Some));
        run.cache &= !given.no_cache;

        self.apply_data(options);
        let (given, network) = (&self.network, &mut options.network);
        network.full |= given.full;
        put(&mut network.rank, given.rank.map(usize::from));
        put(&mut network.alpha, given.alpha.map(Some));
        put(&mut network.dropout, given.lora_dropout);
        put(&mut network.init, given.init);
        put(&mut network.target_modules, given.target_modules.clone());
        let add = |names: &mut Vec<String>, more: &[&str]| {
            for name in more {
                if !names.iter().any(|known| known == name) {
                    names.push((*name).to_owned());
                }
            }
        };
        if given.convolutions {
            add(&mut network.target_modules, &NetworkOptions::CONVOLUTIONS);
        }
        if given.text_encoder {
            add(&mut network.text_encoder_target_modules, &NetworkOptions::TEXT_ENCODER);
        }

        let (given, objective) = (&self.objective, &mut options.objective);
        put(&mut objective.unmasked_weight, given.unmasked_weight);
        objective.normalize &= !given.no_normalize;
        put(&mut objective.snr_gamma, given.snr_gamma);
        put(&mut objective.noise_offset, given.noise_offset);
        put(&mut objective.prompt_dropout, given.prompt_dropout);
        put(&mut objective.mask_shrink, given.mask_shrink);

        let (given, optimizer) = (&self.optimizer, &mut options.optimizer);
        put(&mut optimizer.learning_rate, given.learning_rate);
        put(&mut optimizer.lr_scheduler, given.lr_scheduler);
        put(&mut optimizer.warmup_steps, given.warmup_steps);
        put(&mut optimizer.weight_decay, given.weight_decay);
        put(&mut optimizer.max_grad_norm, given.max_grad_norm);
        put(&mut optimizer.batch_size, given.batch_size.map(usize::from));
        let accumulation = given.gradient_accumulation_steps.map(usize::from);
        put(&mut optimizer.gradient_accumulation_steps, accumulation);
        optimizer.gradient_checkpointing &= !given.no_gradient_checkpointing;
        put(&mut optimizer.ema_decay, given.ema_decay);

        let (given, validation) = (&self.validation, &mut options.validation);
        if let Some(folder) = &given.validation {
            (validation.triplets, validation.held_out) = (Some(folder.clone()), 0);
        }
        if let Some(count) = given.held_out {
            (validation.triplets, validation.held_out) = (None, count as usize);
        }
        put(&mut validation.every, given.validate_every);
        put(&mut validation.steps, given.validation_steps.map(usize::from));
        put(&mut validation.images, given.validation_images.map(|n| n as usize));
    }

    fn apply_data(&self, options: &mut TrainOptions) {
        let (given, data) = (&self.pictures, &mut options.data);
        if let Some(folder) = &self.data {
            (data.triplets, data.clean) = (Some(folder.clone()), None);
        }
        if let Some(folder) = &given.clean {
            (data.triplets, data.clean) = (None, Some(folder.clone()));
        }
        data.recursive |= given.recursive;
        put(&mut data.limit, given.limit.map(|n| Some(n as usize)));
        put(&mut data.repeats, given.repeats.map(usize::from));
        put(&mut data.conditions, given.conditions.clone().map(|conditions| conditions.0));
        put(&mut data.severity, given.severity.clone().map(|range| [*range.start(), *range.end()]));
        put(&mut data.mix, given.mix.clone().map(|range| [*range.start(), *range.end()]));
        put(&mut data.prompt, given.prompt.clone());
        data.captions |= given.captions;
        data.condition_words &= !given.no_condition_words;
        put(&mut data.resolution, given.resolution.map(|side| side as usize));
        data.buckets &= !given.no_buckets;
        put(&mut data.crop, given.crop);
        data.flip &= !given.no_flip;
        put(&mut data.masked_image, given.masked_image);
        put(&mut data.extra_masks, given.extra_masks);
    }
}

/// Kinds of damage, as one value for clap.
#[derive(Clone, Debug)]
pub(crate) struct Conditions(Vec<Condition>);

fn conditions(text: &str) -> Result<Conditions, String> {
    Condition::parse_list(text).map(Conditions).map_err(|error| error.to_string())
}

/// A value by the name that it has in run.toml.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn options(arguments: &[&str]) -> TrainOptions {
        let all = ["photomend", "train", "-o", "out"].iter().chain(arguments);
        let Command::Train(args) = Cli::try_parse_from(all).expect("valid arguments").command
        else {
            panic!("the verb is train");
        };
        let mut options = args.recipe();
        args.apply(&mut options);
        options
    }

    #[test]
    fn only_what_is_given_changes() {
        assert_eq!(options(&[]), TrainOptions::default());
        assert_eq!(options(&["--recipe", "baseline"]), TrainOptions::baseline());
        let found = options(&[
            "data",
            "--recipe",
            "baseline",
            "--lr",
            "2e-4",
            "--convolutions",
            "--steps",
            "7",
        ]);
        assert_eq!(found.data.triplets, Some("data".into()));
        assert_eq!((found.optimizer.learning_rate, found.run.max_steps), (2e-4, Some(7)));
        assert_eq!(found.network.rank, 4);
        assert!(found.network.target_modules.iter().any(|name| name == "conv1"));
    }

    #[test]
    fn names_outside_the_lists_are_refused() {
        for arguments in [
            ["--crop", "left"],
            ["--lr-scheduler", "step"],
            ["--dtype", "f64"],
            ["--conditions", "moths"],
        ] {
            let all = ["photomend", "train", "-o", "out"].iter().chain(&arguments);
            let error = Cli::try_parse_from(all).expect_err("no such name").to_string();
            assert!(error.contains(arguments[1]), "{error}");
        }
    }
}
