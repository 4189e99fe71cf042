//! One training step on random weights and numbers: what `photomend bench` times, without a checkpoint or a picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::learner::Learner;
use super::objective::{Batch, Objective, ObjectiveOptions};
use super::optimizer::StepReport;
use super::options::{NetworkOptions, OptimizerOptions};
use super::parameters::LoraNetwork;
use crate::checkpoint::{RandomSource, TensorInfo, TensorSource};
use crate::components::LoadOptions;
use crate::error::{DiffusionError, Result};
use crate::lora::ModuleNames;
use crate::models::{OneOrMany, UNet2DConditionConfig, UNet2DConditionModel};
use crate::nn::Params;
use crate::noise::{NoiseSource as _, TorchNoise};
use crate::schedulers::SchedulerConfig;

/// Tokens of a prompt, as CLIP takes them.
const TOKENS: usize = 77;

/// The side of what is repainted, as a share of the picture's: a fourth of its area.
const DAMAGED: f64 = 0.5;

/// A LoRA on a UNet of random weights, and a batch of random numbers to train it on.
///
/// The same [`Learner`] as in [`train`](super::train) with its default objective, so that a step here costs what a step there
/// does once its batch is encoded: forward, loss weighted by the mask, backward, the limit on the norm, AdamW.
#[derive(Debug)]
pub struct StepBench {
    learner: Learner,
    batch: Batch,
}

impl StepBench {
    /// A batch of one picture of `side` × `side` latents.
    ///
    /// `config` has the layout of Stable Diffusion 1, in any width; `load` says how weights are stored, and where. The
    /// adapters in it are not used.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for another layout or a setting outside its range, and those of the tensor operations.
    pub fn new(
        config: &UNet2DConditionConfig,
        network: &NetworkOptions,
        optimizer: OptimizerOptions,
        side: usize,
        load: &LoadOptions,
    ) -> Result<Self> {
        // 1. the network with its LoRA
        let OneOrMany::One(context) = config.cross_attention_dim else {
            return Err(other_layout("cross_attention_dim", "a list"));
        };
        let names = ModuleNames::from_source(&Projections::of(config, context)?);
        let text = ModuleNames::default();
        let lora = LoraNetwork::new(network, &names, &text, 0, &load.device)?;
        let params = Params::new(Arc::new(RandomSource::new(0)), load.dtype, &load.device)
            .with_adapters(lora.unet_adapters());
        let unet = UNet2DConditionModel::load(config, &params)?;

        // 2. the batch
        let dtype = load.compute_dtype();
        let mut noise = TorchNoise::new(0);
        let mut random = |shape: &[usize]| noise.randn(&shape.into(), dtype, &load.device);
        let batch = Batch {
            latents: random(&[1, 4, side, side])?,
            mask: square_mask(side)?.to_device(&load.device)?.to_dtype(dtype)?,
            masked_image_latents: random(&[1, 4, side, side])?,
            noise: random(&[1, 4, side, side])?,
            timesteps: vec![500],
            encoder_hidden_states: random(&[1, TOKENS, context])?,
        };

        // 3. the objective on Stable Diffusion's forward process
        let scheduler = SchedulerConfig {
            beta_start: Some(0.00085),
            beta_end: Some(0.012),
            beta_schedule: Some("scaled_linear".to_owned()),
            ..SchedulerConfig::default()
        };
        let objective = Objective::new(ObjectiveOptions::default(), scheduler.train_schedule()?);
        let parameters = lora.parameters().to_vec();
        let learner = Learner::new(unet, objective, optimizer, parameters, u64::MAX)?;
        Ok(Self { learner, batch })
    }

    /// Computes activations again in the backward pass from now on, or keeps them.
    pub const fn set_gradient_checkpointing(&mut self, on: bool) {
        self.learner.set_gradient_checkpointing(on);
    }

    /// Trains one step.
    ///
    /// # Errors
    /// Those of [`Learner::step`].
    pub fn step(&mut self) -> Result<StepReport> {
        self.learner.step(std::iter::once(Ok(self.batch.clone())))
    }

    /// What is trained.
    #[must_use]
    pub const fn learner(&self) -> &Learner {
        &self.learner
    }
}

/// `(1, 1, side, side)`: 1 in a square in the middle, 0 around it.
fn square_mask(side: usize) -> Result<Tensor> {
    let edge = ((1.0 - DAMAGED) / 2.0 * side as f64) as usize;
    let inside = |at: usize| (edge..side - edge).contains(&at);
    let at = |i: usize| if inside(i / side) && inside(i % side) { 1.0_f32 } else { 0.0 };
    let values: Vec<f32> = (0..side * side).map(at).collect();
    Ok(Tensor::from_vec(values, (1, 1, side, side), &Device::Cpu)?)
}

fn other_layout(key: &str, found: impl std::fmt::Display) -> DiffusionError {
    DiffusionError::argument(key, "that of Stable Diffusion 1", found)
}

/// The shapes of the weights of every attention's projections: random weights have none before they are asked for.
struct Projections(BTreeMap<String, Vec<usize>>);

