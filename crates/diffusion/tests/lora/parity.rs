//! The same outputs as PEFT and diffusers' `load_lora_weights` from the same files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{SafetensorsFile, TensorSource, open_weights};
use diffusion::lora::{
    AdapterMode, LoraAdapters, LoraFile, LoraFormat, LoraSet, LoraSpec, LoraStyle, LoraTargets,
    MergedSource, ModuleNames, WriteOptions,
};
use diffusion::models::{
    ClipTextConfig, ClipTextModel, UNet2DConditionConfig, UNet2DConditionModel,
};
use diffusion::nn::Params;
use serde::Deserialize;
use serde_json::Value;

use crate::common;

#[derive(Deserialize)]
struct Case {
    name: String,
    loras: Vec<(String, f64)>,
}

/// The tiny model, its inputs and upstream's outputs.
pub(crate) struct World {
    pub(crate) unet: Arc<dyn TensorSource>,
    pub(crate) text: Arc<dyn TensorSource>,
    unet_config: UNet2DConditionConfig,
    text_config: ClipTextConfig,
    pub(crate) inputs: HashMap<String, Tensor>,
    outputs: HashMap<String, Tensor>,
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    let path = common::fixtures().join("lora").join(name);
    SafetensorsFile::open(path).unwrap().read_all(&Device::Cpu).unwrap()
}

impl World {
    pub(crate) fn open() -> Self {
        let folder = common::fixtures().join("lora");
        let weights =
            |path: &str| -> Arc<dyn TensorSource> { open_weights(&folder.join(path)).unwrap() };
        let config =
            |component: &str| common::json::<Value>(&format!("lora/{component}/config.json"));
        Self {
            unet: weights("unet/diffusion_pytorch_model.safetensors"),
            text: weights("text_encoder/model.safetensors"),
            unet_config: UNet2DConditionConfig::from_json(&config("unet")).unwrap(),
            text_config: ClipTextConfig::from_json(&config("text_encoder")).unwrap(),
            inputs: tensors("inputs.safetensors"),
            outputs: tensors("outputs.safetensors"),
        }
    }

    pub(crate) fn names(&self) -> [ModuleNames; 2] {
        [ModuleNames::from_source(&*self.unet), ModuleNames::from_source(&*self.text)]
    }

    fn fit(&self, set: &LoraSet, mode: AdapterMode) -> LoraAdapters {
        let [unet, text_encoder] = &self.names();
        set.adapters(LoraTargets { unet, text_encoder }, mode, &Device::Cpu).unwrap()
    }

    pub(crate) fn run_unet(
        &self,
        source: &Arc<dyn TensorSource>,
        adapters: &LoraAdapters,
    ) -> Tensor {
        let params = Params::new(Arc::clone(source), DType::F32, &Device::Cpu);
        let params = params.with_adapters(Arc::clone(&adapters.unet));
        let unet = UNet2DConditionModel::load(&self.unet_config, &params).unwrap();
        let input = |name: &str| &self.inputs[name];
        let context = input("encoder_hidden_states");
        unet.forward(input("sample"), input("timestep"), context).unwrap()
    }

    pub(crate) fn run_text(
        &self,
        source: &Arc<dyn TensorSource>,
        adapters: &LoraAdapters,
    ) -> Tensor {
        let params = Params::new(Arc::clone(source), DType::F32, &Device::Cpu);
        let params = params.with_adapters(Arc::clone(&adapters.text_encoder));
        let text = ClipTextModel::load(&self.text_config, &params).unwrap();
        text.forward(&self.inputs["input_ids"].to_dtype(DType::U32).unwrap()).unwrap()
    }

