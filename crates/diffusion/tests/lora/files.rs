//! The styles of names, and where scales come from.

use std::slice::from_ref;

use candle_core::{DType, Device, Tensor};
use diffusion::lora::{AdapterMode, LoraFile, LoraModule, LoraSet, LoraSpec, LoraStyle};

use crate::support::*;

fn scalar(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

/// Every style with scale 1, from the same matrices.
fn drafts(matrices: &Matrices) -> Vec<(LoraStyle, Draft)> {
    let text = &matrices.text;
    let mut peft = Draft::default();
    let mut new = Draft::default();
    let mut lora_a = Draft::default();
    let mut old = Draft::default();
    let mut kohya = Draft::default();
    for (path, (down, up)) in matrices.unet() {
        let flat = path.replace('.', "_");
        peft = peft
            .with(format!("base_model.model.{path}.lora_A.default.weight"), down.clone())
            .with(format!("base_model.model.{path}.lora_B.default.weight"), up.clone());
        new = new
            .with(format!("unet.{path}.lora.down.weight"), down.clone())
            .with(format!("unet.{path}.lora.up.weight"), up.clone());
        lora_a = lora_a
            .with(format!("unet.{path}.lora_A.weight"), down.clone())
            .with(format!("unet.{path}.lora_B.weight"), up.clone());
        let processor = path.replace("to_q", "processor.to_q_lora");
        let dot = if processor == path { ".lora" } else { "" };
        old = old
            .with(format!("{processor}{dot}.down.weight"), down.clone())
            .with(format!("{processor}{dot}.up.weight"), up.clone());
        kohya = kohya
            .with(format!("lora_unet_{flat}.lora_down.weight"), down.clone())
            .with(format!("lora_unet_{flat}.lora_up.weight"), up.clone())
            .with(format!("lora_unet_{flat}.alpha"), scalar(2.0));
    }
    let layer = TEXT.strip_suffix("q_proj").unwrap();
    let flat = TEXT.replace('.', "_");
    peft = peft
        .with(format!("base_model.model.{TEXT}.lora_A.default.weight"), text.0.clone())
        .with(format!("base_model.model.{TEXT}.lora_B.default.weight"), text.1.clone());
    new = new
        .with(format!("text_encoder.{TEXT}.lora_linear_layer.down.weight"), text.0.clone())
        .with(format!("text_encoder.{TEXT}.lora_linear_layer.up.weight"), text.1.clone());
    lora_a = lora_a
        .with(format!("text_encoder.{TEXT}.lora_A.weight"), text.0.clone())
        .with(format!("text_encoder.{TEXT}.lora_B.weight"), text.1.clone());
    old = old
        .with(format!("text_encoder.{layer}to_q_lora.down.weight"), text.0.clone())
        .with(format!("text_encoder.{layer}to_q_lora.up.weight"), text.1.clone());
    kohya = kohya
        .with(format!("lora_te_{flat}.lora_down.weight"), text.0.clone())
        .with(format!("lora_te_{flat}.lora_up.weight"), text.1.clone());
    vec![
        (LoraStyle::Peft, peft),
        (LoraStyle::Diffusers, new),
        (LoraStyle::Diffusers, lora_a),
        (LoraStyle::DiffusersOld, old),
        (LoraStyle::Kohya, kohya),
    ]
}

#[test]
fn every_style_changes_the_layers_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (unet, text) = weights();
    let inputs = inputs();
    let plain = outputs(&unet, &text, None, &inputs);
    let mut first: Option<Vec<Tensor>> = None;
    for (index, (style, draft)) in drafts(&Matrices::new()).into_iter().enumerate() {
        // The matrices are drawn once for all.
        let path = draft.write(folder.path(), &format!("{index}.safetensors"));
        let file = LoraFile::open(&path).unwrap();
        if style != LoraStyle::DiffusersOld {
            assert_eq!(file.style(), style);
        }
        let set = LoraSet::open(&[LoraSpec::new(&path)]).unwrap();
        for mode in [AdapterMode::Live, AdapterMode::Merged] {
            let adapters = fit(&set, &*unet, &*text, mode).unwrap();
            let report = &adapters.reports[0];
            assert_eq!((report.unet_layers, report.text_encoder_layers), (3, 1), "{style}");
            assert!(report.unused.is_empty() && report.unknown.is_empty(), "{report:?}");
            let changed = outputs(&unet, &text, Some(&adapters), &inputs);
            for (changed, plain) in changed.iter().zip(&plain) {
                assert!(max_difference(from_ref(changed), from_ref(plain)) > 0.1, "{style}");
            }
            let first = first.get_or_insert_with(|| changed.clone());
            let difference = max_difference(&changed, first);
            assert!(difference < 1e-4, "{style} {mode:?}: {difference}");
        }
    }
}

