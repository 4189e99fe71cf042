//! A model hub in this process: listings, redirects to a storage, ranges, and faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ring::digest::{SHA256, digest};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files of this size and above are large: they lie in the storage, and are named by their SHA-256.
pub(crate) const LARGE: usize = 4096;

/// What the hub does wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Answer everything with this status and X-Error-Code.
    pub(crate) refuse: Option<(u16, &'static str)>,
    /// Ask for this token.
    pub(crate) token: Option<&'static str>,
    /// Break a transfer of a large file off after so many bytes, so many times.
    pub(crate) cut_after: usize,
    pub(crate) cuts: usize,
    /// Answer this many requests with 503 first.
    pub(crate) busy: usize,
    /// Ignore the Range header.
    pub(crate) no_ranges: bool,
    /// Send other bytes than the hash says, so many times.
    pub(crate) corrupt: usize,
    /// Have no listings.
    pub(crate) no_listings: bool,
    /// Send a large file's first bytes and then nothing.
    pub(crate) stall: bool,
}

/// What a client asked for: path, Range and whether it gave the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

pub(crate) struct Hub {
    pub(crate) endpoint: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    asked: Vec<Asked>,
}

impl Hub {
    /// Starts a hub that has one repository, `owner/name`, and a storage at another origin.
    pub(crate) fn start(files: &[(&str, Vec<u8>)], faults: Faults) -> Self {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let state = Arc::new(Mutex::new(State { faults, asked: Vec::new() }));
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port on the loopback");
        let (hub, storage) = (listen(), listen());
        let url = |listener: &TcpListener| {
            format!("http://{}", listener.local_addr().expect("a bound listener"))
        };
        let (endpoint, storage_url) = (url(&hub), url(&storage));
        for listener in [hub, storage] {
            let (files, state, storage_url) =
                (files.clone(), Arc::clone(&state), storage_url.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (files, state) = (files.clone(), Arc::clone(&state));
                    let storage_url = storage_url.clone();
                    // A client that hangs up is part of the tests.
                    thread::spawn(move || serve(stream, &files, &state, &storage_url));
                }
            });
        }
        Self { endpoint, files, state }
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state.lock().expect("no test panics while it holds this").faults = faults;
    }

    /// What was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().expect("no test panics while it holds this").asked)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Git's hash of a small file stands for itself: any name will do.
pub(crate) fn etag(bytes: &[u8]) -> String {
    if bytes.len() >= LARGE { sha256(bytes) } else { sha256(bytes)[..40].to_owned() }
}

fn serve(
    stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    state: &Mutex<State>,
    storage: &str,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let (mut range, mut token) = (None, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.trim().to_owned()),
            "authorization" => token = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut guard = state.lock().ok()?;
    guard.asked.push(Asked { path: path.clone(), range: range.clone(), token: token.clone() });
    let faults = guard.faults.clone();
    if let Some((status, code)) = faults.refuse {
        return reply(stream, status, &[("X-Error-Code", code)], b"", None);
    }
    if faults.busy > 0 {
        guard.faults.busy -= 1;
        return reply(stream, 503, &[], b"busy", None);
    }
    let listing = "/api/models/owner/name/revision/";
    let file = path.strip_prefix("/owner/name/resolve/").and_then(|rest| rest.split_once('/'));
    let stored =
        path.strip_prefix("/storage/").and_then(|hash| files.values().find(|f| sha256(f) == hash));
    if let Some(wanted) = faults.token
        && stored.is_none()
        && token != Some(format!("Bearer {wanted}"))
    {
        return reply(stream, 401, &[], b"", None);
    }

    if let Some(revision) = path.strip_prefix(listing)
        && !faults.no_listings
    {
        if !["main?blobs=true", &format!("{COMMIT}?blobs=true")].contains(&revision) {
            return reply(stream, 404, &[("X-Error-Code", "RevisionNotFound")], b"", None);
        }
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, bytes)| serde_json::json!({"rfilename": name, "size": bytes.len()}))
            .collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return reply(stream, 200, &[], body.as_bytes(), None);
    }
    if let Some((_, name)) = file
        && let Some(bytes) = files.get(name)
    {
        let tag = format!("\"{}\"", etag(bytes));
        if bytes.len() < LARGE {
            return send(
                stream,
                bytes,
                range.as_deref(),
                &[("X-Repo-Commit", COMMIT), ("ETag", &tag)],
                None,
            );
        }
        let (to, size) = (format!("{storage}/storage/{}", sha256(bytes)), bytes.len().to_string());
        let headers = [
            ("X-Repo-Commit", COMMIT),
            ("X-Linked-ETag", &tag),
            ("X-Linked-Size", &size),
            ("ETag", "\"of-the-pointer\""),
            ("Location", &to),
        ];
        return reply(stream, 302, &headers, b"", None);
    }
    if let Some(bytes) = stored {
        let mut bytes = bytes.clone();
        let mut cut = None;
        if faults.cuts > 0 {
            guard.faults.cuts -= 1;
            cut = Some(faults.cut_after);
        }
        if faults.corrupt > 0 {
            guard.faults.corrupt -= 1;
            bytes[LARGE / 2] ^= 1;
        }
        drop(guard);
        if faults.stall {
            reply(stream.try_clone().ok()?, 200, &[], &bytes, Some(1000))?;
            thread::sleep(std::time::Duration::from_secs(20));
            return None;
        }
        let range = range.filter(|_| !faults.no_ranges);
        return send(stream, &bytes, range.as_deref(), &[("ETag", "\"of-the-storage\"")], cut);
    }
    let code = if faults.no_listings { "" } else { "EntryNotFound" };
    reply(stream, 404, &[("X-Error-Code", code)], b"", None)
}

/// A file, or the range of it that was asked for.
fn send(
    stream: TcpStream,
    bytes: &[u8],
    range: Option<&str>,
    headers: &[(&str, &str)],
    cut: Option<usize>,
) -> Option<()> {
    let Some(range) = range else { return reply(stream, 200, headers, bytes, cut) };
    let start: usize = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
    if start >= bytes.len() {
        return reply(stream, 416, headers, b"", None);
    }
    let total = bytes.len();
    let content = format!("bytes {start}-{}/{total}", total - 1);
    let mut headers = headers.to_vec();
    headers.push(("Content-Range", &content));
    reply(stream, 206, &headers, &bytes[start..], cut)
}

fn reply(
    mut stream: TcpStream,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    cut: Option<usize>,
) -> Option<()> {
    let mut head = format!(
        "HTTP/1.1 {status} Some Reason\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())]).ok()?;
    stream.flush().ok()
}
