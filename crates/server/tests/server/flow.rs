//! What a person does, from a damaged photograph to a repaired one.

use imaging::Mask;
use imaging::restore::{DETECTED_DILATE, blend_weights};
use serde_json::json;

use crate::support::{
    Site, assert_only_masked_pixels_differ, decoded, decoded_mask, encoded, encoded_mask,
    eventually, http, id, sample,
};

#[test]
fn a_photograph_is_uploaded_looked_at_restored_and_fetched() {
    let site = Site::new();
    let file = sample("damaged/cat.png");
    let picture = site.upload("cat.png", &file);
    let path = format!("/api/pictures/{}", id(&picture));
    let before = decoded(&file);
    assert_eq!(picture["name"], "cat.png");
    assert_eq!(picture["format"], "PNG");
    assert_eq!(picture["width"], before.width());
    assert_eq!(picture["bit_depth"], 8);
    assert_eq!(site.client.get(&format!("{path}/original")).body, file);

    // 1. what was found, at once and as a first look
    let detection = site.client.get(&format!("{path}/detection"));
    assert_eq!((detection.status, detection.header("content-type")), (200, "image/png"));
    let found = decoded_mask(&detection.body);
    assert_eq!(found.size(), before.size());
    assert!(found.count() > 100);
    let draft = site.client.get(&format!("{path}/detection?draft=true"));
    assert!(decoded_mask(&draft.body).count() > 50);
    let more = decoded_mask(&site.client.get(&format!("{path}/detection?sensitivity=90")).body);
    let less = decoded_mask(&site.client.get(&format!("{path}/detection?sensitivity=10")).body);
    assert!(less.count() < found.count() && found.count() < more.count());

    // 2. restored by it, as the library does
    let job = site.submit(id(&picture), &json!({}));
    let events = site.client.get(&format!("/api/jobs/{job}/events")).events();
    let last = events.last().expect("an event");
    assert_eq!(last["state"], "done", "{last}");
    let weights = blend_weights(found, DETECTED_DILATE, 0.0).expect("in range");
    assert_eq!(last["coverage"], json!(weights.coverage()));
    let used = decoded_mask(&site.client.get(&format!("/api/jobs/{job}/mask")).body);
    assert_eq!(used, weights);
    let result = site.client.get(&format!("/api/jobs/{job}/result"));
    assert!(
        result.header("content-disposition").contains("cat.restored.png"),
        "{:?}",
        result.headers
    );
    assert_only_masked_pixels_differ(&before, &decoded(&result.body), &used);

    // 3. looked at
    for view in ["?size=thumb", "", "?size=full"] {
        let view = site.client.get(&format!("/api/jobs/{job}/view{view}"));
        assert_eq!((view.status, view.header("content-type")), (200, "image/jpeg"));
    }
    let view = site.client.get(&format!("{path}/view?size=full"));
    assert_eq!(decoded(&view.body).size(), before.size());
    let sheet = site.client.get(&format!("/api/jobs/{job}/comparison"));
    assert!(decoded(&sheet.body).width() > before.width());

    // 4. listed, and deleted
    let listed = site.client.get("/api/pictures").json();
    assert_eq!(listed["pictures"][0]["jobs"][0]["id"], json!(job));
    assert_eq!(site.client.get("/api/jobs").json()["jobs"][0]["id"], json!(job));
    assert_eq!(site.client.delete(&path).status, 204);
    for gone in [path, format!("/api/jobs/{job}"), format!("/api/jobs/{job}/result")] {
        assert_eq!(site.client.get(&gone).status, 404);
    }
    assert_eq!(std::fs::read_dir(site.data.join("pictures")).expect("a folder").count(), 0);
}

