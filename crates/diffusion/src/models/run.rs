//! One network on given tensors, to compare it with another implementation's.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::{
    AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig, AutoencoderKl, AutoencoderKlConfig,
    ClipTextConfig, ClipTextModel, UNet2DConditionConfig, UNet2DConditionModel,
};
use crate::checkpoint::{Checkpoint, Component};
use crate::error::{DiffusionError, Result};
use crate::lora::Adapters;
use crate::nn::Params;

/// What is run of a checkpoint, and the names of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `input_ids` `(b, n)` to `last_hidden_state` `(b, n, d)`, after the final norm.
    TextEncoder,
    /// `image` `(b, 3, h, w)` in [-1, 1] to `mean` and `logvar`, each `(b, 4, h/8, w/8)`, before `scaling_factor`.
    VaeEncode,
    /// `latents` `(b, 4, h/8, w/8)`, divided by `scaling_factor`, to `image` `(b, 3, h, w)`. A decoder that is
    /// conditioned on the kept pixels also takes `image` and `mask` `(b, 1, h, w)`, 1 where it is repainted.
    VaeDecode,
    /// `sample` `(b, c, h/8, w/8)`, `timestep` (one, or `(b)`) and `encoder_hidden_states` `(b, n, d)` to `noise_pred`.
    Unet,
}

impl Stage {
    /// The network that it is a part of.
    #[must_use]
    pub const fn component(self) -> Component {
        match self {
            Self::TextEncoder => Component::TextEncoder,
            Self::VaeEncode | Self::VaeDecode => Component::Vae,
            Self::Unet => Component::Unet,
        }
    }
}

/// How a network is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The dtype that weights are stored in. Activations are f32 on the CPU, else of this dtype.
    pub dtype: DType,
    /// Where to compute.
    pub device: Device,
    /// What LoRAs change in the network.
    pub adapters: Arc<Adapters>,
}

/// Loads the network of `stage` and runs it once; the outputs are on `options.device`.
///
/// # Errors
/// [`DiffusionError::Argument`] for inputs that are missing or not taken, [`DiffusionError::Shape`] for those that
/// do not fit, and those of loading the network.
pub fn run(
    stage: Stage,
    checkpoint: &Checkpoint,
    options: &RunOptions,
    inputs: &HashMap<String, Tensor>,
) -> Result<HashMap<String, Tensor>> {
    let json = checkpoint.config(stage.component())?;
    let asymmetric = stage.component() == Component::Vae && checkpoint.vae_is_asymmetric()?;
    let inputs = Inputs { given: inputs, options };
    inputs.check(match (stage, asymmetric) {
        (Stage::TextEncoder, _) => &["input_ids"],
        (Stage::VaeEncode, _) => &["image"],
        (Stage::VaeDecode, false) => &["latents"],
        (Stage::VaeDecode, true) => &["latents", "image", "mask"],
        (Stage::Unet, _) => &["sample", "timestep", "encoder_hidden_states"],
    })?;
    let weights = checkpoint.weights(stage.component())?;
    let params = Params::new(weights, options.dtype, &options.device)
        .with_adapters(Arc::clone(&options.adapters));

    let outputs = match stage {
        Stage::TextEncoder => {
            let ids = inputs.tensor("input_ids", DType::U32)?;
            let model = ClipTextModel::load(&ClipTextConfig::from_json(&json)?, &params)?;
            vec![("last_hidden_state", model.forward(&ids)?)]
        }
        Stage::VaeEncode => {
            let image = inputs.float("image")?;
            let posterior = if asymmetric {
                let config = AsymmetricAutoencoderKlConfig::from_json(&json)?;
                AsymmetricAutoencoderKl::load(&config, &params)?.encode(&image)?
            } else {
                AutoencoderKl::load(&AutoencoderKlConfig::from_json(&json)?, &params)?
                    .encode(&image)?
            };
            vec![("mean", posterior.mean), ("logvar", posterior.logvar)]
        }
        Stage::VaeDecode => {
            let latents = inputs.float("latents")?;
            let image = if asymmetric {
                let config = AsymmetricAutoencoderKlConfig::from_json(&json)?;
                let (image, mask) = (inputs.float("image")?, inputs.float("mask")?);
                AsymmetricAutoencoderKl::load(&config, &params)?.decode(&latents, &image, &mask)?
            } else {
                AutoencoderKl::load(&AutoencoderKlConfig::from_json(&json)?, &params)?
                    .decode(&latents)?
            };
            vec![("image", image)]
        }
        Stage::Unet => {
            let sample = inputs.float("sample")?;
            let context = inputs.float("encoder_hidden_states")?;
            let timestep = inputs.tensor("timestep", DType::F32)?.flatten_all()?;
            // One for all, as a pipeline gives it.
            let batch = sample.dims().first().copied().unwrap_or(1);
            let timestep = if timestep.dims() == [1] {
                timestep.expand(batch)?.contiguous()?
            } else {
                timestep
            };
            let config = UNet2DConditionConfig::from_json(&json)?;
            let model = UNet2DConditionModel::load(&config, &params)?;
            vec![("noise_pred", model.forward(&sample, &timestep, &context)?)]
        }
    };
    Ok(outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

struct Inputs<'a> {
    given: &'a HashMap<String, Tensor>,
    options: &'a RunOptions,
}

impl Inputs<'_> {
    /// Exactly the tensors of these names.
    fn check(&self, names: &[&str]) -> Result<()> {
        let mut given: Vec<&str> = self.given.keys().map(String::as_str).collect();
        given.sort_unstable();
        let mut expected = names.to_vec();
        expected.sort_unstable();
        if given == expected {
            return Ok(());
        }
        let found = if given.is_empty() { "none".to_owned() } else { given.join(", ") };
        Err(DiffusionError::argument("input tensors", names.join(", "), found))
    }

    fn tensor(&self, name: &str, dtype: DType) -> Result<Tensor> {
        let tensor = &self.given[name];
        Ok(tensor.to_dtype(dtype)?.to_device(&self.options.device)?)
    }

    fn float(&self, name: &str) -> Result<Tensor> {
        let dtype = if self.options.device.is_cpu() { DType::F32 } else { self.options.dtype };
        self.tensor(name, dtype)
    }
}
