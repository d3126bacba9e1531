//! Extractors before every handler, which authenticate and authorise the caller and read bodies; and refusals as
//! responses.

use super::REGISTER_HEADER;
use super::app::{App, Connection};
use super::wire::with_context;
use crate::audit::promise;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::json::{self, ld};
use crate::core::limits;
use crate::evidence::Evidence;
use crate::identity::bearer;
use crate::node::{Counterparty, Error, Recorded};
use crate::storage::Logged;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A member of any status, for requests that suspended members may still send.
pub struct AnyMember(pub Counterparty);

/// An active member.
pub struct ActiveMember(pub Counterparty);

impl FromRequestParts<App> for AnyMember {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let connection = parts.extensions.get::<Connection>().cloned().unwrap_or_default();
        let family = Family::of(parts.uri.path());
        let presented = connection.presented.as_deref();
        let token = bearer_of(&parts.headers).filter(|token| presented.is_none() && bearer::is_jwt(token));
        let who = async || match token {
            Some(token) => app.services.membership.authenticate_bearer(token).await,
            None => app.services.membership.authenticate(presented).await,
        };
        let first = who().await.map_err(|error| Failure::of(family, error));
        // A node with an older register fetches the newer one before it decides, so that suspensions spread quickly.
        let stated = stated_sequence(&parts.headers);
        let newest = app.services.node.trust().register.body().sequence;
        match first {
            Ok(from) if stated > newest => {
                app.services.membership.catch_up(&from.participant, stated).await;
                let again = who().await;
                again.map(Self).map_err(|error| Failure::of(family, error))
            }
            Ok(from) => Ok(Self(from)),
            Err(failure) => Err(failure),
        }
    }
}

/// The token in an `Authorization: Bearer` header (RFC 6750 section 2.1).
pub fn bearer_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer "))
}

fn stated_sequence(headers: &HeaderMap) -> u64 {
    headers.get(REGISTER_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

impl FromRequestParts<App> for ActiveMember {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let AnyMember(from) = AnyMember::from_request_parts(parts, app).await?;
        let what = format!("{} {}", parts.method, parts.uri.path());
        match app.services.membership.require_active(&from, &what).await {
            Ok(()) => {
                parts.extensions.insert(Charged(from.participant.clone()));
                Ok(Self(from))
            }
            Err(error) => Err(Failure::of(Family::of(parts.uri.path()), error).promised(&app.services.evidence, &from)),
        }
    }
}

/// The member whose quota the body of a request is charged to.
#[derive(Clone)]
struct Charged(ParticipantId);

/// A JSON body within its limit; the handler parses it.
pub struct JsonBody(pub Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let family = Family::of(request.uri().path());
        let charged = request.extensions().get::<Charged>().cloned();
        let json = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json =
            json.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
        if !json {
            let error = Error::invalid("content-type", "the body must be application/json");
            return Err(Failure { status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), ..Failure::of(family, error) });
        }
        let body = read_body(request.into_body(), limits::PEER_BODY_BYTES_MAX).await.map_err(|status| {
            let reason = format!("the body could not be read, or is longer than {} bytes", limits::PEER_BODY_BYTES_MAX);
            Failure { status: Some(status), ..Failure::of(family, Error::invalid("body", reason)) }
        })?;
        if let Some(Charged(member)) = charged {
            app.services.node.charge_bytes(&member, body.len()).map_err(|error| Failure::of(family, error))?;
        }
        Ok(Self(body))
    }
}

/// Reads a body of at most `max` bytes.
pub async fn read_body(body: Body, max: usize) -> Result<Bytes, StatusCode> {
    let limited = http_body_util::Limited::new(body, max);
    match http_body_util::BodyExt::collect(limited).await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

/// Format of the errors of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// CatalogError
    Catalog,
    /// ContractNegotiationError
    Negotiation,
    /// TransferError
    Transfer,
    /// Problem details (RFC 9457), outside of DSP.
    Problem,
}

