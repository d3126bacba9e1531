//! Server side of the Dataspace Protocol (DSP 2025-1, HTTPS binding).

use super::app::App;
use super::dataplane;
use super::guard::{ActiveMember, AnyMember, Failure, Family, JsonBody, Names, Traced, answer};
use super::linger::linger;
use super::wire::{self, BASE, Incoming};
use super::{REGISTER_HEADER, TRACE_HEADER};
use crate::catalog::Filter;
use crate::core::id::{DatasetId, ProcessId};
use crate::core::limits;
use crate::core::trace::TraceId;
use crate::discovery::PageStart;
use crate::negotiation::{Negotiation, Role};
use crate::node::{CountedRefusal, Counterparty, Error, Inbound, Transition, trace};
use crate::services::Services;
use crate::storage::Logged;
use crate::transfer::Transfer;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

type Answer = Result<Response, Failure>;

/// All routes of the peer listener.
pub fn router(services: Services) -> Router {
    let app = App { services, register_permits: Arc::new(Semaphore::new(limits::REGISTER_READS_MAX)) };
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
        .layer(axum::middleware::from_fn_with_state(Arc::new(Semaphore::new(limits::LINGERING_MAX)), linger))
        .with_state(app)
}

/// States the sequence number of this node's register in every response, and continues the caller's trace.
async fn tell_register(
    State(app): State<App>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let header = request.headers().get(TRACE_HEADER).and_then(|value| value.to_str().ok());
    let trace = header.and_then(TraceId::from_header);
    let post = request.method() == Method::POST;
    let mut response = trace::within(trace, next.run(request)).await;
    if post {
        // Keys, tokens and claims.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    // Refusals that no handler logged or counted, such as an unreadable path, query or range, are counted here.
    if response.status().is_client_error() && response.extensions().get::<Traced>().is_none() {
        app.services.node.count_refusal(CountedRefusal::NoRoute);
    }
    let sequence = app.services.node.trust().register.body().sequence;
    response.headers_mut().insert(REGISTER_HEADER, HeaderValue::from(sequence));
    response
}

async fn no_route() -> Response {
    let problem =
        json!({"title": "not-found", "status": 404, "detail": "there is no resource for this path and method"});
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// DSP 2025-1, "Exposure of Versions": unversioned, unauthenticated, without context.
async fn version() -> Json<Value> {
    Json(json!({"protocolVersions": [{"version": "2025-1", "path": BASE, "binding": "HTTPS"}]}))
}

#[derive(Deserialize)]
struct Page {
    after: Option<String>,
    since: Option<u64>,
}

impl Page {
    fn start(self) -> Result<Option<PageStart>, Error> {
        match self {
            Self { since: Some(since), .. } => Ok(Some(PageStart::Since(since))),
            Self { after: Some(id), .. } => {
                let id = DatasetId::parse(&id).map_err(|error| Error::invalid("after", error.to_string()))?;
                Ok(Some(PageStart::After(id)))
            }
            Self { .. } => Ok(None),
        }
    }
}

/// DSP 2025-1, "Catalog Request Message"; pages are linked by `Link` (RFC 8288).
async fn catalog(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Query(page): Query<Page>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Catalog, &body);
    let refuse = |error: Error| Failure::of(Family::Catalog, error);
    let read = Incoming::read(&body, "CatalogRequestMessage").and_then(|message| {
        let filter = message.optional::<Value>("filter")?;
        let filter = Filter::read(filter.as_ref()).map_err(|error| Error::invalid("filter", error.to_string()))?;
        Ok((filter, page.start()?))
    });
    let (filter, start) = call.read(read).await?;
    let page = app.services.discovery.catalog(&from, &filter, start.as_ref()).await.map_err(refuse)?;
    let mut response = Json(wire::with_context("Catalog", page.catalog)).into_response();
    if let Some(next) = page.next {
        let query = match next {
            PageStart::After(id) => format!("after={}", id.in_url()),
            PageStart::Since(change) => format!("since={change}"),
        };
        let link = format!("<{BASE}/catalog/request?{query}>; rel=\"next\"");
        let link = HeaderValue::from_str(&link).map_err(|error| refuse(Error::Internal(error.to_string())))?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// A message or query of a member, and how it is answered.
struct Call<'a> {
    app: &'a App,
    from: &'a Counterparty,
    family: Family,
    /// Ids of the process, as far as the caller stated them; every error repeats them.
    names: Names,
}

impl<'a> Call<'a> {
    /// For a message.
    fn new(app: &'a App, from: &'a Counterparty, family: Family, body: &[u8]) -> Self {
        Self { app, from, family, names: Names::of(body) }
    }

    /// For a query about the resource in the path.
    fn about_path(app: &'a App, from: &'a Counterparty, family: Family, pid: &str) -> Self {
        Self { app, from, family, names: Names { provider: pid.to_owned(), consumer: String::new() } }
    }

    fn fail(&self, error: Error) -> Failure {
        let failure = Failure::of(self.family, error).promised(&self.app.services.evidence, self.from);
        if self.family == Family::Catalog { failure } else { failure.about(&self.names) }
    }

    /// Logs a message that cannot be read as a refusal.
    async fn read<T>(&self, read: Result<T, Error>) -> Result<T, Failure> {
        match read {
            Ok(message) => Ok(message),
            Err(error) => {
                let (kind, facts) = (crate::audit::entry::Kind::MessageRefused, crate::audit::entry::Facts::default());
                Err(self.fail(self.app.services.node.refuse(self.from, kind, facts, error).await))
            }
        }
    }

    /// Reads a message about the process in `path`.
    async fn about(&self, path: &str, kind: &str, body: &[u8]) -> Result<About, Failure> {
        let pid = self.read(segment::<ProcessId>(path)).await?;
        let about = Incoming::read(body, kind).and_then(|message| {
            // The path contains this side's process id, which determines the role of this side.
            let (consumer, provider) = message.pids(Role::Consumer)?;
            let own = if pid == consumer { Role::Consumer } else { Role::Provider };
            let (named, peer_pid) = if own == Role::Consumer { (consumer, provider) } else { (provider, consumer) };
            if named != pid {
                return Err(Error::invalid("pid", "the process id of the message does not match its path"));
            }
            Ok(About { message, pid: pid.clone(), peer_pid })
        });
        self.read(about).await
    }

    fn negotiation(&self, status: StatusCode, outcome: Result<Transition<Negotiation>, Error>) -> Answer {
        self.answer(status, outcome.map(|moved| (wire::negotiation(&moved.process), moved.logged)))
    }

    fn transfer(&self, status: StatusCode, outcome: Result<Transition<Transfer>, Error>) -> Answer {
        self.answer(status, outcome.map(|moved| (wire::transfer(&moved.process), moved.logged)))
    }

    fn answer(&self, status: StatusCode, outcome: Result<(Value, Option<Logged>), Error>) -> Answer {
        let (body, logged) = outcome.map_err(|error| self.fail(error))?;
        Ok(answer(&self.app.services.evidence, self.from, status, &body, logged.as_ref()))
    }
}

/// A message about a process, whose ids match the path.
struct About {
    message: Incoming,
    pid: ProcessId,
    peer_pid: ProcessId,
}

impl About {
    fn inbound<'a>(&'a self, from: &'a Counterparty) -> Inbound<'a> {
        Inbound {
            from,
            pid: &self.pid,
            peer_pid: &self.peer_pid,
            digest: self.message.digest,
            named: self.message.named,
        }
    }
}

fn segment<T: std::str::FromStr<Err = crate::core::id::IdError>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: crate::core::id::IdError| Error::not_found(error.to_string()))
}

