//! The crosspark data plane: registers, schemas, log, manifests, data, keys, receipts, openings.

use super::STATEMENT_HEADER;
use super::app::{App, Connection};
use super::guard::{ActiveMember, AnyMember, Failure, Family, add_promise, bearer_of, read_body};
use crate::audit::tile::{TileId, parse_index};
use crate::core::digest::Digest;
use crate::core::id::{EntryId, ProcessId};
use crate::core::limits;
use crate::delivery::Data;
use crate::node::{Counterparty, Error};
use crate::storage::Logged;
use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

type Answer = Result<Response, Failure>;

/// The routes. Reads of the log and registers are not authenticated: their content is public or signed.
pub fn routes() -> Router<App> {
    let permits = Arc::new(Semaphore::new(limits::OPEN_READS_MAX));
    let open = Router::new()
        .route("/register", get(newest_register))
        .route("/register/{sequence}", get(register))
        .route("/root/{version}", get(root))
        .route("/log/checkpoint", get(checkpoint))
        .route("/log/tile/{*path}", get(tile))
        .layer(axum::middleware::from_fn_with_state(permits, open_read));
    Router::new()
        .merge(open)
        .route("/register", post(accept_register))
        .route("/root", post(accept_root))
        .route("/schemas/{digest}", get(schema))
        .route("/manifests/{digest}", get(manifest))
        .route("/data/{transfer}", get(data))
        .route("/data/{transfer}/key", post(key))
        .route("/data/{transfer}/receipt", post(receipt))
        .route("/withdrawals", post(withdrawal))
        .route("/openings/{entry}", get(opening))
        .route("/seen", get(seen))
        .route("/reach", get(reach))
}

/// Limits unauthenticated reads by a few permits.
async fn open_read(State(permits): State<Arc<Semaphore>>, request: Request, next: Next) -> Answer {
    let permit = tokio::time::timeout(limits::OPEN_READ_WAIT_MAX, permits.acquire()).await;
    let Ok(Ok(_permit)) = permit else {
        return Err(problem(Error::Unavailable("too many concurrent reads; try again".into())));
    };
    Ok(next.run(request).await)
}

fn problem(error: Error) -> Failure {
    Failure::of(Family::Problem, error)
}

fn not_found(reason: &str) -> Failure {
    problem(Error::not_found(reason))
}

