//! Models from a hub on the loopback: what is fetched, what is kept, and what goes wrong.

mod server;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diffusion::DiffusionError;
use diffusion::carried::COMPACT;
use diffusion::checkpoint::hub::{HubOptions, Pulled, is_id, pull, resolve};
use imaging::{Observer, Silent};
use server::{COMMIT, Faults, Hub, etag};

const ID: &str = "owner/name";

/// A pipeline with small settings and large weights, and files that nobody needs.
fn pipeline() -> Vec<(&'static str, Vec<u8>)> {
    let large = |seed: u8| (0..50_000u32).map(|i| (i * 31 + u32::from(seed)) as u8).collect();
    vec![
        ("README.md", b"# A model".to_vec()),
        ("model_index.json", b"{\"_class_name\": \"StableDiffusionInpaintPipeline\"}".to_vec()),
        ("safety_checker/model.safetensors", large(9)),
        ("scheduler/scheduler_config.json", b"{}".to_vec()),
        ("text_encoder/config.json", b"{\"a\": 1}".to_vec()),
        ("text_encoder/model.safetensors", large(1)),
        ("tokenizer/merges.txt", b"#version: 0.2\n".to_vec()),
        ("tokenizer/vocab.json", b"{\"b\": 2}".to_vec()),
        ("unet/config.json", b"{\"c\": 3}".to_vec()),
        ("unet/diffusion_pytorch_model.fp16.safetensors", large(2)),
        ("unet/diffusion_pytorch_model.safetensors", large(3)),
        ("vae/config.json", b"{\"d\": 4}".to_vec()),
        ("vae/diffusion_pytorch_model.bin", large(4)),
    ]
}

fn options(hub: &Hub, cache: &Path) -> HubOptions {
    HubOptions {
        endpoint: hub.endpoint.clone(),
        cache_dir: cache.to_path_buf(),
        token: None,
        retries: 3,
        ..HubOptions::default()
    }
}

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn fails(hub: &Hub, options: &HubOptions) -> String {
    let error = pull(ID, options, &Silent).expect_err("a pull that fails");
    assert!(matches!(error, DiffusionError::Hub { .. }), "{error}");
    assert!(error.to_string().starts_with(ID), "{error}");
    assert!(!error.to_string().contains("secret"), "the token is nobody's business: {error}");
    let _ = hub;
    error.to_string()
}

/// Every file of the pull holds the hub's bytes.
fn assert_whole(hub: &Hub, pulled: &Pulled) {
    for file in &pulled.files {
        let found = fs::read(pulled.path.join(file)).expect("a file of the snapshot");
        assert!(found == hub.files[file], "{file} differs");
    }
    let blobs = pulled.path.join("../../blobs");
    for blob in fs::read_dir(blobs).expect("blobs") {
        let name = blob.expect("a blob").file_name().into_string().expect("a hash");
        assert!(!name.contains("incomplete"), "{name} was left over");
    }
}

#[test]
fn a_pull_takes_what_a_checkpoint_needs_and_lays_it_out_as_python_does() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let options = options(&hub, cache.path());
    let pulled = pull(ID, &options, &Silent).unwrap();

    assert_eq!(pulled.commit, COMMIT);
    assert_eq!(pulled.files.len(), 10);
    assert!(!pulled.files.iter().any(|file| file.contains("safety") || file.contains("fp16")));
    assert_whole(&hub, &pulled);
    let repo = cache.path().join("models--owner--name");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(pulled.path, repo.join("snapshots").join(COMMIT));
    let weights = &hub.files["vae/diffusion_pytorch_model.bin"];
    assert_eq!(fs::read(repo.join("blobs").join(etag(weights))).unwrap(), *weights);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(pulled.path.join("vae/config.json")).unwrap(),
        Path::new("../../../blobs").join(etag(b"{\"d\": 4}"))
    );

    // The second time nothing but the listing is asked for.
    hub.asked();
    let again = pull(ID, &options, &Silent).unwrap();
    assert_eq!((again.downloaded_bytes, hub.asked().len()), (0, 1));
    assert_eq!(again.path, pulled.path);
    assert_eq!(resolve(ID, &options, &Silent).unwrap(), pulled.path);
}

