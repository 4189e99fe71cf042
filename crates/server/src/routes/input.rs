//! What requests bring, read strictly: ids, queries and JSON.

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

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

/// A JSON object as a body.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let limited = Limited::new(body, MAX_JSON).collect().await;
    let bytes = limited.map_err(|_| Problem::too_large("JSON", MAX_JSON as u64))?.to_bytes();
    // Read as an object first: a list would be taken for the fields in their order.
    let object: Result<Map<String, Value>, _> = serde_json::from_slice(&bytes);
    let value = object.and_then(|object| T::deserialize(Value::Object(object)));
    value.map_err(|error| Problem::malformed(format!("JSON: {error}")))
}

/// `?size=` of a view.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewQuery {
    #[serde(default)]
    size: SizeName,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum SizeName {
    Thumb,
    #[default]
    Screen,
    Full,
}

impl ViewQuery {
    pub(super) const fn size(self) -> ViewSize {
        match self.size {
            SizeName::Thumb => ViewSize::Thumb,
            SizeName::Screen => ViewSize::Screen,
            SizeName::Full => ViewSize::Full,
        }
    }
}
