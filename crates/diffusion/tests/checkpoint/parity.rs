//! The same weights in every layout are the same tensors; fixtures from diffusers (`generate_checkpoint.py`).

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use diffusion::checkpoint::{
    Checkpoint, Component, OpenOptions, PickleFile, SafetensorsFile, TensorSource,
};
use serde_json::Value;

use crate::{assert_equal, open, path, read};

/// What tensors cannot tell; see `infer.rs`.
const NOT_INFERRED: [&str; 4] = ["norm_num_groups", "sample_size", "_diffusers_version", "dtype"];

fn assert_configs_agree(inferred: &Value, written: &Value) {
    for (key, value) in inferred.as_object().expect("an object") {
        if NOT_INFERRED.contains(&key.as_str()) {
            continue;
        }
        if let Some(expected) = written.get(key) {
            assert_eq!(value, expected, "{key}");
        }
    }
}

fn single_file_and_folder_agree(single: &str, folder: &str) {
    let (single, folder) = (open(single), open(folder));
    assert_eq!(single.components(), Component::ALL);
    assert_eq!(folder.components(), Component::ALL);
    for component in Component::ALL {
        assert_configs_agree(
            &single.config(component).expect("a fixture that can be made"),
            &folder.config(component).expect("a fixture that can be made"),
        );
        let (one, many) = (
            single.weights(component).expect("a fixture that can be made"),
            folder.weights(component).expect("a fixture that can be made"),
        );
        assert_eq!(one.names(), many.names(), "{component}");
        assert!(!one.names().is_empty());
        for name in one.names() {
            assert_equal(&name, &read(one.as_ref(), &name), &read(many.as_ref(), &name));
        }
    }
    let scheduler = single.scheduler_config().expect("a fixture that can be made");
    assert_configs_agree(
        &scheduler,
        &folder.scheduler_config().expect("a fixture that can be made"),
    );
}

#[test]
fn parity_of_sd1_ckpt_and_folder_of_shards_variant_and_pickle() {
    single_file_and_folder_agree("sd1.ckpt", "sd1");
    assert!(!open("sd1.ckpt").tokenizer_files().open_clip);
    assert!(open("sd1").files(Component::Unet).unwrap().len() > 1);
}

#[test]
fn parity_of_sd2_safetensors_and_folder() {
    single_file_and_folder_agree("sd2.safetensors", "sd2");
    assert!(open("sd2.safetensors").tokenizer_files().open_clip);
}

#[test]
fn parity_of_configurations_taken_from_a_folder() {
    let options = OpenOptions { config: Some(path("sd2")), ..OpenOptions::default() };
    let single = Checkpoint::open(&path("sd2.safetensors"), &options).unwrap();
    for component in Component::ALL {
        assert_eq!(single.config(component).unwrap(), open("sd2").config(component).unwrap());
    }
    assert_eq!(single.scheduler_config().unwrap(), open("sd2").scheduler_config().unwrap());
}

#[test]
fn parity_of_views_in_pickles() {
    let expected = SafetensorsFile::open(path("views.safetensors")).unwrap();
    for name in ["views.pt", "views5.pt"] {
        let file = PickleFile::open(path(name)).unwrap();
        for name in expected.names() {
            // A boolean is saved as 0 or 1, an integer as itself.
            assert_equal(&name, &read(&file, &name), &read(&expected, &name));
        }
        let error = file.read("expanded", &[5, 5], DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("repeats the 1 elements"), "{error}");
    }
    let error = diffusion::checkpoint::open_weights(&path("legacy.pt")).err().unwrap().to_string();
    assert!(error.contains("bare pickle"), "{error}");
}

#[test]
fn parity_of_an_asymmetric_autoencoder_names_and_shapes() {
    let shapes: BTreeMap<String, Vec<usize>> =
        crate::common::json("checkpoint/asymmetric/shapes.json");
    let checkpoint = open("asymmetric");
    assert!(checkpoint.vae_is_asymmetric().unwrap());
    let expected = checkpoint.expected_tensors(Component::Vae).unwrap();
    assert_eq!(expected.into_iter().collect::<BTreeMap<_, _>>(), shapes);
    for name in ["sd1", "sd2", "sd1.ckpt"] {
        let checkpoint = open(name);
        for component in Component::ALL {
            let source = checkpoint.weights(component).unwrap();
            let expected = checkpoint.expected_tensors(component).unwrap();
            assert_eq!(expected.len(), source.names().len(), "{name} {component}");
            for (tensor, shape) in expected {
                assert_eq!(source.info(&tensor).map(|info| info.shape), Some(shape), "{tensor}");
            }
        }
    }
}
