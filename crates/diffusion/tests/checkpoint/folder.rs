//! Diffusers folders: which file is taken, what older versions called things, and what is refused.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{Checkpoint, Component, OpenOptions, save_tensors};

/// A file of one tensor per name, each of which holds `value`.
fn write(path: &Path, names: &[(&str, &[usize])], value: f32) {
    std::fs::create_dir_all(path.parent().expect("a fixture that can be made"))
        .expect("a fixture that can be made");
    let tensors: HashMap<_, _> = names
        .iter()
        .map(|(name, shape)| {
            let tensor =
                Tensor::full(value, *shape, &Device::Cpu).expect("a fixture that can be made");
            ((*name).to_owned(), tensor)
        })
        .collect();
    save_tensors(path, true, &tensors, &BTreeMap::new()).expect("a fixture that can be made");
}

fn open(path: &Path, variant: Option<&str>) -> Checkpoint {
    let options = OpenOptions { variant: variant.map(Into::into), ..OpenOptions::default() };
    Checkpoint::open(path, &options).expect("a fixture that can be made")
}

fn first(checkpoint: &Checkpoint, component: Component, name: &str) -> f32 {
    let source = checkpoint.weights(component).expect("a fixture that can be made");
    let shape = source.info(name).expect("a fixture that can be made").shape;
    let tensor =
        source.read(name, &shape, DType::F32, &Device::Cpu).expect("a fixture that can be made");
    tensor
        .flatten_all()
        .expect("a fixture that can be made")
        .to_vec1::<f32>()
        .expect("a fixture that can be made")[0]
}

