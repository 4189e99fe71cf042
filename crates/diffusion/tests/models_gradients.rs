//! Every model can be differentiated: with respect to its adapters and to its inputs.

#[path = "common/random.rs"]
mod random;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use diffusion::Result;
use diffusion::lora::{Adapters, LoraLayer};
use diffusion::models::{
    AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig, AutoencoderKl, AutoencoderKlConfig,
    ClipTextConfig, ClipTextModel, UNet2DConditionConfig, UNet2DConditionModel,
};
use diffusion::nn::Params;
use random::{RandomSource, randn};
use serde_json::json;

fn params(source: &Arc<RandomSource>) -> Params {
    Params::new(source.clone(), DType::F32, &Device::Cpu)
}

/// A sum in which every element has a weight of its own: plain sums have no gradient behind a norm.
fn weighted_sum(xs: &Tensor) -> Result<Tensor> {
    Ok((xs * randn("loss", xs.dims()))?.sum_all()?)
}

/// Moves the `index`-th element of `var` by `step`.
fn nudge(var: &Var, index: usize, step: f32) -> Result<()> {
    let mut values = var.flatten_all()?.to_vec1::<f32>()?;
    values[index] += step;
    var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
    Ok(())
}

/// The gradient of `loss` at `var` is finite, not zero, and equals the central difference at its largest element.
fn check_gradient(
    what: &str,
    var: &Var,
    grad: &Tensor,
    loss: &dyn Fn() -> Result<Tensor>,
) -> Result<()> {
    let grad = grad.flatten_all()?.to_vec1::<f32>()?;
    assert!(grad.iter().all(|g| g.is_finite()), "{what}: {grad:?}");
    let (index, largest) = grad
        .iter()
        .copied()
        .enumerate()
        .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
        .expect("a variable has elements");
    assert!(largest != 0.0, "{what}: no gradient");
    const STEP: f32 = 1e-2;
    nudge(var, index, STEP)?;
    let above = loss()?.to_scalar::<f32>()?;
    nudge(var, index, -2.0 * STEP)?;
    let below = loss()?.to_scalar::<f32>()?;
    nudge(var, index, STEP)?;
    let difference = (above - below) / (2.0 * STEP);
    let tolerance = 0.03 * largest.abs() + 2e-3;
    assert!(
        (difference - largest).abs() < tolerance,
        "{what}: {largest}, but {difference} by differences"
    );
    Ok(())
}

fn tiny_unet() -> Result<UNet2DConditionConfig> {
    UNet2DConditionConfig::from_json(&json!({
        "in_channels": 9,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "cross_attention_dim": 6,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }))
}

#[test]
fn every_lora_tensor_of_the_unet_gets_a_gradient() -> Result<()> {
    let config = tiny_unet()?;
    let source = Arc::new(RandomSource::default());
    UNet2DConditionModel::load(&config, &params(&source))?;

    // 1. adapters with random tensors on the four projections of every attention
    let mut vars: Vec<(String, Var)> = Vec::new();
    let mut layers = HashMap::new();
    let targets = ["to_q", "to_k", "to_v", "to_out.0"];
    for (name, shape) in source.read_so_far() {
        let Some(path) = name.strip_suffix(".weight") else { continue };
        if !targets.iter().any(|target| path.ends_with(&format!(".{target}"))) {
            continue;
        }
        let (rank, out, input) = (2, shape[0], shape[1]);
        let mut var = |half: &str, shape: &[usize]| -> Result<Tensor> {
            let name = format!("{path}.{half}");
            let var = Var::from_tensor(&(randn(&name, shape) * 0.3)?)?;
            vars.push((name, var.clone()));
            Ok(var.as_tensor().clone())
        };
        let down = var("lora_A", &[rank, input])?;
        let up = var("lora_B", &[out, rank])?;
        layers.insert(path.to_owned(), vec![LoraLayer::new(down, up, 0.5)]);
    }
    // Transformers: 1 down, 1 middle, 2 up; two attentions each; four layers; two tensors.
    assert_eq!(vars.len(), 4 * 2 * 4 * 2);
    for target in targets {
        assert!(
            vars.iter().any(|(name, _)| name.ends_with(&format!("{target}.lora_A"))),
            "{target}"
        );
    }
    let adapters = Arc::new(Adapters::live_set(layers));
    let model = UNet2DConditionModel::load(&config, &params(&source).with_adapters(adapters))?;

    // 2. one backward
    let sample = Var::from_tensor(&randn("sample", &[1, 9, 8, 8]))?;
    let context = Var::from_tensor(&randn("context", &[1, 5, 6]))?;
    let timestep = Tensor::new(&[321f32], &Device::Cpu)?;
    let loss = || weighted_sum(&model.forward(&sample, &timestep, &context)?);
    let grads = loss()?.backward()?;

    // 3. finite differences for the inputs, and for adapters at both ends of the network
    let grad = |var: &Var| grads.get(var).expect("the variable has a gradient").clone();
    check_gradient("sample", &sample, &grad(&sample), &loss)?;
    check_gradient("context", &context, &grad(&context), &loss)?;
    for (name, var) in &vars {
        let grad = grad(var);
        let values = grad.flatten_all()?.to_vec1::<f32>()?;
        assert!(values.iter().all(|g| g.is_finite()), "{name}: {values:?}");
        assert!(values.iter().any(|g| *g != 0.0), "{name}: all zero");
        if name.starts_with("down_blocks.0") || name.starts_with("up_blocks.1.attentions.1") {
            check_gradient(name, var, &grad, &loss)?;
        }
    }
    Ok(())
}

