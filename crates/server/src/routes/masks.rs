//! Masks: what the detector finds, and what the client draws.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use imaging::ImagingError;
use imaging::io::{Format, WriteOptions, encode_png, read_mask, write_mask};
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{Asked, PathId};
use super::{Shared, files, upload};
use crate::detection;
use crate::ids::Id;
use crate::problem::Problem;
use crate::workbench::Place;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetectionQuery {
    /// 0 to 100.
    #[serde(default = "default_sensitivity")]
    sensitivity: u8,
    /// True for what a small copy shows, while the whole has not been looked at.
    #[serde(default)]
    draft: bool,
}

const fn default_sensitivity() -> u8 {
    crate::sensitivity::DEFAULT_SENSITIVITY as u8
}

pub(super) async fn detection(
    State(app): State<Shared>,
    PathId(id): PathId,
    Asked(query): Asked<DetectionQuery>,
) -> Result<Response, Problem> {
    let DetectionQuery { sensitivity, draft } = query;
    if sensitivity > 100 {
        let message = format!("sensitivity: expected 0 to 100, found {sensitivity}");
        return Err(Problem::unacceptable(message));
    }
    let record = app.store.picture(&id)?;
    let folder = app.store.picture_files(&id);
    let path = folder.detected(sensitivity);
    let engine = Arc::clone(&app.engine);
    // Once the detector has seen the whole, that is as quick.
    if draft && !folder.evidence().exists() && !path.exists() {
        let png = app
            .bench
            .run(Place::Find, move |bench, interest| {
                let image = bench.image(&record, &folder)?;
                let mask = detection::draft(engine.as_ref(), &image, sensitivity, interest)?;
                Ok(encode_png(&mask.to_image()?)?)
            })
            .await?;
        let headers = [(header::CONTENT_TYPE, files::media_type(Format::Png))];
        return Ok((headers, png).into_response());
    }
    if !path.exists() {
        app.bench
            .run(Place::Find, move |bench, interest| {
                let image = bench.image(&record, &folder)?;
                detection::find(engine.as_ref(), &image, &folder, sensitivity, interest).map(|_| ())
            })
            .await?;
    }
    files::image(&path, Format::Png, "picture").await
}

pub(super) async fn show(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    app.store.picture(&id)?;
    let path = app.store.picture_files(&id).own_mask();
    files::image(&path, Format::Png, "mask of your own").await
}

/// Removes an uploaded mask, kept or not.
struct Part(std::path::PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(super) async fn put(
    State(app): State<Shared>,
    PathId(id): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    // 1. the bytes
    let record = app.store.picture(&id)?;
    let Ok(_permit) = app.uploads.try_acquire() else {
        return Err(Problem::busy("too many uploads at the same time"));
    };
    let folder = app.store.picture_files(&id);
    let part = Part(folder.mask_part(&Id::random().map_err(Problem::internal)?));
    upload::receive(&app, &headers, body, &part.0, app.limits.upload_bytes).await?;

    // 2. a mask of them, in the one form that masks are kept in
    let store = Arc::clone(&app.store);
    let changed = app
        .bench
        .run(Place::Look, move |bench, _| {
            let mask = read_mask(&part.0, &bench.read_options())
                .map_err(|error| Problem::of_file(error, "the mask"))?;
            let (expected, found) = ((record.width, record.height), mask.size());
            ImagingError::check_size("the mask", expected, found)?;
            let options = WriteOptions { force: true, jpeg_quality: None };
            write_mask(&folder.own_mask(), &mask, &options)?;
            let changed = store.change_picture(&record.id, |record| record.mask_revision += 1)?;
            Ok((changed, mask.coverage()))
        })
        .await?;
    let (record, coverage) = changed;
    Ok(Json(json!({ "mask_revision": record.mask_revision, "coverage": coverage })))
}

pub(super) async fn remove(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    app.store.picture(&id)?;
    let _ = tokio::fs::remove_file(app.store.picture_files(&id).own_mask()).await;
    app.store.change_picture(&id, |record| record.mask_revision = 0)?;
    Ok(StatusCode::NO_CONTENT)
}
