//! What handlers take from a request, and how the OpenAPI document describes it. Whatever cannot be read is a problem.

use super::app::App;
use super::problem::Problem;
use crate::core::{json, limits};
use crate::idempotency::IdempotencyKey;
use crate::node::Error;
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{
    HeaderStyle, MediaType, Operation, Parameter, ParameterData, ParameterSchemaOrContent, PathStyle, RequestBody,
    SchemaObject,
};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema, set_body};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::DeserializeOwned;

/// The query: each name once, and none that the operation does not know.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let mut members = serde_json::Map::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if members.insert(name.clone().into_owned(), value.into_owned().into()).is_some() {
                return Err(Error::invalid("query", format!("`{name}` appears twice in the query")).into());
            }
        }
        let read = serde_path_to_error::deserialize(serde_json::Value::Object(members));
        read.map(Self).map_err(|error| Error::invalid("query", format!("`{}`: {}", error.path(), error.inner())).into())
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        let parameters = parameters_from_schema(context, schema, ParamLocation::Query);
        add_parameters(context, operation, parameters);
    }
}

fn parameter(name: &str, description: &str, required: bool, json_schema: Schema) -> ParameterData {
    ParameterData {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required,
        deprecated: None,
        format: ParameterSchemaOrContent::Schema(SchemaObject { json_schema, example: None, external_docs: None }),
        example: None,
        examples: Default::default(),
        explode: None,
        extensions: Default::default(),
    }
}

/// The path parameter `{id}`.
pub struct PathId<T>(pub T);

impl<T: std::str::FromStr<Err: std::fmt::Display> + Send> FromRequestParts<App> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = text.map_err(|error| Error::invalid("path", error.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| Error::invalid("path", error.to_string()).into())
    }
}

impl<T: JsonSchema> OperationInput for PathId<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        let parameter_data = parameter("id", "Identifier.", true, schema);
        add_parameters(context, operation, [Parameter::Path { parameter_data, style: PathStyle::Simple }]);
    }
}

fn describe_body(context: &mut GenContext, operation: &mut Operation, kind: &str, json_schema: Schema) {
    let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
    let content = [(kind.to_owned(), MediaType { schema, ..MediaType::default() })].into_iter().collect();
    set_body(context, operation, RequestBody { content, required: true, ..RequestBody::default() });
}

async fn read_body(request: Request, app: &App) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(limits::REQUEST_TIME_MAX, Bytes::from_request(request, app)).await;
    let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time");
    read.map_err(slow)?.map_err(|error| {
        let code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "body" };
        Problem::new(error.status(), code, error.body_text())
    })
}

/// A text.
pub struct Text(pub Bytes);

impl FromRequest<App> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        read_body(request, app).await.map(Self)
    }
}

impl OperationInput for Text {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        describe_body(context, operation, "text/plain", json_schema!({"type": "string"}));
    }
}

/// A JSON document whose very bytes count.
pub struct Document(pub Bytes);

impl FromRequest<App> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        read_body(request, app).await.map(Self)
    }
}

impl OperationInput for Document {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        describe_body(context, operation, "application/json", json_schema!({"type": "object"}));
    }
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        expect(&request, "application/json")?;
        let bytes = read_body(request, app).await?;
        json::read(&bytes).map(Self).map_err(|error| Error::invalid("body", error.to_string()).into())
    }
}

impl<T: JsonSchema> OperationInput for Json<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        describe_body(context, operation, "application/json", schema);
    }
}

/// Fails when the content type is another.
pub fn expect(request: &Request, kind: &str) -> Result<(), Problem> {
    let found = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind) {
        return Ok(());
    }
    let detail = format!("the content type of the body must be {kind}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", detail))
}

/// The header `Idempotency-Key`.
pub struct IdempotencyHeader(Option<String>);

impl FromRequestParts<App> for IdempotencyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let value = value.to_str().map_err(|_| Error::invalid("header", "the idempotency key is not ASCII"))?;
        Ok(Self(Some(value.to_owned())))
    }
}

impl OperationInput for IdempotencyHeader {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        let schema = json_schema!({"type": "string", "pattern": format!("^[!-~]{{1,{max}}}$")});
        let description =
            "A repeated request with the same key is carried out once, and gets the same response, for a week.";
        let parameter_data = parameter("Idempotency-Key", description, false, schema);
        add_parameters(context, operation, [Parameter::Header { parameter_data, style: HeaderStyle::Simple }]);
    }
}

impl IdempotencyHeader {
    /// The key for the request that consists of `parts`.
    pub fn of(self, parts: &[&[u8]]) -> Result<Option<IdempotencyKey>, Problem> {
        Ok(self.0.map(|key| IdempotencyKey::new(&key, parts)).transpose()?)
    }
}
