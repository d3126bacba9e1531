//! Routes of the management listener.

use super::error::Problem;
use super::metrics;
use super::user::{ADMIN, ANY, AUDITOR, Allowed, PUBLISHER, REQUESTER};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, KeyId, ParticipantId, ProcessId, Text, TokenId};
use crate::core::json;
use crate::core::limits;
use crate::core::trace::TraceId;
use crate::ingest::Format;
use crate::protocol::TRACE_HEADER;
use crate::service::{Error, NewToken, Node, Publication, Stranger, trace};
use crate::storage::TokenRow;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Multipart, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What a handler needs.
#[derive(Clone)]
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    stop: watch::Receiver<bool>,
}

type Answer = Result<Response, Problem>;

/// All routes; long polls end when `stop` turns true.
pub fn router(node: Arc<Node>, stop: watch::Receiver<bool>) -> Router {
    let app = App { node, stop };
    let small = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/tokens", get(tokens).post(create_token))
        .route("/v1/tokens/{id}", delete(revoke_token))
        .route("/v1/members", get(members))
        .route("/v1/register", post(install_register))
        .route("/v1/root", post(install_root))
        .route("/v1/quarantine/confirm", post(confirm_key))
        .route("/v1/schemas", get(schemas))
        .route("/v1/schemas/{id}", get(schema))
        .route("/v1/catalog", get(catalog))
        .route("/v1/requests", get(requests).post(request))
        .route("/v1/requests/{id}", get(request_view))
        .route("/v1/requests/{id}/data", get(data))
        .route("/v1/audit/entries", get(entries))
        .route("/v1/audit/checkpoint", get(checkpoint))
        .layer(DefaultBodyLimit::max(limits::MANAGEMENT_BODY_BYTES_MAX));
    let publication =
        Router::new().route("/v1/datasets", get(datasets).post(publish)).layer(DefaultBodyLimit::disable());
    Router::new()
        .merge(small)
        .merge(publication)
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(axum::middleware::from_fn_with_state(app.clone(), traced))
        .with_state(app)
}

/// What a user asks for belongs to the caller's trace, or begins one.
async fn traced(State(app): State<App>, request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let header = request.headers().get(TRACE_HEADER).and_then(|value| value.to_str().ok());
    let trace = header.and_then(TraceId::from_header).unwrap_or_else(|| app.node.new_trace());
    trace::within(Some(trace), next.run(request)).await
}

async fn no_route(State(app): State<App>) -> Problem {
    app.node.count_stranger(Stranger::NoRoute);
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path and method")
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    json::read(body).map_err(|error| Error::invalid("body", error.to_string()).into())
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Error::invalid("path", error.to_string()).into())
}

/// Ready: the database answers, and there is a register that counts.
async fn ready(State(app): State<App>) -> Answer {
    app.node.store().register_sequence().await.map_err(Error::from)?;
    if let Some(reason) = app.node.gate().reason() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "read-only", reason));
    }
    if app.node.trust().register.is_current(app.node.now()) {
        Ok("ready\n".into_response())
    } else {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "register-expired", "the register has expired"))
    }
}

/// Nothing in it is anybody's secret; the listener is on loopback.
async fn figures(State(app): State<App>) -> Answer {
    let text = metrics::render(app.node.me().as_str(), &app.node.health().await?);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn status(State(app): State<App>, _: Allowed<ANY>) -> Answer {
    let node = &app.node;
    let (next, waiting) = node.store().outbox_next(node.now()).await.map_err(Error::from)?;
    let trust = node.trust();
    let body = trust.register.body();
    Ok(Json(json!({
        "participant": node.me(), "origin": node.origin(), "endpoint": node.endpoint(),
        "version": env!("CARGO_PKG_VERSION"), "now": node.now(),
        "register": {"sequence": body.sequence, "expires": body.expires, "current": trust.register.is_current(node.now())},
        "root": trust.roots.newest().digest(), "outbox": {"waiting": waiting, "next": next},
        "health": node.health().await?,
    }))
    .into_response())
}

/// A token without its hash.
#[derive(Serialize)]
struct TokenView {
    id: TokenId,
    role: String,
    person: Text,
    enterprise: Option<Text>,
    created: crate::core::time::Timestamp,
    expires: crate::core::time::Timestamp,
    revoked: bool,
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        let TokenRow { id, role, person, enterprise, created, expires, revoked, .. } = row;
        Self { id, role, person, enterprise, created, expires, revoked }
    }
}

async fn tokens(State(app): State<App>, _: Allowed<ADMIN>) -> Answer {
    let views: Vec<TokenView> = app.node.list_tokens().await?.into_iter().map(TokenView::from).collect();
    Ok(Json(json!({"tokens": views})).into_response())
}

