//! Headless Chromium, driven through its DevTools protocol.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// The names that Chromium has on one system or another.
const NAMES: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    next: u64,
    /// What the page complained about.
    pub(crate) complaints: Vec<String>,
    profile: tempfile::TempDir,
}

/// The browser, or word on stderr that there is none.
pub(crate) fn browser() -> Option<Browser> {
    let found = std::env::var_os("PHOTOMEND_CHROMIUM").map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .flat_map(|folder| NAMES.map(|name| folder.join(name)))
            .find(|program| program.is_file())
    });
    if found.is_none() {
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: the page is tested in Chromium, and there is none (install it, or set PHOTOMEND_CHROMIUM)"
        );
    }
    found.map(|program| Browser::start(&program))
}

impl Browser {
    fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut process = Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--no-first-run", "--disable-extensions", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split("DevTools listening on ").nth(1).map(str::to_owned))
            .expect("the browser says where it listens");
        // What else it says must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.trim_start_matches("ws://").split('/').next().unwrap_or_default();
        let stream = TcpStream::connect(host).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
        let (socket, _) = tungstenite::client(&address, stream).expect("a websocket");
        let mut browser =
            Self { process, socket, session: None, next: 0, complaints: Vec::new(), profile };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = browser.call(
            "Target.attachToTarget",
            &json!({ "targetId": page["targetId"], "flatten": true }),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Sends a command and waits for its result.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).expect("sent");
        loop {
            let Message::Text(text) = self.socket.read().expect("a message") else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.next {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.listen(&message);
        }
    }

    fn listen(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(params["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// The value of an expression, which may be a promise.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&mut self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.eval(&format!("Boolean({expression})")) != json!(true) {
            assert!(Instant::now() < deadline, "never: {expression}; {:?}", self.complaints);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
        self.wait("document.readyState === 'complete' && document.body.dataset.ready");
    }

    /// A desktop, or a phone with a finger.
    pub(crate) fn screen(&mut self, width: u32, height: u32, is_phone: bool) {
        let scale = if is_phone { 2 } else { 1 };
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone }),
        );
        self.call("Emulation.setTouchEmulationEnabled", &json!({ "enabled": is_phone }));
        self.settle();
    }

    pub(crate) fn theme(&mut self, name: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": name }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
        self.settle();
    }

    /// Lets transitions end and what is due be drawn.
    pub(crate) fn settle(&mut self) {
        self.eval("new Promise((done) => setTimeout(() => requestAnimationFrame(done), 300))");
    }

    /// Chooses files in an input.
    pub(crate) fn choose(&mut self, input: &str, files: &[&Path]) {
        let found = self.call(
            "Runtime.evaluate",
            &json!({ "expression": format!("document.getElementById('{input}')") }),
        );
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        self.call(
            "DOM.setFileInputFiles",
            &json!({ "objectId": found["result"]["objectId"], "files": files }),
        );
    }

    pub(crate) fn click(&mut self, id: &str) {
        self.wait(&format!("document.getElementById('{id}').checkVisibility() && !document.getElementById('{id}').disabled"));
        self.eval(&format!("document.getElementById('{id}').click()"));
    }

    /// Presses the button of the mouse, moves along the points, lets go.
    pub(crate) fn drag(&mut self, points: &[(f64, f64)]) {
        let mut send = |kind: &str, (x, y): (f64, f64), buttons: u8| {
            self.call(
                "Input.dispatchMouseEvent",
                &json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 }),
            );
        };
        send("mousePressed", points[0], 1);
        points.iter().for_each(|&point| send("mouseMoved", point, 1));
        send("mouseReleased", points[points.len() - 1], 0);
        self.settle();
    }

    pub(crate) fn wheel(&mut self, x: f64, y: f64, by: f64) {
        self.call(
            "Input.dispatchMouseEvent",
            &json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by }),
        );
        self.settle();
    }

    /// Fingers down, along, up: each step has a point for each finger.
    pub(crate) fn touch(&mut self, steps: &[&[(f64, f64)]]) {
        for (at, fingers) in steps.iter().enumerate() {
            let points: Vec<_> = fingers
                .iter()
                .enumerate()
                .map(|(id, (x, y))| json!({ "x": x, "y": y, "id": id }))
                .collect();
            let kind = if at == 0 { "touchStart" } else { "touchMove" };
            self.call("Input.dispatchTouchEvent", &json!({ "type": kind, "touchPoints": points }));
        }
        self.call("Input.dispatchTouchEvent", &json!({ "type": "touchEnd", "touchPoints": [] }));
        self.settle();
    }

    /// A key with modifiers: 2 is Ctrl, 8 is Shift.
    pub(crate) fn key(&mut self, key: &str, modifiers: u8) {
        let text = if key.chars().count() == 1 && modifiers & 2 == 0 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.call(
                "Input.dispatchKeyEvent",
                &json!({ "type": kind, "key": key, "modifiers": modifiers, "text": text }),
            );
        }
        self.settle();
    }

    /// Lets downloads go to a folder.
    pub(crate) fn download_to(&mut self, folder: &Path) {
        let session = self.session.take();
        self.call(
            "Browser.setDownloadBehavior",
            &json!({ "behavior": "allow", "downloadPath": folder.to_string_lossy() }),
        );
        self.session = session;
    }

    /// What is on the screen, as a JPEG file.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let params = json!({ "format": "jpeg", "quality": 85 });
        let shot = self.call("Page.captureScreenshot", &params);
        base64(shot["data"].as_str().expect("an image"))
    }

    /// Everything that can be operated and has no name for those who do not see it.
    pub(crate) fn nameless(&mut self) -> Vec<String> {
        let roles = ["button", "slider", "textbox", "spinbutton", "combobox", "link", "dialog"];
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        nodes
            .iter()
            .filter(|node| node["ignored"] == json!(false))
            .filter(|node| roles.contains(&node["role"]["value"].as_str().unwrap_or_default()))
            .filter(|node| node["name"]["value"].as_str().unwrap_or_default().trim().is_empty())
            .map(ToString::to_string)
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.profile.path();
    }
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::with_capacity(text.len() * 3 / 4));
    for six in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
