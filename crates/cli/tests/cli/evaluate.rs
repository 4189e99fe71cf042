//! `photomend evaluate`.

use imaging::{Image, Mask, Samples};

use crate::scene::{Scene, photo};

const SIZE: usize = 40;

fn crack() -> Mask {
    Mask::from_fn(SIZE, SIZE, |x, y| (x + y / 4).abs_diff(18) < 2)
}

fn damaged(clean: &Image) -> Image {
    let mut image = clean.clone();
    if let Samples::U8(samples) = image.samples_mut() {
        for (pixel, &weight) in samples.chunks_exact_mut(3).zip(crack().plane().data()) {
            if weight > 0 {
                pixel.fill(250);
            }
        }
    }
    image
}

/// A data set of two pictures in `data/`.
fn scene() -> Scene {
    let scene = Scene::new();
    for name in ["a", "b"] {
        let clean = photo(SIZE, SIZE);
        scene.image(&format!("data/clean/{name}.png"), &clean);
        scene.image(&format!("data/damaged/{name}.png"), &damaged(&clean));
        scene.mask(&format!("data/mask/{name}.png"), &crack());
    }
    scene
}

#[test]
fn the_table_goes_to_stdout_and_the_report_to_the_folder() {
    let scene = scene();
    let run = scene.run("evaluate data -o out --method telea,biharmonic --no-detection").done();
    for expected in ["**telea**", "**biharmonic**", "| Metric", "Damaged → Clean", "2 images"] {
        assert!(run.stdout.contains(expected), "{run:?}");
    }
    assert_eq!(run.stderr, "photomend: note: the report is out/report.html\n");
    let files = scene.files();
    for file in [
        "report.html",
        "summary.json",
        "metrics.csv",
        "metrics/psnr_scores.csv",
        "metrics/ssim_scores.csv",
        "plots/psnr_improvement.svg",
        "plots/ssim_bars.png",
        "sheets/a.jpg",
    ] {
        assert!(files.contains(&format!("out/{file}")), "{file} in {files:?}");
    }
    let page = std::fs::read_to_string(scene.path("out/report.html")).expect("text");
    assert!(page.contains("photomend evaluate data -o out --method telea,biharmonic"));

    // Nothing is replaced without --force.
    scene.run("evaluate data -o out --no-detection").fails(
        1,
        &["photomend: error: out: expected a new or empty folder for the report, found files in it"],
    );
    scene.run("-q evaluate data -o out --force --no-detection").silent();
}

#[test]
fn pictures_in_folders_are_taken_if_asked_for() {
    let scene = scene();
    for part in ["clean", "damaged", "mask"] {
        let from = std::fs::read(scene.path(&format!("data/{part}/a.png"))).expect("a picture");
        scene.file(&format!("data/{part}/more/c.png"), &from);
    }
    let images = |options: &str| {
        let run = scene.run(&format!("evaluate data -o out --json --force {options}")).done();
        run.json()["images"].as_u64()
    };
    assert_eq!(images("--no-detection"), Some(2));
    assert_eq!(images("--no-detection --recursive --save-restored"), Some(3));
    assert!(scene.path("out/restored/refined/more/c.png").is_file());
    assert!(scene.path("out/sheets/more/c.jpg").is_file());
    let table = std::fs::read_to_string(scene.path("out/metrics.csv")).expect("a table");
    assert!(table.contains("more/c.png"), "{table}");
}

#[test]
fn a_checkpoint_is_compared_as_restore_uses_it_with_and_without_its_lora() {
    let scene = scene();
    let settings = "--model compact --draws 1 --strength 0.4 --steps 5 --seed 3";
    let lora = format!("{settings} --lora restoration");
    scene.run(&format!("evaluate data -o out {lora} --no-detection --save-restored")).done();
    let summary = std::fs::read_to_string(scene.path("out/summary.json")).expect("text");
    assert!(summary.contains("\"draws\": 1"), "{summary}");
    for (name, settings) in [("base", settings), ("lora", &lora)] {
        let inputs = "data/damaged/a.png --mask data/mask/a.png";
        scene.run(&format!("restore {inputs} {settings} -o {name}.png")).done();
        let compared = scene.read(&format!("out/restored/{name}/a.png"));
        assert_eq!(compared, scene.read(&format!("{name}.png")), "{name}");
    }
    assert_ne!(scene.read("base.png"), scene.read("lora.png"));
    let alone = scene.run("evaluate data -o other --draws 1");
    assert!(alone.code == 2 && alone.stderr.contains("--model"), "{alone:?}");
}

#[test]
fn results_made_elsewhere_are_scored_and_told_as_json() {
    let scene = scene();
    scene.run("evaluate data -o one --save-restored --no-detection").done();
    let run = scene.run(
        "evaluate data -o two --restored one/restored/refined --json --sample 1 --no-detection",
    );
    let json = run.done().json();
    assert_eq!(json["images"], 1);
    assert_eq!(json["runs"][0]["name"], "refined");
    assert_eq!(json["runs"][0]["settings"]["method"], serde_json::Value::Null);
}

#[test]
fn every_problem_is_named_and_the_rest_goes_on() {
    let scene = scene();
    scene.image("data/clean/lonely.png", &photo(SIZE, SIZE));
    scene.file("data/damaged/b.png", b"not a picture");
    let run = scene.run("evaluate data -o out --no-detection");
    assert_eq!(run.code, 1);
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(errors.len(), 3, "{run:?}");
    assert!(errors[0].contains("lonely.png: expected a file of this name in damaged/, found none"));
    assert!(errors[1].contains("b.png: cannot decode"), "{run:?}");
    assert!(errors[2].contains("2 problems, 1 image scored"), "{run:?}");
    assert!(run.stdout.contains("1 image, 2 problems"), "{run:?}");
}

#[test]
fn nothing_to_evaluate_is_an_error() {
    let scene = scene();
    scene.run("evaluate nowhere -o out").fails(
        1,
        &["photomend: error: nowhere: expected a folder with clean/ and damaged/, found nothing"],
    );
    assert_eq!(scene.run("evaluate data").code, 2);
    assert_eq!(scene.run("evaluate data -o out --detect --masks given").code, 2);
}
