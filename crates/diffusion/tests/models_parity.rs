//! Every model against diffusers and transformers, on the cases that `fixtures/generate_models.py` wrote.

mod common;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use diffusion::Result;
use diffusion::checkpoint::{SafetensorsFile, TensorSource};
use diffusion::models::{
    AsymmetricAutoencoderKl, AsymmetricAutoencoderKlConfig, AutoencoderKl, AutoencoderKlConfig,
    ClipTextConfig, ClipTextModel, UNet2DConditionConfig, UNet2DConditionModel,
};
use diffusion::nn::Params;
use diffusion::noise::NoiseSource;
use serde_json::Value;

/// A folder of the fixtures.
struct Case {
    name: String,
    config: Value,
    params: Params,
    weights: Arc<dyn TensorSource>,
    io: HashMap<String, Tensor>,
    /// Random networks of real size are compared relatively: their outputs and rounding grow with depth and width.
    large: bool,
}

impl Case {
    fn open(folder: &std::path::Path) -> Result<Self> {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let config: Value = common::json(&format!("models/{name}/config.json"));
        let weights = ["diffusion_pytorch_model.safetensors", "model.safetensors"]
            .into_iter()
            .map(|file| folder.join(file))
            .find(|path| path.exists())
            .expect("every case has weights");
        let weights = Arc::new(SafetensorsFile::open(weights)?);
        let parameters: usize = weights
            .names()
            .iter()
            .filter_map(|name| weights.info(name))
            .map(|info| info.shape.iter().product::<usize>())
            .sum();
        Ok(Self {
            name,
            config,
            params: Params::new(weights.clone(), DType::F32, &Device::Cpu),
            weights,
            io: SafetensorsFile::open(folder.join("io.safetensors"))?.read_all(&Device::Cpu)?,
            large: parameters > 10_000_000,
        })
    }

