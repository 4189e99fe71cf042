//! `photomend restore --model` on a small checkpoint of random weights.

use std::path::Path;

use crate::scene::{Scene, assert_only_masked_pixels_differ, crack, damaged, photo};
use imaging::{Image, Mask};

/// `model/`: the small checkpoint that the diffusion crate is tested with, and a vocabulary of letters, which is all that
/// its text encoder has room for.
pub(crate) fn model(scene: &Scene) {
    let fixture =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../diffusion/tests/fixtures/checkpoint/sd1");
    copy(Path::new(fixture), &scene.path("model"));
    let letters =
        ('a'..='z').chain([',']).flat_map(|letter| [letter.to_string(), format!("{letter}</w>")]);
    let words = letters.chain(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
    let vocab: serde_json::Map<_, _> =
        words.zip(0..).map(|(word, id)| (word, serde_json::Value::from(id))).collect();
    std::fs::create_dir(scene.path("model/tokenizer")).expect("a new folder");
    let vocab = serde_json::Value::from(vocab).to_string();
    scene.file("model/tokenizer/vocab.json", vocab.as_bytes());
    scene.file("model/tokenizer/merges.txt", b"#version: 0.2\n");
}

/// [`model`], `photo.png` with a crack, and `mask.png`.
fn scene() -> (Scene, Image, Mask) {
    let scene = Scene::new();
    model(&scene);
    let mask = crack(64, 48);
    let image = damaged(photo(64, 48), &mask);
    scene.image("photo.png", &image);
    scene.mask("mask.png", &mask);
    (scene, image, mask)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("the fixture") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a small file");
        }
    }
}

const QUICK: &str =
    "--mask mask.png --model model --device cpu --steps 2 --guidance 1 --window-size 64";

#[test]
fn a_model_repaints_inside_the_mask_only_and_reports_what_it_did() {
    let (scene, image, mask) = scene();
    let run = scene.run(&format!("restore photo.png {QUICK} -o a.png --json --compare")).done();
    let restored = scene.read("a.png");
    assert_only_masked_pixels_differ(&image, &restored, &mask);
    assert!(scene.path("a.compare.png").is_file());

    let report = &run.json()["images"][0];
    assert!(report["windows"].as_u64().is_some_and(|windows| windows > 0), "{report}");
    assert!(report["unet_evaluations"].as_u64().is_some_and(|count| count > 0), "{report}");
    for key in ["detect_s", "prefill_s", "encode_s", "denoise_s", "decode_s"] {
        assert!(report[key].as_f64().is_some_and(|seconds| seconds >= 0.0), "{key}: {report}");
    }

    // The same seed gives the same picture, another seed another one, as does the classical fill.
    scene.run(&format!("restore photo.png {QUICK} -o b.png --batch 4")).done();
    assert_eq!(scene.read("b.png").size(), restored.size());
    scene.run(&format!("restore photo.png {QUICK} -o c.png --seed 1 --dtype bf16")).done();
    assert_ne!(scene.read("c.png"), restored);
    scene.run("restore photo.png --mask mask.png -o d.png").done();
    assert_ne!(scene.read("d.png"), restored);

    // The mean of more draws is another picture again, and takes as much more work.
    let run = scene.run(&format!("restore photo.png {QUICK} -o e.png --draws 3 --json")).done();
    assert_ne!(scene.read("e.png"), restored);
    let evaluations = |report: &serde_json::Value| report["unet_evaluations"].as_u64();
    let threefold = evaluations(report).map(|count| 3 * count);
    assert_eq!(evaluations(&run.json()["images"][0]), threefold);
}

#[test]
fn the_carried_checkpoint_restores_with_its_own_settings() {
    let (scene, image, mask) = scene();
    let evaluations = |arguments: &str, output: &str| {
        let run = scene
            .run(&format!(
                "restore photo.png --mask mask.png --model compact {arguments} -o {output} --json"
            ))
            .done();
        assert_only_masked_pixels_differ(&image, &scene.read(output), &mask);
        run.json()["images"][0]["unet_evaluations"].as_u64()
    };
    // One window, one of two steps, four times.
    assert_eq!(evaluations("", "a.png"), Some(4));
    assert_eq!(evaluations("--lora restoration", "b.png"), Some(4));
    assert_ne!(scene.read("b.png"), scene.read("a.png"));
    assert_eq!(evaluations("--steps 3 --strength 1 --draws 1", "c.png"), Some(3));
    // What is shown can be chosen.
    evaluations("--show grey", "d.png");
    assert_ne!(scene.read("d.png"), scene.read("a.png"));
    evaluations("--show filled", "e.png");
    assert_eq!(scene.read("e.png"), scene.read("a.png"));
}

#[test]
fn the_whole_picture_can_go_through_diffusers_pipeline() {
    let (scene, image, mask) = scene();
    scene.run(&format!("restore photo.png {QUICK} --pipeline diffusers -o a.png")).done();
    assert_only_masked_pixels_differ(&image, &scene.read("a.png"), &mask);
}

#[test]
fn what_cannot_work_is_one_error_and_no_output() {
    let (scene, _, _) = scene();
    let fails = |arguments: &str, code: i32, names: &str| {
        let run = scene.run(&format!("restore photo.png -o out.png {arguments}"));
        assert_eq!(run.code, code, "{run:?}");
        assert!(run.stderr.contains(names) && !run.stderr.contains("panicked"), "{run:?}");
        assert!(!scene.path("out.png").exists());
    };
    fails("--model nowhere", 1, "nowhere");
    fails("--model photo.png", 1, "photo.png");
    fails("--lora a.safetensors", 2, "--model");
    fails("--model model --strength 0", 2, "--strength");
    fails("--model model --draws 0", 2, "--draws");
    fails("--model model --scheduler magic", 2, "--scheduler");
    fails("--model model --window-size 65 --device cpu", 1, "window size");
    fails("--model model --lora mask.png --device cpu", 1, "mask.png");
    let shard = "diffusion_pytorch_model-00001-of-00004.safetensors";
    scene.file(&format!("model/unet/{shard}"), b"cut");
    fails("--model model --device cpu", 1, shard);
}
