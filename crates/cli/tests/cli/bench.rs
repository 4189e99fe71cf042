//! `photomend bench`.

use crate::scene::{Scene, crack, photo};

#[test]
fn the_stages_asked_for_are_timed() {
    let scene = Scene::new();
    let run = scene
        .run("bench --megapixels 0.1 --repeat 2 --only telea,detect --threads 2 --json")
        .silent();
    let report = run.json();
    for stage in ["telea_s", "detect_s"] {
        assert!(report[stage].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    }
    for unused in ["biharmonic_s", "unet_forward_s", "device", "isa", "dtype"] {
        assert!(report[unused].is_null(), "{report}");
    }
    assert_eq!((&report["threads"], &report["repeat"]), (&2.into(), &2.into()));
    // height = sqrt(100000 / 1.5) = 258.2, width = 258 · 3 / 2 = 387
    assert_eq!(report["megapixels"], 0.099_846);
    assert_eq!(report["peak_rss_bytes"].is_u64(), cfg!(target_os = "linux"));
    assert!(report["peak_rss_bytes_by_stage"].is_object(), "{report}");
}

#[test]
fn a_picture_of_ones_own_gives_a_table() {
    let scene = Scene::new();
    scene.image("a.png", &photo(64, 48));
    scene.mask("m.png", &crack(64, 48));
    let run = scene.run("bench --image a.png --mask m.png --only biharmonic --repeat 1").silent();
    assert!(run.stdout.starts_with("64×48 (0.0 MP), "), "{}", run.stdout);
    assert!(run.stdout.contains("biharmonic ") && !run.stdout.contains("telea"), "{}", run.stdout);
    scene.mask("small.png", &crack(48, 48));
    scene
        .run("bench --image a.png --mask small.png")
        .fails(1, &["photomend: error: small.png: expected 64×48 pixels, found 48×48"]);
}

#[test]
fn networks_are_timed_without_a_checkpoint() {
    let scene = Scene::new();
    let run = scene
        .run("bench --only text --repeat 1 --device cpu --dtype bf16 --threads 2 --json")
        .silent();
    let report = run.json();
    assert!(report["text_encode_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    for unused in ["vae_encode_s", "vae_decode_s", "unet_forward_s", "lora_train_step_s"] {
        assert!(report[unused].is_null(), "{report}");
    }
    assert!(report["width"].is_null() && report["detect_s"].is_null(), "{report}");
    assert_eq!((&report["device"], &report["dtype"]), (&"cpu".into(), &"bf16".into()));
    assert_eq!(report["threads"], 2);
    let tiers = ["amx", "avx512bf16", "avx512", "avx2", "portable"];
    assert!(report["isa"].as_str().is_some_and(|isa| tiers.contains(&isa)), "{report}");
    if let Some(bytes) = report["peak_rss_bytes_by_stage"]["text"].as_u64() {
        // 123 million weights of two bytes are in it.
        assert!(
            bytes > 246_000_000 && report["peak_rss_bytes"].as_u64() >= Some(bytes),
            "{report}"
        );
    }
}

#[test]
fn the_instructions_can_be_chosen() {
    let scene = Scene::new();
    let run = scene
        .run_with("bench --only text --repeat 1 --device cpu", &[("PHOTOMEND_ISA", "portable")])
        .silent();
    assert!(run.stdout.contains("cpu on portable, "), "{}", run.stdout);
    assert!(run.stdout.contains("\ntext "), "{}", run.stdout);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_the_build_lacks_is_named_before_any_work() {
    let expected = "photomend: error: device: expected a build with the cuda feature on a machine with such a GPU, found a build without it";
    Scene::new().run("bench --only detect,unet --device cuda").fails(1, &[expected]);
}
