//! `photomend model`: on the small networks, checkpoints and LoRAs that the diffusion crate is tested with.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use diffusion::checkpoint::{SafetensorsFile, save_tensors};
use diffusion::{DType, Device, Tensor};

use crate::scene::{Run, Scene};

fn fixture(name: &str) -> PathBuf {
    let folder = std::env::var_os("PHOTOMEND_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../diffusion/tests/fixtures")),
        PathBuf::from,
    );
    folder.join(name)
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    let file = SafetensorsFile::open(path).expect("a safetensors file");
    file.read_all(&Device::Cpu).expect("whole tensors")
}

/// Writes the inputs of a run: tensors of `from` by name, under other names where given ("latents=latent_sample").
fn inputs(scene: &Scene, from: &HashMap<String, Tensor>, names: &str) {
    let chosen: HashMap<String, Tensor> = names
        .split_whitespace()
        .map(|name| {
            let (name, source) = name.split_once('=').unwrap_or((name, name));
            (name.to_owned(), from[source].clone())
        })
        .collect();
    save_tensors(&scene.path("in.safetensors"), true, &chosen, &BTreeMap::new()).expect("inputs");
}

/// Runs a component on `in.safetensors` and gives its outputs.
#[track_caller]
fn run(scene: &Scene, component: &str, model: &Path, more: &str) -> HashMap<String, Tensor> {
    let model = model.display();
    let arguments = "--inputs in.safetensors -o out.safetensors --force --device cpu";
    scene.run(&format!("model run {component} --model {model} {arguments} {more}")).done();
    tensors(&scene.path("out.safetensors"))
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims());
    let values = |tensor: &Tensor| -> Vec<f32> {
        let tensor = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all());
        tensor.and_then(|tensor| tensor.to_vec1()).expect("numbers")
    };
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().fold(1f32, |scale, value| scale.max(value.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-4 * scale, "{found} is not {expected}");
    }
}

#[test]
fn parity_of_each_component() {
    let scene = Scene::new();
    for (case, component, names, outputs) in [
        ("clip_sd1", "text-encoder", "input_ids", "last_hidden_state"),
        ("unet_sd1_inpaint", "unet", "sample timestep encoder_hidden_states", "noise_pred"),
        ("vae_kl", "vae-encode", "image", "mean logvar"),
        ("vae_kl", "vae-decode", "latents", "image=decoded"),
        ("vae_asymmetric", "vae-encode", "image", "mean logvar"),
        ("vae_asymmetric", "vae-decode", "latents image mask", "image=decoded"),
    ] {
        let model = fixture("models").join(case);
        let io = tensors(&model.join("io.safetensors"));
        inputs(&scene, &io, names);
        let found = run(&scene, component, &model, "");
        for output in outputs.split_whitespace() {
            let (name, source) = output.split_once('=').unwrap_or((output, output));
            assert_close(&found[name], &io[source]);
        }
    }
}

#[test]
fn parity_with_loras_run_merged_and_converted() {
    let scene = Scene::new();
    let folder = fixture("lora");
    let (given, expected) =
        (tensors(&folder.join("inputs.safetensors")), tensors(&folder.join("outputs.safetensors")));
    let lora = |name: &str| folder.join(name).display().to_string();
    let (unet, text_encoder) = (folder.join("unet"), folder.join("text_encoder"));
    let two = format!(
        "--lora {}:0.8 --lora {}:0.5",
        lora("kohya.safetensors"),
        lora("diffusers.safetensors")
    );

    // 1. beside the weights, and in them
    inputs(&scene, &given, "sample timestep encoder_hidden_states");
    assert_close(&run(&scene, "unet", &unet, "")["noise_pred"], &expected["none.unet"]);
    assert_close(&run(&scene, "unet", &unet, &two)["noise_pred"], &expected["two.unet"]);
    let merged =
        scene.run(&format!("model merge {} {two} -o merged --dtype f32", unet.display())).done();
    assert!(
        merged.stderr.contains("layers that the model does not have: text_encoder."),
        "{merged:?}"
    );
    assert_close(
        &run(&scene, "unet", &scene.path("merged"), "")["noise_pred"],
        &expected["two.unet"],
    );

    // 2. in every style of names
    for (style, name) in [("kohya", "k.safetensors"), ("peft", "p"), ("diffusers", "d.safetensors")]
    {
        let from = lora("diffusers.safetensors");
        scene.run(&format!("model convert {from} --to {style} -o {name}")).silent();
        let file = scene.path(name);
        let weight = format!("--lora {}", file.display());
        let found = run(&scene, "unet", &unet, &weight);
        assert_close(&found["noise_pred"], &expected["diffusers.unet"]);
    }
    inputs(&scene, &given, "input_ids");
    let weight = format!("--lora {}", scene.path("p").display());
    let found = run(&scene, "text-encoder", &text_encoder, &weight);
    assert_close(&found["last_hidden_state"], &expected["diffusers.text_encoder"]);
}

