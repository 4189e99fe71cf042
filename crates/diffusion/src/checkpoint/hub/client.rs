//! HTTP to a model hub: redirects, authorisation, retries, and a stop at any moment.
//!
//! Redirects are followed here and not by `ureq`, because the hub says a file's commit, size and hash on the redirect
//! to its storage, and because the token must not follow to another host. Requests and bodies are read on a thread of their
//! own, so that a stalled server does not keep the caller from stopping.

use std::io::Read;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use imaging::Observer;
use ureq::{Agent, Body};

use super::HubOptions;
use crate::error::DiffusionError;

/// How often a waiting caller looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);

/// Redirects to follow before giving up.
const MAX_HOPS: usize = 10;

/// The most that a listing or an index may hold.
const MAX_TEXT_BYTES: usize = 64 << 20;

const CHUNK_BYTES: usize = 256 << 10;

type Response = ureq::http::Response<Body>;

/// Why a request came to nothing.
pub(super) enum Failure {
    /// The caller asked to stop, or the disk failed: not the hub's doing.
    Stopped(DiffusionError),
    /// The hub answered with an error.
    Status { status: u16, code: String, message: String, wait: Option<Duration> },
    /// The hub did not answer, or not with what it should.
    Network(String),
}

impl From<imaging::ImagingError> for Failure {
    fn from(error: imaging::ImagingError) -> Self {
        Self::Stopped(error.into())
    }
}

impl Failure {
    /// True if the same request may succeed later.
    const fn is_transient(&self) -> bool {
        match self {
            Self::Stopped(_) => false,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Network(_) => true,
        }
    }

    /// True if the hub says that there is no such thing.
    pub(super) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}

/// What the hub says about a file, gathered over redirects.
#[derive(Clone, Debug, Default)]
pub(super) struct FileHead {
    pub(super) commit: Option<String>,
    /// SHA-256 of large files, git's own hash of small ones.
    pub(super) etag: Option<String>,
    pub(super) size: Option<u64>,
}

/// What is wanted of a file once its hash is known.
pub(super) enum Want {
    /// Nothing: its head was enough.
    Nothing,
    /// Its bytes from this one on.
    From(u64),
}

/// A file's head and, if it was wanted, its bytes from `offset` on.
pub(super) struct Opened {
    pub(super) head: FileHead,
    pub(super) offset: u64,
    pub(super) body: Option<Body>,
}

/// A hub that can be asked.
pub(super) struct Client<'a> {
    agent: Agent,
    options: &'a HubOptions,
    observer: &'a dyn Observer,
}

impl<'a> Client<'a> {
    pub(super) fn new(options: &'a HubOptions, observer: &'a dyn Observer) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("photomend/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would hide the size, and cannot be resumed.
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .build();
        Self { agent: Agent::new_with_config(config), options, observer }
    }

