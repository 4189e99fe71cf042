//! Inputs that are broken, missing or absurd: one clear error each, and nothing left behind.

use crate::scene::{Scene, crack, photo};
use imaging::Mask;

/// Runs `restore`, which must fail with code 1, one line about the culprit, and no new file.
#[track_caller]
fn fails_about(scene: &Scene, arguments: &str, culprit: &str) -> String {
    let before = scene.files();
    let run = scene.run(arguments);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (1, "", 1), "{run:?}");
    let start = format!("photomend: error: {culprit}");
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    assert_eq!(scene.files(), before);
    run.stderr
}

#[test]
fn files_that_are_no_pictures() {
    let scene = Scene::new();
    scene.file("empty.png", b"");
    scene.file("text.png", b"Dear Anna, the beach was lovely.");
    scene.file("notes.txt", b"Dear Anna");
    scene.image("whole.png", &photo(64, 64));
    let bytes = std::fs::read(scene.path("whole.png")).expect("a file");
    scene.file("cut.png", &bytes[..bytes.len() / 2]);
    for name in ["empty.png", "text.png", "notes.txt", "cut.png"] {
        fails_about(&scene, &format!("restore {name} -o out.png"), &format!("{name}: "));
    }
}

#[test]
fn a_mask_of_another_size_names_both() {
    let scene = Scene::new();
    scene.image("a.png", &photo(64, 48));
    scene.mask("m.png", &crack(48, 64));
    let error = fails_about(&scene, "restore a.png -m m.png -o b.png", "a.png: mask m.png: ");
    assert!(error.contains("expected 64×48 pixels, found 48×64"), "{error}");
}

#[test]
fn a_mask_that_keeps_nothing_is_an_error() {
    let scene = Scene::new();
    scene.image("a.png", &photo(20, 20));
    scene.mask("m.png", &Mask::from_fn(20, 20, |_, _| true));
    fails_about(&scene, "restore a.png -m m.png -o b.png", "a.png: ");
}

#[test]
fn folders_and_files_that_are_not_there() {
    let scene = Scene::new();
    scene.file("text/letter.txt", b"Dear Anna");
    scene.image("a.png", &photo(8, 8));
    fails_about(&scene, "restore text -o out", "text: no images in this folder");
    fails_about(&scene, "restore a.png gone.png -o out", "gone.png: no such file or folder");
    fails_about(&scene, "restore a.png -m gone.png", "gone.png: no such file or folder");
    // a file where the output's folder should be
    fails_about(&scene, "restore a.png -m a.png -o text/letter.txt/b.png", "");
}

#[test]
fn more_pixels_than_allowed_are_refused() {
    let scene = Scene::new();
    scene.image("a.png", &photo(200, 100));
    let error = fails_about(&scene, "restore a.png --max-megapixels 0.01", "a.png: 200×100");
    assert!(error.contains("limit"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    scene.image("a.png", &photo(8, 8));
    let locked = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(scene.path("a.png"), locked).expect("the mode changes");
    if std::fs::read(scene.path("a.png")).is_ok() {
        return; // a superuser may read everything
    }
    fails_about(&scene, "restore a.png -o b.png", "a.png: cannot read");
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let scene = Scene::new();
    for arguments in ["completions zsh", "restore --help"] {
        let script = format!("\"$1\" {arguments} | true; echo \"${{PIPESTATUS[0]}}\"");
        let output = assert_cmd::Command::new("bash")
            .current_dir(scene.path(""))
            .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_photomend")])
            .output()
            .expect("bash runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{arguments}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments}");
    }
}
