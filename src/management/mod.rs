//! The node's own REST API, for this park's users: bearer tokens, four roles, least privilege each. One table of
//! operations makes the routes and the OpenAPI document.

mod api;
mod error;
mod extract;
mod metrics;
mod operations;
mod schema;
mod user;

use crate::core::trace::TraceId;
use crate::node::{CountedRefusal, trace};
use crate::protocol::TRACE_HEADER;
use crate::services::Services;
use api::{Api, App, AppParts};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use error::Problem;
use std::sync::Arc;
use tokio::sync::watch;

/// All routes; long polls end when `stop` turns true.
pub fn router(services: Services, stop: watch::Receiver<bool>) -> Router {
    let parts = AppParts { services: services.clone() };
    let api = operations::all(Api::default(), &parts);
    let (router, document) = api.finish();
    let app = App { services, stop, document: Arc::new(document) };
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), traced))
        .with_state(app)
}

/// What a user asks for belongs to the caller's trace, or begins one.
async fn traced(State(app): State<App>, request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let header = request.headers().get(TRACE_HEADER).and_then(|value| value.to_str().ok());
    let trace = header.and_then(TraceId::from_header).unwrap_or_else(|| app.services.node.new_trace());
    trace::within(Some(trace), next.run(request)).await
}

async fn no_route(State(app): State<App>) -> Problem {
    app.services.node.count_refusal(CountedRefusal::NoRoute);
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path; /docs tells what there is")
}

async fn no_method(State(app): State<App>) -> Problem {
    app.services.node.count_refusal(CountedRefusal::NoRoute);
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not take this method; /docs tells which")
}
