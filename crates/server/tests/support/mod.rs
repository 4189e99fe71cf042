//! A server in this process, an engine for it, and a client.
#![allow(dead_code, unreachable_pub)] // Not every test program uses all of it.

pub mod engine;
pub mod http;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use server::{Config, Server, Stop};

use self::engine::TestEngine;
use self::http::{Answer, Client};

/// A running server with a data folder of its own.
pub struct Site {
    pub client: Client,
    pub engine: Arc<TestEngine>,
    pub data: PathBuf,
    pub expire: Box<dyn Fn(SystemTime) -> usize + Send + Sync>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    folder: Option<tempfile::TempDir>,
}

impl Site {
    /// With every setting at its default.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With settings changed by `change`.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut site = Self::on(folder.path(), change);
        site.folder = Some(folder);
        site
    }

    /// On a data folder that stays.
    pub fn on(folder: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let data = folder.join("data");
        let mut config = Config::new(data.clone());
        config.port = 0;
        change(&mut config);
        let token = config.token.clone();
        let engine = Arc::new(TestEngine::default());
        let server = Server::open(config, Arc::clone(&engine) as _).expect("a server");
        let client = Client::new(server.address().port(), token);
        let (stop, expire) = (server.stopper(), Box::new(server.expiry()));
        let thread = std::thread::spawn(move || server.run().expect("served to the end"));
        Self { client, engine, data, expire, stop, thread: Some(thread), folder: None }
    }

    /// Ends it as Ctrl-C does, and waits.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }

    /// Uploads a file and gives what the server says of it.
    pub fn upload(&self, name: &str, file: &[u8]) -> Value {
        let answer = self.client.post(&format!("/api/pictures?name={name}"), file);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// Submits a restoration and gives its id.
    pub fn submit(&self, picture: &str, choices: &Value) -> String {
        let answer = self.try_submit(picture, choices);
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    pub fn try_submit(&self, picture: &str, choices: &Value) -> Answer {
        self.client.post(&format!("/api/pictures/{picture}/jobs"), choices.to_string().as_bytes())
    }

    pub fn state(&self, job: &str) -> String {
        let status = self.client.get(&format!("/api/jobs/{job}")).json();
        status["state"].as_str().unwrap_or("gone").to_owned()
    }

    /// Waits until a job is in one of these states, for longer than any should take.
    pub fn wait_for(&self, job: &str, states: &[&str]) -> Value {
        let mut status = Value::Null;
        eventually(|| {
            status = self.client.get(&format!("/api/jobs/{job}")).json();
            states.contains(&status["state"].as_str().unwrap_or("gone"))
        });
        status
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.engine.gate.open();
        self.end();
    }
}

/// Waits until it is so; fails when it is never so.
pub fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A file of the samples.
pub fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An id in an answer.
pub fn id(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

/// A decoded picture.
pub fn decoded(file: &[u8]) -> imaging::Image {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    std::fs::write(&path, file).expect("a file");
    imaging::io::read_image(&path, &imaging::io::ReadOptions::default()).expect("an image")
}

/// A picture as a file of the format that the extension names.
pub fn encoded(image: &imaging::Image, extension: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(format!("file.{extension}"));
    imaging::io::write_image(&path, image, &imaging::io::WriteOptions::default()).expect("written");
    std::fs::read(&path).expect("a file")
}

/// A mask, from the weights that a PNG of the server holds.
pub fn decoded_mask(file: &[u8]) -> imaging::Mask {
    imaging::Mask::from_plane(decoded(file).luma8())
}

/// A mask as a PNG file.
pub fn encoded_mask(mask: &imaging::Mask) -> Vec<u8> {
    let samples = imaging::Samples::U8(mask.plane().data().to_vec());
    let (width, height) = mask.size();
    let image = imaging::Image::new(width, height, imaging::ColorType::Gray, samples);
    imaging::io::encode_png(&image.expect("a mask")).expect("a PNG")
}

/// Fails unless the two agree wherever the mask is 0, and differ somewhere.
pub fn assert_only_masked_pixels_differ(
    before: &imaging::Image,
    after: &imaging::Image,
    mask: &imaging::Mask,
) {
    assert_eq!(before.size(), after.size());
    assert_eq!(before.color(), after.color());
    assert_eq!(before.samples().bits(), after.samples().bits());
    let channels = before.color().channels();
    let differs: Vec<bool> = match (before.samples(), after.samples()) {
        (imaging::Samples::U8(a), imaging::Samples::U8(b)) => {
            a.chunks(channels).zip(b.chunks(channels)).map(|(a, b)| a != b).collect()
        }
        (imaging::Samples::U16(a), imaging::Samples::U16(b)) => {
            a.chunks(channels).zip(b.chunks(channels)).map(|(a, b)| a != b).collect()
        }
        _ => panic!("other depths"),
    };
    let weights = mask.plane().data();
    assert!(differs.iter().any(|&differs| differs), "nothing was changed");
    let outside = differs.iter().zip(weights).filter(|&(&differs, &weight)| differs && weight == 0);
    assert_eq!(outside.count(), 0, "pixels outside the mask have changed");
}