#[test]
fn gradients_flow_through_sides_that_do_not_halve_evenly() -> Result<()> {
    for padding in [0, 1] {
        let mut config = tiny_unet()?;
        config.downsample_padding = padding;
        let source = Arc::new(RandomSource::default());
        let model = UNet2DConditionModel::load(&config, &params(&source))?;
        let sample = Var::from_tensor(&randn("sample", &[1, 9, 6, 5]))?;
        let context = randn("context", &[1, 5, 6]);
        let timestep = Tensor::new(&[321f32], &Device::Cpu)?;
        let loss = || weighted_sum(&model.forward(&sample, &timestep, &context)?);
        let grads = loss()?.backward()?;
        check_gradient("sample", &sample, grads.get(&sample).expect("a gradient"), &loss)?;
    }
    Ok(())
}

#[test]
fn gradients_flow_through_the_text_encoder() -> Result<()> {
    let config = ClipTextConfig::from_json(&json!({
        "vocab_size": 20, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2,
    }))?;
    let source = Arc::new(RandomSource::default());
    let path = "text_model.encoder.layers.0.self_attn.q_proj";
    let down = Var::from_tensor(&randn("down", &[2, 8]))?;
    let up = Var::from_tensor(&randn("up", &[8, 2]))?;
    let layer = LoraLayer::new(down.as_tensor().clone(), up.as_tensor().clone(), 1.0);
    let adapters = Adapters::live_set(HashMap::from([(path.to_owned(), vec![layer])]));
    let model = ClipTextModel::load(&config, &params(&source).with_adapters(Arc::new(adapters)))?;
    let embeddings = Var::from_tensor(&randn("embeddings", &[1, 7, 8]))?;
    let loss = || weighted_sum(&model.forward_embeddings(&embeddings)?);
    let grads = loss()?.backward()?;
    for (what, var) in [("embeddings", &embeddings), ("down", &down), ("up", &up)] {
        let grad = grads.get(var).expect("the variable has a gradient");
        check_gradient(what, var, grad, &loss)?;
    }
    Ok(())
}

#[test]
fn gradients_flow_through_the_autoencoder() -> Result<()> {
    let config = AutoencoderKlConfig::from_json(&json!({
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "block_out_channels": [4, 8],
        "norm_num_groups": 2,
    }))?;
    let source = Arc::new(RandomSource::default());
    let model = AutoencoderKl::load(&config, &params(&source))?;

    let image = Var::from_tensor(&randn("image", &[1, 3, 8, 12]))?;
    let encode = || {
        let posterior = model.encode(&image)?;
        weighted_sum(&Tensor::cat(&[posterior.mean, posterior.logvar], 1)?)
    };
    let grads = encode()?.backward()?;
    check_gradient("image", &image, grads.get(&image).expect("a gradient"), &encode)?;

    let latents = Var::from_tensor(&randn("latents", &[1, 4, 4, 6]))?;
    let decode = || weighted_sum(&model.decode(&latents)?);
    let grads = decode()?.backward()?;
    check_gradient("latents", &latents, grads.get(&latents).expect("a gradient"), &decode)
}

#[test]
fn gradients_flow_through_the_asymmetric_autoencoder() -> Result<()> {
    let config = AsymmetricAutoencoderKlConfig::from_json(&json!({
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "down_block_out_channels": [4, 8],
        "up_block_out_channels": [4, 8],
        "norm_num_groups": 2,
    }))?;
    let source = Arc::new(RandomSource::default());
    let model = AsymmetricAutoencoderKl::load(&config, &params(&source))?;
    let latents = Var::from_tensor(&randn("latents", &[1, 4, 4, 6]))?;
    let image = Var::from_tensor(&randn("image", &[1, 3, 8, 12]))?;
    let mask = randn("mask", &[1, 1, 8, 12]).gt(0f64)?.to_dtype(DType::F32)?;
    let loss = || weighted_sum(&model.decode(&latents, &image, &mask)?);
    let grads = loss()?.backward()?;
    for (what, var) in [("latents", &latents), ("image", &image)] {
        check_gradient(what, var, grads.get(var).expect("a gradient"), &loss)?;
    }
    // Repainted pixels are not looked at.
    let seen = (grads.get(&image).expect("a gradient").abs()?.sum_keepdim(1)? * &mask)?;
    assert_eq!(seen.sum_all()?.to_scalar::<f32>()?, 0.0);
    Ok(())
}
