//! Responses whose status and media type are part of the handler's type, so that the OpenAPI document states them.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, Response as ApiResponse, SchemaObject};
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, json_schema};
use serde::Serialize;

/// JSON with the status `N`.
pub struct Status<const N: u16, T>(pub T);

/// 201 with JSON.
pub type Created<T> = Status<201, T>;
/// 202 with JSON.
pub type Accepted<T> = Status<202, T>;

impl<const N: u16, T: Serialize> IntoResponse for Status<N, T> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(N).unwrap_or(StatusCode::OK);
        (status, Json(self.0)).into_response()
    }
}

impl<const N: u16, T: JsonSchema> OperationOutput for Status<N, T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, operation: &mut Operation) -> Option<ApiResponse> {
        Json::<T>::operation_response(context, operation)
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, ApiResponse)> {
        Self::operation_response(context, operation).map(|response| (Some(N), response)).into_iter().collect()
    }
}

/// 204.
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl OperationOutput for NoContent {
    type Inner = ();

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, ApiResponse)> {
        vec![(Some(204), ApiResponse { description: "Done.".into(), ..ApiResponse::default() })]
    }
}

/// A body of one of these media types.
pub trait Media {
    /// The media types.
    const TYPES: &'static [&'static str];
}

/// A body that is not JSON, in one of the media types of `M`.
pub struct Body<M> {
    response: Response,
    media: std::marker::PhantomData<M>,
}

impl<M> Body<M> {
    /// The response as it is.
    pub fn of(response: Response) -> Self {
        Self { response, media: std::marker::PhantomData }
    }
}

impl<M: Media> Body<M> {
    /// A text in the first of the media types.
    pub fn text(text: impl Into<axum::body::Body>) -> Self {
        let kind = HeaderValue::from_static(M::TYPES[0]);
        Self::of(([(header::CONTENT_TYPE, kind)], text.into()).into_response())
    }

    /// With a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }
}

impl<M> IntoResponse for Body<M> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<M: Media> OperationOutput for Body<M> {
    type Inner = String;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<ApiResponse> {
        let media = |kind: &&str| {
            let kind = kind.split(';').next().unwrap_or_default().to_owned();
            let json_schema = match kind.as_str() {
                "application/json" => json_schema!({"type": "array"}),
                _ => json_schema!({"type": "string"}),
            };
            let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
            (kind, MediaType { schema, ..MediaType::default() })
        };
        let content = M::TYPES.iter().map(media).collect();
        Some(ApiResponse { description: "OK".into(), content, ..ApiResponse::default() })
    }

    fn inferred_responses(context: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, ApiResponse)> {
        Self::operation_response(context, operation).map(|response| (Some(200), response)).into_iter().collect()
    }
}

/// Plain text.
pub struct Plain;

impl Media for Plain {
    const TYPES: &'static [&'static str] = &["text/plain; charset=utf-8"];
}