impl Projections {
    fn of(config: &UNet2DConditionConfig, context: usize) -> Result<Self> {
        let widths = &config.block_out_channels;
        let plain = UNet2DConditionConfig::default();
        for (key, same) in [
            ("down_block_types", config.down_block_types == plain.down_block_types),
            ("up_block_types", config.up_block_types == plain.up_block_types),
            ("mid_block_type", config.mid_block_type == plain.mid_block_type),
            ("layers_per_block", config.layers_per_block == plain.layers_per_block),
            ("block_out_channels", widths.len() == plain.block_out_channels.len()),
        ] {
            if !same {
                return Err(other_layout(key, "another"));
            }
        }
        let mut shapes = BTreeMap::new();
        for path in ModuleNames::stable_diffusion_unet().paths() {
            let Some((place, projection)) = path.split_once(".transformer_blocks.0.attn") else {
                continue;
            };
            // down_blocks.0, up_blocks.3, mid_block
            let mut parts = place.split('.');
            let (way, level) = (parts.next(), parts.next().and_then(|level| level.parse().ok()));
            let width = match (way, level) {
                (Some("down_blocks"), Some(level)) => widths.get::<usize>(level),
                (Some("up_blocks"), Some(level)) => widths.iter().rev().nth(level),
                _ => widths.last(),
            };
            let width = *width.ok_or_else(|| other_layout("block_out_channels", path))?;
            let inputs = match projection {
                "2.to_k" | "2.to_v" => context,
                _ => width,
            };
            shapes.insert(format!("{path}.weight"), vec![width, inputs]);
        }
        Ok(Self(shapes))
    }
}

impl TensorSource for Projections {
    fn origin(&self) -> String {
        "random weights".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.0.get(name).map(|shape| TensorInfo { dtype: DType::F32, shape: shape.clone() })
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        RandomSource::new(0).read(name, shape, dtype, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stable Diffusion 1's layout, a tenth as wide.
    fn narrow() -> UNet2DConditionConfig {
        UNet2DConditionConfig {
            in_channels: 9,
            block_out_channels: vec![16, 32, 64, 64],
            norm_num_groups: 8,
            cross_attention_dim: OneOrMany::One(24),
            attention_head_dim: OneOrMany::One(4),
            ..UNet2DConditionConfig::default()
        }
    }

    fn rank_4() -> NetworkOptions {
        NetworkOptions { rank: 4, ..NetworkOptions::default() }
    }

    fn bench(config: &UNet2DConditionConfig, dtype: DType) -> Result<StepBench> {
        let load = LoadOptions { dtype, ..LoadOptions::default() };
        StepBench::new(config, &rank_4(), OptimizerOptions::default(), 16, &load)
    }

    #[test]
    fn a_step_trains_every_matrix_up_with_and_without_checkpointing() {
        for dtype in [DType::F32, DType::BF16] {
            let mut reports = Vec::new();
            for checkpointing in [false, true] {
                let mut bench = bench(&narrow(), dtype).expect("a small network");
                bench.set_gradient_checkpointing(checkpointing);
                // 16 transformer blocks of 2 attentions with 4 projections, down and up
                let parameters = bench.learner().parameters();
                assert_eq!(parameters.len(), 16 * 2 * 4 * 2);
                reports.push(bench.step().expect("a step"));
                for parameter in bench.learner().parameters() {
                    let gradient = bench.learner().gradient(parameter).expect(&parameter.name);
                    let largest = gradient.abs().expect("abs").max_all().expect("max");
                    let largest: f32 = largest.to_scalar().expect("a number");
                    // Up is 0 at first, and down has no gradient behind it.
                    assert_eq!(
                        largest > 0.0,
                        parameter.name.contains("lora_B"),
                        "{}",
                        parameter.name
                    );
                }
            }
            assert!((reports[0].loss - reports[1].loss).abs() < 1e-6, "{reports:?}");
            // Where activations are bf16, so are the gradients that the two ways add up in another order.
            let tolerance = if dtype == DType::BF16 { 1e-2 } else { 1e-4 };
            let difference = (reports[0].grad_norm / reports[1].grad_norm - 1.0).abs();
            assert!(difference < tolerance, "{reports:?}");
        }
    }

    #[test]
    fn a_lora_of_rank_4_on_stable_diffusion_1_has_797184_numbers() {
        let config = UNet2DConditionConfig { in_channels: 9, ..UNet2DConditionConfig::default() };
        let names = ModuleNames::from_source(&Projections::of(&config, 768).expect("its layout"));
        let lora = LoraNetwork::new(&rank_4(), &names, &ModuleNames::default(), 0, &Device::Cpu)
            .expect("a LoRA");
        // The count that PEFT gives for diffusers' UNet.
        let count: usize = lora.parameters().iter().map(|one| one.var.elem_count()).sum();
        assert_eq!(count, 797_184);
    }

    #[test]
    fn another_layout_is_named() {
        let config = UNet2DConditionConfig { layers_per_block: OneOrMany::One(1), ..narrow() };
        let error = bench(&config, DType::F32).expect_err("one layer a block").to_string();
        assert!(error.starts_with("layers_per_block: expected that of"), "{error}");
    }
}
