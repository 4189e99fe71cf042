//! Models from a hub, by their id: `runwayml/stable-diffusion-inpainting`.
//!
//! Files lie in the cache that Python's `huggingface_hub` uses, in its layout, so that each finds what the other has
//! fetched. Of the `hf-hub` crate this takes the cache's layout only: its client (0.5) cannot be stopped, sleeps through
//! retries, appends a whole answer to a kept part when a server ignores the range, does not compare sizes or hashes, knows
//! neither `HF_HUB_CACHE` nor `HF_HUB_OFFLINE`, and takes every redirect for one with a `Location`.

mod cache;
mod client;
mod download;
mod files;
mod options;

use std::path::{Path, PathBuf};

use imaging::Observer;
use serde::Deserialize;

use self::cache::{RepoCache, is_name};
use self::client::{Client, Failure};
use self::download::{Job, Progress};
pub use self::options::HubOptions;
use crate::carried;
use crate::error::{DiffusionError, Result};

/// What a pull came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The snapshot's folder, or the one file that the checkpoint is.
    pub path: PathBuf,
    /// The commit that the files are of.
    pub commit: String,
    /// The files, by their paths in the repository, sorted.
    pub files: Vec<String>,
    /// How many bytes came over the network; 0 if all was in the cache.
    pub downloaded_bytes: u64,
    /// Why the hub was not asked or did not answer, if the cache had to do.
    pub offline_because: Option<String>,
}

/// A file or folder for `name`: a path that exists, or else the name of a [`carried`] model, or a model of the hub
/// (see [`pull`]).
///
/// # Errors
/// [`DiffusionError::Hub`] if `name` is neither a path nor an id, and those of [`pull`].
pub fn resolve(name: &str, options: &HubOptions, observer: &dyn Observer) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() || carried::file(path).is_some() {
        return Ok(path.to_path_buf());
    }
    Ok(pull(name, options, observer)?.path)
}

/// True if `name` has the form of an id: `OWNER/NAME`, or `OWNER/NAME/FILE` for one file of a repository.
#[must_use]
pub fn is_id(name: &str) -> bool {
    Id::parse(name).is_ok()
}

/// Fetches what a checkpoint needs of a model repository into the cache, as far as it is not there.
///
/// Of a pipeline: `model_index.json`, the configurations, the tokenizer, and the weights of the three networks, as
/// safetensors where there are any. Of a repository with one component or one checkpoint file: that.
/// Without a network, or with [`HubOptions::offline`], what is in the cache, if it is complete.
/// Progress is reported in bytes; a stopped download goes on where it was.
///
/// # Errors
/// [`DiffusionError::Hub`] if the hub has no such model, refuses it, cannot be reached, or sends something else;
/// [`DiffusionError::Io`] if the cache cannot be written; cancellation by the observer.
pub fn pull(id: &str, options: &HubOptions, observer: &dyn Observer) -> Result<Pulled> {
    let id = Id::parse(id)?;
    if !options.revision.split('/').all(is_name) {
        return Err(DiffusionError::argument(
            "revision",
            "a branch, tag or commit",
            &options.revision,
        ));
    }
    let cache = RepoCache::new(&options.cache_dir, &id.repo, &options.revision);
    let pull = Pull { id: &id, cache: &cache, options, observer };

    // 1. the cache, where it must do, or where the hub can say nothing new
    if options.offline {
        let why = "offline (HF_HUB_OFFLINE)".to_owned();
        return pull.cached(Some(why)).map_err(|problem| {
            id.error(format!("{problem}; offline (HF_HUB_OFFLINE), so nothing was fetched"))
        });
    }
    if is_commit(&options.revision)
        && let Ok(found) = pull.cached(None)
    {
        return Ok(found);
    }

    // 2. the hub; if it fails, the cache again
    match pull.fetch() {
        Ok(found) => Ok(found),
        Err(Failure::Stopped(error)) => Err(error),
        Err(failure) => {
            let problem = pull.describe(failure);
            pull.cached(Some(problem.clone())).map_err(|_| id.error(problem))
        }
    }
}

/// A model's name on the hub.
struct Id {
    /// As the caller wrote it.
    text: String,
    /// `OWNER/NAME`.
    repo: String,
    /// One file of the repository.
    file: Option<String>,
}

