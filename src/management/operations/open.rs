//! What needs no token: is the node alive, its figures, this API's document and its reference.

use super::Answer;
use crate::management::api::{Api, App, AppParts, Operation, json_of, text_of};
use crate::management::error::Problem;
use crate::management::user::OPEN;
use crate::management::{metrics, schema};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

pub fn operations(api: Api, app: &AppParts) -> Api {
    let plain = || text_of("text/plain");
    let open = |path, id, summary, gives| Operation::get(path, id, summary, OPEN, gives);
    api.add(open("/healthz", "alive", "Whether the node lives.", plain()), get(async || "ok\n"), app)
        .add(open("/readyz", "ready", "Whether the node can work, and why not.", plain()), get(ready), app)
        .add(open("/metrics", "stats", "StoreStats for Prometheus.", plain()), get(stats), app)
        .add(open("/openapi.json", "openapi", "This document.", json_of(schema::any_object())), get(document), app)
        .add(open("/docs", "reference", "This document, for people.", text_of("text/html")), get(reference), app)
}

/// Ready: the database answers, changes are taken, and there is a register that counts.
async fn ready(State(app): State<App>) -> Answer {
    app.services.operations.health.check_store().await?;
    let not = |code: &str, reason: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, reason));
    if let Some(reason) = app.services.node.read_only().reason() {
        return not("read-only", &reason);
    }
    if !app.services.node.trust().register.is_current(app.services.node.now()) {
        return not("register-expired", "the register has expired; the alliance operator must renew it");
    }
    Ok("ready\n".into_response())
}

/// Nothing in it is anybody's secret; the listener is on loopback.
async fn stats(State(app): State<App>) -> Answer {
    let text = metrics::render(app.services.node.me().as_str(), &app.services.operations.health.report().await?);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn document(State(app): State<App>) -> Answer {
    Ok(Json(app.document.as_ref()).into_response())
}

/// The page loads this API's document and nothing else.
async fn reference() -> Answer {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, include_str!("../reference.html")).into_response())
}