fn text(kind: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

async fn newest_register(State(app): State<App>) -> Answer {
    Ok(text("application/jose", app.services.membership.register(None).await.map_err(problem)?))
}

/// A member that this node does not know yet sends the register that lists it. The caller must have a certificate of
/// the alliance; the register is verified by its signature.
async fn accept_register(State(app): State<App>, request: Request) -> Answer {
    let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
    app.services.membership.require_certificate(connection.presented.as_deref()).map_err(problem)?;
    // Registers are large, so only a few are read concurrently.
    let busy = || problem(Error::Unavailable("other registers are being read; try again".into()));
    let _permit = app.register_permits.try_acquire().map_err(|_| busy())?;
    let body = read_body(request.into_body(), limits::REGISTER_BYTES_MAX).await;
    let jws = body.ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()).unwrap_or_default();
    app.services.membership.accept_register(&jws).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn register(State(app): State<App>, Path(sequence): Path<String>) -> Answer {
    let sequence = sequence.parse().map_err(|_| not_found("expected a sequence number"))?;
    Ok(text("application/jose", app.services.membership.register(Some(sequence)).await.map_err(problem)?))
}

/// A member sends a newer root document, which is verified by its signatures.
async fn accept_root(State(app): State<App>, request: Request) -> Answer {
    let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
    app.services.membership.require_certificate(connection.presented.as_deref()).map_err(problem)?;
    let body = read_body(request.into_body(), limits::ROOT_BYTES_MAX).await.unwrap_or_default();
    app.services.membership.accept_root(&body).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn root(State(app): State<App>, Path(version): Path<String>) -> Answer {
    let version = version.parse().map_err(|_| not_found("expected a version number"))?;
    let json = app.services.membership.root(version).map_err(problem)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn schema(State(app): State<App>, ActiveMember(_): ActiveMember, Path(digest): Path<String>) -> Answer {
    let digest = Digest::parse(&digest).map_err(|_| not_found("expected a digest"))?;
    let found = app.services.schemas.text(&digest).await.map_err(problem)?;
    let (text, statement) = found.ok_or_else(|| not_found("this node does not know the schema"))?;
    let statement = statement.and_then(|jws| HeaderValue::try_from(jws).ok());
    let headers = statement.map(|jws| [(STATEMENT_HEADER, jws)]);
    Ok((headers, [(header::CONTENT_TYPE, "application/schema+json")], text).into_response())
}

/// C2SP tlog-tiles 0.1.0: checkpoint, tiles, entry bundles.
async fn checkpoint(State(app): State<App>) -> Answer {
    let note = app.services.evidence.checkpoint().await.map_err(problem)?;
    let note = note.ok_or_else(|| not_found("there is no checkpoint yet"))?;
    Ok(text("text/plain; charset=utf-8", note))
}

/// The newest checkpoint of the caller's own log that this node holds; empty if it holds none.
async fn seen(State(app): State<App>, AnyMember(from): AnyMember) -> Answer {
    let note = app.services.membership.observed_checkpoint(&from.participant).await.map_err(problem)?;
    Ok(text("text/plain; charset=utf-8", note.unwrap_or_default()))
}

/// Whether this node reaches the caller at its endpoint in the register.
async fn reach(State(app): State<App>, ActiveMember(from): ActiveMember) -> Answer {
    let reached = app.services.membership.reach(&from).await.map_err(problem)?;
    let reason = reached.as_ref().err().map(ToString::to_string);
    Ok(Json(json!({"reached": reached.is_ok(), "reason": reason})).into_response())
}

async fn tile(State(app): State<App>, Path(path): Path<String>) -> Answer {
    let evidence = &app.services.evidence;
    let bytes = if let Some(bundle) = path.strip_prefix("entries/") {
        let (index, width) = parse_index(bundle).map_err(|error| not_found(&error.to_string()))?;
        evidence.bundle(index, width).await.map_err(problem)?
    } else {
        let id = TileId::parse(&path).map_err(|error| not_found(&error.to_string()))?;
        evidence.tile(&id).await.map_err(problem)?
    };
    let bytes = bytes.ok_or_else(|| not_found("there is no such tile yet"))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn manifest(State(app): State<App>, ActiveMember(from): ActiveMember, Path(digest): Path<String>) -> Answer {
    let digest = Digest::parse(&digest).map_err(|error| not_found(&error.to_string()))?;
    match app.services.delivery.data_plane.manifest_for(&from, &digest).await {
        Ok(jws) => Ok(text("application/jose", jws)),
        Err(error) => Err(problem(error).promised(&app.services.evidence, &from)),
    }
}

/// The range `bytes=FROM-[TO]` of a resource of `size` bytes (RFC 9110 section 14.1.2): everything without a `Range`
/// header, `None` if it is not satisfiable.
fn range(headers: &HeaderMap, size: u64) -> Option<std::ops::Range<u64>> {
    let Some(value) = headers.get(header::RANGE) else { return Some(0..size) };
    let (from, to) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let end = if to.is_empty() { size } else { to.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (from < end).then_some(from..end)
}

/// The caller that fetches data: a member with a client certificate, or a connector that sends only the transfer token.
struct Fetching(Counterparty, ProcessId);

impl FromRequestParts<App> for Fetching {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let id = Path::<String>::from_request_parts(parts, app).await;
        let id = id.map_err(|error| not_found(&error.to_string()))?.0;
        let id = ProcessId::parse(&id).map_err(|error| not_found(&error.to_string()))?;
        let anonymous = parts.extensions.get::<Connection>().is_none_or(|connection| connection.presented.is_none());
        if anonymous
            && let Some(connector) = app.services.delivery.data_plane.connector_of(&id).await.map_err(problem)?
        {
            let active = app.services.membership.require_active(&connector, "GET /data").await;
            active.map_err(|error| problem(error).promised(&app.services.evidence, &connector))?;
            return Ok(Self(connector, id));
        }
        let ActiveMember(from) = ActiveMember::from_request_parts(parts, app).await?;
        Ok(Self(from, id))
    }
}

/// Sealed or plain data for a transfer token, with ranges.
async fn data(State(app): State<App>, Fetching(from, id): Fetching, headers: HeaderMap) -> Answer {
    let served = app.services.delivery.data_plane.serve_data(&from, &id, bearer_of(&headers)).await;
    let served = served.map_err(|error| problem(error).promised(&app.services.evidence, &from))?;
    let (size, kind) = match &served {
        Data::Sealed(sealed) => (sealed.size, "application/octet-stream"),
        Data::Plain(plain) => (plain.size(), "application/x-ndjson"),
    };
    let Some(range) = range(&headers, size) else {
        let unmet = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, unmet).into_response());
    };
    let (length, end) = (range.end - range.start, range.end);
    let pieces = stream::try_unfold((range.start, served), move |(at, served)| async move {
        if at >= end {
            return Ok::<_, std::io::Error>(None);
        }
        let (bytes, served) = match served {
            Data::Sealed(sealed) => {
                let wanted = (end - at).min(limits::SERVE_CHUNK_BYTES) as usize;
                let read = move || sealed.range(at, wanted).map(|bytes| (bytes, sealed));
                let (bytes, sealed) = tokio::task::spawn_blocking(read).await??;
                if bytes.len() < wanted {
                    return Err(std::io::Error::other("the sealed bytes are shorter than expected"));
                }
                (bytes, Data::Sealed(sealed))
            }
            Data::Plain(plain) => {
                let (bytes, plain) = plain.piece(at, end).await?;
                (bytes, Data::Plain(Box::new(plain)))
            }
        };
        let next = at + bytes.len() as u64;
        Ok(Some((Bytes::from(bytes), (next, served))))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let whole = length == size && !headers.contains_key(header::RANGE);
    *response.status_mut() = if whole { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    out.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    out.insert(header::CONTENT_LENGTH, header::HeaderValue::from(length));
    if !whole {
        let content = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        if let Ok(content) = header::HeaderValue::from_str(&content) {
            out.insert(header::CONTENT_RANGE, content);
        }
    }
    Ok(response)
}

async fn read_jws(app: &App, from: &Counterparty, request: Request) -> Result<String, Failure> {
    let body = read_body(request.into_body(), limits::DOCUMENT_BYTES_MAX).await;
    let jws = body.ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    match jws {
        Some(jws) => Ok(jws),
        None => {
            let (kind, facts) = (crate::audit::entry::Kind::MessageRefused, crate::audit::entry::Facts::default());
            let error = Error::invalid("body", "expected a compact JWS within the size limit");
            Err(problem(app.services.node.refuse(from, kind, facts, error).await)
                .promised(&app.services.evidence, from))
        }
    }
}

fn signed_answer(app: &App, to: &Counterparty, body: String, logged: Option<&Logged>) -> Response {
    let mut response = text("application/jose", body);
    let promise = logged.map(|logged| app.services.evidence.promise(&to.participant, logged));
    add_promise(response.headers_mut(), promise.as_deref());
    response
}

async fn key(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let id = ProcessId::parse(&id).map_err(|error| not_found(&error.to_string()))?;
    let jws = read_jws(&app, &from, request).await?;
    match app.services.delivery.data_plane.release_key(&from, &id, &jws).await {
        Ok((answer, logged)) => Ok(signed_answer(&app, &from, answer, logged.as_ref())),
        Err(error) => Err(problem(error).promised(&app.services.evidence, &from)),
    }
}

/// A suspended member may still send receipts.
async fn receipt(
    State(app): State<App>,
    AnyMember(from): AnyMember,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let id = ProcessId::parse(&id).map_err(|error| not_found(&error.to_string()))?;
    let jws = read_jws(&app, &from, request).await?;
    match app.services.delivery.data_plane.accept_receipt(&from, &id, &jws).await {
        Ok(logged) => Ok(signed_answer(&app, &from, String::new(), logged.as_ref())),
        Err(error) => Err(problem(error).promised(&app.services.evidence, &from)),
    }
}

/// A provider's notice of a withdrawn dataset.
async fn withdrawal(State(app): State<App>, ActiveMember(from): ActiveMember, request: Request) -> Answer {
    let jws = read_jws(&app, &from, request).await?;
    match app.services.publishing.accept_withdrawal(&from, &jws).await {
        Ok(logged) => Ok(signed_answer(&app, &from, String::new(), logged.as_ref())),
        Err(error) => Err(problem(error).promised(&app.services.evidence, &from)),
    }
}

async fn opening(State(app): State<App>, ActiveMember(from): ActiveMember, Path(id): Path<String>) -> Answer {
    let id = EntryId::parse(&id).map_err(|error| not_found(&error.to_string()))?;
    match app.services.evidence.opening_for(&from, &id).await {
        Ok(opening) => Ok(Json(opening).into_response()),
        Err(error) => Err(problem(error).promised(&app.services.evidence, &from)),
    }
}
