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
