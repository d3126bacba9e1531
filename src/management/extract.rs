//! What handlers take from a request; whatever cannot be read is a problem.

use super::api::App;
use super::error::Problem;
use crate::core::json;
use crate::idempotency::IdempotencyKey;
use crate::node::Error;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

/// The query: each name once, none that the operation does not know.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let mut members = serde_json::Map::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if members.insert(name.clone().into_owned(), value.into_owned().into()).is_some() {
                return Err(Error::invalid("query", format!("`{name}` stands twice")).into());
            }
        }
        let read = serde_path_to_error::deserialize(serde_json::Value::Object(members));
        read.map(Self).map_err(|error| Error::invalid("query", format!("`{}`: {}", error.path(), error.inner())).into())
    }
}

/// One path parameter, parsed.
pub struct Named<T>(pub T);

impl<T: std::str::FromStr<Err: std::fmt::Display> + Send> FromRequestParts<App> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = text.map_err(|error| Error::invalid("path", error.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| Error::invalid("path", error.to_string()).into())
    }
}

/// The raw body, within its limit.
pub struct Raw(pub Bytes);

impl FromRequest<App> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        Bytes::from_request(request, app).await.map(Self).map_err(|error| {
            let code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "body" };
            Problem::new(error.status(), code, error.body_text())
        })
    }
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        expect(&request, "application/json")?;
        let Raw(bytes) = Raw::from_request(request, app).await?;
        json::read(&bytes).map(Self).map_err(|error| Error::invalid("body", error.to_string()).into())
    }
}

/// The content type must be this.
pub fn expect(request: &Request, kind: &str) -> Result<(), Problem> {
    let found = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind) {
        return Ok(());
    }
    let detail = format!("the body must be {kind}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", detail))
}

/// The header of an idempotency key.
pub struct Key(Option<String>);

impl FromRequestParts<App> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let value = value.to_str().map_err(|_| Error::invalid("header", "the idempotency key is not ASCII"))?;
        Ok(Self(Some(value.to_owned())))
    }
}

impl Key {
    /// For the request that these parts make.
    pub fn of(self, parts: &[&[u8]]) -> Result<Option<IdempotencyKey>, Problem> {
        Ok(self.0.map(|key| IdempotencyKey::new(&key, parts)).transpose()?)
    }
}
