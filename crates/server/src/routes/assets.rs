//! The page: files that are part of the program.

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Shared;

/// Address, media type, content.
type Asset = (&'static str, &'static str, &'static str);

const JS: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 14] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("/theme.js", JS, include_str!("../page/theme.js")),
    ("/app.js", JS, include_str!("../page/app.js")),
    ("/api.js", JS, include_str!("../page/api.js")),
    ("/choices.js", JS, include_str!("../page/choices.js")),
    ("/desk.js", JS, include_str!("../page/desk.js")),
    ("/gallery.js", JS, include_str!("../page/gallery.js")),
    ("/mask.js", JS, include_str!("../page/mask.js")),
    ("/png.js", JS, include_str!("../page/png.js")),
    ("/ui.js", JS, include_str!("../page/ui.js")),
    ("/viewer.js", JS, include_str!("../page/viewer.js")),
    ("/gestures.js", JS, include_str!("../page/gestures.js")),
];

pub(super) fn router() -> Router<Shared> {
    ASSETS.iter().fold(Router::new(), |router, &(path, media, content)| {
        router.route(
            path,
            get(move |headers: HeaderMap| async move { answer(&headers, media, content) }),
        )
    })
}

/// The file, or word that the browser has it already.
fn answer(headers: &HeaderMap, media: &'static str, content: &'static str) -> Response {
    // FNV-1a: tells one version of the program from another.
    let hash = content.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let tag = format!("\"{hash:016x}\"");
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let about = [
        (header::CONTENT_TYPE, media.to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, content).into_response()
}
