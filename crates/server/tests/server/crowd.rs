//! Fifty clients at once.

use imaging::{ColorType, Image, Samples};
use serde_json::json;

use crate::support::{Site, assert_only_masked_pixels_differ, decoded, decoded_mask, id};

/// A picture that nobody else has: a slope of one brightness with a scratch.
fn picture_of(client: usize) -> Image {
    let (width, height) = (160, 120);
    let samples = (0..width * height).map(|at| {
        let (x, y) = (at % width, at / width);
        if (70..73).contains(&x) && (20..100).contains(&y) {
            255
        } else {
            (20 + 3 * client + y / 8) as u8
        }
    });
    Image::new(width, height, ColorType::Gray, Samples::U8(samples.collect())).expect("a picture")
}

#[test]
fn fifty_clients_each_get_their_own_result_and_one_restoration_runs_at_a_time() {
    let site = Site::with(|config| config.limits.queue = 30);
    let refused: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|client| {
                let site = &site;
                scope.spawn(move || {
                    let image = picture_of(client);
                    let file = imaging::io::encode_png(&image).expect("a PNG");
                    let picture = site.upload(&format!("{client}.png"), &file);
                    // Told that the queue is full, one comes back later.
                    let mut refused = 0;
                    let job = loop {
                        let answer = site.try_submit(id(&picture), &json!({ "sensitivity": 60 }));
                        match answer.status {
                            202 => break answer.json()["id"].as_str().expect("an id").to_owned(),
                            429 => refused += 1,
                            other => panic!("{other}: {}", answer.text()),
                        }
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    };
                    let events = site.client.get(&format!("/api/jobs/{job}/events")).events();
                    let last = events.last().expect("an event");
                    assert_eq!(last["state"], "done", "{last}");
                    assert_eq!(last["picture"], picture["id"]);
                    let result = site.client.get(&format!("/api/jobs/{job}/result"));
                    let mask = site.client.get(&format!("/api/jobs/{job}/mask"));
                    let mask = decoded_mask(&mask.body);
                    assert_only_masked_pixels_differ(&image, &decoded(&result.body), &mask);
                    refused
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("served")).sum()
    });
    let about = site.client.get("/api/about").json();
    assert_eq!(about["queue"], json!({ "waiting": 0, "running": false }), "{refused} came back");
    assert_eq!(site.engine.running.lock().expect("not poisoned").0, 1);
    assert_eq!(
        site.client.get("/api/pictures").json()["pictures"].as_array().map(Vec::len),
        Some(50)
    );
}