async fn create_token(State(app): State<App>, _: Allowed<ADMIN>, body: Bytes) -> Answer {
    let (row, secret) = app.node.create_token(&read::<NewToken>(&body)?).await?;
    let answer = json!({"token": TokenView::from(row), "secret": secret.as_str()});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn revoke_token(State(app): State<App>, _: Allowed<ADMIN>, Path(id): Path<String>) -> Answer {
    app.node.revoke_token(&parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn members(State(app): State<App>, _: Allowed<ANY>) -> Answer {
    Ok(Json(app.node.members()).into_response())
}

async fn install_register(State(app): State<App>, _: Allowed<ADMIN>, body: Bytes) -> Answer {
    let jws = std::str::from_utf8(&body).map_err(|_| Error::invalid("body", "expected a compact JWS"))?;
    let installed = app.node.install_register(jws.trim(), "file").await?;
    let sequence = app.node.trust().register.body().sequence;
    Ok(Json(json!({"installed": installed, "sequence": sequence})).into_response())
}

async fn install_root(State(app): State<App>, _: Allowed<ADMIN>, body: Bytes) -> Answer {
    let installed = app.node.install_root(&body, "file").await?;
    let version = app.node.trust().roots.newest().body().version;
    Ok(Json(json!({"installed": installed, "version": version})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    key: KeyId,
    fingerprint: String,
}

async fn confirm_key(State(app): State<App>, user: Allowed<ADMIN>, body: Bytes) -> Answer {
    let confirmed: Confirmation = read(&body)?;
    let fingerprint = Digest::parse_fingerprint(&confirmed.fingerprint);
    let fingerprint = fingerprint.map_err(|error| Error::invalid("fingerprint", error.to_string()))?;
    app.node.confirm_key(&user.0, &confirmed.key, &fingerprint).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn schemas(State(app): State<App>, _: Allowed<ANY>) -> Answer {
    let list: Vec<Value> = app
        .node
        .known_schemas()
        .iter()
        .map(|compiled| {
            let schema = &compiled.schema;
            json!({"id": schema.id(), "version": schema.version(), "digest": schema.digest(), "title": schema.title()})
        })
        .collect();
    Ok(Json(json!({"schemas": list})).into_response())
}

async fn schema(State(app): State<App>, _: Allowed<ANY>, Path(id): Path<String>) -> Answer {
    let known = app.node.known_schemas();
    let found = known.iter().find(|compiled| compiled.schema.id() == id);
    let found = found.ok_or_else(|| Error::not_found(format!("no schema {id}")))?;
    Ok(Json(found.schema.value()).into_response())
}

async fn datasets(State(app): State<App>, _: Allowed<{ ADMIN | PUBLISHER | AUDITOR }>) -> Answer {
    Ok(Json(json!({"datasets": app.node.own_datasets(None).await?})).into_response())
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
async fn publish(State(app): State<App>, user: Allowed<PUBLISHER>, mut form: Multipart) -> Answer {
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
    let publication: Publication = read(&metadata)?;
    let records = form.next_field().await.map_err(|e| broken(e.body_text()))?;
    let Some(mut records) = records.filter(|part| part.name() == Some("records")) else {
        return Err(broken("the second part must be `records`".into()).into());
    };
    let (send, pieces) = mpsc::channel(16);
    let node = app.node.clone();
    let publishing = tokio::spawn(async move {
        node.publish(&user.0, publication, Arriving { pieces, current: Bytes::new(), ended: false }).await
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

#[derive(Deserialize)]
struct CatalogQuery {
    peer: ParticipantId,
}

async fn catalog(
    State(app): State<App>,
    _: Allowed<{ REQUESTER | ADMIN }>,
    Query(query): Query<CatalogQuery>,
) -> Answer {
    let (datasets, unknown) = app.node.peer_catalog(&query.peer).await?;
    Ok(Json(json!({"participant": query.peer, "datasets": datasets, "notUnderstood": unknown})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRequest {
    provider: ParticipantId,
    dataset: DatasetId,
    purpose: Text,
}

async fn request(State(app): State<App>, user: Allowed<REQUESTER>, body: Bytes) -> Answer {
    let new: NewRequest = read(&body)?;
    let id = app.node.request(&user.0, &new.provider, &new.dataset, &new.purpose).await?;
    let view = app.node.request_view(&user.0, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

async fn requests(State(app): State<App>, user: Allowed<REQUESTER>) -> Answer {
    Ok(Json(json!({"requests": app.node.request_views(&user.0).await?})).into_response())
}

#[derive(Deserialize)]
struct Wait {
    /// Seconds to wait for the end of the request.
    #[serde(default)]
    wait: u64,
}

async fn request_view(
    State(mut app): State<App>,
    user: Allowed<REQUESTER>,
    Path(id): Path<String>,
    Query(query): Query<Wait>,
) -> Answer {
    let id: ProcessId = parse(&id)?;
    let wait = Duration::from_secs(query.wait).min(limits::WAIT_TIME_MAX);
    let stopping = async { drop(app.stop.wait_for(|stop| *stop).await) };
    let view = tokio::select! {
        view = app.node.wait_request(&user.0, &id, wait) => view?,
        () = stopping => app.node.request_view(&user.0, &id).await?,
    };
    Ok(Json(view).into_response())
}

#[derive(Deserialize)]
struct DataQuery {
    #[serde(default = "ndjson")]
    format: Format,
}

fn ndjson() -> Format {
    Format::Ndjson
}

/// The plaintext of a verified dataset, streamed; nothing of it touches a file of the node.
async fn data(
    State(app): State<App>,
    user: Allowed<REQUESTER>,
    Path(id): Path<String>,
    Query(query): Query<DataQuery>,
) -> Answer {
    let (mut package, holding) = app.node.open_request(&user.0, &parse(&id)?).await?;
    let schema = app.node.schema_of(&holding).await?;
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

#[derive(Deserialize)]
struct EntriesQuery {
    #[serde(default)]
    from: u64,
    #[serde(default = "hundred")]
    limit: usize,
}

fn hundred() -> usize {
    100
}

async fn entries(State(app): State<App>, _: Allowed<AUDITOR>, Query(query): Query<EntriesQuery>) -> Answer {
    Ok(Json(json!({"entries": app.node.entries(query.from, query.limit).await?})).into_response())
}

/// The newest checkpoint; what was counted is written into the log first.
async fn checkpoint(State(app): State<App>, _: Allowed<AUDITOR>) -> Answer {
    app.node.flush_strangers().await;
    let note = app.node.store().checkpoint().await.map_err(Error::from)?;
    Ok(note.unwrap_or_default().into_response())
}
