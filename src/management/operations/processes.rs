//! What waits for a person of this park, first offers to consumers, and transfers that are under way.

use super::{Answer, Paging, cursor, paging};
use crate::contracts::ApprovalDecision;
use crate::core::id::{DatasetId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::management::api::{Api, App, AppParts, Operation, json_of, path};
use crate::management::extract::{Body, Named, Params};
use crate::management::schema::{
    self, any_object, flag, id, list, name, object, one_of, or_null, shared_as, text, time,
};
use crate::management::user::{ADMIN, AUDITOR, Caller, PUBLISHER};
use crate::node::{Error, TransferStep};
use crate::transfer::Transfer;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

pub fn operations(api: Api, app: &AppParts) -> Api {
    let side = || one_of(&["provider", "consumer"]);
    let pending = object(&[
        ("id", id()),
        ("role", side()),
        ("peer", schema::participant()),
        ("dataset", id()),
        ("policy", any_object()),
        ("purpose", or_null(name())),
        ("enterprise", or_null(name())),
        ("since", time()),
    ]);
    let word = object(&[
        ("approve", flag()),
        ("comment?", or_null(name())),
        ("purpose?", or_null(name())),
        ("enterprise?", or_null(name())),
    ]);
    let ruled = object(&[("id", id()), ("state", text())]);
    let offer = object(&[("consumer", schema::participant()), ("dataset", id())]);
    let step = object(&[("step", one_of(&["suspend", "resume", "complete", "end"])), ("reason?", or_null(name()))]);
    api.add(
        Operation::get(
            "/v1/pending",
            "listPending",
            "What waits for a person: requests under a policy that wants consent, and offers of other parks.",
            ADMIN | PUBLISHER,
            json_of(schema::page("pending", pending.clone())),
        )
        .with(paging()),
        get(list_pending),
        app,
    )
    .add(
        Operation::get("/v1/pending/{id}", "pending", "One of them.", ADMIN | PUBLISHER, json_of(pending))
            .with([path("id", id(), "The negotiation.")])
            .refuses(&[404]),
        get(one_pending),
        app,
    )
    .add(
        Operation::post("/v1/pending/{id}", "rule", "A person says yes or no.", ADMIN | PUBLISHER, json_of(word))
            .with([path("id", id(), "The negotiation.")])
            .gives(StatusCode::OK, [json_of(ruled)])
            .refuses(&[404, 409]),
        post(rule),
        app,
    )
    .add(
        Operation::post(
            "/v1/offers",
            "offer",
            "Offers a dataset to a consumer, who is asked to accept it.",
            PUBLISHER,
            json_of(offer),
        )
        .gives(StatusCode::ACCEPTED, [json_of(object(&[("id", id())]))])
        .refuses(&[404]),
        post(make_offer),
        app,
    )
    .add(
        Operation::get(
            "/v1/transfers",
            "listTransfers",
            "Transfers that are not over.",
            ADMIN | PUBLISHER | AUDITOR,
            json_of(object(&[("transfers", list(shared_as("Transfer")))])),
        ),
        get(transfers),
        app,
    )
    .add(
        Operation::post(
            "/v1/transfers/{id}",
            "moveTransfer",
            "Pauses a transfer, goes on with it, or ends it.",
            ADMIN | PUBLISHER,
            json_of(step),
        )
        .with([path("id", id(), "The transfer.")])
        .gives(StatusCode::OK, [json_of(shared_as("Transfer"))])
        .refuses(&[404, 409]),
        post(move_transfer),
        app,
    )
}

async fn list_pending(State(app): State<App>, Params(page): Params<Paging>) -> Answer {
    let (found, next) = app.services.contracts.approvals.pending(page.after()?, page.limit()?).await?;
    let mut answer = json!({"pending": found});
    if let Some(next) = next {
        answer["next"] = cursor(next).into();
    }
    Ok(Json(answer).into_response())
}

async fn one_pending(State(app): State<App>, Named(id): Named<ProcessId>) -> Answer {
    Ok(Json(app.services.contracts.approvals.pending_one(&id).await?).into_response())
}

async fn rule(
    State(app): State<App>,
    Caller(user): Caller,
    Named(id): Named<ProcessId>,
    Body(word): Body<ApprovalDecision>,
) -> Answer {
    let ruled = app.services.contracts.approvals.decide(&user, &id, &word).await?;
    Ok(Json(json!({"id": ruled.id, "state": ruled.state})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOffer {
    consumer: ParticipantId,
    dataset: DatasetId,
}

async fn make_offer(State(app): State<App>, Caller(user): Caller, Body(new): Body<NewOffer>) -> Answer {
    let id = app.services.contracts.negotiations.offer_to(&user, &new.consumer, &new.dataset).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"id": id}))).into_response())
}

/// A transfer without what is nobody's affair.
fn view(transfer: &Transfer) -> Value {
    json!({
        "id": transfer.id, "role": transfer.role, "peer": transfer.peer, "agreement": transfer.agreement,
        "format": transfer.format, "state": transfer.state, "pausedBy": transfer.paused_by,
        "reason": transfer.reason, "started": transfer.started, "updated": transfer.updated,
    })
}

async fn transfers(State(app): State<App>) -> Answer {
    let open = app.services.delivery.transfers.open(limits::PAGE_ROWS_MAX).await?;
    let found: Vec<Value> = open.iter().map(view).collect();
    Ok(Json(json!({"transfers": found})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    step: String,
    #[serde(default)]
    reason: Option<Text>,
}

async fn move_transfer(
    State(app): State<App>,
    Caller(user): Caller,
    Named(id): Named<ProcessId>,
    Body(step): Body<Step>,
) -> Answer {
    let reason = step.reason.as_ref().map_or("a person of this park said so", Text::as_str).to_owned();
    let step = match step.step.as_str() {
        "suspend" => TransferStep::Suspend(reason),
        "resume" => TransferStep::Start,
        "complete" => TransferStep::Complete,
        "end" => TransferStep::Terminate(reason),
        _ => return Err(Error::invalid("step", "`step` must be suspend, resume, complete or end").into()),
    };
    let moved = app.services.delivery.transfers.apply_user_step(&user, &id, step).await?;
    Ok(Json(view(&moved)).into_response())
}
