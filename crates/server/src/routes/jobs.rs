//! Restorations: submitted, watched, stopped, fetched.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use imaging::io::{Format, WriteOptions, read_image, read_mask, write_image};
use imaging::report::sheet::restoration;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::input::{Asked, PathId, ViewQuery, json as read_json};
use super::{App, Shared, files};
use crate::choices::{Choices, MaskChoice};
use crate::ids::Id;
use crate::jobs::{Job, State as JobState, Status};
use crate::problem::Problem;
use crate::store::{JobRecord, PictureRecord, unix_seconds};
use crate::views::{ViewSize, write_view};
use crate::workbench::Place;

pub(super) async fn submit(
    State(app): State<Shared>,
    PathId(picture): PathId,
    body: Body,
) -> Result<(StatusCode, Json<Status>), Problem> {
    // 1. the choices
    let choices = choices(&app, &picture, body).await?;
    app.queue.check_room()?;

    // 2. a record on disk, with the mask as it is now, and a place in the queue
    let id = Id::random().map_err(Problem::internal)?;
    let record = JobRecord {
        id,
        picture: picture.clone(),
        number: 0,
        state: JobState::Queued,
        choices: choices.clone(),
        created: unix_seconds(SystemTime::now()),
        elapsed_s: 0.0,
        coverage: None,
        message: None,
    };
    let shared = Arc::clone(&app);
    let add = move || {
        let own_mask = shared.store.picture_files(&picture).own_mask();
        shared.queue.push(|| {
            shared.store.add_job(record, &shared.limits, |files| match choices.mask {
                MaskChoice::Detected => Ok(()),
                MaskChoice::Own => {
                    let copied = std::fs::copy(own_mask, files.own_mask());
                    copied.map(|_| ()).map_err(|_| {
                        Problem::conflict("mask: expected one that was put before, found none")
                    })
                }
            })
        })
    };
    let job = tokio::task::spawn_blocking(add).await.map_err(Problem::internal)??;
    Ok((StatusCode::ACCEPTED, Json(job.status())))
}

/// The choices in a body, all of which this server has.
async fn choices(app: &App, picture: &Id, body: Body) -> Result<Choices, Problem> {
    app.store.picture(picture)?;
    let choices: Choices = read_json(body, app.limits.idle).await?;
    choices.check()?;
    app.engine.check(&choices)?;
    Ok(choices)
}

