//! What this node publishes, what it may see at its peers, and the shared schemas.

use super::{Answer, Paging, cursor, paging};
use crate::core::id::{DatasetId, ParticipantId, Text};
use crate::core::{json, limits};
use crate::management::api::{Api, App, AppParts, Operation, json_of, path, required};
use crate::management::extract::{Body as JsonBody, Key, Named, Params, expect};
use crate::management::schema::{self, any_object, count, digest, id, list, name, object, shared_as, text};
use crate::management::user::{ADMIN, ANY, AUDITOR, Caller, PUBLISHER, REQUESTER};
use crate::node::Error;
use crate::publishing::Publication;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, Read};
use tokio::sync::mpsc;

pub fn operations(api: Api, app: &AppParts) -> Api {
    let entry =
        object(&[("id", text()), ("version", text()), ("digest", digest()), ("title", schema::or_null(text()))]);
    let catalog_of = object(&[
        ("participant", schema::participant()),
        ("datasets", list(shared_as("Dataset"))),
        ("notUnderstood", count()),
    ]);
    let metadata = object(&[
        ("title", name()),
        ("description?", json!({"type": "string", "maxLength": limits::DESCRIPTION_CHARS_MAX})),
        ("schema", text()),
        ("policy", any_object()),
        ("format", schema::one_of(&["ndjson", "csv"])),
        ("dataset?", schema::or_null(id())),
        ("about?", schema::about()),
    ]);
    let told = object(&[("told", count())]);
    let form = object(&[("metadata", metadata), ("records", text())]);
    let published = object(&[
        ("dataset", id()),
        ("version", count()),
        ("records", count()),
        ("text_bytes", count()),
        ("sealed_bytes", count()),
        ("manifest", digest()),
        ("container", digest()),
    ]);
    api.add(
        Operation::get(
            "/v1/schemas",
            "listSchemas",
            "The schemas that the alliance shares.",
            ANY,
            json_of(object(&[("schemas", list(entry))])),
        ),
        get(schemas),
        app,
    )
    .add(
        Operation::get("/v1/schemas/{id}", "schema", "A schema.", ANY, json_of(any_object()))
            .with([path("id", text(), "Its `$id`.")])
            .refuses(&[404]),
        get(schema_named),
        app,
    )
    .add(
        Operation::get(
            "/v1/catalog",
            "catalog",
            "What a peer offers to this node.",
            REQUESTER | ADMIN,
            json_of(catalog_of),
        )
        .with([required("peer", schema::participant(), "The peer.")])
        .refuses(&[404]),
        get(catalog),
        app,
    )
    .add(
        Operation::get(
            "/v1/datasets",
            "listDatasets",
            "What this node publishes.",
            ADMIN | PUBLISHER | AUDITOR,
            json_of(schema::page("datasets", shared_as("Dataset"))),
        )
        .with(paging()),
        get(datasets),
        app,
    )
    .add(
        Operation::post(
            "/v1/datasets",
            "publish",
            "Publishes records: a part `metadata`, then a part `records`.",
            PUBLISHER,
            ("multipart/form-data", form),
        )
        .gives(StatusCode::CREATED, [json_of(published)])
        .once(),
        post(publish),
        app,
    )
    .add(
        Operation::post(
            "/v1/datasets/{id}/withdrawal",
            "withdraw",
            "Withdraws a dataset: offers and transfers end, and the peers that have an agreement on it are told.",
            PUBLISHER,
            json_of(object(&[("reason", name())])),
        )
        .with([path("id", id(), "The dataset.")])
        .gives(StatusCode::OK, [json_of(told)])
        .refuses(&[404]),
        post(withdraw),
        app,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: Text,
}

async fn withdraw(
    State(app): State<App>,
    Caller(user): Caller,
    Named(id): Named<DatasetId>,
    JsonBody(why): JsonBody<Reason>,
) -> Answer {
    let told = app.services.publishing.withdraw(&user, &id, &why.reason).await?;
    Ok(Json(json!({"told": told})).into_response())
}

async fn schemas(State(app): State<App>) -> Answer {
    let list: Vec<Value> = app
        .services
        .discovery
        .schemas()
        .iter()
        .map(|compiled| {
            let schema = &compiled.schema;
            json!({"id": schema.id(), "version": schema.version(), "digest": schema.digest(), "title": schema.title()})
        })
        .collect();
    Ok(Json(json!({"schemas": list})).into_response())
}

async fn schema_named(State(app): State<App>, Named(id): Named<String>) -> Answer {
    let known = app.services.discovery.schemas();
    let found = known.iter().find(|compiled| compiled.schema.id() == id);
    let found = found.ok_or_else(|| Error::not_found(format!("no schema {id}")))?;
    Ok(Json(found.schema.value()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogQuery {
    peer: ParticipantId,
}

async fn catalog(State(app): State<App>, Params(query): Params<CatalogQuery>) -> Answer {
    let (datasets, unknown) = app.services.discovery.peer_catalog(&query.peer).await?;
    Ok(Json(json!({"participant": query.peer, "datasets": datasets, "notUnderstood": unknown})).into_response())
}

async fn datasets(State(app): State<App>, Params(page): Params<Paging>) -> Answer {
    let (after, limit) = (page.after::<DatasetId>()?, page.limit()?);
    let mut found = app.services.discovery.own_datasets(after.as_ref(), limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| cursor(&last.dataset));
    let mut answer = json!({"datasets": found});
    if let Some(next) = next {
        answer["next"] = next.into();
    }
    Ok(Json(answer).into_response())
}

/// A body that arrives asynchronously, read by the threads that validate.
struct Arriving {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

/// A piece of the body. The end is said explicitly: a sender that is gone without it must not look like an end.
enum Piece {
    Bytes(Bytes),
    Broken(String),
    End,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.current = piece,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Broken(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upload broke off")),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// A publication: multipart with a part `metadata` (JSON), then a part `records` (the file). It streams.
async fn publish(State(app): State<App>, Caller(user): Caller, key: Key, request: Request) -> Answer {
    expect(&request, "multipart/form-data")?;
    let form = Multipart::from_request(request, &app).await;
    let mut form = form.map_err(|error| Error::invalid("multipart", error.body_text()))?;
    let broken = |reason: String| Error::invalid("multipart", reason);
    let mut part = form.next_field().await.map_err(|e| broken(e.body_text()))?;
    let Some(mut first) = part.take().filter(|part| part.name() == Some("metadata")) else {
        return Err(broken("the first part must be `metadata`, the second `records`".into()).into());
    };
    let mut metadata = Vec::new();
    while let Some(piece) = first.chunk().await.map_err(|e| broken(e.body_text()))? {
        metadata.extend_from_slice(&piece);
        if metadata.len() > limits::PUBLICATION_METADATA_BYTES_MAX {
            return Err(broken("the part `metadata` is too long".into()).into());
        }
    }
    drop(first);
    let publication: Publication =
        json::read(&metadata).map_err(|error| Error::invalid("metadata", error.to_string()))?;
    let once = key.of(&[b"publish", &metadata])?;
    let records = form.next_field().await.map_err(|e| broken(e.body_text()))?;
    let Some(mut records) = records.filter(|part| part.name() == Some("records")) else {
        return Err(broken("the second part must be `records`".into()).into());
    };
    let (send, pieces) = mpsc::channel(16);
    let publishing = app.services.publishing.clone();
    let publishing = tokio::spawn(async move {
        let source = Arriving { pieces, current: Bytes::new(), ended: false };
        publishing.publish(&user, publication, once.as_ref(), source).await
    });
    loop {
        let piece = match tokio::time::timeout(limits::UPLOAD_IDLE_TIME_MAX, records.chunk()).await {
            Err(_) => Piece::Broken("the upload fell silent".into()),
            Ok(Ok(Some(piece))) => Piece::Bytes(piece),
            Ok(Ok(None)) => Piece::End,
            Ok(Err(error)) => Piece::Broken(format!("the upload broke off: {}", error.body_text())),
        };
        let last = !matches!(piece, Piece::Bytes(_));
        // The reader is gone when the publication has failed; its answer says why.
        if send.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(send);
    let published = publishing.await.map_err(|error| Error::Internal(error.to_string()))??;
    Ok((StatusCode::CREATED, Json(published)).into_response())
}
