//! The stages of the model: networks of Stable Diffusion 1.5's size, with random weights.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use candle_core::Tensor;
use diffusion::checkpoint::RandomSource;
use diffusion::components::LoadOptions;
use diffusion::models::{
    AutoencoderKl, AutoencoderKlConfig, ClipTextConfig, ClipTextModel, UNet2DConditionConfig,
    UNet2DConditionModel,
};
use diffusion::nn::Params;
use diffusion::noise::{NoiseSource as _, TorchNoise};
use diffusion::train::{NetworkOptions, OptimizerOptions, StepBench};
use serde::Serialize;
use serde_json::json;

use super::timing::Timer;
use crate::args::Stage;

/// Seconds for one run of each stage.
#[derive(Default, Serialize)]
pub(super) struct ModelTimes {
    text_encode_s: Option<f64>,
    vae_encode_s: Option<f64>,
    vae_decode_s: Option<f64>,
    unet_forward_s: Option<f64>,
    unet_forward_batch2_s: Option<f64>,
    lora_train_step_s: Option<f64>,
    lora_train_step_checkpointed_s: Option<f64>,
}

impl ModelTimes {
    /// `peaks` are bytes by stage.
    pub(super) fn table(&self, peaks: &BTreeMap<String, u64>) -> String {
        let stages = [
            (Stage::Text, self.text_encode_s),
            (Stage::VaeEncode, self.vae_encode_s),
            (Stage::VaeDecode, self.vae_decode_s),
            (Stage::Unet, self.unet_forward_s),
            (Stage::UnetBatch2, self.unet_forward_batch2_s),
            (Stage::LoraStep, self.lora_train_step_s),
            (Stage::LoraStepCheckpointed, self.lora_train_step_checkpointed_s),
        ];
        let mut text = "stage                    seconds   peak MB\n".to_owned();
        for (stage, seconds) in stages {
            if let Some(seconds) = seconds {
                let name = stage.name();
                let peak = peaks
                    .get(&name)
                    .map_or_else(|| "-".to_owned(), |&bytes| format!("{:.0}", bytes as f64 / 1e6));
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{name:<22} {seconds:>9.3} {peak:>9}");
            }
        }
        text
    }
}

/// Times the stages that are wanted. One network is in memory at a time.
pub(super) fn times(
    load: &LoadOptions,
    timer: &Timer<'_>,
    wanted: impl Fn(Stage) -> bool,
) -> anyhow::Result<ModelTimes> {
    let mut times = ModelTimes::default();
    let (device, compute) = (&load.device, load.compute_dtype());
    let params = || Params::new(Arc::new(RandomSource::new(0)), load.dtype, device);
    let mut inputs = TorchNoise::new(0);
    let mut input = |shape: &[usize]| inputs.randn(&shape.into(), compute, device);
    // A GPU works on while the call that gave it work has returned.
    let finish = || device.synchronize();

    // 1. the text encoder: one prompt of 77 tokens
    if wanted(Stage::Text) {
        let config = ClipTextConfig::from_json(&json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
            "max_position_embeddings": 77, "vocab_size": 49408, "hidden_act": "quick_gelu",
        }))?;
        let model = ClipTextModel::load(&config, &params())?;
        let tokens = Tensor::arange(0_u32, 77, device)?.reshape((1, 77))?;
        times.text_encode_s = Some(timer.median_warm(Stage::Text, || {
            model.forward(&tokens)?;
            Ok(finish()?)
        })?);
    }

    // 2. the autoencoder: one picture of 512×512
    if wanted(Stage::VaeEncode) || wanted(Stage::VaeDecode) {
        let config = AutoencoderKlConfig::from_json(&json!({
            "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2,
            "block_out_channels": [128, 256, 512, 512], "norm_num_groups": 32, "act_fn": "silu",
            "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
        }))?;
        let model = AutoencoderKl::load(&config, &params())?;
        if wanted(Stage::VaeEncode) {
            let image = input(&[1, 3, 512, 512])?;
            times.vae_encode_s = Some(timer.median_warm(Stage::VaeEncode, || {
                model.encode(&image)?;
                Ok(finish()?)
            })?);
        }
        if wanted(Stage::VaeDecode) {
            let latents = input(&[1, 4, 64, 64])?;
            times.vae_decode_s = Some(timer.median_warm(Stage::VaeDecode, || {
                model.decode(&latents)?;
                Ok(finish()?)
            })?);
        }
    }

    // 3. the UNet for inpainting: 4 channels of latents, the mask, 4 of the masked image
    let unet =
        UNet2DConditionConfig::from_json(&json!({"in_channels": 9, "cross_attention_dim": 768}))?;
    if wanted(Stage::Unet) || wanted(Stage::UnetBatch2) {
        let model = UNet2DConditionModel::load(&unet, &params())?;
        let mut time = |stage: Stage, batch: usize| {
            let sample = input(&[batch, 9, 64, 64])?;
            let timestep = Tensor::full(501_f32, batch, device)?;
            let context = input(&[batch, 77, 768])?;
            timer.median_warm(stage, || {
                model.forward(&sample, &timestep, &context)?;
                Ok(finish()?)
            })
        };
        if wanted(Stage::Unet) {
            times.unet_forward_s = Some(time(Stage::Unet, 1)?);
        }
        if wanted(Stage::UnetBatch2) {
            times.unet_forward_batch2_s = Some(time(Stage::UnetBatch2, 2)?);
        }
    }

    // 4. a training step of a LoRA on it
    if wanted(Stage::LoraStep) || wanted(Stage::LoraStepCheckpointed) {
        let lora = NetworkOptions { rank: 4, ..NetworkOptions::default() };
        let mut bench = StepBench::new(&unet, &lora, OptimizerOptions::default(), 64, load)?;
        let mut time = |stage, checkpointing| {
            bench.set_gradient_checkpointing(checkpointing);
            timer.median_warm(stage, || {
                bench.step()?;
                Ok(finish()?)
            })
        };
        // First the one that takes less memory, which an allocator may keep.
        if wanted(Stage::LoraStepCheckpointed) {
            times.lora_train_step_checkpointed_s = Some(time(Stage::LoraStepCheckpointed, true)?);
        }
        if wanted(Stage::LoraStep) {
            times.lora_train_step_s = Some(time(Stage::LoraStep, false)?);
        }
    }
    Ok(times)
}
