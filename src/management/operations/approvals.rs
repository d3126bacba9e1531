//! What waits for a person of this park.

use crate::contracts::{ApprovalDecision, PendingApproval};
use crate::core::id::ProcessId;
use crate::management::app::App;
use crate::management::inputs::{Json as JsonBody, PathId, Query};
use crate::management::paging::{Paging, cursor};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::negotiation::State as NegotiationState;
use crate::node::UserRole;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

fn approver(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Admin, UserRole::Publisher] }
}

pub fn add(routes: Routes) -> Routes {
    let all =
        "Lists what waits for a person: requests under a policy that requires consent, and offers of other parks.";
    routes
        .get(approver("/v1/approvals", "listApprovals", all), list)
        .get(approver("/v1/approvals/{id}", "getApproval", "Returns one of them."), one)
        .post(approver("/v1/approvals/{id}", "decideApproval", "Approves or rejects it."), decide)
}

/// A page of what waits for a person.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ApprovalPage {
    /// Negotiations that wait, by id.
    approvals: Vec<PendingApproval>,
    /// Cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn list(State(app): State<App>, Query(page): Query<Paging>) -> Result<Json<ApprovalPage>, Problem> {
    let (approvals, next) = app.services.contracts.approvals.pending(page.after()?, page.limit()?).await?;
    Ok(Json(ApprovalPage { approvals, next: next.map(cursor) }))
}

async fn one(State(app): State<App>, PathId(id): PathId<ProcessId>) -> Result<Json<PendingApproval>, Problem> {
    Ok(Json(app.services.contracts.approvals.pending_one(&id).await?))
}

/// A negotiation after a decision.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Decided {
    /// The negotiation.
    id: ProcessId,
    /// Its state when the decision was made.
    state: NegotiationState,
}

async fn decide(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(id): PathId<ProcessId>,
    JsonBody(decision): JsonBody<ApprovalDecision>,
) -> Result<Json<Decided>, Problem> {
    let decided = app.services.contracts.approvals.decide(&user, &id, &decision).await?;
    Ok(Json(Decided { id: decided.id, state: decided.state }))
}
