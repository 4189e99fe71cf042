//! Pictures that have been uploaded.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use imaging::io::Format;
use serde_json::{Value, json};

use super::input::{Asked, PathId, ViewQuery};
use super::{App, Shared, files};
use crate::problem::Problem;
use crate::store::PictureRecord;
use crate::views::{ViewSize, write_view};
use crate::workbench::Place;

/// What clients see of a picture.
pub(super) fn shown(app: &App, record: &PictureRecord) -> Value {
    let size = (record.width, record.height);
    let view = |size: (usize, usize)| json!({ "width": size.0, "height": size.1 });
    let jobs: Vec<_> = app.store.jobs(Some(&record.id)).iter().map(|job| job.status()).collect();
    json!({
        "id": record.id,
        "name": record.name,
        "format": record.format.name(),
        "width": record.width,
        "height": record.height,
        "bit_depth": record.bit_depth,
        "color": record.color,
        "bytes": record.bytes,
        "created": record.created,
        "expires": record.used + app.keep.as_secs(),
        "mask_revision": record.mask_revision,
        "views": { "screen": view(ViewSize::Screen.of(size)), "full": view(ViewSize::Full.of(size)) },
        "jobs": jobs,
    })
}

pub(super) async fn list(State(app): State<Shared>) -> Json<Value> {
    let pictures: Vec<_> = app.store.pictures().iter().map(|record| shown(&app, record)).collect();
    Json(json!({ "pictures": pictures }))
}

pub(super) async fn show(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&app, &app.store.picture(&id)?)))
}

pub(super) async fn remove(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let store = Arc::clone(&app.store);
    let picture = id.clone();
    let removed = tokio::task::spawn_blocking(move || store.remove_picture(&picture)).await;
    for job in removed.map_err(Problem::internal)?? {
        job.end_waiting();
    }
    app.queue.forget_ended();
    app.bench.forget(&id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn original(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let record = app.store.picture(&id)?;
    let path = app.store.picture_files(&id).original(record.format);
    let response = files::image(&path, record.format, "picture").await?;
    Ok(files::saved_as(response, &record.name))
}

pub(super) async fn view(
    State(app): State<Shared>,
    PathId(id): PathId,
    Asked(query): Asked<ViewQuery>,
) -> Result<Response, Problem> {
    let record = app.store.picture(&id)?;
    let folder = app.store.picture_files(&id);
    let path = folder.view(query.size.name());
    if !path.exists() {
        let path = path.clone();
        app.bench
            .run(Place::Look, move |bench, _| {
                let image = bench.image(&record, &folder)?;
                Ok(write_view(&path, &image, query.size)?)
            })
            .await?;
    }
    files::image(&path, Format::Jpeg, "picture").await
}
