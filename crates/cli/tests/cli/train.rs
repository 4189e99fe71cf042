//! `photomend train` on a small checkpoint of random weights.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::restore_model::model;
use crate::scene::{Scene, crack, damaged, photo};

/// `model/`, and `set/` with four triplets.
fn scene() -> Scene {
    let scene = Scene::new();
    model(&scene);
    for (name, (width, height)) in
        [("a", (64, 48)), ("b", (60, 48)), ("c", (48, 64)), ("d", (64, 64))]
    {
        let (clean, mask) = (photo(width, height), crack(width, height));
        scene.image(&format!("set/clean/{name}.png"), &clean);
        scene.image(&format!("set/damaged/{name}.png"), &damaged(clean, &mask));
        scene.mask(&format!("set/mask/{name}.png"), &mask);
    }
    scene
}

const QUICK: &str = "--model model --device cpu --resolution 32 --rank 2";

#[test]
fn a_run_leaves_everything_that_belongs_to_it() {
    let scene = scene();
    let run = scene.run(&format!(
        "train set -o run {QUICK} --epochs 2 --batch-size 2 --held-out 1 --validation-steps 2 --prompt a --json"
    ));
    let report = run.silent().json();
    assert_eq!(report["finished"], true, "{report}");
    assert_eq!(report["images"], 3);
    assert!(
        report["modules"].as_u64().is_some_and(|n| n > 0) && report["last_loss"].is_f64(),
        "{report}"
    );
    assert_eq!(report["validation"]["images"], 1);

    let files = scene.files();
    for name in [
        "run/README.md",
        "run/log.jsonl",
        "run/lora_kohya.safetensors",
        "run/loss.png",
        "run/pytorch_lora_weights.safetensors",
        "run/run.toml",
    ] {
        assert!(files.iter().any(|file| file == name), "no {name} among {files:?}");
    }
    for part in [
        "run/tensorboard/events.out.tfevents.",
        "run/validation/step-00000000/",
        "run/checkpoints/step-",
    ] {
        assert!(files.iter().any(|file| file.starts_with(part)), "no {part}… among {files:?}");
    }
    let steps = report["steps"].as_u64().expect("a number");
    let log = std::fs::read_to_string(scene.path("run/log.jsonl")).expect("a log");
    let logged = log.lines().filter(|line| line.contains("\"event\":\"step\"")).count();
    assert_eq!(logged as u64, steps);

    // What was trained is a LoRA like any other, in both forms.
    for name in ["pytorch_lora_weights", "lora_kohya"] {
        let restore = format!(
            "restore set/damaged/a.png --mask set/mask/a.png --model model --lora run/{name}.safetensors \
             --device cpu --steps 2 --guidance 1 --window-size 64 --prompt a --negative-prompt b -o {name}.png"
        );
        scene.run(&restore).silent();
    }
}

#[test]
fn the_same_settings_give_the_same_bytes_whatever_the_threads() {
    let scene = scene();
    let tail = "--steps 3 --prompt a --no-cache --convolutions --lora-dropout 0.1 --ema-decay 0.5";
    scene.run(&format!("train set -o one {QUICK} {tail} --threads 1")).silent();
    scene.run("train -o two --run one/run.toml --threads 2").silent();
    let bytes =
        |run: &str| std::fs::read(scene.path(run).join("lora_kohya.safetensors")).expect("a LoRA");
    assert!(bytes("one") == bytes("two"), "run.toml gives another LoRA");
}

#[test]
fn clean_photographs_are_damaged_on_the_way() {
    let scene = scene();
    scene
        .run(&format!(
            "train --clean set/clean -o run {QUICK} --steps 4 --conditions cracks=2,losses,blur --prompt a \
             --no-condition-words --extra-masks 0.5"
        ))
        .silent();
    assert!(scene.path("run/lora_kohya.safetensors").is_file());
}

#[test]
fn the_text_encoder_can_have_a_lora_too() {
    let scene = scene();
    scene.run(&format!("train set -o run {QUICK} --text-encoder --steps 2 --prompt a")).silent();
    for name in ["pytorch_lora_weights", "lora_kohya"] {
        let info = scene.run(&format!("model info run/{name}.safetensors --json")).done().stdout;
        assert!(info.contains("text_encoder"), "{info}");
    }
    let bytes = std::fs::read(scene.path("run/lora_kohya.safetensors")).expect("a LoRA");
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).into_owned();
    assert!(
        header.contains("lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha"),
        "{header}"
    );
}

