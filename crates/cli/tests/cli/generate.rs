//! Shell completions and man pages, which come from the argument definitions.

use crate::scene::Scene;

#[test]
fn every_shell_gets_a_script_that_knows_the_verbs() {
    let scene = Scene::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = scene.run(&format!("completions {shell}")).silent().stdout;
        for word in ["restore", "completions", "max-megapixels"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
}

#[test]
fn every_verb_gets_a_man_page() {
    let scene = Scene::new();
    scene.run("man -o pages/man1").silent();
    let pages = scene.files();
    for page in ["photomend.1", "photomend-restore.1", "photomend-bench.1", "photomend-man.1"] {
        assert!(pages.contains(&format!("pages/man1/{page}")), "{pages:?}");
    }
    let page = std::fs::read_to_string(scene.path("pages/man1/photomend-restore.1")).expect("text");
    assert!(
        page.contains(".TH photomend-restore 1") && page.contains("max\\-megapixels"),
        "{page}"
    );
}
