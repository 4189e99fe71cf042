//! Files as answers, streamed.

use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use imaging::io::Format;
use tokio_util::io::ReaderStream;

use crate::problem::Problem;

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// The media type of a format's files.
pub(super) const fn media_type(format: Format) -> &'static str {
    match format {
        Format::Png => "image/png",
        Format::Jpeg => "image/jpeg",
        Format::WebP => "image/webp",
        Format::Tiff => "image/tiff",
    }
}

/// An image file; `what` is what is missing if it is not there.
pub(super) async fn image(path: &Path, format: Format, what: &str) -> Result<Response, Problem> {
    let file = tokio::fs::File::open(path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::missing(what),
        _ => Problem::internal(error),
    })?;
    let length = file.metadata().await.map_err(Problem::internal)?.len();
    let body = Body::from_stream(ReaderStream::with_capacity(file, CHUNK));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type(format))),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    Ok((headers, body).into_response())
}

/// The same, to be saved as `name`.
pub(super) fn saved_as(mut response: Response, name: &str) -> Response {
    // RFC 6266: a plain name for whoever does not read the other one.
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || " ._-()".contains(c) { c } else { '_' })
        .collect();
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(HeaderName::from_static("content-disposition"), value);
    }
    response
}

/// `scan.tif` with the marker `restored` and the extension `png` is `scan.restored.png`.
pub(super) fn beside(name: &str, marker: &str, extension: &str) -> String {
    let stem = match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    };
    format!("{stem}.{marker}.{extension}")
}
