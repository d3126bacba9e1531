//! Errors as problem details (RFC 9457).

use crate::node::{Error, trace};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error on its way to a user.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    body: Value,
}

impl Problem {
    /// Of this status.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let body = json!({
            "type": format!("urn:crosspark:problem:{code}"), "title": code, "status": status.as_u16(),
            "detail": detail.into(),
        });
        Self { status, body }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let mut problem = Self::new(error.status(), error.code(), error.to_string());
        if let Error::InvalidRecords(rejection) = &error {
            problem.body["rejection"] = json!(rejection);
        }
        if let Error::Internal(reason) = &error {
            tracing::error!(reason, "internal error");
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        if let Some(trace) = trace::current() {
            self.body["trace"] = trace.to_string().into();
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, kind, self.body.to_string()).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = crate::core::limits::RETRY_AFTER_SECONDS;
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}
