//! Client side: the `Peer` over HTTPS. It only connects to addresses that the register lists for the member.

use super::wire::{self, BASE};
use super::{REGISTER_HEADER, STATEMENT_HEADER, TRACE_HEADER};
use crate::audit::promise;
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, ParticipantId, ProcessId};
use crate::core::json::{self, ld};
use crate::core::limits;
use crate::core::random::SystemRandomness;
use crate::core::time::{Clock, Timestamp};
use crate::identity::bearer;
use crate::identity::endpoint::Endpoint;
use crate::identity::register::Member;
use crate::net::{MemberClients, date_of, in_words};
use crate::node::{Answer, DocumentKey, Envelope, Peer, PeerCatalogPage, PeerError, PeerSchema, PlainData, trace};
use crate::storage::{Store, StoreError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// A peer and the stated sequence number of its register.
pub type NewerRegister = (ParticipantId, u64);

/// Peers over HTTPS.
pub struct HttpPeer {
    endpoint: Endpoint,
    clients: Arc<MemberClients>,
    /// Signs the bearer tokens for other connectors.
    key: Arc<DocumentKey>,
    clock: Arc<dyn Clock>,
    random: SystemRandomness,
    /// Sequence number of this node's register, stated in every request.
    sequence: Arc<AtomicU64>,
    /// Source of the registers that a peer lacks.
    store: Arc<dyn Store>,
    /// Receives the higher sequence numbers of peers.
    newer: mpsc::Sender<NewerRegister>,
}

impl HttpPeer {
    /// The client of the node at `endpoint`. Peers with a newer register than `sequence` are reported to `newer`.
    pub fn new(
        endpoint: Endpoint,
        clients: Arc<MemberClients>,
        key: Arc<DocumentKey>,
        clock: Arc<dyn Clock>,
        sequence: Arc<AtomicU64>,
        store: Arc<dyn Store>,
        newer: mpsc::Sender<NewerRegister>,
    ) -> Self {
        Self { endpoint, clients, key, clock, random: SystemRandomness::new(), sequence, store, newer }
    }

    /// A request to a path below the member's endpoint.
    fn request(&self, to: &Member, method: Method, path: &str) -> Result<RequestBuilder, PeerError> {
        self.request_at(to, method, &to.endpoint.join(path))
    }

    /// A request to an address that the register lists for the member.
    fn request_at(&self, to: &Member, method: Method, address: &str) -> Result<RequestBuilder, PeerError> {
        let sequence = self.sequence.load(Ordering::Relaxed);
        let client = self.clients.client(to, address);
        let client = client.map_err(|error| PeerError::Unreachable(error.to_string()))?;
        let mut request = client.request(method, address).header(REGISTER_HEADER, sequence);
        if to.connector.is_some() {
            request = request.bearer_auth(bearer::make(&self.key.current(), &to.id, self.clock.now()));
        }
        Ok(match trace::current() {
            Some(trace) => request.header(TRACE_HEADER, trace.to_header(&self.random)),
            None => request,
        })
    }

    /// Sends a request, and turns an unsuccessful response into an error. If a peer with an older register refuses, it
    /// is sent the registers that it lacks, and the request is repeated once.
    async fn send(&self, to: &Member, request: RequestBuilder) -> Result<Response, PeerError> {
        let again = request.try_clone();
        let answer = self.send_once(to, request).await?;
        let (stated, own) = (stated(&answer), self.sequence.load(Ordering::Relaxed));
        let behind = answer.status() == StatusCode::FORBIDDEN && stated.is_some_and(|stated| stated < own);
        let (Some(again), Some(theirs), true) = (again, stated, behind) else { return refused_or(answer).await };
        self.bring_registers(to, theirs).await?;
        refused_or(self.send_once(to, again).await?).await
    }

    async fn bring_registers(&self, to: &Member, theirs: u64) -> Result<(), PeerError> {
        let own = self.sequence.load(Ordering::Relaxed);
        let stored = |error: StoreError| PeerError::Unreachable(error.to_string());
        let mut bring: Vec<(&str, &str, String)> = Vec::new();
        for root in self.store.roots().await.map_err(stored)? {
            bring.push(("/root", "application/json", root));
        }
        for sequence in (theirs + 1..=own).take(limits::PAGE_ROWS_MAX) {
            let Some(jws) = self.store.register(sequence).await.map_err(stored)? else { break };
            bring.push(("/register", "application/jose", jws));
        }
        for (path, kind, document) in bring {
            let request = self.request(to, Method::POST, path)?;
            let request = request.header(CONTENT_TYPE, kind).body(document);
            // A refusal is not final: other members may send the peer the registers in between.
            let taken = refused_or(self.send_once(to, request).await?).await;
            taken.map_err(|error| {
                PeerError::Unreachable(format!("it did not accept this node's newer register: {error}"))
            })?;
        }
        Ok(())
    }

    async fn send_once(&self, to: &Member, request: RequestBuilder) -> Result<Response, PeerError> {
        let sent = tokio::time::timeout(limits::PEER_ANSWER_TIME_MAX, request.send()).await;
        let response = match sent {
            Err(_) => return Err(PeerError::Unreachable("no response in time".into())),
            Ok(Err(error)) => return Err(PeerError::Unreachable(in_words(&error))),
            Ok(Ok(response)) => response,
        };
        if let Some(stated) = stated(&response).filter(|stated| *stated > self.sequence.load(Ordering::Relaxed)) {
            // A full channel is harmless: the peer states its sequence number again in every response.
            let _ = self.newer.try_send((to.id.clone(), stated));
        }
        Ok(response)
    }

    /// A dataset from the pages of a connector's catalog.
    async fn listed(&self, to: &Member, id: &DatasetId) -> Result<Value, PeerError> {
        let mut next = None;
        for _ in 0..limits::CATALOG_PAGES_MAX {
            let page = self.catalog(to, None, next.as_deref()).await?;
            let found = ld::elements(page.body.get("dataset")).find(|dataset| dataset["@id"] == id.as_str());
            if let Some(found) = found {
                return Ok(found.clone());
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        let (status, reason) = (StatusCode::NOT_FOUND.as_u16(), format!("its catalog has no dataset {id}"));
        Err(PeerError::Refused { status, code: None, reason, promise: None })
    }

    async fn text(&self, to: &Member, path: &str, max: usize) -> Result<String, PeerError> {
        let response = self.send(to, self.request(to, Method::GET, path)?).await?;
        let body = read(response, max).await?;
        String::from_utf8(body.to_vec()).map_err(|_| PeerError::Invalid("the answer is not UTF-8".into()))
    }
}

/// The catalog filter condition that requests the changes after `since` from a crosspark node.
fn change_after(since: u64) -> Value {
    json!({"property": "crosspark:change", "operator": "gt", "value": since.to_string()})
}

/// Base address of a member's DSP endpoints.
fn base_of(member: &Member) -> String {
    if member.connector.is_some() { member.endpoint.to_string() } else { member.endpoint.join(BASE) }
}

/// The sequence number of the peer's register.
fn stated(response: &Response) -> Option<u64> {
    response.headers().get(REGISTER_HEADER)?.to_str().ok()?.parse().ok()
}

/// Turns an unsuccessful response into an error.
async fn refused_or(response: Response) -> Result<Response, PeerError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, promise) = (response.status(), promise_of(&response));
    let body = read(response, limits::DOCUMENT_BYTES_MAX).await.unwrap_or_default();
    let answer = json::read_value(&body).map(ld::plain).unwrap_or_default();
    let code = answer.get("code").or_else(|| answer.get("title")).and_then(Value::as_str).map(str::to_owned);
    Err(PeerError::Refused { status: status.as_u16(), code, reason: reason_of(status, &answer), promise })
}

fn promise_of(response: &Response) -> Option<String> {
    let value = response.headers().get(promise::HEADER)?.to_str().ok()?;
    (value.len() <= limits::DOCUMENT_BYTES_MAX).then(|| value.to_owned())
}

/// The reasons in a DSP error or problem.
fn reason_of(status: StatusCode, value: &Value) -> String {
    let reasons = value.as_object().map(wire::reasons).filter(|reasons| !reasons.is_empty());
    let detail = || Some(value.get("detail")?.as_str()?.replace(char::is_control, " "));
    let text = reasons.or_else(detail).unwrap_or_else(|| status.to_string());
    text.chars().take(limits::TEXT_CHARS_MAX * 2).collect()
}

/// Reads a response body of at most `max` bytes.
async fn read(response: Response, max: usize) -> Result<Bytes, PeerError> {
    let mut stream = response.bytes_stream();
    let mut body = BytesMut::new();
    let reading = async {
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| PeerError::Unreachable(in_words(&error)))?;
            if body.len() + piece.len() > max {
                return Err(PeerError::Invalid(format!("the answer is longer than {max} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(())
    };
    match tokio::time::timeout(limits::PEER_ANSWER_TIME_MAX, reading).await {
        Ok(Ok(())) => Ok(body.freeze()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PeerError::Unreachable("the response did not end in time".into())),
    }
}

/// The body of a response as a stream, which fails when it is idle too long or takes longer than `time_max`.
fn lively(response: Response, time_max: Duration) -> BoxStream<'static, Result<Bytes, PeerError>> {
    let stream = response.bytes_stream().boxed();
    let end = tokio::time::Instant::now() + time_max;
    let pieces = futures_util::stream::unfold(Some(stream), move |stream| async move {
        let mut stream = stream?;
        let deadline = end.min(tokio::time::Instant::now() + limits::STREAM_IDLE_TIME_MAX);
        match tokio::time::timeout_at(deadline, stream.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(stream))),
            Ok(Some(Err(error))) => Some((Err(PeerError::Unreachable(in_words(&error))), None)),
            Ok(None) => None,
            Err(_) => {
                Some((Err(PeerError::Unreachable("the data stream was idle too long, or is too slow".into())), None))
            }
        }
    });
    pieces.boxed()
}

fn parse(body: &[u8]) -> Result<Value, PeerError> {
    json::read_value(body).map(ld::plain).map_err(|error| PeerError::Invalid(error.to_string()))
}

#[async_trait]
impl Peer for HttpPeer {
    async fn catalog(&self, to: &Member, since: Option<u64>, next: Option<&str>) -> Result<PeerCatalogPage, PeerError> {
        let first = base_of(to) + "/catalog/request";
        let address = next.filter(|next| next.strip_prefix(&first).is_some_and(|rest| rest.starts_with('?')));
        let filter = since.map(|since| json!({"filter": [change_after(since)]}));
        let message = wire::with_context("CatalogRequestMessage", filter.unwrap_or_else(|| json!({})));
        let request = self.request_at(to, Method::POST, address.unwrap_or(&first))?.json(&message);
        let response = self.send(to, request).await?;
        let next = next_page(&response, &first);
        Ok(PeerCatalogPage { body: parse(&read(response, limits::PEER_ANSWER_BYTES_MAX).await?)?, next })
    }

    async fn dataset(&self, to: &Member, id: &DatasetId) -> Result<Value, PeerError> {
        let address = format!("{}/catalog/datasets/{}", base_of(to), id.in_url());
        match self.send(to, self.request_at(to, Method::GET, &address)?).await {
            // Some servers refuse every path with an encoded character such as a slash.
            Err(PeerError::Refused { status: 400, .. }) if to.connector.is_some() => {
                let found = tokio::time::timeout(limits::LOOKUP_TIME_MAX, self.listed(to, id)).await;
                found.unwrap_or_else(|_| Err(PeerError::Unreachable("its catalog is too long or too slow".into())))
            }
            response => parse(&read(response?, limits::PEER_ANSWER_BYTES_MAX).await?),
        }
    }

    async fn deliver(&self, to: &Member, envelope: &Envelope<'_>) -> Result<Answer<Option<ProcessId>>, PeerError> {
        let (path, body) = wire::outgoing(envelope, &self.endpoint, &to.id);
        let message = envelope.message;
        let address = match (&to.connector, envelope.callback) {
            (None, _) if message.is_ours() => to.endpoint.join(&path),
            (Some(_), Some(callback)) => callback.join(&path),
            _ => base_of(to) + &path,
        };
        let request = self.request_at(to, Method::POST, &address)?;
        let request = match body {
            Value::String(jws) => request.header(CONTENT_TYPE, "application/jose").body(jws),
            body => request.json(&body),
        };
        let response = self.send(to, request).await?;
        let promise = promise_of(&response);
        let body = read(response, limits::DOCUMENT_BYTES_MAX).await?;
        // Other connectors answer some messages with an empty body.
        let value = if body.is_empty() { Value::Null } else { parse(&body)? };
        let pid = message
            .answer_pid_member()
            .and_then(|name| value.get(name)?.as_str())
            .and_then(|pid| ProcessId::parse(pid).ok());
        Ok(Answer { body: pid, promise })
    }

    async fn manifest(&self, to: &Member, digest: &Digest) -> Result<String, PeerError> {
        self.text(to, &format!("/manifests/{digest}"), limits::DOCUMENT_BYTES_MAX).await
    }

    async fn schema(&self, to: &Member, digest: &Digest) -> Result<PeerSchema, PeerError> {
        let response = self.send(to, self.request(to, Method::GET, &format!("/schemas/{digest}"))?).await?;
        let statement = response.headers().get(STATEMENT_HEADER).and_then(|jws| jws.to_str().ok()).map(str::to_owned);
        let body = read(response, limits::SCHEMA_BYTES_MAX).await?;
        let text = String::from_utf8(body.to_vec()).map_err(|_| PeerError::Invalid("it is not UTF-8".into()))?;
        Ok(PeerSchema { text, statement })
    }

    async fn data(
        &self,
        to: &Member,
        transfer: &ProcessId,
        token: &str,
        range: std::ops::Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError> {
        let request = self
            .request(to, Method::GET, &format!("/data/{}", transfer.in_url()))?
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let response = self.send(to, request).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(PeerError::Invalid(format!("status {} instead of the requested range", response.status())));
        }
        // After the time limit, received bytes are kept and the remaining range is requested again.
        Ok(lively(response, limits::RANGE_TIME_MAX))
    }

    async fn pull(&self, to: &Member, address: &Endpoint, token: Option<&str>) -> Result<PlainData, PeerError> {
        let client = self.clients.client(to, address.as_str());
        let mut request = client.map_err(|error| PeerError::Unreachable(error.to_string()))?.get(address.as_str());
        if let Some(token) = token {
            // Some connectors provide the complete header value, others only the token.
            let value = if token.contains(' ') { token.to_owned() } else { format!("Bearer {token}") };
            request = request.header(AUTHORIZATION, value);
        }
        let response = refused_or(self.send_once(to, request).await?).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let length = response.content_length();
        Ok(PlainData { kind, length, stream: lively(response, limits::PULL_TIME_MAX) })
    }

    async fn key(&self, to: &Member, transfer: &ProcessId, request: &str) -> Result<Answer<String>, PeerError> {
        let sent = self
            .request(to, Method::POST, &format!("/data/{}/key", transfer.in_url()))?
            .header(CONTENT_TYPE, "application/jose")
            .body(request.to_owned());
        let response = self.send(to, sent).await?;
        let promise = promise_of(&response);
        let body = read(response, limits::DOCUMENT_BYTES_MAX).await?;
        let body =
            String::from_utf8(body.to_vec()).map_err(|_| PeerError::Invalid("the answer is not UTF-8".into()))?;
        Ok(Answer { body, promise })
    }

    async fn checkpoint(&self, to: &Member) -> Result<String, PeerError> {
        self.text(to, "/log/checkpoint", limits::CHECKPOINT_BYTES_MAX).await
    }

    async fn observed_checkpoint(&self, to: &Member) -> Result<Option<String>, PeerError> {
        let note = self.text(to, "/seen", limits::CHECKPOINT_BYTES_MAX).await?;
        Ok(Some(note).filter(|note| !note.is_empty()))
    }

    async fn register(&self, to: &Member, sequence: Option<u64>) -> Result<String, PeerError> {
        let path = sequence.map_or("/register".to_owned(), |sequence| format!("/register/{sequence}"));
        self.text(to, &path, limits::REGISTER_BYTES_MAX).await
    }

    async fn reach(&self, to: &Member) -> Result<Option<Timestamp>, PeerError> {
        // A single request: a peer with an older register is not sent newer ones.
        let request = self.request(to, Method::GET, "/.well-known/dspace-version")?;
        Ok(date_of(&refused_or(self.send_once(to, request).await?).await?))
    }

    async fn root(&self, to: &Member, version: u64) -> Result<String, PeerError> {
        self.text(to, &format!("/root/{version}"), limits::ROOT_BYTES_MAX).await
    }
}

/// The address in a `Link` with rel="next" (RFC 8288): relative or absolute, it must equal the requested one except for
/// the query.
fn next_page(response: &Response, first: &str) -> Option<String> {
    let link = response.headers().get("link")?.to_str().ok()?;
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let target = part.split_once('<')?.1.split_once('>')?.0;
    let next = url::Url::parse(first).ok()?.join(target).ok()?.to_string();
    next.strip_prefix(first)?.starts_with('?').then_some(next)
}