#[test]
fn every_weight_can_be_trained_and_the_model_is_used() {
    let scene = scene();
    let arguments = |run: &str, rate: &str| {
        format!("train set -o {run} {QUICK} --full --steps 2 --prompt a --lr {rate}")
    };
    scene.run(&arguments("run", "1e-3")).silent();
    scene.run(&arguments("same", "0")).silent();
    let run = scene.run("model info run/model --json").done();
    assert!(run.stdout.contains("unet"), "{}", run.stdout);
    let restore = "restore set/damaged/a.png --mask set/mask/a.png --model run/model --device cpu --steps 2 \
                   --guidance 1 --window-size 64 --prompt a --negative-prompt b -o a.png";
    scene.run(restore).silent();
    let weights = |model: &str| {
        std::fs::read(scene.path(model).join("unet/diffusion_pytorch_model.safetensors"))
            .expect("weights")
    };
    assert!(weights("run/model") != weights("same/model"), "nothing was trained");
}

#[test]
fn several_runs_from_one_file() {
    let scene = scene();
    scene.file(
        "sweep.toml",
        b"[base]\nmodel = \"model\"\n[data]\ntriplets = \"set\"\nresolution = 32\nprompt = \"a\"\n[run]\nmax_steps = 1\n\
          [[runs]]\nname = \"small\"\nnetwork.rank = 1\n[[runs]]\nname = \"large\"\nnetwork.rank = 3\n",
    );
    let report = scene.run("train -o out --run sweep.toml --json").silent().json();
    assert_eq!(report[1]["name"], "large");
    let size = |run: &str| {
        scene.path(&format!("out/{run}/lora_kohya.safetensors")).metadata().expect("a LoRA").len()
    };
    assert!(size("large") > size("small"));
}

#[test]
fn wrong_calls_are_refused_before_any_work() {
    let scene = scene();
    scene.file("empty/clean/a.png", b"");
    for (arguments, code, words) in [
        ("train set -o run", 2, "--model"),
        ("train -o run --model model", 2, "--clean"),
        ("train nowhere -o run --model model", 1, "nowhere"),
        ("train empty -o run --model model", 1, "empty"),
        ("train set -o run --model nowhere", 1, "nowhere"),
        ("train set -o run --model model --target-modules to_x", 1, "to_x"),
        ("train set -o run --model model --resolution 36", 1, "resolution"),
        ("train set -o run --model model --held-out 4", 1, "fewer"),
        ("train set -o run --model model --full --dtype bf16", 1, "dtype"),
        ("train set -o run --run nothing.toml", 1, "nothing.toml"),
        ("train -o run --run model/model_index.json", 1, "model_index.json"),
    ] {
        let run = scene.run(arguments);
        assert_eq!(run.code, code, "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{arguments}: {}", run.stderr);
        assert!(
            !run.stderr.contains("panicked") && run.stderr.lines().count() < 6,
            "{}",
            run.stderr
        );
        assert!(!scene.path("run").exists(), "{arguments} left something");
    }
}

#[test]
fn every_problem_of_a_data_set_is_named_at_once() {
    let scene = scene();
    scene.image("set/clean/lonely.png", &photo(16, 16));
    scene.file("set/mask/b.png", b"no picture");
    scene.image("set/damaged/c.png", &photo(40, 64));
    let run = scene.run(&format!("train set -o run {QUICK}"));
    assert_eq!(run.code, 1);
    for name in ["lonely.png", "b.png", "c.png"] {
        assert!(run.stderr.contains(name), "{name}: {}", run.stderr);
    }
}

