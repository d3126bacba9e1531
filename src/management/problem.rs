//! Errors as problem details (RFC 9457).

use crate::core::limits;
use crate::dataset::report::Rejection;
use crate::node::{Error, trace};
use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, Response as ApiResponse, SchemaObject};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// The media type of a problem.
const MEDIA_TYPE: &str = "application/problem+json";

/// An error of the API.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Problem {
    /// URI of the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// Code for programs.
    title: String,
    /// HTTP status.
    status: u16,
    /// Reason for people.
    detail: String,
    /// Trace id, by which log lines about the request are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    /// Invalid records of a publication.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection: Option<Rejection>,
}

impl Problem {
    /// A problem with this status and code.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:crosspark:problem:{code}"),
            title: code.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            trace: None,
            rejection: None,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if let Error::Internal(reason) = &error {
            tracing::error!(reason, "internal error");
        }
        let mut problem = Self::new(error.status(), error.code(), error.to_string());
        if let Error::InvalidRecords(rejection) = error {
            problem.rejection = Some(rejection);
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.trace = trace::current().map(|trace| trace.to_string());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(limits::RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        response
    }
}

impl OperationOutput for Problem {
    type Inner = Self;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<ApiResponse> {
        let json_schema = context.schema.subschema_for::<Self>();
        let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
        let content = [(MEDIA_TYPE.to_owned(), MediaType { schema, ..MediaType::default() })].into_iter().collect();
        Some(ApiResponse { description: "Problem (RFC 9457).".into(), content, ..ApiResponse::default() })
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, ApiResponse)> {
        Self::operation_response(context, operation).map(|response| (None, response)).into_iter().collect()
    }
}
