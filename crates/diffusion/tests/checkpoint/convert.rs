//! Converting between layouts loses nothing.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use diffusion::checkpoint::{
    Checkpoint, Component, MemorySource, OpenOptions, SaveOptions, save_folder, save_single_file,
};
use diffusion::tokenizer::ClipTokenizer;

use crate::{assert_equal, open, path, read};

fn open_at(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &OpenOptions::default()).expect("what was written")
}

fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.components(), b.components());
    for component in a.components() {
        let (one, two) =
            (a.weights(component).expect("weights"), b.weights(component).expect("weights"));
        assert_eq!(one.names(), two.names());
        for name in one.names() {
            assert_equal(&name, &read(one.as_ref(), &name), &read(two.as_ref(), &name));
        }
    }
}

#[test]
fn folder_to_single_file_to_folder_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (name, open_clip) in [("sd1", false), ("sd2", true)] {
        let original = open(name);
        let single = folder.path().join(format!("{name}.safetensors"));
        save_single_file(&original, &single, &SaveOptions::default()).unwrap();
        let once = open_at(&single);
        assert_same(&original, &once);
        // The configurations come along: the tensors alone do not tell the groups of the norms.
        for component in Component::ALL {
            assert_eq!(once.config(component).unwrap(), original.config(component).unwrap());
        }
        assert_eq!(once.scheduler_config().unwrap(), original.scheduler_config().unwrap());
        assert_eq!(once.tokenizer_files().open_clip, open_clip);

        let out = folder.path().join(format!("{name}-folder"));
        save_folder(&once, &out, &SaveOptions::default()).unwrap();
        let twice = open_at(&out);
        assert_same(&original, &twice);
        assert_eq!(twice.pipeline_class(), Some("StableDiffusionInpaintPipeline"));

        // The file has no tokenizer, so the folder gets CLIP's.
        let tokenizer = twice.tokenizer_files().folder.unwrap();
        let written = ClipTokenizer::open(&tokenizer).unwrap();
        let built_in =
            if open_clip { ClipTokenizer::built_in_sd2() } else { ClipTokenizer::built_in() };
        for prompt in ["", "a restored photograph, sharp", "naïve café — 1923!"] {
            let built_in = built_in.as_ref().unwrap().encode(prompt).unwrap();
            assert_eq!(written.encode(prompt).unwrap(), built_in);
        }
        let again = save_folder(&once, &out, &SaveOptions::default()).unwrap_err().to_string();
        assert!(again.contains("exists already"), "{again}");
        let again = save_single_file(&once, &single, &SaveOptions::default()).unwrap_err();
        assert!(again.to_string().contains("exists already"), "{again}");
    }
    let leftovers = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
        .count();
    assert_eq!(leftovers, 0);
}

#[test]
fn a_single_file_has_the_tensors_that_the_original_code_names() {
    // What was derived from diffusers' own conversion, less what diffusers does not keep.
    let folder = tempfile::tempdir().unwrap();
    for name in ["sd1.ckpt", "sd2.safetensors"] {
        let single = folder.path().join("single.safetensors");
        let options = SaveOptions { force: true, ..SaveOptions::default() };
        save_single_file(&open(&name[..3]), &single, &options).unwrap();
        let ours = diffusion::checkpoint::open_weights(&single).unwrap();
        let theirs = diffusion::checkpoint::open_weights(&path(name)).unwrap();
        let dropped = ["position_ids", "text_projection", "logit_scale", "model_ema", "betas"];
        let names: Vec<_> = theirs
            .names()
            .into_iter()
            .filter(|name| !dropped.iter().any(|part| name.contains(part)))
            .collect();
        assert_eq!(ours.names(), names);
        for name in names {
            assert_eq!(ours.info(&name), theirs.info(&name), "{name}");
            assert_equal(&name, &read(ours.as_ref(), &name), &read(theirs.as_ref(), &name));
        }
    }
}

#[test]
fn the_dtype_can_be_chosen_and_weights_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let original = open("sd1");
    let source = original.weights(Component::Vae).unwrap();
    let tensors = source
        .names()
        .into_iter()
        .map(|name| {
            let tensor = read(source.as_ref(), &name).affine(2.0, 0.0).unwrap();
            (name, tensor)
        })
        .collect();
    let doubled = Arc::new(MemorySource::new("doubled", tensors));
    let changed = original.with_weights(Component::Vae, doubled);
    let out = folder.path().join("out");
    let options = SaveOptions { dtype: Some(DType::BF16), ..SaveOptions::default() };
    save_folder(&changed, &out, &options).unwrap();
    let written = open_at(&out).weights(Component::Vae).unwrap();
    for name in written.names() {
        let info = written.info(&name).unwrap();
        assert_eq!(info.dtype, DType::BF16);
        let doubled = changed.weights(Component::Vae).unwrap();
        let expected = doubled.read(&name, &info.shape, DType::BF16, &Device::Cpu).unwrap();
        assert_equal(
            &name,
            &read(written.as_ref(), &name),
            &expected.to_dtype(DType::F32).unwrap(),
        );
    }
}

#[test]
fn nothing_is_left_of_a_conversion_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let original = open("sd2");
    let empty = Arc::new(MemorySource::new("nothing", std::collections::HashMap::new()));
    let lacking = original.clone().with_weights(Component::Unet, empty);
    let (out, single) = (folder.path().join("out"), folder.path().join("a.safetensors"));
    for error in [
        save_folder(&lacking, &out, &SaveOptions::default()).unwrap_err(),
        save_single_file(&lacking, &single, &SaveOptions::default()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("nothing: expected a tensor"), "{error}");
    }
    let error = save_single_file(&open("asymmetric"), &single, &SaveOptions::default());
    assert!(error.is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
