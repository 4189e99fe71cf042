//! `photomend restore` from end to end.

use crate::scene::{
    Scene, assert_only_masked_pixels_differ, crack, damaged, photo, scan16, values,
};
use imaging::imgproc::{StructuringElement, dilate};
use imaging::io::ReadOptions;
use imaging::{ColorType, Image, Mask, Samples};

/// `photo.png` with a crack, `mask.png`, and both as they are in memory.
fn cracked() -> (Scene, Image, Mask) {
    let scene = Scene::new();
    let mask = crack(64, 48);
    let image = damaged(photo(64, 48), &mask);
    scene.image("photo.png", &image);
    scene.mask("mask.png", &mask);
    (scene, image, mask)
}

#[test]
fn a_single_file_is_restored_beside_itself_without_a_word() {
    let (scene, image, mask) = cracked();
    let run = scene.run("restore photo.png --mask mask.png").silent();
    assert_eq!(run.stdout, "");
    assert_eq!(scene.files(), ["mask.png", "photo.png", "photo.restored.png"]);
    assert_only_masked_pixels_differ(&image, &scene.read("photo.restored.png"), &mask);
    assert_eq!(scene.read("photo.png"), image);
}

#[test]
fn kept_pixels_survive_every_lossless_format_and_depth() {
    let mask = crack(40, 56);
    let grey_alpha = {
        let values = (0..40 * 56 * 2).map(|at| (at % 251) as u8).collect();
        Image::new(40, 56, ColorType::GrayAlpha, Samples::U8(values)).expect("a picture")
    };
    for (name, image) in [
        ("rgb.png", photo(40, 56)),
        ("grey16.png", scan16(40, 56)),
        ("grey16.tif", scan16(40, 56)),
        ("rgb.tiff", photo(40, 56)),
        ("rgb.webp", photo(40, 56)),
        ("grey-alpha.png", grey_alpha),
    ] {
        let scene = Scene::new();
        let image = damaged(image, &mask);
        scene.image(name, &image);
        let stored = scene.read(name);
        scene.mask("mask.png", &mask);
        scene.run(&format!("restore {name} --mask mask.png -o out")).silent();
        let restored = scene.read(&format!("out/{name}"));
        assert_only_masked_pixels_differ(&stored, &restored, &mask);
        assert_eq!(stored.metadata.resolution, restored.metadata.resolution);
    }
}

#[test]
fn the_output_may_be_another_format() {
    let (scene, image, mask) = cracked();
    scene.run("restore photo.png --mask mask.png -o album/new.tif").silent();
    assert_only_masked_pixels_differ(&image, &scene.read("album/new.tif"), &mask);

    // JPEG changes kept pixels, which is said once however many pictures there are, and not with --quiet
    let note = "photomend: note: JPEG encodes kept pixels anew; write PNG, TIFF or WebP (-o NAME.png) to \
                keep them bit-identical\n";
    let run = scene.run("restore photo.png --mask mask.png -o a.jpg --jpeg-quality 80").done();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", note));
    scene.run("restore photo.png --mask mask.png -o b.jpg --quiet").silent();
    assert_eq!(scene.read("a.jpg").size(), (64, 48));
}

#[test]
fn all_methods_fill_and_differ() {
    let (scene, image, mask) = cracked();
    for method in ["telea", "biharmonic", "refined"] {
        scene
            .run(&format!("restore photo.png -m mask.png --method {method} -o {method}.png"))
            .silent();
        assert_only_masked_pixels_differ(&image, &scene.read(&format!("{method}.png")), &mask);
    }
    assert_ne!(scene.read("telea.png"), scene.read("biharmonic.png"));
    assert_ne!(scene.read("refined.png"), scene.read("biharmonic.png"));

    // Refined is what is taken unless another is asked for.
    let report = scene.run("restore photo.png -m mask.png -o default.png --json").silent().json();
    assert_eq!(report["images"][0]["method"], "refined");
    assert_eq!(scene.read("default.png"), scene.read("refined.png"));
    let run = scene.run("restore photo.png --method telea --refiner refiner.safetensors");
    assert_eq!((run.code, run.stderr.contains("--refiner is for --method refined")), (2, true));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (scene, ..) = cracked();
    scene.run("restore photo.png -m mask.png --threads 1 -o 1.png").silent();
    scene.run("restore photo.png -m mask.png --threads 5 -o 5.png").silent();
    let [one, five] =
        ["1.png", "5.png"].map(|name| std::fs::read(scene.path(name)).expect("a file"));
    assert_eq!(one, five);
}

