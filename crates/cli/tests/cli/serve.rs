//! `photomend serve` from outside: what the page restores is what the command line restores, and what is done outlives kill -9.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imaging::Mask;
use serde_json::{Value, json};

use crate::restore_model::model;
use crate::scene::{Scene, crack, damaged, photo};

/// Asks a server of this machine.
struct Client {
    agent: ureq::Agent,
    port: u16,
    token: Option<String>,
}

/// What came back.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    /// The data of server-sent events.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|data| serde_json::from_str(data.trim()).expect("JSON")).collect()
    }
}

impl Client {
    fn new(port: u16, token: Option<String>) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        // Connections that are kept would have to be given up when the program is killed.
        let agent = config.max_idle_connections(0).build().new_agent();
        Self { agent, port, token }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, b"")
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, body)
    }

    fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.send("PUT", path, body)
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let request = request.body(body).expect("a request");
        let mut answer = self.agent.run(request).expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec();
        Answer { status, body: body.expect("a whole body") }
    }
}

/// The program, serving.
struct Served {
    process: Child,
    client: Client,
}

impl Served {
    fn start(scene: &Scene, arguments: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_photomend"))
            .current_dir(scene.path(""))
            .args(["serve", "--port", "0", "--data", "data"])
            .args(arguments.split_whitespace())
            .env_remove("PHOTOMEND_TOKEN")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut url = String::new();
        let stdout = process.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut url).expect("a line");
        let (address, token) = match url.trim().split_once("/#token=") {
            Some((address, token)) => (address, Some(token.to_owned())),
            None => (url.trim().trim_end_matches('/'), None),
        };
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        let Some(port) = port else {
            let mut stderr = String::new();
            process.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
            panic!("expected an address, found {url:?}: {stderr}");
        };
        Self { process, client: Client::new(port, token) }
    }

    fn upload(&self, scene: &Scene, name: &str) -> String {
        let file = std::fs::read(scene.path(name)).expect("a file");
        let answer = self.client.post(&format!("/api/pictures?name={name}"), &file);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    fn submit(&self, picture: &str, choices: &Value) -> String {
        let path = format!("/api/pictures/{picture}/jobs");
        let answer = self.client.post(&path, choices.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Waits for the end of a job, and gives every status on the way.
    fn events(&self, job: &str) -> Vec<Value> {
        self.client.get(&format!("/api/jobs/{job}/events")).events()
    }

    fn result(&self, job: &str) -> Vec<u8> {
        let answer = self.client.get(&format!("/api/jobs/{job}/result"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.body
    }

    /// The command line that the page shows.
    fn command(&self, picture: &str, choices: &Value) -> Vec<String> {
        let path = format!("/api/pictures/{picture}/command");
        let answer = self.client.post(&path, choices.to_string().as_bytes()).json();
        let words = answer["words"].as_array().expect("words").clone();
        words.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs what the page shows, to `name`.
fn run(scene: &Scene, words: &[String], name: &str) -> Vec<u8> {
    assert_eq!(words[..2], ["photomend", "restore"]);
    let output = Command::new(env!("CARGO_BIN_EXE_photomend"))
        .current_dir(scene.path(""))
        .args(&words[1..])
        .args(["-o", name])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(scene.path(name)).expect("a file")
}

/// `photo.png` with a crack, and `photo.mask.png`.
fn scene() -> Scene {
    let scene = Scene::new();
    let mask = crack(160, 120);
    scene.image("photo.png", &damaged(photo(160, 120), &mask));
    scene.mask("photo.mask.png", &mask);
    scene
}

/// Restores in every way on the page, and again with the command line that it shows: the files are the same.
fn compare(scene: &Scene, served: &Served, ways: &[Value]) {
    let picture = served.upload(scene, "photo.png");
    let mask = std::fs::read(scene.path("photo.mask.png")).expect("a file");
    let put = served.client.put(&format!("/api/pictures/{picture}/mask"), &mask);
    assert_eq!(put.status, 200, "{}", put.text());
    for (number, choices) in ways.iter().enumerate() {
        let job = served.submit(&picture, choices);
        let events = served.events(&job);
        let last = events.last().expect("an event");
        assert_eq!(last["state"], "done", "{choices}: {last}");
        let words = served.command(&picture, choices);
        let there = run(scene, &words, &format!("there{number}.png"));
        assert!(served.result(&job) == there, "{choices}: {words:?}");
    }
}

#[test]
fn the_page_restores_as_the_command_line_that_it_shows() {
    let scene = scene();
    let served = Served::start(&scene, "--preset painting --min-length 0.04 --radius 5");
    compare(
        &scene,
        &served,
        &[
            json!({}),
            json!({ "sensitivity": 83, "method": "telea", "grow": 4, "feather": 0.5 }),
            json!({ "sensitivity": 12 }),
            json!({ "mask": "own" }),
            json!({ "mask": "own", "grow": 0, "feather": 0, "method": "telea" }),
        ],
    );
}

#[test]
fn the_carried_network_finds_the_same_on_the_page() {
    let scene = scene();
    let served = Served::start(&scene, "");
    assert_eq!(served.client.get("/api/about").json()["engine"]["detector"], "learned");
    compare(&scene, &served, &[json!({}), json!({ "sensitivity": 71 })]);
}

#[test]
fn networks_on_the_page_are_those_of_the_command_line() {
    // 1. networks that have learned a little, and a photograph to judge
    let scene = Scene::new();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");
    for (sample, name) in [
        ("photos/cat.jpg", "clean/cat.jpg"),
        ("photos/rocks.jpg", "clean/rocks.jpg"),
        ("damaged/cat.png", "photo.png"),
        ("mask/cat.png", "photo.mask.png"),
    ] {
        let file = std::fs::read(format!("{samples}/{sample}")).expect("a sample");
        scene.file(name, &file);
    }
    let size =
        "--held-out 1 --crop 32 --widths 8,16 --blocks 1,1 --batch-size 4 --validate-every 0";
    for (kind, steps) in [("detector", 40), ("refiner", 2)] {
        scene.run(&format!("train-{kind} clean -o {kind} {size} --steps {steps} --quiet")).done();
    }

    // 2. found once, read at any sensitivity; refined
    let served = Served::start(
        &scene,
        "--detector detector/detector.safetensors --refiner refiner/refiner.safetensors --threshold 0.6",
    );
    let about = served.client.get("/api/about").json();
    assert_eq!(about["engine"]["detector"], "detector");
    assert_eq!(about["engine"]["method"], "refined");
    compare(
        &scene,
        &served,
        &[
            json!({}),
            json!({ "sensitivity": 37 }),
            json!({ "sensitivity": 46, "method": "biharmonic" }),
            json!({ "mask": "own" }),
        ],
    );
}

#[test]
fn a_model_on_the_page_is_that_of_the_command_line_and_tells_its_windows_and_steps() {
    let scene = scene();
    model(&scene);
    let served = Served::start(&scene, "--model model --device cpu --window-size 64 --steps 3");
    let about = served.client.get("/api/about").json();
    assert_eq!(about["engine"]["method"], "model");
    assert_eq!(about["engine"]["steps"], 3);
    let ways = [
        json!({ "mask": "own", "guidance": 1 }),
        json!({ "mask": "own", "seed": 7, "steps": 2, "strength": 0.7, "prompt": "a cat, it is" }),
        json!({ "mask": "own", "method": "telea" }),
    ];
    compare(&scene, &served, &ways);

    scene.image("large.png", &photo(320, 240));
    scene.mask("holes.png", &Mask::from_fn(320, 240, |x, y| x % 80 < 20 && y % 80 < 20));
    let picture = served.upload(&scene, "large.png");
    let mask = std::fs::read(scene.path("holes.png")).expect("a file");
    served.client.put(&format!("/api/pictures/{picture}/mask"), &mask);
    let job = served.submit(&picture, &json!({ "mask": "own", "steps": 12, "guidance": 1 }));
    let events = served.events(&job);
    assert_eq!(events.last().expect("an event")["state"], "done");
    let told = |name: &str| events.iter().any(|event| event["progress"][name].as_u64() > Some(0));
    assert!(
        ["window", "windows", "step", "steps", "preview"].iter().all(|name| told(name)),
        "{events:?}"
    );
}

#[test]
fn what_is_done_outlives_kill_9() {
    let scene = scene();
    scene.image("large.png", &photo(1200, 900));
    scene.mask("holes.png", &Mask::from_fn(1200, 900, |x, y| x % 40 < 25 && y % 40 < 25));
    let mut served = Served::start(&scene, "--threads 1");
    let picture = served.upload(&scene, "photo.png");
    let large = served.upload(&scene, "large.png");
    let done = served.submit(&picture, &json!({}));
    assert_eq!(served.events(&done).last().expect("an event")["state"], "done");
    let (result, before) = (served.result(&done), served.client.get("/api/pictures").json());

    // 1. killed while one runs and others wait
    let holes = std::fs::read(scene.path("holes.png")).expect("a file");
    served.client.put(&format!("/api/pictures/{large}/mask"), &holes);
    let waiting: Vec<_> =
        (0..4).map(|_| served.submit(&large, &json!({ "mask": "own" }))).collect();
    let running = || served.client.get(&format!("/api/jobs/{}", waiting[0])).json();
    let deadline = Instant::now() + Duration::from_secs(60);
    while running()["state"] == "queued" && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    served.process.kill().expect("killed");
    served.process.wait().expect("ended");

    // 2. the next one has everything that was done; what ran says so, what waited is done now
    let served = Served::start(&scene, "");
    assert!(served.result(&done) == result);
    let after = served.client.get("/api/pictures").json();
    let jobs = |pictures: &Value| pictures["pictures"][0]["jobs"][0].clone();
    assert_eq!(jobs(&before), jobs(&after));
    for job in &waiting {
        let last = served.events(job).last().expect("an event").clone();
        match last["state"].as_str() {
            Some("done") => drop(served.result(job)),
            Some("failed") => assert_eq!(
                last["message"],
                "the program ended while this was running; start it again"
            ),
            other => panic!("{other:?}"),
        }
    }
    let last = served.events(&waiting[3]).last().expect("an event").clone();
    assert_eq!(last["state"], "done");
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_it_in_order() {
    if crate::interrupt::interrupts_are_ignored() {
        return; // inherited by the program, which then leaves them ignored
    }
    let scene = scene();
    let mut served = Served::start(&scene, "--quiet");
    let picture = served.upload(&scene, "photo.png");
    let watching = TcpStream::connect(("127.0.0.1", served.client.port)).expect("a connection");
    let sent = Command::new("kill").args(["-INT", &served.process.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    drop(watching);
    assert_eq!(served.process.wait().expect("ended").code(), Some(0));
    let mut stderr = String::new();
    served.process.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert_eq!(stderr, "");
    let served = Served::start(&scene, "");
    assert_eq!(served.client.get(&format!("/api/pictures/{picture}")).status, 200);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let scene = scene();
    scene
        .run("serve --data data --token short")
        .fails(2, &["photomend: error: token: expected at least 8 characters, found 5"]);
    scene.run("serve --data photo.png --port 0").fails(
        1,
        &["photomend: error: photo.png: cannot make the folder: File exists (os error 17)"],
    );
    let served = Served::start(&scene, "--host 0.0.0.0");
    assert_eq!(served.client.token.as_ref().map(String::len), Some(32));
    assert_eq!(served.client.get("/api/about").status, 200);
    let stranger = Client::new(served.client.port, None);
    assert_eq!(stranger.get("/api/about").status, 401);
    let run = scene.run("serve --data data --port 0");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("data: expected a data folder of its own"), "{}", run.stderr);
    let port = served.client.port;
    let run = scene.run(&format!("serve --data other --port {port}"));
    assert!(run.stderr.contains("cannot listen"), "{}", run.stderr);
}
