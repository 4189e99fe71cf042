//! `photomend model`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use diffusion::DType;
use diffusion::lora::LoraSpec;

use super::{EngineArgs, JsonArgs};

/// Looks at models, fetches, converts and merges them, and runs their parts.
///
/// A model is a Stable Diffusion 1.x or 2.x checkpoint as a diffusers folder, as a single .safetensors or .ckpt file, or
/// by its id on a hub (OWNER/NAME, or OWNER/NAME/FILE). What is fetched lies in the cache that Python's huggingface_hub
/// uses; HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean there. Pickled files are
/// parsed, never executed.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    Info(ModelInfoArgs),
    New(ModelNewArgs),
    Pull(ModelPullArgs),
    Convert(ModelConvertArgs),
    Merge(ModelMergeArgs),
    Run(Box<ModelRunArgs>),
}

/// Says what a file or folder is: its parts, parameters and number types, and what is missing.
///
/// Takes checkpoints and LoRA files; reads their headers only. Exit status 1 if a part of it cannot be used.
#[derive(Debug, Args)]
pub(crate) struct ModelInfoArgs {
    /// A file, a folder, or the id of a model that has been fetched
    #[arg(value_name = "PATH|ID")]
    pub(crate) model: String,

    /// Prefer this variant of a folder's files, such as fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// Writes a small inpainting checkpoint with random weights, to be trained from nothing.
///
/// A diffusers folder with tokenizer, text encoder, autoencoder, UNet and scheduler, the classes of Stable Diffusion at widths for an
/// ordinary CPU.
#[derive(Debug, Args)]
pub(crate) struct ModelNewArgs {
    /// Folder to write to
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,

    /// The seed of the weights
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,
}

/// Fetches a model from a hub, as far as it is not in the cache, and prints where it is.
///
/// Takes what a checkpoint needs and nothing else: configurations, tokenizer, and the weights, as safetensors where
/// there are any. A download that was stopped goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct ModelPullArgs {
    /// The model's id: OWNER/NAME, or OWNER/NAME/FILE for one file
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// The branch, tag or commit
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) revision: String,

    /// Prefer this variant of the weights, such as fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// Writes a checkpoint or a LoRA in another form.
///
/// Checkpoints become a diffusers folder or a single file in the layout of the original code; LoRA files are written
/// with the names of PEFT, diffusers or kohya, their scale kept.
#[derive(Debug, Args)]
pub(crate) struct ModelConvertArgs {
    /// A checkpoint or a LoRA
    #[arg(value_name = "PATH|ID")]
    pub(crate) model: String,

    /// Where to write: a folder that is not there yet, or a .safetensors file
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// The form [default: a single file if OUT ends in .safetensors, else a folder]
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) to: Option<FormArg>,

    #[command(flatten)]
    pub(crate) store: ModelStoreArgs,
}

/// Adds LoRAs into the weights of a checkpoint.
///
/// The sum is taken in f32 and rounded once. Layers that the model does not have are named.
#[derive(Debug, Args)]
pub(crate) struct ModelMergeArgs {
    /// The checkpoint
    #[arg(value_name = "PATH|ID")]
    pub(crate) model: String,

    /// A LoRA, at a weight if one is given; may be given several times
    #[arg(long, value_name = "FILE[:WEIGHT]", required = true)]
    pub(crate) lora: Vec<LoraSpec>,

    /// Where to write: a single file if it ends in .safetensors, else a folder that is not there yet
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) store: ModelStoreArgs,
}

/// How a checkpoint is read and written.
#[derive(Debug, Args)]
pub(crate) struct ModelStoreArgs {
    /// Store the weights in this type [default: as they are]
    #[arg(long, value_enum, value_name = "DTYPE")]
    pub(crate) dtype: Option<StoreDtypeArg>,

    /// Prefer this variant of a folder's or the hub's files, such as fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    /// Replace a file that exists; folders are never replaced
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Runs one network of a model on given tensors, to compare it with another implementation's.
///
/// Inputs and outputs are the tensors of safetensors files, by name:
///
/// text-encoder: input_ids (b, 77) → last_hidden_state (b, 77, d)
///
/// vae-encode: image (b, 3, h, w) in [-1, 1] → mean and logvar (b, 4, h/8, w/8), before the scaling factor
///
/// vae-decode: latents (b, 4, h/8, w/8), divided by the scaling factor → image (b, 3, h, w); an asymmetric autoencoder
/// also takes image and mask (b, 1, h, w), 1 where it is repainted
///
/// unet: sample (b, c, h/8, w/8), timestep (one, or b of them), encoder_hidden_states (b, 77, d) → noise_pred
#[derive(Debug, Args)]
pub(crate) struct ModelRunArgs {
    /// What to run
    #[arg(value_enum, value_name = "COMPONENT")]
    pub(crate) component: StageArg,

    /// The checkpoint, or the folder of the one component
    #[arg(long, value_name = "PATH|ID")]
    pub(crate) model: String,

    /// The tensors to run it on, a .safetensors file
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: PathBuf,

    /// Where to write its outputs, a .safetensors file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Apply a LoRA, at a weight if one is given; may be given several times
    #[arg(long, value_name = "FILE[:WEIGHT]")]
    pub(crate) lora: Vec<LoraSpec>,

    /// Prefer this variant of a folder's or the hub's files, such as fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// A form that models are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormArg {
    /// A checkpoint: model_index.json and a folder for each part
    Folder,
    /// A checkpoint: one .safetensors file in the layout of the original code
    SingleFile,
    /// A LoRA: adapter_model.safetensors and adapter_config.json
    Peft,
    /// A LoRA: pytorch_lora_weights.safetensors; a checkpoint: a folder
    Diffusers,
    /// A LoRA: with the names of sd-scripts
    Kohya,
}

/// What weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreDtypeArg {
    /// 32 bits
    F32,
    /// Half precision
    F16,
    /// bfloat16
    Bf16,
}

impl From<StoreDtypeArg> for DType {
    fn from(dtype: StoreDtypeArg) -> Self {
        match dtype {
            StoreDtypeArg::F32 => Self::F32,
            StoreDtypeArg::F16 => Self::F16,
            StoreDtypeArg::Bf16 => Self::BF16,
        }
    }
}

/// A part of a model that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StageArg {
    /// CLIP's text encoder
    TextEncoder,
    /// The autoencoder's encoder
    VaeEncode,
    /// The autoencoder's decoder
    VaeDecode,
    /// The denoising network
    Unet,
}
