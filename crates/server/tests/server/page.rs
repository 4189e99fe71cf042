//! The page's files.

use crate::support::Site;

#[test]
fn the_page_is_light_whole_and_from_here_only() {
    let site = Site::new();
    let page = site.client.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));

    // 1. everything that any file names is there
    let mut files = vec!["/".to_owned()];
    let mut weight = 0;
    let mut at = 0;
    while at < files.len() {
        let answer = site.client.get(&files[at]);
        assert_eq!(answer.status, 200, "{}", files[at]);
        weight += answer.body.len();
        let text = answer.text();
        assert!(!text.contains("https://") || files[at].ends_with(".svg"), "{}", files[at]);
        for (opening, closing) in [("src=\"/", '"'), ("href=\"/", '"'), ("from \"./", '"')] {
            for part in text.split(opening).skip(1) {
                let name = part.split(closing).next().unwrap_or_default();
                let path = format!("/{name}");
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        at += 1;
    }
    assert!(files.len() > 10, "{files:?}");

    // 2. less than 200 kB in all, and not again if the browser has it
    assert!(weight < 200_000, "{weight} bytes");
    let tag = page.header("etag").to_owned();
    let again = site.client.send("GET", "/", &[("If-None-Match", &tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
}
