//! What this server is and can do.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{OPENAPI, Shared};
use crate::choices::Choices;

pub(super) async fn about(State(app): State<Shared>) -> Json<Value> {
    let (waiting, is_running) = app.queue.length();
    let Choices { grow, feather, .. } = Choices::default();
    Json(json!({
        "engine": app.engine.about(),
        "mask": { "grow": grow, "feather": feather },
        "limits": {
            "upload_bytes": app.limits.upload_bytes,
            "pixels": app.limits.pixels,
            "queue": app.queue.most(),
            "keep_hours": app.keep.as_secs_f64() / 3600.0,
        },
        "queue": { "waiting": waiting, "running": is_running },
    }))
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
