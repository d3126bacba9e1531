//! First offers to consumers, and transfers.

use crate::core::id::{AgreementId, DatasetId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::management::app::App;
use crate::management::inputs::{Json as JsonBody, PathId};
use crate::management::outputs::{Accepted, Status};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::negotiation::Role;
use crate::node::{TransferStep, UserRole};
use crate::transfer::{State as TransferState, Transfer};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub fn add(routes: Routes) -> Routes {
    routes
        .post(
            Operation {
                path: "/v1/offers",
                id: "createOffer",
                summary: "Offers a dataset to a consumer.",
                roles: &[UserRole::Publisher],
            },
            offer,
        )
        .get(
            Operation {
                path: "/v1/transfers",
                id: "listTransfers",
                summary: "Lists the transfers that are not in a final state.",
                roles: &[UserRole::Admin, UserRole::Publisher, UserRole::Auditor],
            },
            list,
        )
        .post(
            Operation {
                path: "/v1/transfers/{id}",
                id: "updateTransfer",
                summary: "Suspends, resumes, completes or terminates a transfer.",
                roles: &[UserRole::Admin, UserRole::Publisher],
            },
            update,
        )
}

/// An offer to one consumer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewOffer {
    /// Consumer.
    consumer: ParticipantId,
    /// Dataset.
    dataset: DatasetId,
}

/// A new negotiation.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Begun {
    /// The negotiation.
    id: ProcessId,
}

async fn offer(
    State(app): State<App>,
    Caller(user): Caller,
    JsonBody(new): JsonBody<NewOffer>,
) -> Result<Accepted<Begun>, Problem> {
    let id = app.services.contracts.negotiations.offer_to(&user, &new.consumer, &new.dataset).await?;
    Ok(Status(Begun { id }))
}

/// A transfer, without its token.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct TransferView {
    /// The transfer, as this node identifies it.
    id: ProcessId,
    /// This node's role.
    role: Role,
    /// The other side.
    peer: ParticipantId,
    /// Agreement.
    agreement: AgreementId,
    /// Format of the delivery.
    format: String,
    /// State.
    state: TransferState,
    /// The side that suspended it.
    suspended_by: Option<Role>,
    /// Reason of the suspension or termination.
    reason: Option<String>,
    /// Time of the start.
    started: Timestamp,
    /// Time of the last change.
    updated: Timestamp,
}

impl From<Transfer> for TransferView {
    fn from(transfer: Transfer) -> Self {
        let Transfer { id, role, peer, agreement, format, state, reason, started, updated, .. } = transfer;
        let suspended_by = transfer.suspended_by;
        Self { id, role, peer, agreement, format, state, suspended_by, reason, started, updated }
    }
}

/// Transfers.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Transfers {
    /// Those that are not in a final state.
    transfers: Vec<TransferView>,
}

async fn list(State(app): State<App>) -> Result<Json<Transfers>, Problem> {
    let open = app.services.delivery.transfers.open(limits::PAGE_ROWS_MAX).await?;
    Ok(Json(Transfers { transfers: open.into_iter().map(TransferView::from).collect() }))
}

/// What to do with a transfer.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// Suspend it.
    Suspend,
    /// Resume it.
    Resume,
    /// Complete it.
    Complete,
    /// Terminate it.
    Terminate,
}

/// A change of a transfer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TransferUpdate {
    /// The step.
    step: Step,
    /// Reason; the other side receives it.
    #[serde(default)]
    reason: Option<Text>,
}

async fn update(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(id): PathId<ProcessId>,
    JsonBody(update): JsonBody<TransferUpdate>,
) -> Result<Json<TransferView>, Problem> {
    let reason = update.reason.as_ref().map_or("a user of this park did it", Text::as_str).to_owned();
    let step = match update.step {
        Step::Suspend => TransferStep::Suspend(reason),
        Step::Resume => TransferStep::Start,
        Step::Complete => TransferStep::Complete,
        Step::Terminate => TransferStep::Terminate(reason),
    };
    let transfer = app.services.delivery.transfers.apply_user_step(&user, &id, step).await?;
    Ok(Json(transfer.into()))
}