impl Family {
    fn of(path: &str) -> Self {
        match path.strip_prefix(super::wire::BASE).map(|rest| rest.trim_start_matches('/')) {
            Some(rest) if rest.starts_with("catalog") => Self::Catalog,
            Some(rest) if rest.starts_with("negotiations") => Self::Negotiation,
            Some(rest) if rest.starts_with("transfers") => Self::Transfer,
            _ => Self::Problem,
        }
    }
}

/// Marks a response whose refusal was already logged or counted.
#[derive(Clone, Copy)]
pub struct Traced;

/// A refusal to be sent.
#[derive(Debug)]
pub struct Failure {
    family: Family,
    error: Error,
    status: Option<StatusCode>,
    names: Option<Names>,
    promise: Option<String>,
}

impl Failure {
    /// A refusal in the format of `family`.
    pub fn of(family: Family, error: Error) -> Self {
        Self { family, error, status: None, names: None, promise: None }
    }

    /// Adds the promise that the refusal is in the log.
    pub fn promised(mut self, evidence: &Evidence, from: &Counterparty) -> Self {
        self.promise = self.error.logged().map(|logged| evidence.promise(&from.participant, logged));
        self
    }

    /// Adds the ids of the process.
    pub fn about(mut self, names: &Names) -> Self {
        self.names = Some(names.clone());
        self
    }
}

/// The ids of a process, as far as the caller stated them.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// `consumerPid`
    pub consumer: String,
    /// `providerPid`
    pub provider: String,
}

impl Names {
    /// Reads the ids of a message, which may be invalid otherwise.
    pub fn of(body: &[u8]) -> Self {
        let value = json::read_value(body).map(ld::plain).unwrap_or_default();
        let name = |name: &str| {
            let pid = value.get(name).and_then(Value::as_str).and_then(|pid| ProcessId::parse(pid).ok());
            pid.map(|pid| pid.to_string()).unwrap_or_default()
        };
        Self { consumer: name("consumerPid"), provider: name("providerPid") }
    }
}

/// The reason shown to callers; details of internal errors are only logged.
pub fn public_reason(error: &Error) -> String {
    if let Error::Internal(reason) = error {
        tracing::error!(reason, "internal error");
        return "internal error; see the log output of this node".to_owned();
    }
    error.to_string()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status.unwrap_or_else(|| self.error.status());
        let (code, reason) = (self.error.code(), public_reason(&self.error));
        let mut body = match self.family {
            Family::Problem => json!({"title": code, "status": status.as_u16(), "detail": reason}),
            family => {
                let kind = match family {
                    Family::Catalog => "CatalogError",
                    Family::Negotiation => "ContractNegotiationError",
                    _ => "TransferError",
                };
                with_context(kind, json!({"code": code, "reason": [reason]}))
            }
        };
        // The JSON Schemas require both ids in every error of a process, even if one is unknown.
        if matches!(self.family, Family::Negotiation | Family::Transfer) {
            let names = self.names.unwrap_or_default();
            (body["consumerPid"], body["providerPid"]) = (names.consumer.into(), names.provider.into());
        }
        let kind = if self.family == Family::Problem { "application/problem+json" } else { "application/json" };
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response();
        // `authenticate` has counted unauthenticated callers; refusals of members carry their log entry.
        let counted = matches!(self.error, Error::TooMany) || matches!(self.error.code(), "membership" | "register");
        if !matches!(self.error.recorded(), Recorded::Not) || counted {
            response.extensions_mut().insert(Traced);
        }
        add_promise(response.headers_mut(), self.promise.as_deref());
        if matches!(self.error, Error::TooMany | Error::Unavailable(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(limits::RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// Adds the promise header.
pub fn add_promise(headers: &mut HeaderMap, promise: Option<&str>) {
    if let Some(value) = promise.and_then(|jws| HeaderValue::from_str(jws).ok()) {
        headers.insert(promise::HEADER, value);
    }
}

/// A response with its promise.
pub fn answer(
    evidence: &Evidence,
    to: &Counterparty,
    status: StatusCode,
    body: &Value,
    logged: Option<&Logged>,
) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    let promise = logged.map(|logged| evidence.promise(&to.participant, logged));
    add_promise(response.headers_mut(), promise.as_deref());
    response
}
