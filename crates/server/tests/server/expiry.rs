//! What nobody uses any more is deleted.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{Site, id, sample};

#[test]
fn pictures_go_when_their_time_has_come_and_nothing_waits_for_them() {
    let site = Site::with(|config| config.keep = Duration::from_secs(3600));
    let file = sample("damaged/cat.png");
    let idle = site.upload("idle.png", &file);
    let busy = site.upload("busy.png", &file);
    let job = site.submit(id(&busy), &json!({ "method": "slow" }));
    site.wait_for(&job, &["running"]);
    let hours = |hours: u64| SystemTime::now() + Duration::from_secs(3600 * hours);

    assert_eq!((site.expire)(SystemTime::now()), 0);
    assert_eq!((site.expire)(hours(2)), 1);
    assert_eq!(site.client.get(&format!("/api/pictures/{}", id(&idle))).status, 404);
    assert!(!site.data.join("pictures").join(id(&idle)).exists());
    assert_eq!(site.state(&job), "running");

    site.engine.gate.open();
    site.wait_for(&job, &["done"]);
    assert_eq!((site.expire)(hours(2)), 1);
    assert_eq!(site.state(&job), "gone");
    assert_eq!(std::fs::read_dir(site.data.join("pictures")).expect("a folder").count(), 0);
}

#[test]
fn what_was_used_before_a_restart_was_used_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let keep = |config: &mut server::Config| config.keep = Duration::from_secs(3600);
    let site = Site::on(folder.path(), keep);
    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    let record = site.data.join("pictures").join(id(&picture)).join("record.json");
    site.stop();

    // 1. last used 50 minutes ago, looked at now
    let mut written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).expect("a file")).expect("JSON");
    written["used"] = json!(written["used"].as_u64().expect("seconds") - 50 * 60);
    std::fs::write(&record, written.to_string()).expect("written");
    let site = Site::on(folder.path(), keep);
    assert_eq!(site.client.get(&format!("/api/pictures/{}/view", id(&picture))).status, 200);
    site.stop();

    // 2. 50 minutes after that it still has ten
    let site = Site::on(folder.path(), keep);
    assert_eq!((site.expire)(SystemTime::now() + Duration::from_secs(50 * 60)), 0);
    assert_eq!((site.expire)(SystemTime::now() + Duration::from_secs(70 * 60)), 1);
}