#[test]
fn the_original_names_of_kohya_files_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let draft = Draft::default()
        .with("lora_unet_middle_block_0_in_layers_2.lora_down.weight", random(&[2, 3, 3, 3]))
        .with("lora_unet_middle_block_0_in_layers_2.lora_up.weight", random(&[4, 2, 1, 1]));
    let adapters = fit_file(&draft.write(folder.path(), "a.safetensors")).unwrap();
    assert_eq!(adapters.unet.paths().collect::<Vec<_>>(), [CONV]);
}

#[test]
fn scales_come_from_alphas_metadata_and_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let scales = |path: &std::path::Path| -> Vec<f64> {
        LoraFile::open(path).unwrap().modules().iter().map(LoraModule::scale).collect()
    };
    let pair = |prefix: &str, ends: [&str; 2]| {
        Draft::default()
            .with(format!("{prefix}.{}", ends[0]), random(&[2, 6]))
            .with(format!("{prefix}.{}", ends[1]), random(&[5, 2]))
    };
    let (a, b) = ("lora_A.weight", "lora_B.weight");

    // kohya: alpha 3 at rank 2; an integer; 0 is "not given"; none is r.
    let key = format!("lora_unet_{}", LINEAR.replace('.', "_"));
    let kohya = || pair(&key, ["lora_down.weight", "lora_up.weight"]);
    let alpha = format!("{key}.alpha");
    let one = kohya().with(&alpha, scalar(3.0)).write(folder.path(), "a.safetensors");
    assert_eq!(scales(&one), [1.5]);
    let integer = Tensor::new(&[4i64], &Device::Cpu).unwrap();
    assert_eq!(scales(&kohya().with(&alpha, integer).write(folder.path(), "b.safetensors")), [2.0]);
    let zero = kohya().with(&alpha, scalar(0.0)).write(folder.path(), "c.safetensors");
    assert_eq!(scales(&zero), [1.0]);
    let none = kohya().note("ss_network_alpha", "1.0").write(folder.path(), "d.safetensors");
    assert_eq!(scales(&none), [1.0]);
    let half = scalar(3.0).to_dtype(DType::F16).unwrap();
    assert_eq!(scales(&kohya().with(&alpha, half).write(folder.path(), "e.safetensors")), [1.5]);

    // diffusers: metadata by component, or an alpha tensor.
    let unet = || pair(&format!("unet.{LINEAR}"), [a, b]);
    let note = r#"{"unet.r": 2, "unet.lora_alpha": 8, "unet.use_rslora": false}"#;
    let noted = unet().note("lora_adapter_metadata", note).write(folder.path(), "f.safetensors");
    assert_eq!(scales(&noted), [4.0]);
    let tensor = unet().with(format!("unet.{LINEAR}.alpha"), scalar(1.0));
    assert_eq!(scales(&tensor.write(folder.path(), "g.safetensors")), [0.5]);

    // PEFT: the configuration beside the file.
    let peft = pair(&format!("base_model.model.{LINEAR}"), [a, b]);
    let path = peft.write(folder.path(), "adapter_model.safetensors");
    assert_eq!(scales(&path), [1.0]);
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "rank_pattern": {"to_q": 2},
                     "alpha_pattern": {"attn1.to_q": 6}}"#;
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    assert_eq!(scales(&path), [3.0]);
    assert_eq!(scales(folder.path()), [3.0]);
}

