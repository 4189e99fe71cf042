//! What is too much is refused in one clear sentence.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;

use crate::support::{Site, http, id, sample};

#[test]
fn too_many_bytes_or_pixels_are_refused() {
    let site = Site::with(|config| {
        config.limits.upload_bytes = 200_000;
        config.limits.pixels = 90_000;
    });
    // 1. announced, and not announced
    let large = vec![7; 300_000];
    let answer = site.client.post("/api/pictures?name=large.png", &large);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.message(), "the file: expected at most 200000 bytes, found more");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", site.client.port)).expect("open");
    let head = "POST /api/pictures HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    for chunk in large.chunks(1000) {
        write!(stream, "{:x}\r\n", chunk.len()).expect("sent");
        stream.write_all(chunk).expect("sent");
        stream.write_all(b"\r\n").expect("sent");
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(http::read(stream).status, 413);

    // 2. pixels, told from the header
    let answer = site.client.post("/api/pictures?name=cat.jpg", &sample("photos/cat.jpg"));
    assert_eq!(answer.status, 413);
    assert!(answer.message().starts_with("cat.jpg: expected at most 0.1 megapixels"), "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "too_many_pixels");

    // 3. nothing is left of any
    assert_eq!(std::fs::read_dir(site.data.join("incoming")).expect("a folder").count(), 0);
    assert_eq!(std::fs::read_dir(site.data.join("pictures")).expect("a folder").count(), 0);
}

#[test]
fn the_queue_and_what_is_kept_have_an_end() {
    let site = Site::with(|config| {
        config.limits.queue = 2;
        config.limits.jobs = 4;
        config.limits.pictures = 2;
    });
    let file = sample("damaged/cat.png");
    let picture = site.upload("a.png", &file);
    let slow = json!({ "method": "slow" });
    let first = site.submit(id(&picture), &slow);
    site.wait_for(&first, &["running"]);
    let waiting: Vec<_> = (0..2).map(|_| site.submit(id(&picture), &slow)).collect();
    let answer = site.try_submit(id(&picture), &slow);
    assert_eq!((answer.status, answer.header("retry-after")), (429, "5"));
    assert_eq!(answer.message(), "2 restorations are waiting already; try again later");

    // Room again as soon as one does not wait any more.
    site.client.delete(&format!("/api/jobs/{}", waiting[0]));
    site.submit(id(&picture), &slow);
    site.client.post(&format!("/api/jobs/{}/cancel", waiting[1]), b"");
    site.submit(id(&picture), &slow);
    let answer = site.try_submit(id(&picture), &slow);
    assert_eq!(answer.status, 429, "the queue is full before the picture's restorations are");

    site.upload("b.png", &file);
    let answer = site.client.post("/api/pictures", &file);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.message(), "expected at most 2 pictures; delete some");
    site.engine.gate.open();
}

#[test]
fn an_upload_that_says_nothing_and_a_job_that_takes_too_long_end() {
    let site = Site::with(|config| {
        config.limits.idle = Duration::from_millis(200);
        config.limits.job_time = Duration::from_millis(300);
    });
    let stream = site.client.begin("POST", "/api/pictures", &[], 1000);
    let answer = http::read(stream);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.message(), "expected more of the file within 0.2 s");

    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    let job = site.submit(id(&picture), &json!({ "method": "slow" }));
    let status = site.wait_for(&job, &["failed"]);
    let message = status["message"].as_str().expect("a message");
    assert!(message.starts_with("it took longer than the limit"), "{message}");
}

#[test]
fn who_does_not_say_what_it_wants_does_not_keep_others_out() {
    let site = Site::with(|config| {
        config.limits.idle = Duration::from_millis(300);
        config.limits.connections = 4;
    });
    // 1. heads that never end, and one that never begins: every place is taken
    let mut silent: Vec<_> =
        ["GET /", "POST /api/pictures HTTP/1.1\r\nHost: localhost\r\nX-A: ", "G", ""]
            .into_iter()
            .map(|head| {
                let mut stream =
                    std::net::TcpStream::connect(("127.0.0.1", site.client.port)).expect("open");
                stream.write_all(head.as_bytes()).expect("sent");
                stream
            })
            .collect();
    assert_eq!(site.client.get("/api/about").status, 200);
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let mut rest = Vec::new();
        // Closed, in order or not, and without an answer to what was not asked.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    // 2. JSON that never ends
    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    let answer = http::read(site.client.begin(
        "POST",
        &format!("/api/pictures/{}/jobs", id(&picture)),
        &[],
        100,
    ));
    assert_eq!(answer.status, 408);
    assert_eq!(answer.message(), "expected all of the JSON within 0.3 s");
}

#[test]
fn choices_out_of_range_are_named() {
    let site = Site::new();
    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    for (choices, message) in [
        (json!({ "sensitivity": 101 }), "sensitivity: expected 0 to 100, found 101"),
        (json!({ "grow": 101 }), "grow: expected 0 to 100 pixels, found 101"),
        (json!({ "feather": -1 }), "feather: expected 0 to 50 pixels, found -1"),
        (json!({ "strength": 0 }), "strength: expected above 0 and up to 1, found 0"),
        (json!({ "steps": 0 }), "steps: expected 1 to 1000, found 0"),
        (json!({ "method": "magic" }), "method: expected one that there is, found magic"),
        (
            json!({ "loras": [{ "name": "../x", "weight": 1 }] }),
            "loras: expected faces, found ../x",
        ),
        (json!({ "mask": "own" }), "mask: expected one that was put before, found none"),
    ] {
        let answer = site.try_submit(id(&picture), &choices);
        assert!(matches!(answer.status, 409 | 422), "{choices}: {}", answer.status);
        assert_eq!(answer.message(), message);
    }
    for text in ["", "{", "[]", r#"{"prompt":3}"#, r#"{"model":"/etc/passwd"}"#, "\u{0}"] {
        let answer =
            site.client.post(&format!("/api/pictures/{}/jobs", id(&picture)), text.as_bytes());
        assert_eq!(answer.status, 400, "{text}");
        assert!(answer.message().starts_with("JSON: "), "{text}");
    }
    let long = vec![b' '; 70_000];
    let answer = site.client.post(&format!("/api/pictures/{}/jobs", id(&picture)), &long);
    assert_eq!(answer.status, 413);
    let other = sample("mask/rocks.png");
    let answer = site.client.put(&format!("/api/pictures/{}/mask", id(&picture)), &other);
    assert_eq!(answer.status, 422);
    assert!(answer.message().starts_with("the mask: expected "), "{}", answer.message());
    assert_eq!(site.client.get("/api/jobs").json(), json!({ "jobs": [] }));
}