#[test]
fn a_given_mask_is_used_as_it_is_unless_grown() {
    let (scene, image, mask) = cracked();
    scene.run("restore photo.png -m mask.png -o plain.png --save-mask").silent();
    assert_eq!(values(&scene.read("plain.mask.png")), weights(&mask));

    scene.run("restore photo.png -m mask.png -o grown.png --save-mask --dilate 2").silent();
    let disc = StructuringElement::disc(5).expect("an odd diameter");
    let grown = Mask::from_plane(dilate(mask.plane(), &disc));
    assert_eq!(values(&scene.read("grown.mask.png")), weights(&grown));
    assert_only_masked_pixels_differ(&image, &scene.read("grown.png"), &grown);
}

fn weights(mask: &Mask) -> Vec<u16> {
    mask.plane().data().iter().copied().map(u16::from).collect()
}

#[test]
fn grey_in_a_mask_blends() {
    let scene = Scene::new();
    let image = Image::new(9, 9, ColorType::Gray, Samples::U8(vec![200; 81])).expect("a picture");
    let mut mask = Mask::empty(9, 9);
    mask.plane_mut().set(4, 4, 51);
    let mut spotted = image;
    if let Samples::U8(values) = spotted.samples_mut() {
        values[4 * 9 + 4] = 100;
    }
    scene.image("a.png", &spotted);
    scene.mask("m.png", &mask);
    scene.run("restore a.png -m m.png -o b.png").silent();
    // the fill is 200, 51 / 255 = 0.2: 100 + 0.2 · (200 − 100) = 120
    assert_eq!(values(&scene.read("b.png"))[4 * 9 + 4], 120);
}

#[test]
fn a_folder_with_a_folder_of_masks() {
    let scene = Scene::new();
    let mask = crack(48, 32);
    for name in ["one.png", "two.tif", "deep/three.png"] {
        scene.image(&format!("in/{name}"), &damaged(photo(48, 32), &mask));
    }
    for name in ["one.png", "two.png", "deep/three.tif"] {
        scene.mask(&format!("masks/{name}"), &mask);
    }
    scene.run("restore in -o flat --mask masks").silent();
    // what is named twice is done once
    scene.run("restore in in -o deep --mask masks --recursive").silent();
    let made: Vec<_> = scene
        .files()
        .into_iter()
        .filter(|name| name.starts_with("flat/") || name.starts_with("deep/"))
        .collect();
    let expected =
        ["deep/deep/three.png", "deep/one.png", "deep/two.tif", "flat/one.png", "flat/two.tif"];
    assert_eq!(made, expected);
    for name in expected {
        let source = format!("in/{}", name.split_once('/').expect("a folder").1);
        assert_only_masked_pixels_differ(&scene.read(&source), &scene.read(name), &mask);
    }
}

#[test]
fn outputs_and_masks_inside_the_input_folder_are_not_read_again() {
    let scene = Scene::new();
    let mask = crack(48, 32);
    scene.image("in/a.png", &damaged(photo(48, 32), &mask));
    scene.mask("in/masks/a.png", &mask);
    let command = "restore in -r -o in/done --mask in/masks --json";
    for arguments in [command.to_owned(), format!("{command} --force")] {
        let report = scene.run(&arguments).done().json();
        assert_eq!(report["totals"]["images"], 1, "{report}");
    }
    assert_eq!(scene.files(), ["in/a.png", "in/done/a.png", "in/masks/a.png"]);
}

