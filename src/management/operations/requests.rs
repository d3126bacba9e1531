//! What an enterprise asks of peers, follows, and gets.

use super::{Answer, Paging, cursor, paging};
use crate::core::id::{DatasetId, ParticipantId, ProcessId, Text};
use crate::core::time::Timestamp;
use crate::core::{json, limits};
use crate::delivery::Opened;
use crate::ingest::Format;
use crate::management::api::{Api, App, AppParts, Operation, json_of, path, query, text_of};
use crate::management::extract::{Body as JsonBody, Key, Named, Params};
use crate::management::schema::{self, id, name, object, shared_as};
use crate::management::user::{Caller, REQUESTER};
use crate::node::{Error, PlainData};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;

pub fn operations(api: Api, app: &AppParts) -> Api {
    let new = object(&[("provider", schema::participant()), ("dataset", id()), ("purpose", name())]);
    let request_id = || path("id", id(), "The request.");
    let wait = query("wait", schema::number(0, limits::WAIT_TIME_MAX.as_secs()), "Seconds to wait for its end.");
    let format = query("format", schema::one_of(&["ndjson", "csv"]), "How it is written; `ndjson` without.");
    api.add(
        Operation::get(
            "/v1/requests",
            "listRequests",
            "The requests of the user's enterprise, newest first.",
            REQUESTER,
            json_of(schema::page("requests", shared_as("Request"))),
        )
        .with(paging()),
        get(requests),
        app,
    )
    .add(
        Operation::post("/v1/requests", "request", "Requests a peer's dataset for a purpose.", REQUESTER, json_of(new))
            .gives(StatusCode::ACCEPTED, [json_of(shared_as("Request"))])
            .refuses(&[404])
            .once(),
        post(request),
        app,
    )
    .add(
        Operation::get(
            "/v1/requests/{id}",
            "requestStage",
            "How far a request is; waits for its end if asked to.",
            REQUESTER,
            json_of(shared_as("Request")),
        )
        .with([request_id(), wait])
        .refuses(&[404]),
        get(request_view),
        app,
    )
    .add(
        Operation::get(
            "/v1/requests/{id}/data",
            "data",
            "The verified dataset, in clear.",
            REQUESTER,
            text_of("application/x-ndjson"),
        )
        .gives(StatusCode::OK, [text_of("application/x-ndjson"), text_of("text/csv")])
        .with([request_id(), format])
        .refuses(&[404]),
        get(data),
        app,
    )
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NewRequest {
    provider: ParticipantId,
    dataset: DatasetId,
    purpose: Text,
}

async fn request(
    State(app): State<App>,
    Caller(user): Caller,
    key: Key,
    JsonBody(new): JsonBody<NewRequest>,
) -> Answer {
    let once = key.of(&[b"request", &json::to_canonical(&new)])?;
    let id = app
        .services
        .contracts
        .requests
        .request(&user, &new.provider, &new.dataset, &new.purpose, once.as_ref())
        .await?;
    let view = app.services.contracts.requests.view(&user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

/// Where a page of requests begins: when its predecessor's last request was made, and its name.
struct Before(Timestamp, ProcessId);

impl std::str::FromStr for Before {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, id) = text.split_once(' ').ok_or(())?;
        Ok(Self(Timestamp::from_ms(ms.parse().map_err(drop)?), id.parse().map_err(drop)?))
    }
}

async fn requests(State(app): State<App>, Caller(user): Caller, Params(page): Params<Paging>) -> Answer {
    let before = page.after::<Before>()?.map(|Before(started, id)| (started, id));
    let (views, next) = app.services.contracts.requests.list(&user, before, page.limit()?).await?;
    let mut answer = json!({"requests": views});
    if let Some((started, id)) = next {
        answer["next"] = cursor(format!("{} {id}", started.ms())).into();
    }
    Ok(Json(answer).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    wait: Option<String>,
}

async fn request_view(
    State(mut app): State<App>,
    Caller(user): Caller,
    Named(id): Named<ProcessId>,
    Params(query): Params<Wait>,
) -> Answer {
    let seconds = query.wait.map_or(Ok(0), |wait| wait.parse::<u64>());
    let seconds = seconds.map_err(|_| Error::invalid("query", "`wait` must be a number of seconds"))?;
    let wait = Duration::from_secs(seconds).min(limits::WAIT_TIME_MAX);
    let stopping = async { drop(app.stop.wait_for(|stop| *stop).await) };
    let view = tokio::select! {
        view = app.services.contracts.requests.wait(&user, &id, wait) => view?,
        () = stopping => app.services.contracts.requests.view(&user, &id).await?,
    };
    Ok(Json(view).into_response())
}

fn passed_on(plain: PlainData) -> Response {
    let kind = plain.kind.and_then(|kind| HeaderValue::from_str(&kind).ok());
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(Body::from_stream(plain.stream));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(length) = plain.length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataQuery {
    #[serde(default = "ndjson")]
    format: Format,
}

fn ndjson() -> Format {
    Format::Ndjson
}

/// The plaintext of a dataset, streamed; nothing of it touches a file of the node. Plain data of another connector is passed on
/// as it comes.
async fn data(
    State(app): State<App>,
    Caller(user): Caller,
    Named(id): Named<ProcessId>,
    Params(query): Params<DataQuery>,
) -> Answer {
    let (mut package, holding) = match app.services.contracts.requests.open(&user, &id).await? {
        Opened::Kept(kept) => *kept,
        Opened::Plain(plain) => return Ok(passed_on(plain)),
    };
    let schema = app.services.delivery.downloads.schema_of(&holding).await?;
    let (send, mut pieces) = mpsc::channel::<io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let mut writer = crate::ingest::Export::new(query.format, &schema);
        let gone = || io::Error::other("the reader is gone");
        let failed = package.read(|frame| {
            let bytes = writer.frame(frame)?;
            send.blocking_send(Ok(Bytes::from(bytes))).map_err(|_| gone())
        });
        if let Err(error) = failed {
            // The answer breaks off, so that nobody takes a part for the whole.
            let _ = send.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    let stream = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    let kind = match query.format {
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::HeaderName::from_static("crosspark-records"), holding.records.to_string()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
