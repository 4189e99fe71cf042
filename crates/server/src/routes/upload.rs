//! Files that come in: streamed to disk within limits, and kept only if they are pictures.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use imaging::Image;
use imaging::io::{Format, read_with_format};
use serde::Deserialize;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::input::Asked;
use super::{App, Shared, pictures};
use crate::ids::Id;
use crate::problem::Problem;
use crate::store::{PictureFiles, PictureRecord, unix_seconds};
use crate::views::{ViewSize, write_view};
use crate::workbench::Place;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadQuery {
    /// What the file is called.
    #[serde(default)]
    name: String,
}

/// Removes what an upload has left, however it ended; the folder has moved if it ended well.
struct Incoming(PictureFiles);

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.folder());
    }
}

pub(super) async fn upload(
    State(app): State<Shared>,
    Asked(query): Asked<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    // 1. what needs no file
    let name = file_name(&query.name);
    app.store.check_room(&app.limits)?;
    let Ok(_permit) = app.uploads.try_acquire() else {
        return Err(Problem::busy("too many uploads at the same time"));
    };

    // 2. the bytes, to a folder that nobody knows yet
    let id = Id::random().map_err(Problem::internal)?;
    let incoming = Incoming(app.store.incoming(&id));
    tokio::fs::create_dir_all(incoming.0.folder()).await.map_err(Problem::internal)?;
    let part = incoming.0.part();
    let bytes = receive(&app, &headers, body, &part, app.limits.upload_bytes).await?;

    // 3. a picture of them, decoded as a whole: what cannot be restored is told at once
    let shared = Arc::clone(&app);
    let record = app
        .bench
        .run(Place::Look, move |bench, _| {
            let (image, format) = read_with_format(&part, &bench.read_options())
                .map_err(|error| Problem::of_file(error, &name))?;
            let record = describe(id, name, format, bytes, &image);
            let files = &incoming.0;
            std::fs::rename(&part, files.original(format)).map_err(Problem::internal)?;
            write_view(&files.view(ViewSize::Screen.name()), &image, ViewSize::Screen)?;
            record.write(files)?;
            shared.store.adopt(record.clone(), &shared.limits)?;
            bench.keep(&record.id, Arc::new(image));
            Ok(record)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(pictures::shown(&app, &record))))
}

/// Writes a body to a file and tells its length.
pub(super) async fn receive(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
    path: &Path,
    limit: u64,
) -> Result<u64, Problem> {
    let too_large = || Problem::too_large("the file", limit);
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if declared.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > limit) {
        drain(app, body, limit).await;
        return Err(too_large());
    }
    let mut file = File::create(path).await.map_err(Problem::internal)?;
    let mut length = 0_u64;
    while let Some(frame) = timeout(app.limits.idle, body.frame())
        .await
        .map_err(|_| Problem::slow("more of the file", app.limits.idle))?
    {
        let frame = frame.map_err(|error| Problem::malformed(format!("the file: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            drain(app, body, limit).await;
            return Err(too_large());
        }
        file.write_all(&data).await.map_err(Problem::internal)?;
    }
    file.flush().await.map_err(Problem::internal)?;
    if length == 0 {
        return Err(Problem::unacceptable("the file: expected an image, found nothing"));
    }
    Ok(length)
}

/// Reads on for a while without keeping anything: a client that is cut off while it sends does not read why.
async fn drain(app: &App, mut body: Body, limit: u64) {
    let mut left = limit.min(64 << 20);
    while let Ok(Some(Ok(frame))) = timeout(app.limits.idle, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        if left == 0 {
            break;
        }
    }
}

fn describe(id: Id, name: String, format: Format, bytes: u64, image: &Image) -> PictureRecord {
    let now = SystemTime::now();
    let order = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let now = unix_seconds(now);
    PictureRecord {
        order,
        id,
        name,
        format,
        width: image.width(),
        height: image.height(),
        bit_depth: image.samples().bits(),
        color: image.color().name().to_owned(),
        bytes,
        created: now,
        used: now,
        mask_revision: 0,
    }
}

/// The most characters of a name that are kept.
const MAX_NAME: usize = 120;

/// What a client calls a file, to show it: the last part of a path, without what no name has.
fn file_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    match name.trim().trim_start_matches('.') {
        "" => "photo".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_are_no_paths() {
        for (given, kept) in [
            ("scan.tif", "scan.tif"),
            ("C:\\album\\1932 beach.jpg", "1932 beach.jpg"),
            ("../../etc/passwd", "passwd"),
            ("..", "photo"),
            ("", "photo"),
            ("a\nb\0.png", "ab.png"),
        ] {
            assert_eq!(file_name(given), kept, "{given:?}");
        }
        assert_eq!(file_name(&"x".repeat(5000)).len(), 120);
    }
}
