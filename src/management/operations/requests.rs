//! Requests of an enterprise, and what they deliver.

use crate::contracts::RequestView;
use crate::core::id::{DatasetId, ParticipantId, ProcessId, Text};
use crate::core::time::Timestamp;
use crate::core::{json, limits};
use crate::management::app::App;
use crate::management::inputs::{IdempotencyHeader, Json as JsonBody, PathId, Query};
use crate::management::outputs::{Accepted, Status};
use crate::management::paging::{Paging, cursor};
use crate::management::problem::Problem;
use crate::management::roles::{Caller, CallerPresence};
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, UserRole};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

fn requester(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Requester] }
}

pub fn add(routes: Routes) -> Routes {
    routes
        .get(requester("/v1/requests", "listRequests", "Lists the enterprise's requests, newest first."), list)
        .post(requester("/v1/requests", "createRequest", "Requests a peer's dataset for a purpose."), create)
        .get(
            requester("/v1/requests/{id}", "getRequest", "Returns a request, on demand after waiting for its end."),
            one,
        )
        .post(
            requester(
                "/v1/requests/{id}/cancellation",
                "cancelRequest",
                "Cancels a request that is not delivered yet.",
            ),
            cancel,
        )
}

/// A request for a peer's dataset.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewRequest {
    /// Provider.
    provider: ParticipantId,
    /// Dataset.
    dataset: DatasetId,
    /// Purpose.
    purpose: Text,
}

async fn create(
    State(app): State<App>,
    Caller(user): Caller,
    key: IdempotencyHeader,
    JsonBody(new): JsonBody<NewRequest>,
) -> Result<Accepted<RequestView>, Problem> {
    let key = key.of(&[b"request", &json::to_canonical(&new)])?;
    let requests = &app.services.contracts.requests;
    let id = requests.request(&user, &new.provider, &new.dataset, &new.purpose, key.as_ref()).await?;
    Ok(Status(requests.view(&user, &id).await?))
}

/// A page of requests.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RequestPage {
    /// Requests, newest first.
    requests: Vec<RequestView>,
    /// Cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The start of a page: time and id of the last request of the previous page.
struct Before(Timestamp, ProcessId);

impl std::str::FromStr for Before {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, id) = text.split_once(' ').ok_or(())?;
        Ok(Self(Timestamp::from_ms(ms.parse().map_err(drop)?), id.parse().map_err(drop)?))
    }
}

async fn list(
    State(app): State<App>,
    Caller(user): Caller,
    Query(page): Query<Paging>,
) -> Result<Json<RequestPage>, Problem> {
    let before = page.after::<Before>()?.map(|Before(started, id)| (started, id));
    let (requests, next) = app.services.contracts.requests.list(&user, before, page.limit()?).await?;
    let next = next.map(|(started, id)| cursor(format!("{} {id}", started.ms())));
    Ok(Json(RequestPage { requests, next }))
}

/// A cancellation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Cancellation {
    /// Reason; the provider receives it.
    #[serde(default)]
    reason: Option<Text>,
}

async fn cancel(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(id): PathId<ProcessId>,
    JsonBody(cancellation): JsonBody<Cancellation>,
) -> Result<Json<RequestView>, Problem> {
    let reason = cancellation.reason.as_ref().map_or("the requester cancelled the request", Text::as_str);
    Ok(Json(app.services.contracts.requests.cancel(&user, &id, reason).await?))
}

/// The query of a request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Seconds to wait for the end of the request.
    #[schemars(with = "Option<u64>", range(max = limits::WAIT_TIME_MAX.as_secs()))]
    wait: Option<String>,
}

async fn one(
    State(mut app): State<App>,
    Caller(user): Caller,
    CallerPresence(presence): CallerPresence,
    PathId(id): PathId<ProcessId>,
    Query(query): Query<Wait>,
) -> Result<Json<RequestView>, Problem> {
    let seconds = query.wait.map_or(Ok(0), |wait| wait.parse::<u64>());
    let seconds = seconds.map_err(|_| Error::invalid("query", "`wait` must be a number of seconds"))?;
    let wait = Duration::from_secs(seconds).min(limits::WAIT_TIME_MAX);
    let requests = app.services.contracts.requests.clone();
    if wait.is_zero() {
        return Ok(Json(requests.view(&user, &id).await?));
    }
    let _place = app.waits.take(&user.token).await?;
    let stopping = async { drop(app.stop.wait_for(|stop| *stop).await) };
    let view = tokio::select! {
        view = requests.wait(&user, &id, wait) => view?,
        () = stopping => requests.view(&user, &id).await?,
        // Nobody reads this response any more.
        () = presence.gone() => requests.view(&user, &id).await?,
    };
    Ok(Json(view))
}