#[test]
fn a_variant_replaces_the_plain_weights_where_there_is_one() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let mut options = options(&hub, cache.path());
    options.variant = Some("fp16".to_owned());
    let pulled = pull(ID, &options, &Silent).unwrap();
    assert!(pulled.files.contains(&"unet/diffusion_pytorch_model.fp16.safetensors".to_owned()));
    assert!(!pulled.files.contains(&"unet/diffusion_pytorch_model.safetensors".to_owned()));
    options.variant = Some("int3".to_owned());
    assert!(fails(&hub, &options).contains("variant int3"));
}

#[test]
fn one_file_of_a_repository() {
    let hub = Hub::start(
        &[("v1 5.ckpt", vec![7; 9000]), ("lora/a.safetensors", vec![8; 10])],
        Faults::default(),
    );
    let cache = cache();
    let options = options(&hub, cache.path());
    let path = resolve("owner/name/lora/a.safetensors", &options, &Silent).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [8; 10]);
    // The one checkpoint at the root is the model. Its name needs escaping in a URL, which this hub does not undo.
    let error = fails(&hub, &options);
    assert!(error.contains("a file that the listing names is missing"), "{error}");
    assert!(hub.asked().iter().any(|asked| asked.path.ends_with("/v1%205.ckpt")));
    let error = resolve("owner/name/none.ckpt", &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("expected a file none.ckpt"), "{error}");
}

#[test]
fn a_broken_transfer_goes_on_where_it_was() {
    let faults = Faults { cut_after: 20_000, cuts: 2, ..Faults::default() };
    let hub = Hub::start(&pipeline(), faults);
    let cache = cache();
    let pulled = pull(ID, &options(&hub, cache.path()), &Silent).unwrap();
    assert_whole(&hub, &pulled);
    let ranges: Vec<_> = hub.asked().into_iter().filter_map(|asked| asked.range).collect();
    assert_eq!(ranges, ["bytes=20000-", "bytes=40000-"]);
    // 3 × 50,000 bytes of weights and the settings, none of them twice.
    let expected: usize = pulled.files.iter().map(|file| hub.files[file].len()).sum();
    assert_eq!(pulled.downloaded_bytes, expected as u64);
}

#[test]
fn a_part_from_an_earlier_run_is_used() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let blobs = cache.path().join("models--owner--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = |file: &str, bytes: &[u8]| {
        fs::write(blobs.join(format!("{}.incomplete", etag(&hub.files[file]))), bytes).unwrap();
    };
    let unet = "unet/diffusion_pytorch_model.safetensors";
    let (text, vae) = ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.bin");
    // A part, all of it, and something else that is too long.
    part(unet, &hub.files[unet][..12_345]);
    part(text, &hub.files[text]);
    part(vae, &[0; 60_000]);
    // Small files have no size before their answer.
    part("unet/config.json", b"{\"c");
    part("vae/config.json", b"{\"d\": 4}, and more");
    let pulled = pull(ID, &options(&hub, cache.path()), &Silent).unwrap();
    assert_whole(&hub, &pulled);
    let asked = hub.asked();
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.range.as_deref()).collect();
    assert_eq!(ranges, ["bytes=3-", "bytes=12345-"]);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let faults = Faults { cut_after: 20_000, cuts: 1, no_ranges: true, ..Faults::default() };
    let hub = Hub::start(&pipeline(), faults);
    let cache = cache();
    let pulled = pull(ID, &options(&hub, cache.path()), &Silent).unwrap();
    assert_whole(&hub, &pulled);
}

#[test]
fn wrong_bytes_are_noticed_and_fetched_again() {
    let hub = Hub::start(&pipeline(), Faults { corrupt: 1, ..Faults::default() });
    let cache = cache();
    assert_whole(&hub, &pull(ID, &options(&hub, cache.path()), &Silent).unwrap());

    let hub = Hub::start(&pipeline(), Faults { corrupt: usize::MAX, ..Faults::default() });
    let cache = self::cache();
    let error = fails(&hub, &HubOptions { retries: 1, ..options(&hub, cache.path()) });
    assert!(error.contains("expected a file with SHA-256"), "{error}");
    // A part that is wrong spoils one attempt, not all.
    let hub = Hub::start(&pipeline(), Faults::default());
    let blobs = cache.path().join("models--owner--name/blobs");
    let part =
        format!("{}.incomplete", etag(&hub.files["unet/diffusion_pytorch_model.safetensors"]));
    fs::write(blobs.join(part), [1; 20_000]).unwrap();
    assert_whole(&hub, &pull(ID, &options(&hub, cache.path()), &Silent).unwrap());
}

