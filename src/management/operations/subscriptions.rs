//! Subscriptions to the versions of peers' datasets.

use crate::core::id::SubscriptionId;
use crate::management::app::App;
use crate::management::inputs::{Json as JsonBody, PathId};
use crate::management::outputs::{Created, NoContent, Status};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::node::UserRole;
use crate::subscriptions::{NewSubscription, SubscriptionView};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

fn requester(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Requester] }
}

pub fn add(routes: Routes) -> Routes {
    routes
        .get(requester("/v1/subscriptions", "listSubscriptions", "Lists the enterprise's subscriptions."), list)
        .post(requester("/v1/subscriptions", "subscribe", "Requests each new version of a peer's dataset."), subscribe)
        .delete(requester("/v1/subscriptions/{id}", "unsubscribe", "Ends a subscription."), end)
}

/// The subscriptions of an enterprise.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SubscriptionList {
    /// Subscriptions by id.
    subscriptions: Vec<SubscriptionView>,
}

async fn list(State(app): State<App>, Caller(user): Caller) -> Result<Json<SubscriptionList>, Problem> {
    Ok(Json(SubscriptionList { subscriptions: app.services.subscriptions.list(&user).await? }))
}

async fn subscribe(
    State(app): State<App>,
    Caller(user): Caller,
    JsonBody(new): JsonBody<NewSubscription>,
) -> Result<Created<SubscriptionView>, Problem> {
    Ok(Status(app.services.subscriptions.subscribe(&user, new).await?))
}

async fn end(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(id): PathId<SubscriptionId>,
) -> Result<NoContent, Problem> {
    app.services.subscriptions.end(&user, &id).await?;
    Ok(NoContent)
}