    /// The cases of a class, named by diffusers in `_class_name` and by transformers in `architectures`.
    fn all(class: &str) -> Vec<Self> {
        let root = common::fixtures().join("models");
        let entries = std::fs::read_dir(&root).expect("the fixtures have a folder of models");
        let mut folders: Vec<PathBuf> =
            entries.map(|entry| entry.expect("a readable folder").path()).collect();
        folders.sort();
        let cases: Vec<Self> = folders
            .into_iter()
            .filter(|folder| folder.join("config.json").exists())
            .filter(|folder| {
                let text = std::fs::read_to_string(folder.join("config.json"));
                let config: Value = serde_json::from_str(&text.expect("a readable configuration"))
                    .expect("a configuration is JSON");
                config["_class_name"] == class || config["architectures"][0] == class
            })
            .map(|folder| Self::open(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")))
            .collect();
        // Fixtures of real size leave classes out; those of the repository have all.
        let given = std::env::var_os("PHOTOMEND_FIXTURES").is_some();
        assert!(given || !cases.is_empty(), "{}: no case of {class}", root.display());
        cases
    }

    fn get(&self, key: &str) -> &Tensor {
        self.io.get(key).unwrap_or_else(|| panic!("{}: no {key}", self.name))
    }

    /// Compares with the tensor `key`: 1e-4 max-abs, or for large networks 1e-3 of the largest value.
    fn check(&self, key: &str, actual: &Tensor) -> Result<()> {
        let expected = self.get(key);
        assert_eq!(actual.dims(), expected.dims(), "{}: {key}", self.name);
        let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
        let error = (actual - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
        println!("{}: {key}: error {error:.3e}, largest value {largest:.3e}", self.name);
        let tolerance = if self.large { 1e-3 * largest } else { 1e-4 };
        assert!(error <= tolerance, "{}: {key}: {error:e} is more than {tolerance:e}", self.name);
        Ok(())
    }

    /// The case with weights in bf16.
    fn in_bf16(&self) -> Params {
        Params::new(Arc::clone(&self.weights), DType::BF16, &Device::Cpu)
    }

    /// The root mean square error of bf16 by that of PyTorch's bf16, both against f32. Both round alike weights and
    /// differently what lies between: one by chance a little more here, the other there.
    fn bf16_ratio(&self, key: &str, actual: &Tensor) -> Result<f32> {
        let Some(theirs) = self.io.get(&format!("{key}_bf16")) else {
            panic!("{}: no {key} in bf16: made by an older generator", self.name);
        };
        let expected = self.get(key);
        let error = |tensor: &Tensor| {
            let square = (tensor.to_dtype(DType::F32)? - expected)?.sqr()?.mean_all()?;
            Ok::<_, diffusion::DiffusionError>(square.to_scalar::<f32>()?.sqrt())
        };
        let (ours, theirs) = (error(actual)?, error(theirs)?);
        println!("{}: {key} in bf16: error {ours:.3e}, PyTorch's {theirs:.3e}", self.name);
        assert!(ours > 0.0 && ours <= 1.2 * theirs, "{}: {key}: {ours:e}", self.name);
        Ok(ours / theirs)
    }

    /// Every tensor of the file has been read.
    fn check_all_used(&self) {
        assert_eq!(self.params.unused(), Vec::<String>::new(), "{}", self.name);
    }
}

/// The noise that the fixture was made with.
struct Given<'a>(&'a Tensor);

impl NoiseSource for Given<'_> {
    fn randn(&mut self, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        assert_eq!(self.0.shape(), shape);
        Ok(self.0.to_dtype(dtype)?.to_device(device)?)
    }
}

#[test]
fn unet_parity() -> Result<()> {
    for case in Case::all("UNet2DConditionModel") {
        let config = UNet2DConditionConfig::from_json(&case.config)?;
        let model = UNet2DConditionModel::load(&config, &case.params)?;
        case.check_all_used();
        let noise_pred = model.forward_conditioned(
            case.get("sample"),
            case.get("timestep"),
            case.get("encoder_hidden_states"),
            case.io.get("timestep_cond"),
        )?;
        case.check("noise_pred", &noise_pred)?;
    }
    Ok(())
}

#[test]
fn autoencoder_kl_parity() -> Result<()> {
    for case in Case::all("AutoencoderKL") {
        let config = AutoencoderKlConfig::from_json(&case.config)?;
        let model = AutoencoderKl::load(&config, &case.params)?;
        case.check_all_used();
        let posterior = model.encode(case.get("image"))?;
        case.check("mean", &posterior.mean)?;
        case.check("mean", &posterior.mode())?;
        case.check("logvar", &posterior.logvar)?;
        // Deviations reach e^10: compared in units of the deviation.
        let sample = posterior.sample(&mut Given(case.get("noise")))?;
        let std = (case.get("logvar") * 0.5)?.exp()?;
        let error = ((sample - case.get("latent_sample"))? / (std + 1.0)?)?.abs()?.max_all()?;
        let error = error.to_scalar::<f32>()?;
        assert!(error < if case.large { 1e-2 } else { 1e-4 }, "{}: sample: {error}", case.name);
        case.check("decoded", &model.decode(case.get("latents"))?)?;
    }
    Ok(())
}

#[test]
fn asymmetric_autoencoder_kl_parity() -> Result<()> {
    for case in Case::all("AsymmetricAutoencoderKL") {
        let config = AsymmetricAutoencoderKlConfig::from_json(&case.config)?;
        let model = AsymmetricAutoencoderKl::load(&config, &case.params)?;
        case.check_all_used();
        let posterior = model.encode(case.get("image"))?;
        case.check("mean", &posterior.mean)?;
        case.check("logvar", &posterior.logvar)?;
        let latents = case.get("latents");
        let decoded = model.decode(latents, case.get("image"), case.get("mask"))?;
        case.check("decoded", &decoded)?;
        case.check("decoded_unconditioned", &model.decode_unconditioned(latents)?)?;
    }
    Ok(())
}

#[test]
fn bf16_parity() -> Result<()> {
    let mut ratios = Vec::new();
    for case in Case::all("UNet2DConditionModel") {
        let config = UNet2DConditionConfig::from_json(&case.config)?;
        let model = UNet2DConditionModel::load(&config, &case.in_bf16())?;
        let noise_pred = model.forward_conditioned(
            case.get("many_sample"),
            case.get("many_timestep"),
            case.get("many_encoder_hidden_states"),
            case.io.get("many_timestep_cond"),
        )?;
        ratios.push(case.bf16_ratio("many_noise_pred", &noise_pred)?);
    }
    for case in Case::all("AutoencoderKL") {
        let config = AutoencoderKlConfig::from_json(&case.config)?;
        let model = AutoencoderKl::load(&config, &case.in_bf16())?;
        ratios.push(case.bf16_ratio("mean", &model.encode(case.get("image"))?.mean)?);
        ratios.push(case.bf16_ratio("decoded", &model.decode(case.get("latents"))?)?);
    }
    let mean = ratios.iter().sum::<f32>() / ratios.len() as f32;
    println!("error in bf16 by PyTorch's: {mean:.3} on average");
    assert!(mean <= 1.0, "{mean} times PyTorch's error on average");
    Ok(())
}

#[test]
fn clip_text_parity() -> Result<()> {
    for case in Case::all("CLIPTextModel") {
        let config = ClipTextConfig::from_json(&case.config)?;
        let model = ClipTextModel::load(&config, &case.params)?;
        case.check_all_used();
        case.check("last_hidden_state", &model.forward(case.get("input_ids"))?)?;
    }
    Ok(())
}
