//! What models say to inputs, weights and configurations that do not fit, and storage in half precision.

#[path = "common/random.rs"]
mod random;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{MemorySource, TensorInfo, TensorSource};
use diffusion::models::{
    AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig, AutoencoderKl, AutoencoderKlConfig,
    ClipTextConfig, ClipTextModel, UNet2DConditionConfig, UNet2DConditionModel,
};
use diffusion::nn::Params;
use diffusion::{DiffusionError, Result};
use proptest::prelude::*;
use random::{RandomSource, randn};
use serde_json::{Value, json};

fn params(dtype: DType) -> Params {
    Params::new(Arc::new(RandomSource::default()), dtype, &Device::Cpu)
}

fn unet_json() -> Value {
    json!({
        "in_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "cross_attention_dim": 6,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    })
}

fn unet(dtype: DType) -> Result<UNet2DConditionModel> {
    UNet2DConditionModel::load(&UNet2DConditionConfig::from_json(&unet_json())?, &params(dtype))
}

fn vae_config() -> Result<AutoencoderKlConfig> {
    AutoencoderKlConfig::from_json(&json!({
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "block_out_channels": [4, 8],
        "norm_num_groups": 2,
    }))
}

fn clip(dtype: DType) -> Result<ClipTextModel> {
    let config = ClipTextConfig::from_json(&json!({
        "vocab_size": 20, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2,
    }))?;
    ClipTextModel::load(&config, &params(dtype))
}

/// The error is about the input `what`.
fn assert_shape_error<T>(result: Result<T>, what: &str) {
    match result {
        Err(DiffusionError::Shape { what: found, .. }) => assert_eq!(found, what),
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what}: no error"),
    }
}

#[test]
fn inputs_of_other_shapes_are_named() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let unet = unet(DType::F32)?;
    let (sample, timestep, context) = (zeros(&[1, 4, 8, 8])?, zeros(&[1])?, zeros(&[1, 5, 6])?);
    unet.forward(&sample, &timestep, &context)?;
    assert_shape_error(unet.forward(&zeros(&[1, 9, 8, 8])?, &timestep, &context), "sample");
    assert_shape_error(unet.forward(&zeros(&[4, 8, 8])?, &timestep, &context), "sample");
    assert_shape_error(unet.forward(&zeros(&[1, 4, 0, 8])?, &timestep, &context), "sample");
    assert_shape_error(unet.forward(&sample, &zeros(&[2])?, &context), "timestep");
    let wide = zeros(&[1, 5, 7])?;
    assert_shape_error(unet.forward(&sample, &timestep, &wide), "encoder_hidden_states");
    let two = zeros(&[2, 5, 6])?;
    assert_shape_error(unet.forward(&sample, &timestep, &two), "encoder_hidden_states");
    let error = unet.forward_conditioned(&sample, &timestep, &context, Some(&timestep));
    assert!(error.expect_err("no condition is taken").to_string().contains("timestep_cond"));

    let vae = AutoencoderKl::load(&vae_config()?, &params(DType::F32))?;
    assert_shape_error(vae.encode(&zeros(&[1, 3, 9, 8])?), "image");
    assert_shape_error(vae.encode(&zeros(&[1, 4, 8, 8])?), "image");
    assert_shape_error(vae.decode(&zeros(&[1, 3, 4, 4])?), "latents");

    let clip = clip(DType::F32)?;
    assert_shape_error(
        clip.forward(&Tensor::zeros((1, 78), DType::U32, &Device::Cpu)?),
        "input_ids",
    );
    assert_shape_error(clip.forward(&Tensor::zeros(77, DType::U32, &Device::Cpu)?), "input_ids");
    let error = clip.forward(&Tensor::new(&[[3u32, 20]], &Device::Cpu)?);
    assert!(error.expect_err("20 is outside").to_string().contains("20"));
    Ok(())
}

#[test]
fn the_asymmetric_decoder_names_image_and_mask() -> Result<()> {
    let config = AsymmetricAutoencoderKlConfig::from_json(&json!({
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "down_block_out_channels": [4, 8],
        "up_block_out_channels": [4, 8],
        "norm_num_groups": 2,
    }))?;
    let model = AsymmetricAutoencoderKl::load(&config, &params(DType::F32))?;
    let (latents, image) = (randn("latents", &[1, 4, 4, 4]), randn("image", &[1, 3, 8, 8]));
    let mask = randn("mask", &[1, 1, 8, 8]);
    assert_shape_error(model.decode(&latents, &image.narrow(2, 0, 6)?, &mask), "image");
    assert_shape_error(model.decode(&latents, &image, &image), "mask");
    // The condition encoder's widths are 4, 8, 16, 20: none of 20 at half size.
    let mut uneven = config;
    uneven.up_block_out_channels = vec![4, 20];
    let result = AsymmetricAutoencoderKl::load(&uneven, &params(DType::F32));
    let error = result.expect_err("the widths do not meet").to_string();
    assert!(error.contains("up_block_out_channels"), "{error}");
    Ok(())
}

