//! Other people's web pages, other people, and names that would like to be paths.

use std::net::IpAddr;

use crate::support::{Site, id, sample};

#[test]
fn other_names_and_other_pages_are_refused() {
    let site = Site::new();
    let file = sample("damaged/cat.png");
    let own = format!("http://127.0.0.1:{}", site.client.port);
    for (headers, status) in [
        (vec![("Host", "evil.example")], 403),
        (vec![("Host", "127.0.0.1.evil.example:7860")], 403),
        (vec![("Host", "192.168.1.9")], 403),
        (vec![("Host", "localhost:1234")], 200),
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![("Origin", own.as_str())], 200),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Sec-Fetch-Site", "same-site")], 403),
        (vec![("Sec-Fetch-Site", "same-origin")], 200),
    ] {
        let answer = site.client.send("GET", "/api/pictures", &headers, b"");
        assert_eq!(answer.status, status, "{headers:?}");
        let answer = site.client.send("POST", "/api/pictures", &headers, &file);
        assert_eq!(answer.status, if status == 200 { 201 } else { 403 }, "{headers:?}");
    }
    // The page may be opened from a link elsewhere, but not by another name.
    assert_eq!(site.client.send("GET", "/", &[("Sec-Fetch-Site", "cross-site")], b"").status, 200);
    assert_eq!(site.client.send("GET", "/", &[("Host", "evil.example")], b"").status, 403);
}

#[test]
fn beyond_loopback_nobody_gets_in_without_the_token() {
    let site = Site::with(|config| {
        config.host = IpAddr::from([0, 0, 0, 0]);
        config.token = Some("correct-horse".to_owned());
    });
    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    let mut stranger = site.client.clone();
    for token in [None, Some("correct-hors"), Some("correct-horsf"), Some("")] {
        stranger.token = token.map(str::to_owned);
        for (method, path) in server::operations() {
            let path = path.replace("{picture}", id(&picture)).replace("{job}", id(&picture));
            let answer = stranger.send(method, &path, &[], b"{}");
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    // The page itself holds nothing of anybody's: it asks for the token.
    assert_eq!(stranger.get("/").status, 200);
    let config = server::Config {
        host: IpAddr::from([0, 0, 0, 0]),
        ..server::Config::new(site.data.join("other"))
    };
    assert!(config.check().is_err());
}

#[test]
fn nothing_from_a_request_becomes_a_path() {
    let site = Site::new();
    std::fs::write(site.data.join("secret"), "secret").expect("written");
    let picture = site.upload("..%2F..%2Fsecret", &sample("damaged/cat.png"));
    assert_eq!(picture["name"], "secret");
    let upper = id(&picture).to_uppercase();
    for name in [
        "..",
        "%2e%2e",
        "..%2f..%2fsecret",
        "..%5c..%5csecret",
        "%00",
        "%ff",
        ".",
        "secret",
        "%2fetc%2fpasswd",
        &upper,
        &"a".repeat(32),
        &"a".repeat(4000),
    ] {
        for path in ["", "/original", "/view", "/detection", "/mask"] {
            let answer = site.client.get(&format!("/api/pictures/{name}{path}"));
            assert!(matches!(answer.status, 400 | 404), "{name}{path}: {}", answer.status);
            assert!(!answer.text().contains("/data"), "{}", answer.text());
        }
        let answer = site.client.delete(&format!("/api/pictures/{name}"));
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.status);
    }
    for path in ["/../secret", "/style.css/../../secret", "//etc/passwd", "/src/lib.rs"] {
        assert_eq!(site.client.get(path).status, 404, "{path}");
    }
    assert!(site.data.join("secret").exists());
}

#[test]
fn every_answer_says_that_it_is_private_to_the_page() {
    let site = Site::new();
    for path in ["/", "/app.js", "/api/about", "/nowhere", "/api/pictures/x"] {
        let answer = site.client.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        let is_api = path.starts_with("/api");
        assert_eq!(answer.header("cache-control") == "no-store", is_api, "{path}");
    }
    let answer = site.client.send("PATCH", "/api/pictures", &[], b"");
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (405, Some("method_not_allowed"))
    );
}
