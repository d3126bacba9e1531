//! The node's own REST API, for this park's users: bearer tokens with one role each. The OpenAPI document is derived from
//! the handlers' types.

mod app;
mod inputs;
mod metrics;
mod operations;
mod outputs;
mod paging;
mod problem;
mod roles;
mod routes;

use crate::core::limits;
use crate::core::trace::TraceId;
use crate::node::{CountedRefusal, Places, trace};
use crate::protocol::{TRACE_HEADER, linger};
use crate::services::Services;
use app::App;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use problem::Problem;
use routes::Routes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// All routes; long polls end when `stop` turns true.
pub fn router(services: Services, stop: watch::Receiver<bool>) -> Router {
    let (router, document) = operations::all(Routes::new(services.clone())).finish();
    let (all, per_token) = (limits::REQUESTS_IN_FLIGHT_MAX, limits::WAITS_PER_TOKEN_MAX);
    let waits = Arc::new(Places::new(all, per_token, Duration::ZERO, "waiting requests"));
    let app = App { services, stop, document: Arc::new(document), waits };
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), traced))
        .layer(from_fn_with_state(Arc::new(Semaphore::new(limits::LINGERING_MAX)), linger))
        .with_state(app)
}

/// Continues the caller's trace, or begins one.
async fn traced(State(app): State<App>, request: Request, next: Next) -> Response {
    let header = request.headers().get(TRACE_HEADER).and_then(|value| value.to_str().ok());
    let trace = header.and_then(TraceId::from_header).unwrap_or_else(|| app.services.node.new_trace());
    let mut response = trace::within(Some(trace), next.run(request)).await;
    // Some responses hold secrets, all of them the park's own affairs.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn no_route(State(app): State<App>) -> Problem {
    app.services.node.count_refusal(CountedRefusal::NoRoute);
    Problem::new(StatusCode::NOT_FOUND, "not-found", "this path does not exist; see /docs")
}

async fn no_method(State(app): State<App>) -> Problem {
    app.services.node.count_refusal(CountedRefusal::NoRoute);
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not support this method; see /docs")
}