#[test]
fn the_variant_asked_for_is_preferred_and_others_fall_back() {
    let folder = tempfile::tempdir().unwrap();
    let unet = folder.path().join("unet");
    let names: &[(&str, &[usize])] = &[("conv_in.bias", &[4])];
    write(&unet.join("diffusion_pytorch_model.safetensors"), names, 1.0);
    write(&unet.join("diffusion_pytorch_model.fp16.safetensors"), names, 2.0);
    write(&folder.path().join("vae/diffusion_pytorch_model.fp16.safetensors"), names, 3.0);
    write(&folder.path().join("text_encoder/model.safetensors"), names, 4.0);
    let plain = open(folder.path(), None);
    assert_eq!(plain.components(), Component::ALL);
    assert_eq!(first(&plain, Component::Unet, "conv_in.bias"), 1.0);
    assert_eq!(first(&plain, Component::Vae, "conv_in.bias"), 3.0);
    let half = open(folder.path(), Some("fp16"));
    assert_eq!(first(&half, Component::Unet, "conv_in.bias"), 2.0);
    assert_eq!(first(&half, Component::TextEncoder, "conv_in.bias"), 4.0);
    assert_eq!(half.files(Component::Unet).unwrap().len(), 1);
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let unet = folder.path().join("unet");
    write(&unet.join("a.safetensors"), &[("a", &[2])], 1.0);
    write(&unet.join("b.safetensors"), &[("b", &[2])], 2.0);
    let index = unet.join("diffusion_pytorch_model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#)
        .unwrap();
    let checkpoint = open(folder.path(), None);
    assert_eq!(first(&checkpoint, Component::Unet, "a"), 1.0);
    assert_eq!(first(&checkpoint, Component::Unet, "b"), 2.0);
    assert_eq!(checkpoint.files(Component::Unet).unwrap().len(), 2);

    for (json, expected) in [
        (r#"{"weight_map": {"a": "../unet/a.safetensors"}}"#, "a file in this folder"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "a file in this folder"),
        (r#"{"weight_map": {"a": 5}}"#, "a file in this folder, found 5"),
        (r#"{"weight_map": {"c": "a.safetensors"}}"#, "expected tensor c in a.safetensors"),
        (r#"{"weight_map": {"a": "c.safetensors"}}"#, "c.safetensors"),
        (r#"{"weight_map": []}"#, "expected an object weight_map"),
        ("[]", "expected a JSON object"),
        ("{", "expected JSON"),
    ] {
        std::fs::write(&index, json).unwrap();
        let Err(error) = checkpoint.weights(Component::Unet) else { panic!("{json}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn older_and_newer_names_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let vae = folder.path().join("vae/diffusion_pytorch_model.safetensors");
    write(
        &vae,
        &[
            ("encoder.mid_block.attentions.0.query.weight", &[4, 4]),
            ("encoder.mid_block.attentions.0.proj_attn.weight", &[4, 4, 1, 1]),
            ("encoder.mid_block.attentions.0.proj_attn.bias", &[4]),
        ],
        1.0,
    );
    let text = folder.path().join("text_encoder/model.safetensors");
    write(&text, &[("final_layer_norm.bias", &[4]), ("embeddings.position_ids", &[1, 7])], 2.0);
    let checkpoint = open(folder.path(), None);
    let vae = checkpoint.weights(Component::Vae).unwrap();
    let expected = ["to_out.0.bias", "to_out.0.weight", "to_q.weight"]
        .map(|name| format!("encoder.mid_block.attentions.0.{name}"));
    assert_eq!(vae.names(), expected);
    vae.read(&expected[1], &[4, 4], DType::F16, &Device::Cpu).unwrap();
    let text = checkpoint.weights(Component::TextEncoder).unwrap();
    assert_eq!(text.names(), ["text_model.final_layer_norm.bias"]);
}

#[test]
fn one_component_is_known_by_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{"_class_name": "AsymmetricAutoencoderKL"}"#).unwrap();
    let checkpoint = open(folder.path(), None);
    assert!(checkpoint.is_component() && checkpoint.vae_is_asymmetric().unwrap());
    assert_eq!(checkpoint.components(), [Component::Vae]);
    std::fs::write(&config, r#"{"architectures": ["CLIPTextModel"]}"#).unwrap();
    assert_eq!(open(folder.path(), None).components(), [Component::TextEncoder]);
    let error = checkpoint.weights(Component::Unet).err().unwrap().to_string();
    assert!(error.contains("expected a subfolder unet"), "{error}");
    let error = checkpoint.weights(Component::Vae).err().unwrap().to_string();
    assert!(error.contains("expected weights"), "{error}");
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |expected: &str| {
        let error = Checkpoint::open(folder.path(), &OpenOptions::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    fails("expected a diffusers folder");
    std::fs::write(folder.path().join("config.json"), r#"{"_class_name": "FluxTransformer"}"#)
        .unwrap();
    fails("found FluxTransformer");
    std::fs::write(
        folder.path().join("model_index.json"),
        r#"{"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["transformers", "X"]}"#,
    )
    .unwrap();
    fails("found StableDiffusionXLPipeline");
    std::fs::write(folder.path().join("model_index.json"), "null").unwrap();
    fails("expected a JSON object");
    assert!(Checkpoint::open(&folder.path().join("none"), &OpenOptions::default()).is_err());
    let options = OpenOptions { prediction_type: Some("sample".into()), ..OpenOptions::default() };
    let error = Checkpoint::open(folder.path(), &options).unwrap_err().to_string();
    assert!(error.contains("prediction_type: expected epsilon or v_prediction"), "{error}");
}

#[test]
fn unet_files_of_other_kinds_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let unet = folder.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    let checkpoint = open(folder.path(), None);
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"GGUF....", "GGUF"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j", "bare pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html>", "web page"),
        (b"hello, world", "found neither"),
    ] {
        std::fs::write(unet.join("diffusion_pytorch_model.bin"), bytes).unwrap();
        let error = checkpoint.weights(Component::Unet).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_scheduler_and_the_tokenizer_are_found() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("scheduler/scheduler_config.json", r#"{"prediction_type": "epsilon"}"#),
        ("tokenizer/vocab.json", "{}"),
        ("tokenizer/merges.txt", ""),
        ("unet/config.json", "{}"),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let options =
        OpenOptions { prediction_type: Some("v_prediction".into()), ..OpenOptions::default() };
    let checkpoint = Checkpoint::open(folder.path(), &options).unwrap();
    assert_eq!(checkpoint.scheduler_config().unwrap()["prediction_type"], "v_prediction");
    let files = checkpoint.tokenizer_files();
    assert!(files.vocab.is_some() && files.merges.is_some() && files.tokenizer.is_none());
}