#[test]
fn damaged_blobs_are_fetched_again() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let options = options(&hub, cache.path());
    let pulled = pull(ID, &options, &Silent).unwrap();
    let weights = fs::canonicalize(pulled.path.join("vae/diffusion_pytorch_model.bin")).unwrap();
    fs::write(&weights, b"truncated").unwrap();
    fs::remove_file(fs::canonicalize(pulled.path.join("vae/config.json")).unwrap()).unwrap();
    assert_whole(&hub, &pull(ID, &options, &Silent).unwrap());
}

#[test]
fn a_busy_hub_is_asked_again() {
    let hub = Hub::start(&pipeline(), Faults { busy: 2, ..Faults::default() });
    let cache = cache();
    assert_whole(&hub, &pull(ID, &options(&hub, cache.path()), &Silent).unwrap());
    let hub = Hub::start(&pipeline(), Faults { busy: 100, ..Faults::default() });
    let error = fails(&hub, &HubOptions { retries: 1, ..options(&hub, self::cache().path()) });
    assert!(error.contains("answered 503"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let hub = Hub::start(&pipeline(), Faults { token: Some("secret"), ..Faults::default() });
    let cache = cache();
    let mut options = options(&hub, cache.path());
    let error = fails(&hub, &options);
    assert!(error.contains("give a token (HF_TOKEN)"), "{error}");
    options.token = Some("secret-but-wrong".to_owned());
    assert!(fails(&hub, &options).contains("the token does not open it"));
    options.token = Some("secret".to_owned());
    hub.asked();
    assert_whole(&hub, &pull(ID, &options, &Silent).unwrap());
    for asked in hub.asked() {
        let storage = asked.path.starts_with("/storage/");
        assert_eq!(asked.token.is_none(), storage, "{asked:?}");
    }
    assert!(!format!("{options:?}").contains("secret"));
}

#[test]
fn refusals_say_what_to_do() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let mut options = options(&hub, cache.path());
    let refused = |status, code| {
        hub.set_faults(Faults { refuse: Some((status, code)), ..Faults::default() });
        fails(&hub, &options)
    };
    assert!(refused(403, "GatedRepo").contains("accept its terms at"));
    assert!(refused(401, "GatedRepo").contains("accept its terms at"));
    assert!(refused(401, "RepoNotFound").contains("check the name"));
    assert!(refused(404, "RepoNotFound").contains("no such model at"));
    assert!(refused(404, "").contains("no such model at"));
    assert!(refused(418, "").contains("answered 418"));
    hub.set_faults(Faults::default());
    options.revision = "v9".to_owned();
    assert!(fails(&hub, &options).contains("expected a revision v9"));
    options.revision = "../../x".to_owned();
    assert!(pull(ID, &options, &Silent).unwrap_err().to_string().contains("revision"));
}

#[test]
fn offline_means_the_cache_alone() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let online = options(&hub, cache.path());
    let offline = HubOptions { offline: true, ..online.clone() };
    let error = fails(&hub, &offline);
    assert!(error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    let pulled = pull(ID, &online, &Silent).unwrap();
    hub.asked();
    let found = pull(ID, &offline, &Silent).unwrap();
    assert_eq!((found.path, found.files), (pulled.path.clone(), pulled.files));
    let commit = HubOptions { revision: COMMIT.to_owned(), ..offline.clone() };
    assert_eq!(pull(ID, &commit, &Silent).unwrap().path, pulled.path);
    assert_eq!(hub.asked(), []);

    fs::remove_file(pulled.path.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    let error = fails(&hub, &offline);
    assert!(error.contains("expected weights unet/"), "{error}");
}

#[test]
fn the_cache_serves_while_the_hub_does_not() {
    let hub = Hub::start(&pipeline(), Faults::default());
    let cache = cache();
    let online = options(&hub, cache.path());
    let path = pull(ID, &online, &Silent).unwrap().path;
    // A commit never changes: the hub is not even asked.
    hub.asked();
    let commit = HubOptions { revision: COMMIT.to_owned(), ..online.clone() };
    assert_eq!(pull(ID, &commit, &Silent).unwrap().path, path);
    assert_eq!(hub.asked(), []);

    hub.set_faults(Faults { refuse: Some((404, "RepoNotFound")), ..Faults::default() });
    let found = pull(ID, &online, &Silent).unwrap();
    assert_eq!(found.path, path);
    assert!(found.offline_because.unwrap().contains("no such model"));
    // Nobody listens on port 1.
    let nowhere = HubOptions { endpoint: "http://127.0.0.1:1".to_owned(), retries: 0, ..online };
    assert_eq!(resolve(ID, &nowhere, &Silent).unwrap(), path);
    let error = resolve("owner/other", &nowhere, &Silent).unwrap_err().to_string();
    assert!(error.contains("cannot be fetched from http://127.0.0.1:1"), "{error}");
}

#[test]
fn a_server_without_listings() {
    let hub = Hub::start(&pipeline(), Faults { no_listings: true, ..Faults::default() });
    let cache = cache();
    let pulled = pull(ID, &options(&hub, cache.path()), &Silent).unwrap();
    assert_eq!(pulled.files.len(), 10);
    assert_whole(&hub, &pulled);
}

#[test]
fn a_local_path_wins_over_an_id() {
    let here = cache();
    let local = here.path().join("owner");
    fs::create_dir(&local).unwrap();
    let nowhere = HubOptions { endpoint: "http://127.0.0.1:1".to_owned(), ..HubOptions::default() };
    let name = local.to_str().unwrap();
    assert_eq!(resolve(name, &nowhere, &Silent).unwrap(), local);
    assert_eq!(resolve(COMPACT, &nowhere, &Silent).unwrap(), Path::new(COMPACT));
    for wrong in [
        "no-such-model",
        "../x/y",
        "/no/such/file",
        "a/../b",
        "a//b",
        "a/b/../c",
        "a\\b/c",
        "",
        "./a/b",
    ] {
        assert!(!is_id(wrong), "{wrong}");
        let error = resolve(wrong, &nowhere, &Silent).unwrap_err().to_string();
        assert!(error.contains("no such file or folder"), "{wrong}: {error}");
    }
    assert!(is_id("runwayml/stable-diffusion-inpainting") && is_id("a/b/c/d.safetensors"));
}

/// Stops after so many bytes.
struct StopAfter(u64, AtomicU64);

impl Observer for StopAfter {
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        assert!(stage == "download" && done <= total, "{stage} {done} {total}");
        self.1.store(done, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

#[test]
fn a_stopped_pull_ends_at_once_and_keeps_what_it_has() {
    let hub = Hub::start(&pipeline(), Faults { stall: true, ..Faults::default() });
    let cache = cache();
    let options = options(&hub, cache.path());
    let begun = Instant::now();
    // The first large file stalls after its first 1000 bytes.
    let error = pull(ID, &options, &StopAfter(1000, AtomicU64::new(0))).unwrap_err();
    assert!(error.is_cancelled());
    assert!(begun.elapsed() < Duration::from_secs(10), "the server stalls for 20 s");
    hub.set_faults(Faults::default());
    hub.asked();
    assert_whole(&hub, &pull(ID, &options, &Silent).unwrap());
    assert!(hub.asked().iter().any(|asked| asked.range.as_deref() == Some("bytes=1000-")));
}

#[test]
fn the_environment_decides_as_for_python() {
    let here = cache();
    let home = here.path().to_str().unwrap().to_owned();
    let with = |vars: &[(&str, &str)]| {
        let vars: Vec<(String, String)> =
            vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HubOptions::from_vars(|name| {
            vars.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
        })
    };
    let options = with(&[
        ("HF_HOME", &home),
        ("HF_ENDPOINT", "http://127.0.0.1:1/"),
        ("HF_HUB_OFFLINE", "0"),
    ]);
    assert_eq!(options.cache_dir, here.path().join("hub"));
    assert_eq!(options.endpoint, "http://127.0.0.1:1");
    assert_eq!((options.token, options.offline), (None, false));
    assert_eq!(with(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", &home)]).cache_dir, Path::new("/c"));
    assert_eq!(with(&[("XDG_CACHE_HOME", "/x")]).cache_dir, Path::new("/x/huggingface/hub"));
    assert!(with(&[]).cache_dir.ends_with(".cache/huggingface/hub"));
    assert_eq!(with(&[]).endpoint, "https://huggingface.co");
    assert!(
        with(&[("HF_HUB_OFFLINE", "true")]).offline
            && with(&[("TRANSFORMERS_OFFLINE", "1")]).offline
    );
    fs::write(here.path().join("token"), "from-file\n").unwrap();
    assert_eq!(with(&[("HF_HOME", &home)]).token.as_deref(), Some("from-file"));
    let token = with(&[("HF_HOME", &home), ("HF_TOKEN", " from-variable ")]).token;
    assert_eq!(token.as_deref(), Some("from-variable"));
}
