//! What requests bring, read strictly: ids, queries and JSON.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::ids::Id;
use crate::problem::Problem;
use crate::views::ViewSize;

/// The id in an address, whatever it is the id of.
pub(super) struct PathId(pub(super) Id);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|error| Problem::malformed(error.body_text()))?;
        let (name, text) = params.iter().next().ok_or_else(|| Problem::missing("address"))?;
        let what = if name == "job" { "job" } else { "picture" };
        Id::parse(text).map(Self).ok_or_else(|| Problem::missing(what))
    }
}

/// The query of an address.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|error| Problem::malformed(error.body_text()))?;
        Ok(Self(query))
    }
}

/// Bytes of JSON that are read at most.
const MAX_JSON: usize = 64 << 10;

/// A JSON object as a body, which has to arrive within `patience`.
pub(super) async fn json<T: DeserializeOwned>(
    body: Body,
    patience: Duration,
) -> Result<T, Problem> {
    let received = timeout(patience, Limited::new(body, MAX_JSON).collect()).await;
    let bytes = match received {
        Ok(Ok(received)) => received.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(Problem::too_large("JSON", MAX_JSON as u64));
        }
        Ok(Err(error)) => return Err(Problem::malformed(format!("JSON: {error}"))),
        Err(_) => return Err(Problem::slow("all of the JSON", patience)),
    };
    // Read as an object first: a list would be taken for the fields in their order.
    let object: Result<Map<String, Value>, _> = serde_json::from_slice(&bytes);
    let value = object.and_then(|object| T::deserialize(Value::Object(object)));
    value.map_err(|error| Problem::malformed(format!("JSON: {error}")))
}

/// `?size=` of a view.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewQuery {
    #[serde(default)]
    pub(super) size: ViewSize,
}
