//! Errors as problem details (RFC 9457).

use crate::service::Error;
use axum::http::{StatusCode, header};
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
        let body = json!({"title": code, "status": status.as_u16(), "detail": detail.into()});
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
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, self.body.to_string()).into_response()
    }
}
