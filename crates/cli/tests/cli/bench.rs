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
    assert!(report["biharmonic_s"].is_null(), "{report}");
    assert_eq!((&report["threads"], &report["repeat"]), (&2.into(), &2.into()));
    // height = sqrt(100000 / 1.5) = 258.2, width = 258 · 3 / 2 = 387
    assert_eq!(report["megapixels"], 0.099_846);
    assert_eq!(report["peak_rss_bytes"].is_u64(), cfg!(target_os = "linux"));
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