async fn dataset(State(app): State<App>, ActiveMember(from): ActiveMember, Path(id): Path<String>) -> Answer {
    let call = Call::about_path(&app, &from, Family::Catalog, &id);
    let id = call.read(segment::<DatasetId>(&id)).await?;
    match app.services.discovery.catalog_dataset(&from, &id).await {
        Ok(dataset) => Ok(Json(wire::with_context("Dataset", dataset)).into_response()),
        Err(error) => Err(call.fail(error)),
    }
}

/// DSP 2025-1, "Contract Request Message": 201 for a new negotiation.
async fn contract_request(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let read = Incoming::read(&body, "ContractRequestMessage").and_then(|message| message.contract_request());
    let request = call.read(read).await?;
    let outcome = app.services.contracts.negotiations.requested(&from, request).await;
    call.negotiation(StatusCode::CREATED, outcome)
}

/// DSP 2025-1, "Contract Offer Message" with `callbackAddress`: 201 for a new negotiation.
async fn contract_offer(State(app): State<App>, ActiveMember(from): ActiveMember, JsonBody(body): JsonBody) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let read = Incoming::read(&body, "ContractOfferMessage").and_then(|message| message.contract_offer());
    let offer = call.read(read).await?;
    let outcome = app.services.contracts.negotiations.first_offered(&from, offer).await;
    call.negotiation(StatusCode::CREATED, outcome)
}

