//! What is said about files and folders.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{Component, ModelKind, OpenOptions, inspect, save_tensors};

use crate::path;

#[test]
fn a_folder_and_a_single_file_are_told_apart() {
    let folder = inspect(&path("sd1"), &OpenOptions::default()).unwrap();
    assert_eq!(folder.kind, ModelKind::Folder);
    assert_eq!(folder.class.as_deref(), Some("StableDiffusionInpaintPipeline"));
    assert_eq!(folder.prediction_type.as_deref(), Some("epsilon"));
    assert_eq!(folder.missing, ["tokenizer"]);
    assert_eq!(folder.components.len(), 3);
    let single = inspect(&path("sd1.ckpt"), &OpenOptions::default()).unwrap();
    assert_eq!(single.kind, ModelKind::SingleFile);
    for (a, b) in folder.components.iter().zip(&single.components) {
        assert_eq!(a.component, b.component);
        assert_eq!(a.summary, b.summary);
        assert_eq!(a.summary.bytes, 2 * a.summary.parameters, "stored as f16");
        assert!(a.problem.is_none() && a.missing.is_empty() && a.unexpected.is_empty());
        assert!(b.problem.is_none() && b.missing.is_empty() && b.unexpected.is_empty());
    }
    let json = serde_json::to_value(&single).unwrap();
    assert_eq!(json["kind"], "single_file");
    assert_eq!(json["components"][1]["component"], "unet");
    let alone = inspect(&path("asymmetric"), &OpenOptions::default()).unwrap();
    assert_eq!(alone.kind, ModelKind::ComponentFolder);
    assert!(alone.components[0].problem.as_ref().unwrap().contains("expected weights"));
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let unet = folder.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    std::fs::copy(path("sd1/unet/config.json"), unet.join("config.json")).unwrap();
    let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let tensors = HashMap::from([
        ("conv_in.bias".to_owned(), tensor(&[3])),
        ("conv_out.bias".to_owned(), tensor(&[4])),
        ("conv_other.bias".to_owned(), tensor(&[4])),
    ]);
    let path = unet.join("diffusion_pytorch_model.safetensors");
    save_tensors(&path, false, &tensors, &BTreeMap::new()).unwrap();
    let info = inspect(folder.path(), &OpenOptions::default()).unwrap();
    let [unet] = &info.components[..] else { panic!("{info:?}") };
    assert_eq!(unet.component, Component::Unet);
    assert_eq!(unet.summary.parameters, 11);
    assert_eq!(unet.unexpected, ["conv_other.bias"]);
    assert!(unet.missing.contains(&"conv_in.weight".to_owned()));
    assert!(unet.mismatched[0].starts_with("conv_in.bias: expected shape"));
    assert!(info.missing.iter().any(|name| name == "vae"));
}

#[test]
fn a_lora_and_other_tensors_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let tensor = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
    let module = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    let lora: HashMap<_, _> = ["lora_down.weight", "lora_up.weight", "alpha"]
        .map(|part| (format!("lora_unet_{module}.{part}"), tensor.clone()))
        .into();
    save_tensors(&path, false, &lora, &BTreeMap::new()).unwrap();
    let info = inspect(&path, &OpenOptions::default()).unwrap();
    assert_eq!(info.kind, ModelKind::Lora);
    let lora = info.lora.unwrap();
    assert_eq!(lora.layers["unet"], 1);
    assert_eq!((lora.styles.len(), lora.unknown.len()), (1, 0));

    let other = HashMap::from([("weights".to_owned(), tensor)]);
    save_tensors(&path, true, &other, &BTreeMap::new()).unwrap();
    let info = inspect(&path, &OpenOptions::default()).unwrap();
    assert_eq!(info.kind, ModelKind::Tensors);
    assert_eq!(info.summary.unwrap().parameters, 16);
}