#[test]
fn a_folder_of_two_adapters_is_one_lora() {
    let folder = tempfile::tempdir().unwrap();
    for (name, module) in [("unet", LINEAR), ("text_encoder", TEXT)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        Draft::default()
            .with(format!("base_model.model.{module}.lora_A.weight"), random(&[2, 6]))
            .with(format!("base_model.model.{module}.lora_B.weight"), random(&[5, 2]))
            .write(&folder.path().join(name), "adapter_model.safetensors");
    }
    let adapters = fit_file(folder.path()).unwrap();
    let report = &adapters.reports[0];
    assert_eq!((report.unet_layers, report.text_encoder_layers), (1, 1));
}

#[test]
fn what_a_model_lacks_and_what_is_no_lora_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let draft = Draft::default()
        .with(format!("unet.{LINEAR}.lora_A.weight"), random(&[2, 6]))
        .with(format!("unet.{LINEAR}.lora_B.weight"), random(&[5, 2]))
        .with("unet.mid_block.attentions.7.proj_in.lora_A.weight", random(&[2, 6]))
        .with("unet.mid_block.attentions.7.proj_in.lora_B.weight", random(&[5, 2]))
        .with("text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", random(&[2, 6]))
        .with("text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_B.weight", random(&[5, 2]))
        .with("emb_params", random(&[3]));
    let adapters = fit_file(&draft.write(folder.path(), "a.safetensors")).unwrap();
    let report = &adapters.reports[0];
    assert_eq!((report.unet_layers, report.text_encoder_layers), (1, 0));
    assert_eq!(
        report.unused,
        [
            "unet.mid_block.attentions.7.proj_in",
            "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"
        ]
    );
    assert_eq!(report.unknown, ["emb_params"]);
}

#[test]
fn linear_and_pointwise_matrices_serve_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let draft = Draft::default()
        .with(format!("unet.{LINEAR}.lora_A.weight"), random(&[2, 6, 1, 1]))
        .with(format!("unet.{LINEAR}.lora_B.weight"), random(&[5, 2, 1, 1]))
        .with(format!("unet.{POINTWISE}.lora_A.weight"), random(&[2, 4]))
        .with(format!("unet.{POINTWISE}.lora_B.weight"), random(&[4, 2]));
    let path = draft.write(folder.path(), "a.safetensors");
    let (unet, text) = weights();
    let inputs = inputs();
    let set = LoraSet::open(&[LoraSpec::new(&path)]).unwrap();
    let [live, merged] = [AdapterMode::Live, AdapterMode::Merged].map(|mode| {
        let adapters = fit(&set, &*unet, &*text, mode).unwrap();
        outputs(&unet, &text, Some(&adapters), &inputs)
    });
    assert!(max_difference(&live, &merged) < 1e-4);
}

#[test]
fn a_core_between_the_matrices_is_folded_in() {
    let folder = tempfile::tempdir().unwrap();
    let (down, mid, up) = (random(&[2, 3, 1, 1]), random(&[2, 2, 3, 3]), random(&[4, 2, 1, 1]));
    let key = format!("lora_unet_{}", CONV.replace('.', "_"));
    let draft = Draft::default()
        .with(format!("{key}.lora_down.weight"), down.clone())
        .with(format!("{key}.lora_mid.weight"), mid.clone())
        .with(format!("{key}.lora_up.weight"), up.clone());
    let path = draft.write(folder.path(), "a.safetensors");
    let (unet, text) = weights();
    let inputs = inputs();
    let set = LoraSet::open(&[LoraSpec::new(&path)]).unwrap();
    let adapters = fit(&set, &*unet, &*text, AdapterMode::Live).unwrap();
    let changed = outputs(&unet, &text, Some(&adapters), &inputs);
    // The three convolutions one after the other; the stride and the padding are the core's.
    let plain = outputs(&unet, &text, None, &inputs);
    let xs = inputs[1].permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    let xs = xs.conv2d(&down, 0, 1, 1, 1).unwrap();
    let xs = xs.conv2d(&mid, 1, 2, 1, 1).unwrap().conv2d(&up, 0, 1, 1, 1).unwrap();
    let xs = xs.permute((0, 2, 3, 1)).unwrap();
    let expected = (&plain[1] + xs).unwrap();
    assert!(max_difference(&changed[1..2], &[expected]) < 1e-4);
}