#[test]
fn a_checkpoint_is_the_same_in_every_form() {
    let scene = Scene::new();
    let model = fixture("checkpoint/sd1");
    let ids =
        Tensor::arange(0u32, 77, &Device::Cpu).and_then(|ids| ids.affine(0.0, 1.0)).expect("ids");
    let ids = ids.reshape((1, 77)).expect("77 of them");
    let given = HashMap::from([("input_ids".to_owned(), ids)]);
    inputs(&scene, &given, "input_ids");
    let expected = run(&scene, "text-encoder", &model, "");

    scene.run(&format!("model convert {} -o one.safetensors", model.display())).silent();
    scene.run("model convert one.safetensors -o folder").silent();
    scene.run("model convert folder -o half.safetensors --dtype f16").silent();
    for form in ["one.safetensors", "folder"] {
        let found = run(&scene, "text-encoder", &scene.path(form), "");
        assert_close(&found["last_hidden_state"], &expected["last_hidden_state"]);
        let info = scene.run(&format!("model info {form} --json")).silent().json();
        assert_eq!(info["components"].as_array().map(Vec::len), Some(3), "{info}");
    }
    let half = scene.run("model info half.safetensors --json").silent().json();
    assert_eq!(
        half["summary"]["dtypes"].as_object().map(|types| types.keys().len()),
        Some(1),
        "{half}"
    );
    assert!(half["summary"]["dtypes"]["f16"].is_number(), "{half}");

    // Nothing is replaced unasked, folders never.
    scene
        .run("model convert folder -o one.safetensors")
        .fails(1, &["photomend: error: one.safetensors exists; --force replaces it"]);
    scene.run("model convert folder -o one.safetensors --force").silent();
    assert_eq!(scene.run("model convert one.safetensors -o folder --force").code, 1);
    assert_eq!(scene.run("model convert one.safetensors -o one.safetensors --force").code, 1);
}

#[test]
fn loras_are_stored_in_other_types() {
    let scene = Scene::new();
    let lora = fixture("lora/diffusers.safetensors").display().to_string();
    scene.run(&format!("model convert {lora} --to kohya --dtype f16 -o half.safetensors")).silent();
    for (name, tensor) in tensors(&scene.path("half.safetensors")) {
        let dtype = if name.ends_with(".alpha") { DType::F32 } else { DType::F16 };
        assert_eq!(tensor.dtype(), dtype, "{name}");
    }
}

#[test]
fn the_carried_checkpoint_is_one_like_any_other() {
    let scene = Scene::new();
    let info = scene.run("model info compact").silent();
    for words in ["single file", "v_prediction", "UNet2DConditionModel", "AutoencoderKL"] {
        assert!(info.stdout.contains(words), "{info:?}");
    }
    scene.run("model convert compact -o folder").silent();
    assert!(scene.path("folder/model_index.json").is_file());
    scene.run("model convert restoration --to kohya -o lora.safetensors").silent();
    assert!(scene.run("model info lora.safetensors").silent().stdout.contains("kohya"));
    // A file of that name comes first.
    scene.file("compact", b"something else");
    let other = scene.run("model info compact");
    assert_eq!(other.code, 1, "{other:?}");
}

