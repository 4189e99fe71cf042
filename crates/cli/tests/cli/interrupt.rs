//! Ctrl-C in the middle of a batch: what is done stays whole, nothing half-done is left.
#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scene::{Scene, photo};
use imaging::Mask;

#[test]
fn ctrl_c_keeps_finished_pictures_and_leaves_nothing_half_done() {
    if interrupts_are_ignored() {
        return; // inherited by the program, which then leaves them ignored
    }
    // 1. more work than fits into the time that the signal needs
    let scene = Scene::new();
    let mask = Mask::from_fn(300, 300, |x, y| x % 12 < 6 && y % 12 < 6);
    for index in 0..60 {
        scene.image(&format!("in/{index:02}.png"), &photo(300, 300));
        scene.mask(&format!("masks/{index:02}.png"), &mask);
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_photomend"))
        .current_dir(scene.path(""))
        .args(
            "restore in -o out --mask masks --method telea --radius 20 --threads 1 --json"
                .split(' '),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");

    // 2. interrupt it after the first picture
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
    while !scene.path("out/00.png").exists() && is_running(&mut child) && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(130));

    // 3. what is there is whole, and there is less than everything
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let done = report["totals"]["done"].as_u64().expect("a number");
    assert!((1..60).contains(&done), "{report}");
    let outputs: Vec<_> =
        scene.files().into_iter().filter(|name| name.starts_with("out/")).collect();
    assert_eq!(outputs.len() as u64, done, "{outputs:?}");
    for name in &outputs {
        assert_eq!(scene.read(name).size(), (300, 300));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, format!("photomend: error: interrupted: {done} of 60 images are done\n"));
}

/// True if whoever started this test ignores SIGINT (bit 1 of the mask that Linux shows).
pub(crate) fn interrupts_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 2 != 0)
}