    /// Compares both components' outputs with upstream's for a case.
    fn compare(&self, name: &str, adapters: &LoraAdapters, merged: bool, how: &str) {
        let none = LoraAdapters {
            unet: Arc::default(),
            text_encoder: Arc::default(),
            reports: Vec::new(),
        };
        let wrap = |source: &Arc<dyn TensorSource>, adapters| -> Arc<dyn TensorSource> {
            Arc::new(MergedSource::new(Arc::clone(source), adapters))
        };
        let (unet, text, adapters) = if merged {
            let unet = wrap(&self.unet, Arc::clone(&adapters.unet));
            (unet, wrap(&self.text, Arc::clone(&adapters.text_encoder)), &none)
        } else {
            (Arc::clone(&self.unet), Arc::clone(&self.text), adapters)
        };
        let check = |key: &str, run: &dyn Fn() -> Tensor| {
            let Some(expected) = self.outputs.get(&format!("{name}.{key}")) else { return };
            let difference = (run() - expected).unwrap().abs().unwrap().max_all().unwrap();
            let difference = difference.to_scalar::<f32>().unwrap();
            assert!(difference < 1e-4, "{name}, {key}, {how}: {difference}");
        };
        check("unet", &|| self.run_unet(&unet, adapters));
        check("text_encoder", &|| self.run_text(&text, adapters));
    }
}

fn cases() -> Vec<Case> {
    common::json("lora/cases.json")
}

fn open(loras: &[(String, f64)]) -> LoraSet {
    let folder = common::fixtures().join("lora");
    let spec =
        |(file, weight): &(String, f64)| LoraSpec { path: folder.join(file), weight: *weight };
    LoraSet::open(&loras.iter().map(spec).collect::<Vec<_>>()).unwrap()
}

#[test]
fn parity_live_merged_and_saved() {
    let world = World::open();
    for case in cases() {
        let set = open(&case.loras);
        for mode in [AdapterMode::Live, AdapterMode::Merged] {
            let adapters = world.fit(&set, mode);
            for report in &adapters.reports {
                assert!(report.unused.is_empty() && report.unknown.is_empty(), "{report:?}");
            }
            world.compare(&case.name, &adapters, false, &format!("{mode:?}"));
            world.compare(&case.name, &adapters, true, "merged into the weights");
        }
    }
}

#[test]
fn parity_holds_for_every_style() {
    let style =
        |file: &str| LoraFile::open(common::fixtures().join("lora").join(file)).unwrap().style();
    assert_eq!(style("peft_unet"), LoraStyle::Peft);
    assert_eq!(style("diffusers.safetensors"), LoraStyle::Diffusers);
    assert_eq!(style("diffusers_plain.safetensors"), LoraStyle::Diffusers);
    assert_eq!(style("old.safetensors"), LoraStyle::DiffusersOld);
    assert_eq!(style("kohya.safetensors"), LoraStyle::Kohya);
    assert_eq!(style("kohya_ldm.safetensors"), LoraStyle::Kohya);
}

#[test]
fn parity_survives_conversion_to_every_format() {
    let world = World::open();
    let [unet, text_encoder] = world.names();
    let folder = tempfile::tempdir().unwrap();
    for case in cases().iter().filter(|case| case.loras.len() == 1) {
        let set = open(&case.loras);
        let (file, weight) = &set.files()[0];
        for format in [LoraFormat::Peft, LoraFormat::Diffusers, LoraFormat::Kohya] {
            let ending = if format == LoraFormat::Peft { "" } else { ".safetensors" };
            let path = folder.path().join(format!("{}-{format}{ending}", case.name));
            let options = WriteOptions {
                format,
                unet: Some(unet.clone()),
                text_encoder: Some(text_encoder.clone()),
                ..WriteOptions::default()
            };
            file.write(&path, &options).unwrap();
            let mut converted = LoraSet::default();
            converted.push(LoraFile::open(&path).unwrap(), *weight).unwrap();
            let adapters = world.fit(&converted, AdapterMode::Live);
            world.compare(&case.name, &adapters, false, &format!("as {format}"));
        }
    }
    assert!(Path::new(folder.path()).join("diffusers-peft/unet/adapter_config.json").is_file());
}