impl Id {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '/');
        let (owner, name, file) = (parts.next(), parts.next(), parts.next());
        let part =
            |part: Option<&str>| part.is_some_and(|part| is_name(part) && !part.contains("--"));
        if !part(owner) || !part(name) || !file.is_none_or(is_path) {
            return Err(DiffusionError::Hub {
                id: text.to_owned(),
                problem: "no such file or folder, and no model id (OWNER/NAME)".to_owned(),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            repo: format!("{}/{}", owner.unwrap_or_default(), name.unwrap_or_default()),
            file: file.map(str::to_owned),
        })
    }

    fn error(&self, problem: impl Into<String>) -> DiffusionError {
        DiffusionError::Hub { id: self.text.clone(), problem: problem.into() }
    }
}

/// True for a path that stays inside the folder it is joined to.
fn is_path(path: &str) -> bool {
    let odd =
        |c: char| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.contains(odd)
}

/// True for a full commit hash, which always names the same files.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The hub's answer about a repository.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

/// One pull under way.
struct Pull<'a> {
    id: &'a Id,
    cache: &'a RepoCache,
    options: &'a HubOptions,
    observer: &'a dyn Observer,
}

impl Pull<'_> {
    /// The files to take of those that are there.
    fn choose(&self, names: &[String]) -> Result<files::Choice, String> {
        match &self.id.file {
            Some(file) if names.contains(file) => {
                Ok(files::Choice { files: vec![file.clone()], single_file: true })
            }
            Some(file) => Err(format!("expected a file {file}, found none")),
            None => files::choose(names, self.options.variant.as_deref()),
        }
    }

    fn finished(&self, commit: String, choice: files::Choice, downloaded_bytes: u64) -> Pulled {
        let folder = self.cache.snapshot(&commit);
        let path = match choice.files.first() {
            Some(file) if choice.single_file => folder.join(file),
            _ => folder,
        };
        Pulled { path, commit, files: choice.files, downloaded_bytes, offline_because: None }
    }

    /// What the cache has, if it is complete; else what is missing.
    fn cached(&self, offline_because: Option<String>) -> Result<Pulled, String> {
        let missing = || format!("not in the cache {}", self.options.cache_dir.display());
        let commit = self.cache.commit().ok_or_else(missing)?;
        let choice = self
            .choose(&self.cache.files(&commit))
            .map_err(|problem| format!("{}: {problem}", missing()))?;
        Ok(Pulled { offline_because, ..self.finished(commit, choice, 0) })
    }

    fn fetch(&self) -> Result<Pulled, Failure> {
        let client = Client::new(self.options, self.observer);
        let listing = match self.listing(&client) {
            Ok(listing) => listing,
            // A hub says what it does not know; a plain file server has no listings at all.
            Err(Failure::Status { status: 404 | 405 | 501, code, .. }) if code.is_empty() => {
                return self.fetch_unlisted(&client);
            }
            Err(failure) => return Err(failure),
        };
        let names: Vec<String> = listing
            .siblings
            .iter()
            .map(|file| file.rfilename.clone())
            .filter(|name| is_path(name))
            .collect();
        let choice =
            self.choose(&names).map_err(|problem| Failure::Stopped(self.id.error(problem)))?;

        let commit = listing.sha;
        let size = |name: &str| {
            listing.siblings.iter().find(|file| file.rfilename == name).and_then(|file| file.size)
        };
        let missing: Vec<&String> =
            choice.files.iter().filter(|name| !self.cache.has(&commit, name, size(name))).collect();
        let total = missing.iter().filter_map(|name| size(name)).sum();
        let mut progress = Progress { observer: self.observer, done: 0, total };
        let mut bytes = 0;
        for name in missing {
            let job = self.job(name, &commit, Some(&commit), size(name));
            bytes += match job.run(&client, &mut progress) {
                // Servers beside the hub may know a branch but not its commits.
                Err(failure) if failure.is_not_found() && commit != self.options.revision => {
                    let job = self.job(name, &self.options.revision, Some(&commit), size(name));
                    job.run(&client, &mut progress)?
                }
                fetched => fetched?,
            }
            .bytes;
        }
        self.cache.remember(&commit).map_err(Failure::Stopped)?;
        Ok(self.finished(commit, choice, bytes))
    }

    fn job<'j>(
        &'j self,
        name: &'j str,
        revision: &str,
        commit: Option<&'j str>,
        size: Option<u64>,
    ) -> Job<'j> {
        let (endpoint, repo) = (&self.options.endpoint, &self.id.repo);
        let url =
            format!("{endpoint}/{repo}/resolve/{}/{}", encoded(revision, ""), encoded(name, "/"));
        Job { url, name, cache: self.cache, commit, size }
    }

    fn listing(&self, client: &Client) -> Result<Listing, Failure> {
        let (endpoint, repo) = (&self.options.endpoint, &self.id.repo);
        let revision = encoded(&self.options.revision, "");
        let url = format!("{endpoint}/api/models/{repo}/revision/{revision}?blobs=true");
        let text = client.text(&url)?;
        let listing: Listing = serde_json::from_str(&text)
            .map_err(|error| Failure::Network(format!("{url}: expected a listing: {error}")))?;
        if !is_name(&listing.sha) {
            return Err(Failure::Network(format!(
                "{url}: expected a commit, found {:?}",
                listing.sha
            )));
        }
        Ok(listing)
    }

    /// A pipeline from a server that has files but no listings: asks for one name after the other.
    fn fetch_unlisted(&self, client: &Client) -> Result<Pulled, Failure> {
        let mut progress = Progress { observer: self.observer, done: 0, total: 0 };
        let revision = &self.options.revision;
        let mut bytes = 0;
        let mut get = |name: &str, commit: Option<&str>| {
            let fetched = self.job(name, revision, commit, None).run(client, &mut progress);
            match fetched {
                Ok(fetched) => {
                    bytes += fetched.bytes;
                    Ok(Some(fetched.commit))
                }
                Err(failure) if failure.is_not_found() => Ok(None),
                Err(failure) => Err(failure),
            }
        };
        let first = self.id.file.as_deref().unwrap_or("model_index.json");
        let Some(commit) = get(first, None)? else {
            let (code, message) = (String::new(), String::new());
            return Err(Failure::Status { status: 404, code, message, wait: None });
        };
        if self.id.file.is_none() {
            let (settings, networks) = files::settings();
            for name in settings {
                get(&name, Some(&commit))?;
            }
            for network in networks {
                for name in files::candidates(network, self.options.variant.as_deref()) {
                    if get(&name, Some(&commit))?.is_some() {
                        break;
                    }
                }
            }
        }
        let choice = self
            .choose(&self.cache.files(&commit))
            .map_err(|problem| Failure::Stopped(self.id.error(problem)))?;
        self.cache.remember(&commit).map_err(Failure::Stopped)?;
        Ok(self.finished(commit, choice, bytes))
    }

    /// A failure in the words of someone who wants the model.
    fn describe(&self, failure: Failure) -> String {
        let HubOptions { endpoint, revision, token, .. } = self.options;
        match failure {
            Failure::Stopped(error) => error.to_string(),
            Failure::Network(problem) => format!("cannot be fetched from {endpoint}: {problem}"),
            Failure::Status { code, .. } if code == "RevisionNotFound" => {
                format!("expected a revision {revision}, found none at {endpoint}")
            }
            Failure::Status { code, .. } if code == "EntryNotFound" => {
                format!("a file that the listing names is missing at {endpoint}")
            }
            Failure::Status { status, code, .. } if status == 403 || code == "GatedRepo" => {
                format!(
                    "access is restricted ({status}): accept its terms at {endpoint}/{} and give a token of that account \
                 (HF_TOKEN)",
                    self.id.repo
                )
            }
            Failure::Status { status: 401, .. } if token.is_some() => {
                format!("no such model at {endpoint}, or the token does not open it (401)")
            }
            Failure::Status { status: 401, .. } => format!(
                "no such model at {endpoint}, or it is private: check the name, or give a token (HF_TOKEN) (401)"
            ),
            Failure::Status { status: 404, .. } => format!("no such model at {endpoint} (404)"),
            Failure::Status { status, message, .. } => {
                let colon = if message.is_empty() { "" } else { ": " };
                format!("{endpoint} answered {status}{colon}{message}")
            }
        }
    }
}

/// `text` with everything but unreserved characters and those in `keep` as %XX.
fn encoded(text: &str, keep: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