#[test]
fn nothing_is_overwritten_unasked_and_the_input_never() {
    let (scene, image, _) = cracked();
    scene.image("second.png", &image);
    scene.run("restore photo.png -m mask.png -o out.png --save-mask").silent();

    scene
        .run("restore photo.png -m mask.png -o out.png")
        .fails(1, &["photomend: error: out.png exists; --force replaces it"]);
    scene.run("restore photo.png -m mask.png -o out.png --force").silent();

    let replaces =
        "photomend: error: photo.png would replace the input photo.png; choose another output";
    scene.run("restore photo.png -m mask.png -o photo.png --force").fails(1, &[replaces]);
    scene.run("restore photo.png -m mask.png -o mask.png --force").fails(
        1,
        &["photomend: error: mask.png would replace the input mask.png; choose another output"],
    );
    // an output folder that is the input's own
    scene.run("restore photo.png second.png -o . --force").fails(
        1,
        &["photomend: error: ./photo.png would replace the input photo.png; choose another output"],
    );
    // the mask that another run saved counts as an output too
    scene
        .run("restore second.png -m mask.png -o out.tif --save-mask")
        .fails(1, &["photomend: error: out.mask.png exists; --force replaces it"]);
    assert_eq!(scene.read("photo.png"), image);
}

#[test]
fn two_inputs_with_one_output_are_refused() {
    let scene = Scene::new();
    scene.image("x/a.png", &photo(8, 8));
    scene.image("y/a.png", &photo(8, 8));
    scene
        .run("restore x/a.png y/a.png -o out")
        .fails(1, &["photomend: error: x/a.png and y/a.png would both be written to out/a.png"]);
    assert_eq!(scene.files(), ["x/a.png", "y/a.png"]);
}

#[test]
fn several_inputs_need_an_output_folder() {
    let (scene, ..) = cracked();
    let needs = "photomend: error: several images need an output folder: -o OUT";
    scene.run("restore photo.png mask.png").fails(2, &[needs]);
    scene.run("restore .").fails(2, &[needs]);
    scene.run("restore photo.png mask.png -o out.png").fails(
        2,
        &["photomend: error: out.png: expected a folder to write several images to, found the name of an \
           image file"],
    );
    scene.run("restore photo.png mask.png -o out -m mask.png").fails(
        2,
        &["photomend: error: mask.png: several images need a folder of masks, found a file"],
    );
    scene.run("restore photo.png -o out.heic").fails(
        2,
        &["photomend: error: out.heic: expected a .png, .jpg, .tif or .webp file or a folder, found .heic"],
    );
}

#[test]
fn a_batch_goes_on_after_a_broken_file() {
    let scene = Scene::new();
    let mask = crack(48, 32);
    for name in ["a", "b", "c", "d"] {
        scene.image(&format!("in/{name}.png"), &damaged(photo(48, 32), &mask));
        if name != "c" {
            scene.mask(&format!("masks/{name}.png"), &mask);
        }
    }
    scene.file("in/b.png", b"not a picture");
    let run = scene.run("restore in -o out --mask masks --json");
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(scene.files().iter().filter(|name| name.starts_with("out/")).count(), 2);

    let errors: Vec<_> = run.stderr.lines().collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].starts_with("photomend: error: in/b.png: "), "{errors:?}");
    assert_eq!(errors[1], "photomend: error: in/c.png: no mask for it in masks: expected c.png");
    assert_eq!(errors[2], "photomend: error: 2 of 4 images failed");

    let report = run.json();
    let images = report["images"].as_array().expect("a list");
    assert_eq!(images.len(), 4);
    assert_eq!(images[1]["input"], "in/b.png");
    assert!(images[1]["error"].is_string() && images[1].get("output").is_none());
    assert_eq!(images[3]["output"], "out/d.png");
    let totals = &report["totals"];
    assert_eq!((&totals["done"], &totals["failed"]), (&2.into(), &2.into()));
}