#[test]
fn a_drawn_mask_is_used_as_it_is_and_every_format_comes_back() {
    let site = Site::new();
    let photo = decoded(&sample("photos/cat.jpg"));
    let wide: Vec<u16> = match photo.samples() {
        imaging::Samples::U8(values) => values.iter().map(|&v| u16::from(v) * 257 + 3).collect(),
        imaging::Samples::U16(_) => panic!("8 bits"),
    };
    let deep = imaging::Image::new(
        photo.width(),
        photo.height(),
        photo.color(),
        imaging::Samples::U16(wide),
    )
    .expect("16 bits");
    let mask = Mask::from_fn(photo.width(), photo.height(), |x, y| {
        (100..140).contains(&x) && (60..70).contains(&y)
    });
    for (extension, image) in
        [("png", &photo), ("tif", &deep), ("webp", &photo), ("png", &deep), ("jpg", &photo)]
    {
        let file = encoded(image, extension);
        let picture = site.upload(&format!("scan.{extension}"), &file);
        let path = format!("/api/pictures/{}/mask", id(&picture));
        assert_eq!(site.client.get(&path).status, 404);
        let put = site.client.put(&path, &encoded_mask(&mask));
        assert_eq!(put.json()["mask_revision"], 1, "{}", put.text());
        assert_eq!(decoded_mask(&site.client.get(&path).body), mask);

        let choices = json!({ "mask": "own", "grow": 0, "feather": 0, "method": "telea" });
        let job = site.submit(id(&picture), &choices);
        // The mask counts as it was when the job was submitted.
        site.client.delete(&path);
        let status = site.wait_for(&job, &["done", "failed"]);
        assert_eq!(status["state"], "done", "{status}");
        let before = decoded(&file);
        if extension != "jpg" {
            let result = site.client.get(&format!("/api/jobs/{job}/result"));
            assert_only_masked_pixels_differ(&before, &decoded(&result.body), &mask);
        }
        let png = site.client.get(&format!("/api/jobs/{job}/result?format=png"));
        assert_only_masked_pixels_differ(&before, &decoded(&png.body), &mask);
        assert_eq!(png.header("content-type"), "image/png");
    }
}

#[test]
fn a_running_job_tells_how_far_it_is_shows_what_it_has_and_stops() {
    let site = Site::new();
    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    let first = site.submit(id(&picture), &json!({ "method": "slow" }));
    let second = site.submit(id(&picture), &json!({ "method": "slow" }));
    eventually(|| {
        let status = site.client.get(&format!("/api/jobs/{first}")).json();
        status["progress"]["preview"] == 1
    });
    let status = site.client.get(&format!("/api/jobs/{first}")).json();
    let progress = &status["progress"];
    assert_eq!(progress["stage"], "repaint");
    assert_eq!((&progress["window"], &progress["windows"]), (&json!(1), &json!(2)));
    assert_eq!((&progress["step"], &progress["steps"]), (&json!(3), &json!(10)));
    assert!(progress["eta_s"].as_f64().is_some_and(|eta| eta >= 0.0));
    assert_eq!(site.client.get(&format!("/api/jobs/{first}/view")).status, 200);
    assert_eq!(site.client.get(&format!("/api/jobs/{first}/result")).status, 409);
    let waiting = site.client.get(&format!("/api/jobs/{second}")).json();
    assert_eq!((&waiting["state"], &waiting["position"]), (&json!("queued"), &json!(1)));

    // 1. one that waits, then one that runs; a stream of events ends with its job
    assert_eq!(site.client.post(&format!("/api/jobs/{second}/cancel"), b"").status, 200);
    assert_eq!(site.state(&second), "cancelled");
    let events = site.client.begin("GET", &format!("/api/jobs/{first}/events"), &[], 0);
    assert_eq!(site.client.post(&format!("/api/jobs/{first}/cancel"), b"").status, 200);
    let events = http::read(events).events();
    assert_eq!(events.last().expect("an event")["state"], "cancelled");
    assert_eq!(site.client.post(&format!("/api/jobs/{first}/cancel"), b"").status, 409);

    // 2. what fails says why, and a defect does not end the server
    let failing = site.submit(id(&picture), &json!({ "method": "fails" }));
    let status = site.wait_for(&failing, &["failed"]);
    assert_eq!(status["message"], "no such luck");
    let defect = site.submit(id(&picture), &json!({ "method": "panics" }));
    let status = site.wait_for(&defect, &["failed"]);
    assert_eq!(status["message"], "internal error, please report it");
    let next = site.submit(id(&picture), &json!({}));
    site.wait_for(&next, &["done"]);
}

#[test]
fn the_command_line_is_told_for_a_shell() {
    let site = Site::new();
    let picture = site.upload("my%20%27cat%27.png", &sample("damaged/cat.png"));
    let path = format!("/api/pictures/{}/command", id(&picture));
    let told = site.client.post(&path, br#"{"mask":"own","prompt":"a cat; rm -rf ~"}"#).json();
    assert_eq!(
        told["command"],
        r"photomend restore 'my '\''cat'\''.png' '--mask=my '\''cat'\''.mask.png' 'a cat; rm -rf ~'"
    );
}
