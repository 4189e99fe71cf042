//! One file from the hub into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use imaging::Observer;
use ring::digest::{Context, SHA256};

use super::cache::{RepoCache, is_name};
use super::client::{Client, Failure, FileHead, Want};
use crate::error::DiffusionError;

/// Bytes fetched and bytes to fetch, over all files.
pub(super) struct Progress<'a> {
    pub(super) observer: &'a dyn Observer,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Progress<'_> {
    /// The name of the stage; its units are bytes.
    const STAGE: &'static str = "download";

    fn report(&self) {
        self.observer.progress(Self::STAGE, self.done, self.total.max(self.done));
    }
}

/// What came of a file.
pub(super) struct Fetched {
    pub(super) commit: String,
    /// Bytes that came over the network.
    pub(super) bytes: u64,
}

/// What the attempts at a file came to.
#[derive(Default)]
struct Tally {
    /// Bytes that came over the network.
    bytes: u64,
    /// The length that the file had reached: an attempt that ends before it got no further.
    furthest: u64,
}

/// A file of the repository and where it goes.
pub(super) struct Job<'a> {
    pub(super) url: String,
    pub(super) name: &'a str,
    pub(super) cache: &'a RepoCache,
    /// The commit that the listing said; the file's own head says it otherwise.
    pub(super) commit: Option<&'a str>,
    /// The size that the listing said.
    pub(super) size: Option<u64>,
}

impl Job<'_> {
    /// Fetches the file, or the rest of it, and links it into its snapshot.
    pub(super) fn run(&self, client: &Client, progress: &mut Progress) -> Result<Fetched, Failure> {
        let before = progress.done;
        let mut tally = Tally::default();
        let head = client.retrying(|| {
            progress.done = before;
            let earlier = tally.furthest;
            self.attempt(client, progress, &mut tally)
                .map_err(|failure| (failure, tally.furthest > earlier))
        })?;
        // The listing's commit counts: the files of one snapshot are of one commit.
        let commit = self.commit.map(str::to_owned).or_else(|| head.commit.clone());
        let Some(commit) = commit.filter(|commit| is_name(commit)) else {
            return Err(self.invalid("expected a header X-Repo-Commit, found none"));
        };
        let etag = self.etag(&head)?;
        self.cache.link(&commit, self.name, etag).map_err(Failure::Stopped)?;
        Ok(Fetched { commit, bytes: tally.bytes })
    }

    fn invalid(&self, problem: &str) -> Failure {
        Failure::Stopped(DiffusionError::Hub { id: self.url.clone(), problem: problem.to_owned() })
    }

    /// The file's hash, safe as a file name.
    fn etag<'h>(&self, head: &'h FileHead) -> Result<&'h str, Failure> {
        match &head.etag {
            Some(etag) if is_name(etag) => Ok(etag),
            Some(etag) => Err(self.invalid(&format!("expected a hash as ETag, found {etag:?}"))),
            None => Err(self.invalid("expected a header ETag, found none")),
        }
    }

    fn attempt(
        &self,
        client: &Client,
        progress: &mut Progress,
        tally: &mut Tally,
    ) -> Result<FileHead, Failure> {
        // 1. its hash and size, and which bytes are still needed
        let mut complete = false;
        let mut asked = None;
        let opened = client.open(&self.url, &mut |head| {
            // A hash that is none is refused below.
            let Some(etag) = head.etag.as_deref().filter(|etag| is_name(etag)) else {
                return Want::Nothing;
            };
            if self.cache.has_blob(etag, head.size) {
                return Want::Nothing;
            }
            asked = Some(etag.to_owned());
            let kept = fs::metadata(self.cache.part(etag)).map_or(0, |metadata| metadata.len());
            complete = head.size == Some(kept) && kept > 0;
            match head.size {
                _ if complete => Want::Nothing,
                Some(size) if kept > size => Want::From(0),
                _ => Want::From(kept),
            }
        });
        let opened = match opened {
            // Longer than the file: no part of it.
            Err(Failure::Status { status: 416, .. }) if asked.is_some() => {
                let _ = fs::remove_file(self.cache.part(&asked.unwrap_or_default()));
                return Err(Failure::Network(format!("{}: the kept part is too long", self.url)));
            }
            opened => opened?,
        };
        let etag = self.etag(&opened.head)?.to_owned();
        let size = opened.head.size;
        if let (None, Some(size)) = (self.size, size) {
            progress.total = progress.total.max(progress.done + size);
        }
        let (blob, part) = (self.cache.blob(&etag), self.cache.part(&etag));
        if self.cache.has_blob(&etag, size) {
            progress.done += size.unwrap_or(0);
            progress.report();
            return Ok(opened.head);
        }

        // 2. the bytes that an earlier attempt kept, then those that come
        let folder = part.parent().unwrap_or(&part);
        let failed = |error| Failure::Stopped(DiffusionError::io(&part, "write", error));
        fs::create_dir_all(folder).map_err(failed)?;
        // Not truncated: another process may be writing the same bytes to it.
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&part)
            .map_err(failed)?;
        let kept = if complete { size.unwrap_or(0) } else { opened.offset };
        let mut hash = is_sha256(&etag).then(|| Context::new(&SHA256));
        if let Some(hash) = &mut hash {
            hash_start(&mut file, kept, hash, progress.observer, &part)?;
        }
        file.seek(SeekFrom::Start(kept)).map_err(failed)?;
        let mut length = kept;
        progress.done += kept;
        progress.report();
        if let Some(body) = opened.body {
            client.stream(body, |chunk| {
                if size.is_some_and(|size| length + chunk.len() as u64 > size) {
                    let problem = format!("expected {} bytes, found more", size.unwrap_or(0));
                    return Err(Failure::Network(format!("{}: {problem}", self.url)));
                }
                file.write_all(chunk).map_err(failed)?;
                if let Some(hash) = &mut hash {
                    hash.update(chunk);
                }
                length += chunk.len() as u64;
                tally.bytes += chunk.len() as u64;
                tally.furthest = tally.furthest.max(length);
                progress.done += chunk.len() as u64;
                progress.report();
                Ok(())
            })?;
        }

        // 3. all of them, and the right ones
        if let Some(size) = size
            && length != size
        {
            return Err(Failure::Network(format!(
                "{}: expected {size} bytes, found {length}",
                self.url
            )));
        }
        if let Some(hash) = hash {
            let found = hex(hash.finish().as_ref());
            if found != etag.to_lowercase() {
                // What was kept is of no use, or the server's answer is not what it says.
                let _ = fs::remove_file(&part);
                let problem = format!("expected a file with SHA-256 {etag}, found {found}");
                return Err(Failure::Network(format!("{}: {problem}", self.url)));
            }
        }
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        drop(file);
        match fs::rename(&part, &blob) {
            // Another process fetched the same file and was faster.
            Err(error) if error.kind() == ErrorKind::NotFound && blob.is_file() => {}
            renamed => renamed.map_err(failed)?,
        }
        Ok(opened.head)
    }
}

/// Feeds the first `length` bytes of a file to a hash.
fn hash_start(
    file: &mut File,
    length: u64,
    hash: &mut Context,
    observer: &dyn Observer,
    path: &Path,
) -> Result<(), Failure> {
    let failed = |error| Failure::Stopped(DiffusionError::io(path, "read", error));
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut rest = file.take(length);
    let mut buffer = vec![0; 1 << 20];
    loop {
        observer.check()?;
        let read = rest.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(());
        }
        hash.update(&buffer[..read]);
    }
}

/// Large files are named by their SHA-256, small ones by git's hash.
fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
