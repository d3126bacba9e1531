//! Server side of the Dataspace Protocol (DSP 2025-1, HTTPS binding).

use super::dataplane;
use super::guard::{ActiveMember, AnyMember, Failure, Family, JsonBody, Traced, answer};
use super::wire::{self, BASE, Incoming};
use super::{REGISTER_HEADER, TRACE_HEADER};
use crate::core::id::{DatasetId, ProcessId};
use crate::core::trace::TraceId;
use crate::identity::x509::Presented;
use crate::negotiation::{Negotiation, Role};
use crate::service::{Counterparty, Error, Inbound, Moved, Node, Stranger, trace};
use crate::transfer::Transfer;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What a handler needs.
#[derive(Clone)]
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    /// Places for registers that are being read.
    pub registers: Arc<Semaphore>,
}

/// The connection that a request came over; the listener puts it into the request.
#[derive(Clone, Default)]
pub struct Connection {
    /// The certificate whose key was proven, if one was presented.
    pub presented: Option<Arc<Presented>>,
    /// From where.
    pub address: Option<SocketAddr>,
}

type Answer = Result<Response, Failure>;

/// All routes of the peer listener.
pub fn router(node: Arc<Node>) -> Router {
    let app = App { node, registers: Arc::new(Semaphore::new(2)) };
    let negotiations = Router::new()
        .route("/request", post(contract_request))
        .route("/offers", post(contract_offer))
        .route("/{pid}", get(negotiation))
        .route("/{pid}/request", post(counter_request))
        .route("/{pid}/offers", post(counter_offer))
        .route("/{pid}/events", post(contract_event))
        .route("/{pid}/agreement", post(contract_agreement))
        .route("/{pid}/agreement/verification", post(contract_verification))
        .route("/{pid}/termination", post(contract_termination));
    let transfers = Router::new()
        .route("/request", post(transfer_request))
        .route("/{pid}", get(transfer))
        .route("/{pid}/start", post(transfer_start))
        .route("/{pid}/completion", post(transfer_completion))
        .route("/{pid}/suspension", post(transfer_suspension))
        .route("/{pid}/termination", post(transfer_termination));
    let dsp = Router::new()
        .route("/catalog/request", post(catalog))
        .route("/catalog/datasets/{id}", get(dataset))
        .nest("/negotiations", negotiations)
        .nest("/transfers", transfers);
    Router::new()
        .route("/.well-known/dspace-version", get(version))
        .nest(BASE, dsp)
        .merge(dataplane::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(axum::middleware::from_fn_with_state(app.clone(), tell_register))
        .with_state(app)
}

/// Every answer tells the sequence of this node's register; what a caller's trace sets in motion belongs to it.
async fn tell_register(
    State(app): State<App>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let header = request.headers().get(TRACE_HEADER).and_then(|value| value.to_str().ok());
    let trace = header.and_then(TraceId::from_header);
    let mut response = trace::within(trace, next.run(request)).await;
    // A refusal that no handler logged or counted (a path, query or range that cannot be read) is counted here.
    if response.status().is_client_error() && response.extensions().get::<Traced>().is_none() {
        app.node.count_stranger(Stranger::NoRoute);
    }
    let sequence = app.node.trust().register.body().sequence;
    response.headers_mut().insert(REGISTER_HEADER, HeaderValue::from(sequence));
    response
}

async fn no_route() -> Response {
    let problem = json!({"title": "not-found", "status": 404, "detail": "there is nothing at this path and method"});
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// DSP 2025-1, "Exposure of Versions": unversioned, unauthenticated, without context.
async fn version() -> Json<Value> {
    Json(json!({"protocolVersions": [{"version": "2025-1", "path": BASE, "binding": "HTTPS"}]}))
}

#[derive(Deserialize)]
struct Page {
    after: Option<String>,
}

/// DSP 2025-1, "Catalog Request Message".
async fn catalog(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Query(page): Query<Page>,
    JsonBody(body): JsonBody,
) -> Answer {
    let refuse = |error: Error| Failure::of(Family::Catalog, error);
    let message = refuse_logged(&app, &from, Family::Catalog, Incoming::read(&body, "CatalogRequestMessage")).await?;
    if message.optional::<Vec<Value>>("filter").ok().flatten().is_some_and(|filter| !filter.is_empty()) {
        let error = Error::invalid("filter", "filters are not supported here");
        return refuse_logged(&app, &from, Family::Catalog, Err(error)).await;
    }
    let after = page.after.map(|id| DatasetId::parse(&id)).transpose();
    let after = after.map_err(|error| refuse(Error::invalid("after", error.to_string())))?;
    let (catalog, next) = app.node.catalog(&from, after.as_ref()).await.map_err(refuse)?;
    let mut response = Json(wire::envelope("Catalog", catalog)).into_response();
    if let Some(next) = next {
        let link = format!("<{BASE}/catalog/request?after={next}>; rel=\"next\"");
        let link = HeaderValue::from_str(&link).map_err(|error| refuse(Error::Internal(error.to_string())))?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// What cannot be read is a refusal of a member, too: it gets its entry.
async fn refuse_logged<T>(
    app: &App,
    from: &Counterparty,
    family: Family,
    read: Result<T, Error>,
) -> Result<T, Failure> {
    match read {
        Ok(message) => Ok(message),
        Err(error) => {
            let (kind, facts) = (crate::audit::entry::Kind::MessageRefused, crate::audit::entry::Facts::default());
            let error = app.node.refuse(from, kind, facts, error).await;
            Err(Failure::of(family, error).to(&app.node, from))
        }
    }
}

fn segment<T: std::str::FromStr<Err = crate::core::id::IdError>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: crate::core::id::IdError| Error::not_found(error.to_string()))
}

async fn dataset(State(app): State<App>, ActiveMember(from): ActiveMember, Path(id): Path<String>) -> Answer {
    let id = refuse_logged(&app, &from, Family::Catalog, segment::<DatasetId>(&id)).await?;
    match app.node.catalog_dataset(&from, &id).await {
        Ok(dataset) => Ok(Json(wire::envelope("Dataset", dataset)).into_response()),
        Err(error) => Err(Failure::of(Family::Catalog, error).to(&app.node, &from)),
    }
}

fn negotiation_answer(
    app: &App,
    from: &Counterparty,
    status: StatusCode,
    outcome: Result<Moved<Negotiation>, Error>,
) -> Answer {
    match outcome {
        Ok(moved) => {
            let body = wire::negotiation(&moved.process);
            Ok(answer(&app.node, from, status, &body, moved.logged.as_ref()))
        }
        Err(error) => Err(Failure::of(Family::Negotiation, error).to(&app.node, from)),
    }
}

fn transfer_answer(
    app: &App,
    from: &Counterparty,
    status: StatusCode,
    outcome: Result<Moved<Transfer>, Error>,
) -> Answer {
    match outcome {
        Ok(moved) => {
            let body = wire::transfer(&moved.process);
            Ok(answer(&app.node, from, status, &body, moved.logged.as_ref()))
        }
        Err(error) => Err(Failure::of(Family::Transfer, error).to(&app.node, from)),
    }
}

/// DSP 2025-1, "Contract Request Message": 201 for a new negotiation.
async fn contract_request(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    JsonBody(body): JsonBody,
) -> Answer {
    let read = Incoming::read(&body, "ContractRequestMessage").and_then(|message| message.contract_request());
    let request = refuse_logged(&app, &from, Family::Negotiation, read).await?;
    let outcome = app.node.contract_requested(&from, request).await;
    negotiation_answer(&app, &from, StatusCode::CREATED, outcome)
}

/// DSP 2025-1, "Contract Offer Message" with `callbackAddress`: 201 for a new negotiation.
async fn contract_offer(State(app): State<App>, ActiveMember(from): ActiveMember, JsonBody(body): JsonBody) -> Answer {
    let read = Incoming::read(&body, "ContractOfferMessage").and_then(|message| message.contract_offer());
    let offer = refuse_logged(&app, &from, Family::Negotiation, read).await?;
    let outcome = app.node.contract_offered(&from, offer).await;
    negotiation_answer(&app, &from, StatusCode::CREATED, outcome)
}

/// DSP 2025-1, "Contract Request Message" with `providerPid`: a counter-offer.
async fn counter_request(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Negotiation, &pid, "ContractRequestMessage", &body).await?;
    let read = about.message.terms().and_then(|terms| Ok((terms, about.message.claim()?)));
    let (terms, claim) = refuse_logged(&app, &from, Family::Negotiation, read).await?;
    let outcome = app.node.countered(about.inbound(&from), terms, claim.as_deref()).await;
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Offer Message" with `consumerPid`.
async fn counter_offer(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Negotiation, &pid, "ContractOfferMessage", &body).await?;
    let terms = refuse_logged(&app, &from, Family::Negotiation, about.message.terms()).await?;
    let outcome = app.node.offered(about.inbound(&from), terms).await;
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

async fn negotiation(State(app): State<App>, ActiveMember(from): ActiveMember, Path(pid): Path<String>) -> Answer {
    let pid = refuse_logged(&app, &from, Family::Negotiation, segment::<ProcessId>(&pid)).await?;
    let outcome = app.node.negotiation_for(&from, &pid).await.map(Moved::repeated);
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

async fn transfer(State(app): State<App>, ActiveMember(from): ActiveMember, Path(pid): Path<String>) -> Answer {
    let pid = refuse_logged(&app, &from, Family::Transfer, segment::<ProcessId>(&pid)).await?;
    let outcome = app.node.transfer_for(&from, &pid).await.map(Moved::repeated);
    transfer_answer(&app, &from, StatusCode::OK, outcome)
}

/// A message about a process: read, and its names compared with the path.
struct About {
    message: Incoming,
    pid: ProcessId,
    peer_pid: ProcessId,
}

impl About {
    async fn read(
        app: &App,
        from: &Counterparty,
        family: Family,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Self, Failure> {
        let pid = refuse_logged(app, from, family, segment::<ProcessId>(path)).await?;
        let about = Incoming::read(body, kind).and_then(|message| {
            // The path names this side's process; which of the two that is tells which side this is.
            let (consumer, provider) = message.pids(Role::Consumer)?;
            let own = if pid == consumer { Role::Consumer } else { Role::Provider };
            let (named, peer_pid) = if own == Role::Consumer { (consumer, provider) } else { (provider, consumer) };
            if named != pid {
                return Err(Error::invalid("pid", "the message is about another process than its path"));
            }
            Ok(Self { message, pid: pid.clone(), peer_pid })
        });
        refuse_logged(app, from, family, about).await.map_err(|failure| failure.about(Role::Provider, &pid, None))
    }

    fn inbound<'a>(&'a self, from: &'a Counterparty) -> Inbound<'a> {
        Inbound { from, pid: &self.pid, peer_pid: &self.peer_pid, digest: self.message.digest }
    }
}

/// DSP 2025-1, "Contract Agreement Message".
async fn contract_agreement(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Negotiation, &pid, "ContractAgreementMessage", &body).await?;
    let read = about.message.signature().and_then(|signed| Ok((signed, about.message.agreement()?)));
    let (signed, plain) = refuse_logged(&app, &from, Family::Negotiation, read).await?;
    let outcome = app.node.agreed(about.inbound(&from), signed.as_deref(), plain.as_ref()).await;
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Agreement Verification Message".
async fn contract_verification(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let kind = "ContractAgreementVerificationMessage";
    let about = About::read(&app, &from, Family::Negotiation, &pid, kind, &body).await?;
    let signed = refuse_logged(&app, &from, Family::Negotiation, about.message.signature()).await?;
    let outcome = app.node.verified(about.inbound(&from), signed.as_deref()).await;
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Negotiation Event Message".
async fn contract_event(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let kind = "ContractNegotiationEventMessage";
    let about = About::read(&app, &from, Family::Negotiation, &pid, kind, &body).await?;
    let event: Result<String, Error> = about.message.get("eventType");
    let outcome = match event.as_deref() {
        Ok("FINALIZED") => app.node.finalized(about.inbound(&from)).await,
        Ok("ACCEPTED") => {
            let claim = refuse_logged(&app, &from, Family::Negotiation, about.message.claim()).await?;
            app.node.accepted(about.inbound(&from), claim.as_deref()).await
        }
        _ => {
            let error = Error::invalid("eventType", "`eventType` must be ACCEPTED or FINALIZED");
            return refuse_logged(&app, &from, Family::Negotiation, Err(error)).await;
        }
    };
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Negotiation Termination Message"; a suspended member may still send it.
async fn contract_termination(
    State(app): State<App>,
    AnyMember(from): AnyMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let kind = "ContractNegotiationTerminationMessage";
    let about = About::read(&app, &from, Family::Negotiation, &pid, kind, &body).await?;
    let outcome = app.node.negotiation_terminated(about.inbound(&from), &about.message.reason()).await;
    negotiation_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Request Message": 201 for a new transfer.
async fn transfer_request(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    JsonBody(body): JsonBody,
) -> Answer {
    let read = Incoming::read(&body, "TransferRequestMessage").and_then(|message| message.transfer_request());
    let request = refuse_logged(&app, &from, Family::Transfer, read).await?;
    let outcome = app.node.transfer_requested(&from, request).await;
    transfer_answer(&app, &from, StatusCode::CREATED, outcome)
}

/// DSP 2025-1, "Transfer Start Message".
async fn transfer_start(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Transfer, &pid, "TransferStartMessage", &body).await?;
    let address = refuse_logged(&app, &from, Family::Transfer, about.message.data_address()).await?;
    let outcome = app.node.transfer_started(about.inbound(&from), address.as_ref()).await;
    transfer_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Completion Message".
async fn transfer_completion(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Transfer, &pid, "TransferCompletionMessage", &body).await?;
    let outcome = app.node.transfer_completed(about.inbound(&from)).await;
    transfer_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Suspension Message".
async fn transfer_suspension(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Transfer, &pid, "TransferSuspensionMessage", &body).await?;
    let outcome = app.node.transfer_suspended(about.inbound(&from), &about.message.reason()).await;
    transfer_answer(&app, &from, StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Termination Message"; a suspended member may still send it.
async fn transfer_termination(
    State(app): State<App>,
    AnyMember(from): AnyMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let about = About::read(&app, &from, Family::Transfer, &pid, "TransferTerminationMessage", &body).await?;
    let outcome = app.node.transfer_terminated(about.inbound(&from), &about.message.reason()).await;
    transfer_answer(&app, &from, StatusCode::OK, outcome)
}
