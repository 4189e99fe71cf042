//! The UNet of candle-transformers at the size of Stable Diffusion 1.5 for inpainting, in f32 on random weights.
//!
//! Speaks as `networks.py` does: a line of JSON once it has run, then for each line with a number N the median seconds of
//! N runs after one that is not timed.

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::time::Instant;

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::Cpu;
    let vb = VarBuilder::from_backend(Box::new(Random), DType::F32, device.clone());
    let unet = UNet2DConditionModel::new(vb, 9, 4, false, stable_diffusion_1())?;
    let sample = Tensor::randn(0_f32, 1.0, (1, 9, 64, 64), &device)?;
    let context = Tensor::randn(0_f32, 1.0, (1, 77, 768), &device)?;
    let run = || unet.forward(&sample, 501.0, &context);

    run()?;
    answer(&json!({"versions": {"candle-transformers": "0.11.1"}}))?;
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    for line in stdin().lines() {
        let runs: usize = line?.trim().parse()?;
        run()?;
        let mut seconds = Vec::new();
        for _ in 0..runs {
            let started = Instant::now();
            run()?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        answer(&json!({
            "seconds": seconds.get(runs / 2),
            "fastest": seconds.first(),
            "peak_bytes": peak_bytes(),
        }))?;
    }
    Ok(())
}

/// Weights as each layer wants them at first. No variables: for those every activation would be kept.
struct Random;

impl SimpleBackend for Random {
    fn get(
        &self,
        shape: Shape,
        _: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        Ok(init.var(shape, dtype, device)?.as_detached_tensor())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        candle_core::bail!("{name}: expected a shape, found none")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// The defaults, but for the width of the context.
fn stable_diffusion_1() -> UNet2DConditionModelConfig {
    let block = |out_channels, use_cross_attn| BlockConfig {
        out_channels,
        use_cross_attn,
        attention_head_dim: 8,
    };
    UNet2DConditionModelConfig {
        blocks: vec![
            block(320, Some(1)),
            block(640, Some(1)),
            block(1280, Some(1)),
            block(1280, None),
        ],
        cross_attention_dim: 768,
        ..UNet2DConditionModelConfig::default()
    }
}

fn answer(values: &Value) -> std::io::Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{values}")?;
    stdout.flush()
}

/// The most memory since the peak was reset, as Linux counts it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
