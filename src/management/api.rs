//! The table of operations: from it come the routes, who may call them, and the OpenAPI document (OpenAPI 3.1.1).

use super::schema::{self, Schema};
use super::user::{self, names};
use crate::core::limits;
use crate::services::Services;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// What a handler needs.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub services: Services,
    /// Turns true when the node stops: long polls end.
    pub stop: watch::Receiver<bool>,
    /// The OpenAPI document.
    pub document: Arc<Value>,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum In {
    /// In the path.
    Path,
    /// In the query.
    Query,
}

/// A parameter.
pub struct Param {
    name: &'static str,
    place: In,
    required: bool,
    schema: Schema,
    help: &'static str,
}

/// A parameter in the path.
pub fn path(name: &'static str, schema: Schema, help: &'static str) -> Param {
    Param { name, place: In::Path, required: true, schema, help }
}

/// A parameter in the query that may be absent.
pub fn query(name: &'static str, schema: Schema, help: &'static str) -> Param {
    Param { name, place: In::Query, required: false, schema, help }
}

/// A parameter in the query that must be there.
pub fn required(name: &'static str, schema: Schema, help: &'static str) -> Param {
    Param { required: true, ..query(name, schema, help) }
}

/// What an operation takes or gives: a media type and its schema.
pub type Content = (&'static str, Schema);

/// JSON.
pub fn json_of(schema: Schema) -> Content {
    ("application/json", schema)
}

/// Text.
pub fn text_of(kind: &'static str) -> Content {
    (kind, schema::text())
}

/// An operation.
pub struct Operation {
    /// `get`, `post` or `delete`.
    pub method: &'static str,
    /// Its path, with `{name}` for parameters.
    pub path: &'static str,
    /// Its name in the document.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Bit set of the roles that may call it; 0 for everybody, without a token.
    pub roles: u8,
    /// Parameters.
    pub params: Vec<Param>,
    /// Body.
    pub body: Option<Content>,
    /// Success.
    pub success: (StatusCode, Vec<Content>),
    /// Whether it takes an `Idempotency-Key`.
    pub once: bool,
    /// Statuses of refusals beside those that every operation has.
    pub refusals: &'static [u16],
}

impl Operation {
    /// Reads something.
    pub fn get(path: &'static str, id: &'static str, summary: &'static str, roles: u8, gives: Content) -> Self {
        let success = (StatusCode::OK, vec![gives]);
        Self {
            method: "get",
            path,
            id,
            summary,
            roles,
            params: Vec::new(),
            body: None,
            success,
            once: false,
            refusals: &[],
        }
    }

    /// Makes or changes something.
    pub fn post(path: &'static str, id: &'static str, summary: &'static str, roles: u8, takes: Content) -> Self {
        let success = (StatusCode::OK, Vec::new());
        Self {
            method: "post",
            body: Some(takes),
            success,
            ..Self::get(path, id, summary, roles, text_of("text/plain"))
        }
    }

    /// With parameters.
    pub fn with(mut self, params: impl IntoIterator<Item = Param>) -> Self {
        self.params.extend(params);
        self
    }

    /// With this success.
    pub fn gives(mut self, status: StatusCode, content: impl IntoIterator<Item = Content>) -> Self {
        self.success = (status, content.into_iter().collect());
        self
    }

    /// With these refusals.
    pub fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refusals = statuses;
        self
    }

    /// Happens once for one `Idempotency-Key`.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    fn document(&self) -> Value {
        let mut params: Vec<Value> = self
            .params
            .iter()
            .map(|param| {
                let place = match param.place {
                    In::Path => "path",
                    In::Query => "query",
                };
                json!({
                    "name": param.name, "in": place, "required": param.required, "schema": param.schema,
                    "description": param.help,
                })
            })
            .collect();
        if self.once {
            params.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": false,
                "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
                "description": "The same request with the same key is carried out once, and answered the same, for a week.",
            }));
        }
        let mut operation = json!({
            "operationId": self.id, "summary": self.summary, "parameters": params, "responses": self.responses(),
        });
        if let Some((kind, schema)) = &self.body {
            operation["requestBody"] = json!({"required": true, "content": {*kind: {"schema": schema}}});
        }
        if self.roles != 0 {
            operation["security"] = json!([{"token": []}]);
            operation["description"] = format!("Roles: {}.", names(self.roles).join(", ")).into();
        }
        operation
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        let (status, contents) = &self.success;
        let content: Map<String, Value> =
            contents.iter().map(|(kind, schema)| ((*kind).to_owned(), json!({"schema": schema}))).collect();
        let mut success = json!({"description": status.canonical_reason().unwrap_or("Success")});
        if !content.is_empty() {
            success["content"] = content.into();
        }
        responses.insert(status.as_str().to_owned(), success);
        let mut refusals = vec![429, 500, 503];
        refusals.extend(self.refusals);
        if self.roles != 0 {
            refusals.extend([401, 403]);
        }
        if !self.params.is_empty() || self.body.is_some() {
            refusals.push(400);
        }
        if self.body.is_some() {
            refusals.extend([408, 413, 415]);
        }
        if self.once {
            refusals.extend([409, 422]);
        }
        for status in refusals {
            let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
            let response = json!({"description": reason.unwrap_or_default(), "content": problem});
            responses.insert(status.to_string(), response);
        }
        responses.into()
    }
}

/// The operations that were declared so far.
#[derive(Default)]
pub struct Api {
    router: Router<App>,
    paths: Map<String, Value>,
}

impl Api {
    /// Adds an operation and what carries it out.
    pub fn add(mut self, operation: Operation, handler: MethodRouter<App>, app: &AppParts) -> Self {
        let documented = self.paths.entry(operation.path).or_insert_with(|| json!({}));
        documented[operation.method] = operation.document();
        let handler = user::guarded(handler, operation.roles, app.services.clone());
        // A publication streams; everything else is small.
        let limit = match operation.body {
            Some(("multipart/form-data", _)) => DefaultBodyLimit::disable(),
            _ => DefaultBodyLimit::max(limits::MANAGEMENT_BODY_BYTES_MAX),
        };
        self.router = self.router.route(operation.path, handler.layer(limit));
        self
    }

    /// The router, and the document.
    pub fn finish(self) -> (Router<App>, Value) {
        let document = json!({
            "openapi": "3.1.1",
            "info": {
                "title": "crosspark",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": "The management API of a park's node.",
                "description": "For the users of one park's node. A token fixes role, person and enterprise. Every error is a problem (RFC 9457) whose `title` is for programs and whose `detail` is for people.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "paths": self.paths,
            "components": {
                "schemas": schema::shared(),
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        });
        (self.router, document)
    }
}

/// What is needed to add operations.
pub struct AppParts {
    /// The use cases.
    pub services: Services,
}
