//! `photomend mask`.

use imaging::{ColorType, Image, Samples};

use crate::scene::Scene;

/// A plain picture with a dark line across it.
fn cracked() -> Image {
    let mut values = Vec::new();
    for y in 0..90_usize {
        for x in 0..120_usize {
            let value =
                if y.abs_diff(20 + x / 3) < 2 { 15 } else { 150 + ((x * 7 + y * 3) % 4) as u8 };
            values.extend([value; 3]);
        }
    }
    Image::new(120, 90, ColorType::Rgb, Samples::U8(values)).expect("whole")
}

#[test]
fn a_folder_gives_masks_and_overlays() {
    let scene = Scene::new();
    scene.image("in/a.png", &cracked());
    scene.image("in/b.tif", &cracked());
    let report = scene.run("mask in -o out --detector classical --json --quiet");
    assert_eq!(report.code, 0, "{}", report.stderr);
    let files = scene.files();
    for name in ["out/a.png", "out/b.png", "out/overlay/a.png", "out/overlay/b.png"] {
        assert!(files.iter().any(|file| file == name), "{files:?}");
    }
    let mask = scene.read("out/a.png");
    assert_eq!((mask.color(), mask.size()), (ColorType::Gray, (120, 90)));
    let Samples::U8(values) = mask.samples() else { panic!("8 bits") };
    assert!(values.contains(&255) && values.iter().all(|&value| value == 0 || value == 255));
    let json: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON alone");
    let first = &json["images"][0];
    assert!(first["coverage"].as_f64().is_some_and(|share| share > 0.01), "{json}");
    assert_eq!(first["dark"]["components"], 1, "{json}");
    assert!(first["widths"]["median"].as_u64().is_some_and(|width| width > 0), "{json}");
    assert!(json["parameters"]["lines"]["low"].is_number(), "{json}");

    let again = scene.run("mask in -o out");
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
}

#[test]
fn one_file_soft_and_with_other_parameters() {
    let scene = Scene::new();
    scene.image("a.png", &cracked());
    assert_eq!(scene.run("mask a.png -o m.png --soft --feather 2 --dilate 4").code, 0);
    let mask = scene.read("m.png");
    let Samples::U8(values) = mask.samples() else { panic!("8 bits") };
    assert!(values.contains(&255) && values.iter().any(|value| (1..255).contains(value)));
    assert_eq!(scene.run("mask a.png -o none.png --no-dark --no-wide").code, 0);
    let Samples::U8(values) = scene.read("none.png").samples().clone() else { panic!("8 bits") };
    assert!(values.iter().all(|&value| value == 0));
}

#[test]
fn the_carried_network_is_the_default_and_has_a_threshold() {
    let scene = Scene::new();
    scene.image("a.png", &cracked());
    let found = |arguments: &str| {
        let run = scene.run(&format!("mask a.png -o m.png --force --json {arguments}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON alone");
        (json["images"][0]["coverage"].as_f64().expect("a share"), json["parameters"].clone())
    };
    // The line is four pixels wide: 3 % of the picture, and a pixel more on both sides.
    let (share, parameters) = found("");
    assert!((0.02..0.08).contains(&share), "{share}");
    assert_eq!(parameters["threshold"], 0.5, "{parameters}");
    let (more, less) = (found("--threshold 0.1").0, found("--detector learned --threshold 0.9").0);
    assert!(more >= share && share >= less, "{more} {share} {less}");
    // What only the classical detector has means that one.
    assert!(found("--low 12").1["lines"]["low"].is_number());

    for (arguments, words) in [
        ("--detector classical --threshold 0.4", "--threshold is for networks"),
        ("--detector learned --low 12", "for --detector classical"),
        ("--threshold 1.5", "0.001"),
    ] {
        let run = scene.run(&format!("mask a.png -o other.png {arguments}"));
        assert_eq!(run.code, 2, "{arguments}");
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
}

#[test]
fn wrong_usage_is_explained_and_bad_files_do_not_stop_the_rest() {
    let scene = Scene::new();
    scene.image("in/a.png", &cracked());
    scene.file("in/b.png", b"not a picture");
    for (arguments, words) in [
        ("mask in -o m.png", "expected a folder"),
        ("mask in -o out --window 60", "window: expected an odd number"),
        ("mask in -o out --low 30 --high 20", "high: expected 30 to 255"),
    ] {
        let run = scene.run(arguments);
        assert_eq!(run.code, 2, "{arguments}");
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    let run = scene.run("mask in -o out");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("b.png"), "{}", run.stderr);
    assert!(scene.files().iter().any(|file| file == "out/a.png"));
}