#[test]
fn a_resumed_run_must_be_the_same_run() {
    let scene = scene();
    scene.run(&format!("train set -o run {QUICK} --steps 1 --prompt a")).silent();
    let again = scene.run(&format!("train set -o run {QUICK} --steps 1 --prompt a"));
    assert!(again.code == 1 && again.stderr.contains("resume"), "{}", again.stderr);
    let settings = std::fs::read(scene.path("run/run.toml")).expect("a file");
    let other =
        scene.run(&format!("train set -o run {QUICK} --steps 1 --prompt a --lr 1e-3 --resume"));
    assert!(other.code == 1 && other.stderr.contains("learning_rate"), "{}", other.stderr);
    assert!(settings == std::fs::read(scene.path("run/run.toml")).expect("a file"));
    scene.image("set/clean/a.png", &photo(64, 48));
    let mask = crack(64, 48);
    scene.image("set/damaged/a.png", &photo(64, 48));
    scene.mask("set/mask/a.png", &mask);
    let other = scene.run(&format!("train set -o run {QUICK} --steps 1 --prompt a --resume"));
    assert!(other.code == 1 && other.stderr.contains("data"), "{}", other.stderr);
}

/// The program on its way, without a pipe that could fill.
fn start(scene: &Scene, arguments: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_photomend"))
        .current_dir(scene.path(""))
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

fn results(scene: &Scene, run: &str) -> Vec<(String, Vec<u8>)> {
    let prefix = format!("{run}/");
    let wanted = |name: &&String| {
        name.strip_prefix(&prefix)
            .is_some_and(|rest| rest.ends_with(".safetensors") && !rest.starts_with("cache"))
    };
    let read = |name: &String| {
        let bytes = std::fs::read(scene.path(name)).expect("a file");
        (name[prefix.len()..].to_owned(), bytes)
    };
    scene.files().iter().filter(wanted).map(read).collect()
}

/// Kill -9 at random moments: every resumed run ends in the same bytes as the one that was left alone.
#[test]
fn killed_runs_resume_to_the_same_bytes() {
    const KILLS: u32 = 20;
    const STEPS: u32 = 24;
    let scene = scene();
    let arguments = |run: &str| {
        format!(
            "train set -o {run} {QUICK} --steps {STEPS} --save-every 3 --prompt a --lora-dropout 0.2 --ema-decay 0.9"
        )
    };
    // 1. left alone, and how long a step takes
    let started = Instant::now();
    scene.run(&arguments("whole")).silent();
    let step = started.elapsed() / STEPS;
    let expected = results(&scene, "whole");
    assert!(expected.len() >= 3, "two LoRA files and a checkpoint: {}", expected.len());

    // 2. killed, once each: while it starts, or after some number of steps, and then at any moment of the next ones
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut interrupted = 0;
    for number in 0..KILLS {
        let run = format!("killed-{number}");
        let mut child = start(&scene, &arguments(&run));
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let log = scene.path(&run).join("log.jsonl");
        let after = (random % u64::from(STEPS)) as usize;
        while lines(&log) < after && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(step.mul_f64((random >> 32) as f64 / f64::from(u32::MAX) * 2.0));
        // It may be through already: then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
        interrupted += u32::from(!scene.path(&run).join("README.md").exists());
        scene.run(&format!("{} --resume", arguments(&run))).silent();
        let found = results(&scene, &run);
        let names = |all: &[(String, Vec<u8>)]| -> Vec<String> {
            all.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&found), names(&expected), "run {number}");
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            assert!(found == expected, "run {number}, killed after step {after}: {name} differs");
        }
        assert_eq!(lines(&log), STEPS as usize, "run {number}: each step once");
        std::fs::remove_dir_all(scene.path(&run)).expect("a folder");
    }
    println!("{interrupted} of {KILLS} runs were killed before their end");
    assert!(interrupted >= KILLS / 4, "only {interrupted} runs were killed before their end");
}

/// The lines of a log, none if it is not there yet.
fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Ctrl-C: the step that is under way is finished and kept.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_done() {
    if crate::interrupt::interrupts_are_ignored() {
        return; // inherited by the program, which then leaves them ignored
    }
    let scene = scene();
    let arguments = format!("train set -o run {QUICK} --steps 100000 --save-every 0 --prompt a");
    let mut child = start(&scene, &arguments);
    let log = scene.path("run/log.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while lines(&log) < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    assert_eq!(child.wait().expect("the program ends").code(), Some(130));
    let kept =
        scene.files().into_iter().filter(|name| name.starts_with("run/checkpoints/")).count();
    assert_eq!(kept, 1);
    assert!(scene.path("run/loss.png").is_file());
    assert!(!scene.path("run/lora_kohya.safetensors").exists());
}