#[test]
fn what_things_are() {
    let scene = Scene::new();
    let folder = scene.run(&format!("model info {}", fixture("checkpoint/sd1").display()));
    for words in ["diffusers folder", "StableDiffusionInpaintPipeline", "unet", "parameters"] {
        assert!(folder.stdout.contains(words), "{folder:?}");
    }
    let lora =
        scene.run(&format!("model info {}", fixture("lora/kohya.safetensors").display())).silent();
    assert!(lora.stdout.contains("LoRA") && lora.stdout.contains("kohya"), "{lora:?}");

    scene
        .file("damaged/model_index.json", b"{\"_class_name\": \"StableDiffusionInpaintPipeline\"}");
    scene.file("damaged/unet/config.json", b"{}");
    scene.file("damaged/unet/diffusion_pytorch_model.safetensors", b"not tensors");
    let damaged = scene.run("model info damaged");
    assert_eq!(damaged.code, 1, "{damaged:?}");
    assert!(damaged.stdout.contains("problem:"), "{damaged:?}");
    assert!(damaged.stdout.contains("text_encoder"), "{damaged:?}");
    scene.file("noise.safetensors", &[7; 100]);
    let noise = scene.run("model info noise.safetensors");
    assert_eq!((noise.code, noise.stdout.as_str()), (1, ""), "{noise:?}");
    assert!(noise.stderr.contains("noise.safetensors"), "{noise:?}");
}

#[test]
fn wrong_inputs_are_explained() {
    let scene = Scene::new();
    let model = fixture("models/vae_kl");
    let lora = fixture("lora/diffusers.safetensors");
    let io = tensors(&model.join("io.safetensors"));
    let run = |component: &str| {
        let model = model.display();
        scene.run(&format!(
            "model run {component} --model {model} --inputs in.safetensors -o out.safetensors"
        ))
    };
    let missing = run("vae-decode");
    assert!(missing.stderr.contains("in.safetensors"), "{missing:?}");
    inputs(&scene, &io, "image latents");
    let both = run("vae-decode");
    assert!(
        both.stderr.contains("input tensors: expected latents, found image, latents"),
        "{both:?}"
    );
    inputs(&scene, &io, "latents=image");
    let channels = run("vae-decode");
    assert_eq!(channels.code, 1, "{channels:?}");
    assert!(
        channels.stderr.contains("expected") && channels.stderr.contains("found"),
        "{channels:?}"
    );
    let other = run("unet");
    assert!(other.stderr.contains("unet"), "{other:?}");
    let convert =
        |arguments: &str| scene.run(&format!("model convert {} {arguments}", lora.display()));
    assert_eq!(convert("-o x").code, 2);
    assert_eq!(convert("-o x --to folder").code, 2);
    assert_eq!(convert("-o x --to single-file --dtype f16").code, 2);
    assert_eq!(scene.files(), ["in.safetensors"]);
}

/// Runs the program with a hub that nobody answers for, and a cache in the scene.
fn run_beside_hub(scene: &Scene, arguments: &str, offline: bool) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_photomend"));
    for name in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
    ] {
        command.env_remove(name);
    }
    let output = command
        .current_dir(scene.path(""))
        .args(arguments.split_whitespace())
        .env("HF_HOME", scene.path("home"))
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .output()
        .expect("the program starts");
    Run {
        code: output.status.code().expect("the program was not killed"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[test]
fn models_in_the_cache_are_used_without_a_network() {
    let scene = Scene::new();
    let unknown = run_beside_hub(&scene, "model pull owner/name", true);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.stderr.contains("owner/name: not in the cache"), "{unknown:?}");
    let info = run_beside_hub(&scene, "model info owner/name", false);
    assert!(info.stderr.contains("fetch it first: photomend model pull owner/name"), "{info:?}");
    let wrong = run_beside_hub(&scene, "model pull no-such-file.ckpt", true);
    assert!(wrong.stderr.contains("no such file or folder, and no model id"), "{wrong:?}");

    let repo = "home/hub/models--owner--name";
    let lora = std::fs::read(fixture("lora/kohya.safetensors")).expect("a LoRA");
    scene.file(&format!("{repo}/refs/main"), b"0123");
    scene.file(&format!("{repo}/snapshots/0123/a.safetensors"), &lora);
    let pulled = run_beside_hub(&scene, "model pull owner/name --json", true).done().json();
    let path = pulled["path"].as_str().expect("a path");
    assert!(path.ends_with("snapshots/0123/a.safetensors"), "{pulled}");
    let info = run_beside_hub(&scene, "model info owner/name --json", false).silent().json();
    assert_eq!(info["kind"], "lora");
}
