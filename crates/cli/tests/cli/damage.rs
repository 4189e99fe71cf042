//! `photomend damage` from outside.

use imaging::io::{ReadOptions, read_mask};

use crate::scene::{Scene, assert_only_masked_pixels_differ, photo, scan16};

#[test]
fn triplets_a_manifest_and_a_report() {
    let scene = Scene::new();
    scene.image("clean/a.png", &photo(64, 48));
    scene.image("clean/deep/b.tif", &scan16(40, 56));
    let run = scene.run(
        "damage clean -o set --recursive --kinds cracks=2,losses=1 --severity 0.5..0.9 --seed 7 --json",
    );
    let report = run.silent().json();
    assert_eq!((report["planned"].as_u64(), report["done"].as_u64()), (Some(2), Some(2)));
    assert_eq!(report["triplets"][1]["name"], "deep/b.png");
    let made: Vec<_> = scene.files().into_iter().filter(|name| name.starts_with("set/")).collect();
    assert_eq!(
        made,
        [
            "set/clean/a.png",
            "set/clean/deep/b.png",
            "set/damaged/a.png",
            "set/damaged/deep/b.png",
            "set/manifest.csv",
            "set/mask/a.png",
            "set/mask/deep/b.png",
        ]
    );
    for name in ["a.png", "deep/b.png"] {
        let mask = scene.path(&format!("set/mask/{name}"));
        let mask = read_mask(&mask, &ReadOptions::default()).expect("a mask");
        let clean = scene.read(&format!("set/clean/{name}"));
        assert_only_masked_pixels_differ(
            &clean,
            &scene.read(&format!("set/damaged/{name}")),
            &mask,
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let scene = Scene::new();
    scene.image("clean/a.png", &photo(64, 48));
    scene.image("clean/b.png", &photo(30, 50));
    let bytes = |out: &str, threads: usize, seed: u64| {
        let arguments = format!(
            "damage clean -o {out} --seed {seed} --mix 3..9 --count 2 --size 40 --threads {threads}"
        );
        scene.run(&arguments).silent();
        let names: Vec<_> =
            scene.files().into_iter().filter(|name| name.starts_with(&format!("{out}/"))).collect();
        assert_eq!(names.len(), 13, "{names:?}");
        names
            .iter()
            .map(|name| std::fs::read(scene.path(name)).expect("a file"))
            .collect::<Vec<_>>()
    };
    let one = bytes("one", 1, 5);
    assert!(one == bytes("three", 3, 5));
    assert!(one != bytes("other", 1, 6));
}

#[test]
fn nothing_is_replaced_unasked_and_bad_files_are_named() {
    let scene = Scene::new();
    scene.image("clean/a.png", &photo(20, 20));
    scene.file("clean/b.png", b"not a picture");
    let run = scene.run("damage clean -o set");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("b.png") && run.stderr.contains("left out"), "{run:?}");
    let again = scene.run("damage clean -o set");
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("manifest.csv: exists"), "{again:?}");
    std::fs::remove_file(scene.path("clean/b.png")).expect("is there");
    scene.run("damage clean -o set --force").silent();
    scene.run("damage none -o set").fails(
        1,
        &["photomend: error: none: expected a folder of clean photographs, found no such folder"],
    );
}

#[test]
fn aged_pictures_with_decoys_differ_from_their_clean_ones_in_the_mask_alone() {
    let scene = Scene::new();
    scene.image("clean/a.png", &photo(96, 72));
    scene.run("damage clean -o set --kinds structural --age --decoys --seed 3").silent();
    let (page, mask) = (scene.read("set/clean/a.png"), scene.path("set/mask/a.png"));
    assert_ne!(page, scene.read("clean/a.png"));
    let mask = read_mask(&mask, &ReadOptions::default()).expect("a mask");
    assert_only_masked_pixels_differ(&page, &scene.read("set/damaged/a.png"), &mask);
}
