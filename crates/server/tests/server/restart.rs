//! A server that ends, and another on the same folder.

use serde_json::json;

use crate::support::{Site, id, sample};

#[test]
fn results_stay_what_waited_waits_and_what_ran_runs_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = sample("damaged/cat.png");

    // 1. one is done, one runs, one waits, one has failed
    let site = Site::on(folder.path(), |_| {});
    let picture = site.upload("cat.png", &file);
    let done = site.submit(id(&picture), &json!({}));
    site.wait_for(&done, &["done"]);
    let failed = site.submit(id(&picture), &json!({ "method": "fails" }));
    site.wait_for(&failed, &["failed"]);
    let result = site.client.get(&format!("/api/jobs/{done}/result")).body;
    let runs = site.submit(id(&picture), &json!({ "method": "slow" }));
    site.wait_for(&runs, &["running"]);
    let waits = site.submit(id(&picture), &json!({ "method": "telea" }));
    let other = server::Server::open(
        server::Config { port: 0, ..server::Config::new(site.data.clone()) },
        site.engine.clone(),
    );
    let error = other.expect_err("the folder is in use").to_string();
    assert!(error.ends_with("found one that another server uses"), "{error}");
    site.stop();

    let data = folder.path().join("data");
    let detected = data.join("pictures").join(id(&picture)).join("detected-50.png");
    assert!(detected.exists());

    // 2. what an interrupted upload and an interrupted removal leave
    std::fs::create_dir_all(data.join("incoming").join("b".repeat(32))).expect("made");
    let half = data.join("pictures").join("a".repeat(32));
    std::fs::create_dir_all(&half).expect("made");
    std::fs::write(half.join("original.png"), &file).expect("written");
    // A folder that the user has named may hold things of the user's.
    for own in ["lock", "incoming/notes.txt", "pictures/album/cat.png"] {
        let own = data.join(own);
        std::fs::create_dir_all(own.parent().expect("a folder")).expect("made");
        std::fs::write(own, "mine").expect("written");
    }

    // 3. afterwards
    let site = Site::on(folder.path(), |_| {});
    assert!(!detected.exists(), "the next server may have another detector");
    site.engine.gate.open();
    assert_eq!(site.client.get(&format!("/api/jobs/{done}/result")).body, result);
    assert_eq!(site.client.get(&format!("/api/pictures/{}/original", id(&picture))).body, file);
    assert_eq!(site.state(&failed), "failed");
    site.wait_for(&runs, &["done"]);
    site.wait_for(&waits, &["done"]);
    assert!(!half.exists());
    assert!(!data.join("incoming").join("b".repeat(32)).exists());
    for own in ["lock", "incoming/notes.txt", "pictures/album/cat.png"] {
        assert_eq!(std::fs::read(data.join(own)).expect("a file"), b"mine", "{own}");
    }
}