#[test]
fn missing_and_misshapen_weights_are_named() -> Result<()> {
    let config = UNet2DConditionConfig::from_json(&unet_json())?;
    let load = |tensors: HashMap<String, Tensor>| {
        let source = Arc::new(MemorySource::new("unet.safetensors", tensors));
        UNet2DConditionModel::load(&config, &Params::new(source, DType::F32, &Device::Cpu))
    };
    let error = load(HashMap::new()).expect_err("nothing is there");
    assert!(matches!(error, DiffusionError::MissingTensor { .. }), "{error}");
    let name = "time_embedding.linear_1.weight".to_owned();
    let error = load(HashMap::from([(name, randn("w", &[2, 2]))])).expect_err("too small");
    assert!(matches!(error, DiffusionError::TensorShape { .. }), "{error}");
    assert!(error.to_string().contains("time_embedding.linear_1.weight"), "{error}");
    Ok(())
}

#[test]
fn half_precision_storage_computes_in_the_inputs_dtype() -> Result<()> {
    let (sample, context) = (randn("sample", &[2, 4, 6, 10]), randn("context", &[2, 5, 6]));
    let timestep = Tensor::new(&[10f32, 700.0], &Device::Cpu)?;
    let image = randn("image", &[1, 3, 8, 8]);
    let ids = Tensor::new(&[[3u32, 1, 19]], &Device::Cpu)?;
    let run = |dtype| -> Result<Vec<Tensor>> {
        let vae = AutoencoderKl::load(&vae_config()?, &params(dtype))?;
        Ok(vec![
            unet(dtype)?.forward(&sample, &timestep, &context)?,
            vae.decode(&vae.encode(&image)?.mean)?,
            clip(dtype)?.forward(&ids)?,
        ])
    };
    let reference = run(DType::F32)?;
    for dtype in [DType::BF16, DType::F16] {
        for (half, full) in run(dtype)?.into_iter().zip(&reference) {
            assert_eq!(half.dtype(), DType::F32);
            let error = (half - full)?.abs()?.max_all()?.to_scalar::<f32>()?;
            // bf16 keeps 8 bits: half a percent a weight, over some ten layers.
            assert!(error > 0.0 && error < 0.2, "{dtype:?}: {error}");
        }
    }
    Ok(())
}

/// Zeros of any shape that take no memory: a view of a single one.
struct Zeros;

impl TensorSource for Zeros {
    fn origin(&self) -> String {
        "zeros".to_owned()
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn info(&self, _: &str) -> Option<TensorInfo> {
        None
    }

    fn read(&self, _: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(Tensor::zeros(1, dtype, device)?.broadcast_as(shape)?)
    }
}

/// What a configuration may hold where something else belongs.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(12),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(true),
        json!(""),
        json!("gelu"),
        json!("scale_shift"),
        json!([]),
        json!([1, 2]),
        json!([12, 24]),
        json!([0, 0]),
        json!([true, false]),
        json!(["DownBlock2D", "CrossAttnDownBlock2D"]),
        json!([[1], [2]]),
        json!({}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a configuration says, the answer is a model that runs or an error that says why.
    #[test]
    fn absurd_configurations_do_not_panic(
        (key, second) in (0usize..30, 0usize..30),
        (value, other) in (proptest::sample::select(values()), proptest::sample::select(values())),
    ) {
        let params = Params::new(Arc::new(Zeros), DType::F32, &Device::Cpu);
        let mutated = |config: Value| {
            let mut object = config.as_object().expect("configurations are objects").clone();
            let keys: Vec<String> = object.keys().cloned().collect();
            object.insert(keys[key % keys.len()].clone(), value.clone());
            object.insert(keys[second % keys.len()].clone(), other.clone());
            Value::Object(object)
        };
        let mut config = UNet2DConditionConfig::from_json(&unet_json()).expect("valid");
        config.num_attention_heads = None;
        let json = mutated(serde_json::to_value(&config).expect("configurations are JSON"));
        let model = UNet2DConditionConfig::from_json(&json)
            .and_then(|config| UNet2DConditionModel::load(&config, &params));
        if let Ok(model) = model {
            let config = model.config();
            if config.in_channels < 64 && config.context_dim() < 64 && config.out_channels < 64 {
                let sample = randn("sample", &[1, config.in_channels, 4, 3]);
                let context = randn("context", &[1, 3, config.context_dim()]);
                let timestep = Tensor::new(&[7f32], &Device::Cpu).expect("a tensor");
                let _ = model.forward(&sample, &timestep, &context);
            }
        }
        let json = mutated(serde_json::to_value(vae_config().expect("valid")).expect("JSON"));
        let _ = AutoencoderKlConfig::from_json(&json)
            .and_then(|config| AutoencoderKl::load(&config, &params));
        let json = mutated(serde_json::to_value(AsymmetricAutoencoderKlConfig::default()).expect("JSON"));
        let _ = AsymmetricAutoencoderKlConfig::from_json(&json)
            .and_then(|config| AsymmetricAutoencoderKl::load(&config, &params));
        let json = mutated(serde_json::to_value(ClipTextConfig::default()).expect("JSON"));
        let _ = ClipTextConfig::from_json(&json)
            .and_then(|config| ClipTextModel::load(&config, &params));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Latents of any size, also sides that do not halve evenly, give a prediction of their own size.
    #[test]
    fn the_unet_takes_latents_of_any_size(h in 1usize..12, w in 1usize..12, b in 1usize..3) {
        let model = unet(DType::F32).expect("the configuration is valid");
        let timestep = Tensor::full(1f32, b, &Device::Cpu).expect("a tensor");
        let ys = model
            .forward(&randn("sample", &[b, 4, h, w]), &timestep, &randn("context", &[b, 3, 6]))
            .expect("any size is taken");
        prop_assert_eq!(ys.dims(), &[b, 4, h, w]);
    }
}
