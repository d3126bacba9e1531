//! What this node publishes, and what a peer offers to it.

use super::upload::{Rate, Upload, pass_on};
use crate::catalog::Offered;
use crate::core::id::{DatasetId, ParticipantId, Text};
use crate::management::app::App;
use crate::management::inputs::{IdempotencyHeader, Json as JsonBody, PathId, Query};
use crate::management::outputs::{Created, Status};
use crate::management::paging::{Paging, cursor};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, UserRole};
use crate::publishing::{Arriving, Origin, Published};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub fn add(routes: Routes) -> Routes {
    routes
        .get(
            Operation {
                path: "/v1/catalog",
                id: "getCatalog",
                summary: "Reads what a peer offers to this node.",
                roles: &[UserRole::Requester, UserRole::Admin],
            },
            catalog,
        )
        .get(
            Operation {
                path: "/v1/datasets",
                id: "listDatasets",
                summary: "Lists the datasets that this node publishes.",
                roles: &[UserRole::Admin, UserRole::Publisher, UserRole::Auditor],
            },
            datasets,
        )
        .upload(
            Operation {
                path: "/v1/datasets",
                id: "publishDataset",
                summary: "Publishes records, and the files that they describe: a part `metadata`, then `records`, then `files`, one for each record.",
                roles: &[UserRole::Publisher],
            },
            publish,
        )
        .post(
            Operation {
                path: "/v1/datasets/{id}/withdrawal",
                id: "withdrawDataset",
                summary: "Withdraws a dataset: its offers and transfers end, and the parks with an agreement, or that see it, are notified.",
                roles: &[UserRole::Publisher],
            },
            withdraw,
        )
}

/// The query of a peer's catalog.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CatalogQuery {
    /// The peer.
    peer: ParticipantId,
    /// Only this dataset.
    dataset: Option<DatasetId>,
}

/// What a peer offers to this node.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct PeerCatalog {
    /// The peer.
    participant: ParticipantId,
    /// Its datasets.
    datasets: Vec<Offered>,
    /// Number of its datasets that this node cannot read.
    unreadable: usize,
}

async fn catalog(State(app): State<App>, Query(query): Query<CatalogQuery>) -> Result<Json<PeerCatalog>, Problem> {
    let discovery = &app.services.discovery;
    let (datasets, unreadable) = match &query.dataset {
        Some(dataset) => (vec![discovery.peer_dataset(&query.peer, dataset).await?], 0),
        None => discovery.peer_catalog(&query.peer).await?,
    };
    Ok(Json(PeerCatalog { participant: query.peer, datasets, unreadable }))
}

/// A page of datasets.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DatasetPage {
    /// Newest versions, by dataset id.
    datasets: Vec<Offered>,
    /// Cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn datasets(State(app): State<App>, Query(page): Query<Paging>) -> Result<Json<DatasetPage>, Problem> {
    let (after, limit) = (page.after::<DatasetId>()?, page.limit()?);
    let mut datasets = app.services.discovery.own_datasets(after.as_ref(), limit + 1).await?;
    let more = datasets.len() > limit;
    datasets.truncate(limit);
    let next = datasets.last().filter(|_| more).map(|last| cursor(&last.dataset));
    Ok(Json(DatasetPage { datasets, next }))
}

async fn publish(
    State(app): State<App>,
    Caller(user): Caller,
    key: IdempotencyHeader,
    mut upload: Upload,
) -> Result<Created<Published>, Problem> {
    let _place = app.services.publishing.place(&user).await?;
    let (publication, text) = upload.metadata().await?;
    let key = key.of(&[b"publish", &text])?;
    let records = upload.records().await?;
    let (sender, pieces) = mpsc::channel(16);
    let publishing = app.services.publishing.clone();
    let publishing = tokio::spawn(async move {
        publishing.publish(&user, publication, Origin::Upload(key.as_ref()), Arriving::new(pieces)).await
    });
    let mut rate = Rate::default();
    if pass_on(records, &mut rate, &sender).await {
        upload.pass_files_on(&mut rate, sender).await;
    } else {
        drop(sender);
    }
    let published = publishing.await.map_err(|error| Error::Internal(error.to_string()))??;
    Ok(Status(published))
}

/// A withdrawal.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Withdrawal {
    /// Reason; the parks that have an agreement receive it.
    reason: Text,
}

/// The result of a withdrawal.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Withdrawn {
    /// Number of parks that are notified.
    notified: usize,
}

async fn withdraw(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(id): PathId<DatasetId>,
    JsonBody(withdrawal): JsonBody<Withdrawal>,
) -> Result<Json<Withdrawn>, Problem> {
    let notified = app.services.publishing.withdraw(&user, &id, &withdrawal.reason).await?;
    Ok(Json(Withdrawn { notified }))
}