#[test]
fn the_report_says_what_was_done() {
    let (scene, _, mask) = cracked();
    let report = scene.run("restore photo.png -m mask.png --method telea --json").silent().json();
    let image = &report["images"][0];
    assert_eq!(image["input"], "photo.png");
    assert_eq!(image["output"], "photo.restored.png");
    assert_eq!(image["mask"], "mask.png");
    assert_eq!((&image["width"], &image["height"]), (&64.into(), &48.into()));
    assert_eq!((&image["bit_depth"], &image["color"]), (&8.into(), &"rgb".into()));
    assert_eq!(image["method"], "telea");
    assert_eq!(image["detection"], serde_json::Value::Null);
    assert_eq!(image["coverage"], mask.coverage());
    assert_eq!(
        (&image["fill"]["regions"], &image["fill"]["pixels"]),
        (&1.into(), &mask.count().into())
    );
    for stage in ["read_s", "detect_s", "fill_s", "write_s"] {
        assert!(image[stage].as_f64().is_some_and(|seconds| seconds >= 0.0), "{stage}");
    }
    assert_eq!(report["totals"]["images"], 1);
}

#[test]
fn an_empty_mask_changes_nothing_and_says_so() {
    let scene = Scene::new();
    scene.image("a.tif", &scan16(20, 20));
    scene.mask("m.png", &Mask::empty(20, 20));
    let run = scene.run("restore a.tif -m m.png -o b.tif").done();
    assert_eq!(
        run.stderr,
        "photomend: note: a.tif: the mask is empty, its pixels stay as they are\n"
    );
    assert_eq!(scene.read("a.tif").samples(), scene.read("b.tif").samples());
}

#[test]
fn a_sheet_to_look_at_comes_with_compare() {
    let (scene, ..) = cracked();
    scene.run("restore photo.png -m mask.png -o out/a.tif --compare").silent();
    assert_eq!(scene.files(), ["mask.png", "out/a.compare.png", "out/a.tif", "photo.png"]);
    // three panels side by side
    let sheet = scene.read("out/a.compare.png");
    assert!(sheet.width() > 3 * 64 && sheet.height() > 48, "{:?}", sheet.size());
}

#[test]
fn feather_softens_around_a_given_mask() {
    let (scene, _, mask) = cracked();
    // 255 on the given mask, falling to 0 around it
    scene.run("restore photo.png -m mask.png -o soft.png --save-mask --feather 1.5").silent();
    let soft = values(&scene.read("soft.mask.png"));
    for (&weight, &given) in soft.iter().zip(mask.plane().data()) {
        assert!(given == 0 || weight == 255);
    }
    assert!(soft.iter().any(|weight| (1..255).contains(weight)));
}

#[test]
fn damage_is_found_when_no_mask_is_given() {
    let scene = Scene::new();
    let mask = crack(160, 120);
    let image = damaged(photo(160, 120), &mask);
    scene.image("a.png", &image);
    let report = scene.run("restore a.png -o b.png --save-mask --json").done().json();
    assert!(report["images"][0]["detection"].is_object(), "{report}");
    let used =
        imaging::io::read_mask(&scene.path("b.mask.png"), &ReadOptions::default()).expect("a mask");
    assert_only_masked_pixels_differ(&image, &scene.read("b.png"), &used);

    // the crack is in it: all of it for the classical detector, as the picture is smooth; less for one that learned from photographs
    let found = |mask_file: &str| {
        let used = imaging::io::read_mask(&scene.path(mask_file), &ReadOptions::default())
            .expect("a mask");
        let both = used.plane().data().iter().zip(mask.plane().data());
        both.filter(|(a, b)| **a > 0 && **b > 0).count() as f64 / mask.count() as f64
    };
    scene.run("restore a.png -o c.png --save-mask --detector classical").silent();
    let (learned, classical) = (found("b.mask.png"), found("c.mask.png"));
    assert!(learned > 0.4 && classical > 0.9, "{learned} and {classical}");

    scene.image(
        "clean.png",
        &Image::new(90, 90, ColorType::Gray, Samples::U8(vec![128; 8100])).expect("grey"),
    );
    let run = scene.run("restore clean.png -o same.png").done();
    assert_eq!(
        run.stderr,
        "photomend: note: clean.png: no damage found, its pixels stay as they are\n"
    );
    assert_eq!(scene.read("clean.png").samples(), scene.read("same.png").samples());
}
