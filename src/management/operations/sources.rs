//! Sources: where the records of a dataset come from again and again.

use super::upload::{Rate, RecordsUpload, pass_on};
use crate::core::id::SourceName;
use crate::management::app::App;
use crate::management::inputs::{Json as JsonBody, PathId};
use crate::management::outputs::{Created, NoContent, Status};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, UserRole};
use crate::publishing::Arriving;
use crate::source::Definition;
use crate::sources::{ConnectionReport, Ran, SourceReport};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

fn publisher(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Publisher] }
}

fn readers(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Publisher, UserRole::Admin, UserRole::Auditor] }
}

pub fn add(routes: Routes) -> Routes {
    routes
        .get(readers("/v1/connections", "listConnections", "Lists where sources may read."), connections)
        .get(readers("/v1/sources", "listSources", "Lists the sources of datasets."), list)
        .post(publisher("/v1/sources", "defineSource", "Defines a source."), define)
        .get(readers("/v1/sources/{id}", "getSource", "Returns a source."), get)
        .delete(publisher("/v1/sources/{id}", "removeSource", "Removes a source; its dataset stays as it is."), remove)
        .post(
            Operation {
                path: "/v1/sources/{id}/pause",
                id: "pauseSource",
                summary: "Pauses a source.",
                roles: &[UserRole::Publisher, UserRole::Admin],
            },
            pause,
        )
        .post(
            publisher("/v1/sources/{id}/resumption", "resumeSource", "Resumes a source, on behalf of the caller."),
            resume,
        )
        .post(publisher("/v1/sources/{id}/runs", "runSource", "Runs a source now, and returns what became of it."), run)
        .upload(
            publisher("/v1/sources/{id}/records", "sendRecords", "Sends records to a source of the kind `pushed`."),
            send,
        )
}

/// Where sources may read.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ConnectionList {
    /// Connections by name.
    connections: Vec<ConnectionReport>,
}

/// The sources of datasets.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SourceList {
    /// Sources by name.
    sources: Vec<SourceReport>,
}

/// A new source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSource {
    /// Its name.
    name: SourceName,
    /// What it is.
    definition: Definition,
    /// Whether a source with this name is defined again. It keeps its dataset.
    #[serde(default)]
    replace: bool,
}

async fn connections(State(app): State<App>) -> Json<ConnectionList> {
    Json(ConnectionList { connections: app.services.sources.list_connections() })
}

async fn list(State(app): State<App>) -> Result<Json<SourceList>, Problem> {
    Ok(Json(SourceList { sources: app.services.sources.list().await? }))
}

async fn get(State(app): State<App>, PathId(name): PathId<SourceName>) -> Result<Json<SourceReport>, Problem> {
    Ok(Json(app.services.sources.report(&name).await?))
}

async fn define(
    State(app): State<App>,
    Caller(user): Caller,
    JsonBody(new): JsonBody<NewSource>,
) -> Result<Created<SourceReport>, Problem> {
    let NewSource { name, definition, replace } = new;
    Ok(Status(app.services.sources.define(&user, name, definition, replace).await?))
}

async fn remove(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(name): PathId<SourceName>,
) -> Result<NoContent, Problem> {
    app.services.sources.remove(&user, &name).await?;
    Ok(NoContent)
}

async fn pause(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(name): PathId<SourceName>,
) -> Result<Json<SourceReport>, Problem> {
    Ok(Json(app.services.sources.pause(&user, &name).await?))
}

async fn resume(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(name): PathId<SourceName>,
) -> Result<Json<SourceReport>, Problem> {
    Ok(Json(app.services.sources.resume(&user, &name).await?))
}

async fn run(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(name): PathId<SourceName>,
) -> Result<Json<Ran>, Problem> {
    Ok(Json(app.services.sources.run_now(&user, &name).await?))
}

async fn send(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(name): PathId<SourceName>,
    mut upload: RecordsUpload,
) -> Result<Json<Ran>, Problem> {
    let _place = app.services.publishing.place(&user).await?;
    let records = upload.records().await?;
    let (sender, pieces) = mpsc::channel(16);
    let sources = app.services.sources.clone();
    let running = tokio::spawn(async move { sources.push(&user, &name, Arriving::new(pieces)).await });
    let mut rate = Rate::default();
    if pass_on(records, &mut rate, &sender).await {
        upload.pass_files_on(&mut rate, sender).await;
    } else {
        drop(sender);
    }
    let ran = running.await.map_err(|error| Error::Internal(error.to_string()))??;
    Ok(Json(ran))
}
