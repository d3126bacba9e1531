//! The state of the node.

use crate::core::digest::Digest;
use crate::core::id::{LogOrigin, ParticipantId};
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::management::app::App;
use crate::management::problem::Problem;
use crate::management::roles::ANY;
use crate::management::routes::{Operation, Routes};
use crate::operations::HealthReport;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

pub fn add(routes: Routes) -> Routes {
    let operation =
        Operation { path: "/v1/status", id: "getStatus", summary: "Returns the state of the node.", roles: ANY };
    routes.get(operation, status)
}

/// The state of the node.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Status {
    /// Participant id of the node.
    participant: ParticipantId,
    /// Origin of its log.
    origin: LogOrigin,
    /// Endpoint of its peer listener.
    endpoint: Endpoint,
    /// Version of the program.
    version: &'static str,
    /// Time at the node.
    now: Timestamp,
    /// Newest register.
    register: RegisterStatus,
    /// Digest of the newest root document.
    root: Digest,
    /// Messages to peers.
    outbox: OutboxStatus,
    /// Health.
    health: HealthReport,
}

/// The newest register.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RegisterStatus {
    /// Sequence number.
    sequence: u64,
    /// Time of expiry.
    expires: Timestamp,
    /// Whether it is valid now.
    current: bool,
}

/// Messages to peers.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct OutboxStatus {
    /// Messages that wait.
    waiting: u64,
    /// Time of the next attempt, if it is in the future.
    next: Option<Timestamp>,
}

async fn status(State(app): State<App>) -> Result<Json<Status>, Problem> {
    let node = &app.services.node;
    let (next, waiting) = app.services.operations.health.outbox().await?;
    let (trust, now) = (node.trust(), node.now());
    let body = trust.register.body();
    let current = trust.register.is_current(now);
    Ok(Json(Status {
        participant: node.me().clone(),
        origin: node.origin().clone(),
        endpoint: node.endpoint().clone(),
        version: env!("CARGO_PKG_VERSION"),
        now,
        register: RegisterStatus { sequence: body.sequence, expires: body.expires, current },
        root: trust.roots.newest().digest(),
        outbox: OutboxStatus { waiting, next },
        health: app.services.operations.health.report().await?,
    }))
}