    /// Runs `attempt` until it succeeds, cannot succeed, or has failed too often without getting further. `attempt`
    /// returns what it achieved so far beside its failure.
    pub(super) fn retrying<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, (Failure, bool)>,
    ) -> Result<T, Failure> {
        let mut failures = 0;
        loop {
            let (failure, got_further) = match attempt() {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            failures = if got_further { 1 } else { failures + 1 };
            if !failure.is_transient() || failures > self.options.retries {
                return Err(failure);
            }
            let asked = match &failure {
                Failure::Status { wait, .. } => *wait,
                _ => None,
            };
            // 0.25 s, 0.5 s, 1 s, … up to 8 s; a server that says how long is believed up to a minute.
            let own = Duration::from_millis(250 << (failures - 1).min(5));
            self.sleep(asked.unwrap_or(own).min(Duration::from_secs(60)))?;
        }
    }

    fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.observer.check()?;
            thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// The text at `url`, with retries.
    pub(super) fn text(&self, url: &str) -> Result<String, Failure> {
        self.retrying(|| self.text_once(url).map_err(|failure| (failure, false)))
    }

    fn text_once(&self, url: &str) -> Result<String, Failure> {
        let opened = self.open(url, &mut |_| Want::From(0))?;
        let mut bytes = Vec::new();
        if let Some(body) = opened.body {
            self.stream(body, |chunk| {
                if bytes.len() + chunk.len() > MAX_TEXT_BYTES {
                    let problem =
                        format!("{url}: expected at most {MAX_TEXT_BYTES} bytes, found more");
                    return Err(Failure::Network(problem));
                }
                bytes.extend_from_slice(chunk);
                Ok(())
            })?;
        }
        String::from_utf8(bytes).map_err(|_| Failure::Network(format!("{url}: expected text")))
    }

    /// Opens a file. `want` is asked once the file's hash is known (again, should a later answer change it).
    pub(super) fn open(
        &self,
        url: &str,
        want: &mut dyn FnMut(&FileHead) -> Want,
    ) -> Result<Opened, Failure> {
        let mut url = url.to_owned();
        let mut head = FileHead::default();
        let mut offset = 0;
        for _ in 0..MAX_HOPS {
            let response = self.request(&url, offset)?;
            let status = response.status().as_u16();
            let header = |name: &str| {
                response
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            };
            head.commit = head.commit.or_else(|| header("x-repo-commit"));
            head.etag = head.etag.or_else(|| header("x-linked-etag").map(|etag| plain_etag(&etag)));
            head.size = head.size.or_else(|| header("x-linked-size")?.parse().ok());

            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let Some(location) = header("location") else {
                    return Err(Failure::Network(format!("{url}: a redirect to nowhere")));
                };
                if head.etag.is_some() {
                    match want(&head) {
                        Want::Nothing => return Ok(Opened { head, offset, body: None }),
                        Want::From(from) => offset = from,
                    }
                }
                url = absolute(&url, &location)?;
                continue;
            }
            if status != 200 && status != 206 {
                let wait = header("retry-after").and_then(|text| text.parse().ok());
                return Err(Failure::Status {
                    status,
                    code: header("x-error-code").unwrap_or_default(),
                    message: header("x-error-message").unwrap_or_default(),
                    wait: wait.map(Duration::from_secs),
                });
            }
            if head.etag.is_none() {
                head.etag = header("etag").map(|etag| plain_etag(&etag));
                let length = || header("content-length")?.parse().ok();
                head.size = head.size.or_else(length);
                match want(&head) {
                    Want::Nothing => return Ok(Opened { head, offset, body: None }),
                    Want::From(0) => {}
                    Want::From(from) => {
                        offset = from;
                        continue;
                    }
                }
            }
            // "bytes 100-199/200": a server that ignores the range answers 200 and sends everything.
            let (start, total) = if status == 206 {
                let range = header("content-range").unwrap_or_default();
                content_range(&range).ok_or_else(|| {
                    Failure::Network(format!("{url}: expected a content range, found {range:?}"))
                })?
            } else {
                (0, header("content-length").and_then(|length| length.parse().ok()))
            };
            if start != 0 && start != offset {
                let problem =
                    format!("{url}: expected bytes from {offset} on, found them from {start} on");
                return Err(Failure::Network(problem));
            }
            head.size = head.size.or(total);
            return Ok(Opened { head, offset: start, body: Some(response.into_body()) });
        }
        Err(Failure::Network(format!("{url}: more than {MAX_HOPS} redirects")))
    }

    fn request(&self, url: &str, offset: u64) -> Result<Response, Failure> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.options.token
            && origin(url) == origin(&self.options.endpoint)
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            // Nobody waits for the answer any more once the caller has stopped.
            let _ = sender.send(request.call());
        });
        let answer = self.receive(&receiver)?;
        answer
            .ok_or_else(|| Failure::Network(format!("{url}: the request was dropped")))?
            .map_err(|error| Failure::Network(format!("{url}: {error}")))
    }

    /// Hands the body to `sink` piece by piece.
    pub(super) fn stream(
        &self,
        body: Body,
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::sync_channel::<std::io::Result<Vec<u8>>>(4);
        thread::spawn(move || {
            let mut reader = body.into_reader();
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let piece = reader.read(&mut chunk).map(|length| {
                    chunk.truncate(length);
                    chunk
                });
                let last = piece.as_ref().map_or(true, Vec::is_empty);
                // Nobody listens any more once the caller has stopped.
                if sender.send(piece).is_err() || last {
                    return;
                }
            }
        });
        loop {
            match self.receive(&receiver)? {
                Some(Ok(chunk)) if chunk.is_empty() => return Ok(()),
                Some(Ok(chunk)) => sink(&chunk)?,
                Some(Err(error)) => {
                    return Err(Failure::Network(format!("the transfer broke off: {error}")));
                }
                None => return Err(Failure::Network("the transfer broke off".to_owned())),
            }
        }
    }

    /// Waits for a message, looking now and then whether to stop; `None` if there will be no more.
    fn receive<T>(&self, receiver: &mpsc::Receiver<T>) -> Result<Option<T>, Failure> {
        loop {
            self.observer.check()?;
            match receiver.recv_timeout(POLL) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

/// An entity tag without its quotes and its mark of weakness.
fn plain_etag(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// Start and total of "bytes START-END/TOTAL".
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |end| authority + end);
    &url[..end]
}

/// Where a redirect from `base` leads.
fn absolute(base: &str, location: &str) -> Result<String, Failure> {
    let lower = location.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        // A page fetched safely must not lead to one that anybody on the way can replace.
        if base.starts_with("https://") && lower.starts_with("http://") {
            return Err(Failure::Network(format!("{base}: redirected from https to {location}")));
        }
        return Ok(location.to_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        let scheme = base.split_once("://").map_or("https", |(scheme, _)| scheme);
        return Ok(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Ok(format!("{}{location}", origin(base)));
    }
    let path = base.split(['?', '#']).next().unwrap_or(base);
    let folder = path.rfind('/').filter(|&slash| slash >= origin(base).len());
    Ok(match folder {
        Some(slash) => format!("{}/{location}", &path[..slash]),
        None => format!("{}/{location}", origin(base)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_of_every_form() {
        let base = "https://hub.example:8443/owner/name/resolve/main/a.json?download=1";
        let to = |location| absolute(base, location).ok();
        assert_eq!(to("https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(to("//cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(to("/y").as_deref(), Some("https://hub.example:8443/y"));
        let beside = "https://hub.example:8443/owner/name/resolve/main/b.json";
        assert_eq!(to("b.json").as_deref(), Some(beside));
        assert_eq!(to("http://hub.example/y"), None);
        assert_eq!(
            absolute("https://hub.example", "y").ok().as_deref(),
            Some("https://hub.example/y")
        );
    }

    #[test]
    fn headers_in_their_usual_forms() {
        assert_eq!(plain_etag("\"abc\""), "abc");
        assert_eq!(plain_etag("W/\"abc\""), "abc");
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
        assert_eq!(origin("http://127.0.0.1:80?x"), "http://127.0.0.1:80");
    }
}