/// DSP 2025-1, "Contract Request Message" with `providerPid`: a counter-offer.
async fn counter_request(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let about = call.about(&pid, "ContractRequestMessage", &body).await?;
    let read = about.message.terms().and_then(|terms| Ok((terms, about.message.claim()?)));
    let (terms, claim) = call.read(read).await?;
    let outcome = app.services.contracts.negotiations.countered(about.inbound(&from), terms, claim.as_deref()).await;
    call.negotiation(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Offer Message" with `consumerPid`.
async fn counter_offer(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let about = call.about(&pid, "ContractOfferMessage", &body).await?;
    let terms = call.read(about.message.terms()).await?;
    let outcome = app.services.contracts.negotiations.offered(about.inbound(&from), terms).await;
    call.negotiation(StatusCode::OK, outcome)
}

async fn negotiation(State(app): State<App>, ActiveMember(from): ActiveMember, Path(pid): Path<String>) -> Answer {
    let call = Call::about_path(&app, &from, Family::Negotiation, &pid);
    let pid = call.read(segment::<ProcessId>(&pid)).await?;
    let outcome = app.services.contracts.negotiations.visible_to(&from, &pid).await.map(Transition::repeated);
    call.negotiation(StatusCode::OK, outcome)
}

async fn transfer(State(app): State<App>, ActiveMember(from): ActiveMember, Path(pid): Path<String>) -> Answer {
    let call = Call::about_path(&app, &from, Family::Transfer, &pid);
    let pid = call.read(segment::<ProcessId>(&pid)).await?;
    let outcome = app.services.delivery.transfers.visible_to(&from, &pid).await.map(Transition::repeated);
    call.transfer(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Agreement Message".
async fn contract_agreement(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let about = call.about(&pid, "ContractAgreementMessage", &body).await?;
    let read = about.message.signature().and_then(|signed| Ok((signed, about.message.agreement()?)));
    let (signed, plain) = call.read(read).await?;
    let outcome =
        app.services.contracts.negotiations.agreed(about.inbound(&from), signed.as_deref(), plain.as_ref()).await;
    call.negotiation(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Agreement Verification Message".
async fn contract_verification(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let kind = "ContractAgreementVerificationMessage";
    let about = call.about(&pid, kind, &body).await?;
    let signed = call.read(about.message.signature()).await?;
    let outcome = app.services.contracts.negotiations.verified(about.inbound(&from), signed.as_deref()).await;
    call.negotiation(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Negotiation Event Message".
async fn contract_event(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let kind = "ContractNegotiationEventMessage";
    let about = call.about(&pid, kind, &body).await?;
    let event: Result<String, Error> = about.message.get("eventType");
    let outcome = match event.as_deref() {
        Ok("FINALIZED") => app.services.contracts.negotiations.finalized(about.inbound(&from)).await,
        Ok("ACCEPTED") => {
            let claim = call.read(about.message.claim()).await?;
            app.services.contracts.negotiations.accepted(about.inbound(&from), claim.as_deref()).await
        }
        _ => {
            let error = Error::invalid("eventType", "`eventType` must be ACCEPTED or FINALIZED");
            return call.read(Err(error)).await.map(|never: std::convert::Infallible| match never {});
        }
    };
    call.negotiation(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Contract Negotiation Termination Message"; a suspended member may still send it.
async fn contract_termination(
    State(app): State<App>,
    AnyMember(from): AnyMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Negotiation, &body);
    let kind = "ContractNegotiationTerminationMessage";
    let about = call.about(&pid, kind, &body).await?;
    let outcome = app.services.contracts.negotiations.terminated(about.inbound(&from), &about.message.reason()).await;
    call.negotiation(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Request Message": 201 for a new transfer.
async fn transfer_request(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Transfer, &body);
    let read = Incoming::read(&body, "TransferRequestMessage").and_then(|message| message.transfer_request());
    let request = call.read(read).await?;
    let outcome = app.services.delivery.transfers.requested(&from, request).await;
    call.transfer(StatusCode::CREATED, outcome)
}

/// DSP 2025-1, "Transfer Start Message".
async fn transfer_start(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Transfer, &body);
    let about = call.about(&pid, "TransferStartMessage", &body).await?;
    let address = call.read(about.message.data_address()).await?;
    let outcome = app.services.delivery.transfers.started(about.inbound(&from), address.as_ref()).await;
    call.transfer(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Completion Message".
async fn transfer_completion(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Transfer, &body);
    let about = call.about(&pid, "TransferCompletionMessage", &body).await?;
    let outcome = app.services.delivery.transfers.completed(about.inbound(&from)).await;
    call.transfer(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Suspension Message".
async fn transfer_suspension(
    State(app): State<App>,
    ActiveMember(from): ActiveMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Transfer, &body);
    let about = call.about(&pid, "TransferSuspensionMessage", &body).await?;
    let outcome = app.services.delivery.transfers.suspended(about.inbound(&from), &about.message.reason()).await;
    call.transfer(StatusCode::OK, outcome)
}

/// DSP 2025-1, "Transfer Termination Message"; a suspended member may still send it.
async fn transfer_termination(
    State(app): State<App>,
    AnyMember(from): AnyMember,
    Path(pid): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let call = Call::new(&app, &from, Family::Transfer, &body);
    let about = call.about(&pid, "TransferTerminationMessage", &body).await?;
    let outcome = app.services.delivery.transfers.terminated(about.inbound(&from), &about.message.reason()).await;
    call.transfer(StatusCode::OK, outcome)
}