pub(super) async fn command(
    State(app): State<Shared>,
    PathId(picture): PathId,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let choices = choices(&app, &picture, body).await?;
    let record = app.store.picture(&picture)?;
    let mask =
        (choices.mask == MaskChoice::Own).then(|| files::beside(&record.name, "mask", "png"));
    let words = app.engine.command(&choices, &record.name, mask.as_deref());
    let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    Ok(Json(json!({ "command": line, "words": words })))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

pub(super) async fn list(State(app): State<Shared>) -> Json<Value> {
    let jobs: Vec<_> = app.store.jobs(None).iter().map(|job| job.status()).collect();
    Json(json!({ "jobs": jobs }))
}

pub(super) async fn show(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Json<Status>, Problem> {
    Ok(Json(app.store.job(&id)?.status()))
}

pub(super) async fn cancel(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Json<Status>, Problem> {
    let job = app.store.job(&id)?;
    if job.state().is_final() {
        return Err(Problem::conflict(
            "expected a restoration that waits or runs, found one that has ended",
        ));
    }
    job.cancel();
    if job.end_waiting() {
        app.queue.forget_ended();
        job.record().write(&app.store.job_files(&job.picture, &job.id))?;
    }
    Ok(Json(job.status()))
}

pub(super) async fn remove(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let store = Arc::clone(&app.store);
    let removed = tokio::task::spawn_blocking(move || store.remove_job(&id)).await;
    removed.map_err(Problem::internal)??.end_waiting();
    app.queue.forget_ended();
    Ok(StatusCode::NO_CONTENT)
}

/// The least time between two events of a job.
const BETWEEN_EVENTS: Duration = Duration::from_millis(50);

pub(super) async fn events(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let watch = Watch {
        changes: app.store.job(&id)?.watch(),
        stopping: app.stopping.clone(),
        sent: false,
        ended: false,
    };
    let stream = stream::unfold(watch, |mut watch| async move {
        let status = watch.next().await?;
        // Numbers and names: always JSON.
        let event = Event::default().event("status").json_data(&status).unwrap_or_default();
        Some((Ok(event), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// Someone who watches a job. Whoever is slow misses what lies between; nothing piles up.
struct Watch {
    changes: watch::Receiver<Status>,
    stopping: watch::Receiver<bool>,
    sent: bool,
    ended: bool,
}

impl Watch {
    /// How the job is at first, and then after each change; `None` after its end or the server's.
    async fn next(&mut self) -> Option<Status> {
        if self.ended {
            return None;
        }
        if self.sent {
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
            tokio::time::sleep(BETWEEN_EVENTS).await;
        }
        self.sent = true;
        let status = self.changes.borrow_and_update().clone();
        self.ended = status.state.is_final();
        Some(status)
    }
}

pub(super) async fn view(
    State(app): State<Shared>,
    PathId(id): PathId,
    Asked(query): Asked<ViewQuery>,
) -> Result<Response, Problem> {
    let job = app.store.job(&id)?;
    let folder = app.store.job_files(&job.picture, &id);
    let path = folder.view(query.size.name());
    if query.size != ViewSize::Screen {
        check_done(&job)?;
        if !path.exists() {
            let path = path.clone();
            app.bench
                .run(Place::Look, move |bench, _| {
                    let image = read_image(&folder.result(Format::Png), &bench.read_options())?;
                    Ok(write_view(&path, &image, query.size)?)
                })
                .await?;
        }
    }
    files::image(&path, Format::Jpeg, "view yet").await
}

pub(super) async fn mask(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let (job, record) = finished(&app, &id)?;
    let path = app.store.job_files(&job.picture, &id).mask();
    let response = files::image(&path, Format::Png, "mask").await?;
    Ok(files::saved_as(response, &files::beside(&record.name, "mask", "png")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultQuery {
    #[serde(default)]
    format: ResultFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ResultFormat {
    /// That of the upload.
    #[default]
    Original,
    Png,
}

pub(super) async fn result(
    State(app): State<Shared>,
    PathId(id): PathId,
    Asked(query): Asked<ResultQuery>,
) -> Result<Response, Problem> {
    let (job, record) = finished(&app, &id)?;
    let format = match query.format {
        ResultFormat::Original => record.format,
        ResultFormat::Png => Format::Png,
    };
    let path = app.store.job_files(&job.picture, &id).result(format);
    let response = files::image(&path, format, "result").await?;
    Ok(files::saved_as(response, &files::beside(&record.name, "restored", format.extension())))
}

pub(super) async fn comparison(
    State(app): State<Shared>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let (job, record) = finished(&app, &id)?;
    let name = files::beside(&record.name, "compare", "png");
    let folder = app.store.job_files(&job.picture, &id);
    let path = folder.comparison();
    if !path.exists() {
        let (path, picture) = (path.clone(), app.store.picture_files(&job.picture));
        app.bench
            .run(Place::Look, move |bench, _| {
                let before = bench.image(&record, &picture)?;
                let mask = read_mask(&folder.mask(), &bench.read_options())?;
                let after = read_image(&folder.result(Format::Png), &bench.read_options())?;
                let sheet = restoration(Some(&record.name), &before, &mask, &after)?;
                let options = WriteOptions { force: true, jpeg_quality: None };
                Ok(write_image(&path, &sheet, &options)?)
            })
            .await?;
    }
    let response = files::image(&path, Format::Png, "comparison").await?;
    Ok(files::saved_as(response, &name))
}

/// A job that has a result, and its picture.
fn finished(app: &App, id: &Id) -> Result<(Arc<Job>, PictureRecord), Problem> {
    let job = app.store.job(id)?;
    check_done(&job)?;
    let record = app.store.picture(&job.picture)?;
    Ok((job, record))
}

fn check_done(job: &Job) -> Result<(), Problem> {
    match job.state() {
        JobState::Done => Ok(()),
        JobState::Queued | JobState::Running => Err(Problem::conflict("it is not done yet")),
        JobState::Failed | JobState::Cancelled => {
            Err(Problem::conflict("it has ended without a result"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("--low"), "--low");
        assert_eq!(quoted("my scan.tif"), "'my scan.tif'");
        assert_eq!(quoted("it's; rm -rf ~"), r"'it'\''s; rm -rf ~'");
        assert_eq!(quoted(""), "''");
    }
}
