//! What needs no token: liveness, readiness, metrics, the API's document and its reference page.

use crate::management::app::App;
use crate::management::metrics;
use crate::management::outputs::{Body, Media, Plain};
use crate::management::problem::Problem;
use crate::management::roles::OPEN;
use crate::management::routes::{Operation, Routes};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

fn open(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: OPEN }
}

pub fn add(routes: Routes) -> Routes {
    routes
        .get(open("/healthz", "getLiveness", "Whether the node is alive."), liveness)
        .get(open("/readyz", "getReadiness", "Whether the node can serve, or why not."), readiness)
        .get(open("/metrics", "getMetrics", "Metrics in the Prometheus text format."), metrics_page)
        .get(open("/openapi.json", "getOpenApi", "This document."), document)
        .get(open("/docs", "getReference", "This document as a page for people."), reference)
}

async fn liveness() -> Body<Plain> {
    Body::text("ok\n")
}

/// Ready: the database answers, changes are accepted, and the register is valid.
async fn readiness(State(app): State<App>) -> Result<Body<Plain>, Problem> {
    app.services.operations.health.check_store().await?;
    let node = &app.services.node;
    let not_ready = |code: &str, reason: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, reason));
    if let Some(reason) = node.closed() {
        return not_ready("read-only", &reason);
    }
    if !node.trust().register.is_current(node.now()) {
        return not_ready("register-expired", "the register has expired; the alliance operator must renew it");
    }
    Ok(Body::text("ready\n"))
}

struct Prometheus;

impl Media for Prometheus {
    const TYPES: &'static [&'static str] = &[metrics::CONTENT_TYPE];
}

/// Without a token: the metrics hold no secrets, and the listener is on loopback.
async fn metrics_page(State(app): State<App>) -> Result<Body<Prometheus>, Problem> {
    let report = app.services.operations.health.report().await?;
    Ok(Body::text(metrics::render(app.services.node.me().as_str(), &report)))
}

async fn document(State(app): State<App>) -> Json<Map<String, Value>> {
    match serde_json::to_value(app.document.as_ref()) {
        Ok(Value::Object(document)) => Json(document),
        // The document consists of strings, numbers, lists and maps.
        _ => Json(Map::new()),
    }
}

struct Page;

impl Media for Page {
    const TYPES: &'static [&'static str] = &["text/html; charset=utf-8"];
}

/// A page that loads this API's document and nothing else.
async fn reference() -> Body<Page> {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    Body::text(include_str!("../reference.html"))
        .header(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))
        .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
}
