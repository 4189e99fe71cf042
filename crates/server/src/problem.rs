//! What a client did wrong, or what went wrong here: one status and one JSON object.

use std::io::ErrorKind;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use imaging::ImagingError;
use serde_json::json;

/// An answer that is no success: `{"error": {"code": …, "message": …}}`.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// For programs: stays the same.
    code: &'static str,
    /// For people.
    message: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400: what was sent cannot be read.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// 401: the token is missing or another.
    pub(crate) fn unauthorized() -> Self {
        let message = "expected the server's token as “Authorization: Bearer TOKEN”";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: not from where this request comes.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: there is no such thing, or not any more.
    pub(crate) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}, or it has expired"))
    }

    /// 405: the address exists, not for this method.
    pub(crate) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this address does not take this method",
        )
    }

    /// 408: the client does not send what it has announced.
    pub(crate) fn slow(what: &str, patience: Duration) -> Self {
        let message = format!("expected {what} within {} s", patience.as_secs_f64());
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    /// 409: not in this state.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 413: more bytes than are taken.
    pub(crate) fn too_large(what: &str, limit: u64) -> Self {
        let limit = if limit >= 1_000_000 {
            format!("{} MB", limit / 1_000_000)
        } else {
            format!("{limit} bytes")
        };
        let message = format!("{what}: expected at most {limit}, found more");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 422: understood, and not acceptable.
    pub(crate) fn unacceptable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unacceptable", message)
    }

    /// 429: come back later.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
    }

    /// 500: a defect, or the disk.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message.to_string())
    }

    /// 503: the server is being stopped.
    pub(crate) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is being stopped")
    }

    /// What an uploaded file is, called `name`, when it is no good.
    pub(crate) fn of_file(error: ImagingError, name: &str) -> Self {
        let (status, code, message) = match error {
            ImagingError::Decode { reason, .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "not_an_image", format!("{name}: {reason}"))
            }
            ImagingError::TooLarge { width, height, limit, .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_many_pixels",
                format!(
                    "{name}: expected at most {:.1} megapixels, found {width}×{height}",
                    limit as f64 / 1e6
                ),
            ),
            // The file was written completely: what ends too early, or cannot be sought in, does so by itself.
            ImagingError::Io { source, .. } if source.kind() != ErrorKind::NotFound => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_an_image",
                format!("{name}: cannot decode: {source}"),
            ),
            other => return Self::from(other),
        };
        Self::new(status, code, message)
    }

    /// The sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<ImagingError> for Problem {
    fn from(error: ImagingError) -> Self {
        match error {
            ImagingError::Argument { .. } | ImagingError::Size { .. } => {
                Self::unacceptable(error.to_string())
            }
            // Somebody deleted the picture meanwhile. The path is nobody's business.
            ImagingError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Self::missing("picture")
            }
            ImagingError::Io { action, source, .. } => {
                Self::internal(format!("cannot {action} a file: {source}"))
            }
            ImagingError::Cancelled => Self::conflict("cancelled"),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } }).to_string();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
