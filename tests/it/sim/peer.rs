//! The network between simulated nodes: real messages, real routes, no sockets.

use super::faults::{Chance, Life};
use super::world::Net;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use crosspark::core::digest::Digest;
use crosspark::core::id::{DatasetId, ParticipantId, ProcessId};
use crosspark::core::time::Timestamp;
use crosspark::identity::endpoint::Endpoint;
use crosspark::identity::register::Member;
use crosspark::node::{Answer, Envelope, Peer, PeerCatalogPage, PeerError, PeerSchema, PlainData};
use crosspark::protocol::{BASE, Connection, wire_message};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tower::ServiceExt;

/// Wrong sealed bytes from a provider's data plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    /// Different bytes of the right length.
    Other,
    /// More bytes than requested.
    More,
    /// Half of the requested bytes; the consumer requests the remaining ones.
    Less,
}

/// Network faults.
pub struct NetworkFaults {
    pub lie: Option<Lie>,
    pub chance: Chance,
    /// Remaining number of faults.
    pub left: AtomicU32,
}

impl NetworkFaults {
    fn strikes(&self, one_in: u64) -> bool {
        let strikes = self.left.load(Ordering::Relaxed) > 0 && self.chance.one_in(one_in);
        if strikes {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
        strikes
    }

    async fn delay(&self) {
        let long = self.strikes(20);
        let ms = if long { self.chance.below(45_000) } else { 1 + self.chance.below(20) };
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// A node's connection to the others.
pub struct SimPeer {
    pub own: Endpoint,
    pub about: Connection,
    pub net: Arc<Net>,
    pub faults: Arc<NetworkFaults>,
    pub life: Arc<Life>,
}

struct Sent {
    method: Method,
    path: String,
    headers: Vec<(header::HeaderName, String)>,
    body: Bytes,
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

fn lost() -> PeerError {
    PeerError::Unreachable("the network".into())
}

fn get(path: String) -> Sent {
    Sent { method: Method::GET, path, headers: Vec::new(), body: Bytes::new() }
}

fn post(path: String, body: &Value) -> Sent {
    let kind = (header::CONTENT_TYPE, "application/json".to_owned());
    Sent { method: Method::POST, path, headers: vec![kind], body: body.to_string().into() }
}

impl SimPeer {
    async fn arrive(net: &Net, about: &Connection, to: &ParticipantId, sent: &Sent) -> Result<Got, PeerError> {
        let (router, life) = net.reach(to).ok_or_else(lost)?;
        let mut request = Request::builder().method(sent.method.clone()).uri(&sent.path);
        for (name, value) in &sent.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::from(sent.body.clone())).unwrap();
        request.extensions_mut().insert(about.clone());
        // In a separate task, as in the listener, so that a caller that disconnects does not cancel the request.
        let work = tokio::spawn(router.oneshot(request));
        let response = tokio::time::timeout(Duration::from_secs(30), work).await.map_err(|_| lost())?.unwrap().unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| lost())?.to_bytes();
        if life.is_over() {
            return Err(lost());
        }
        Ok(Got { status: parts.status, headers: parts.headers, body })
    }

    /// Sends a message unchanged and without network faults; returns the status.
    pub async fn deliver_raw(
        net: &Net,
        about: &Connection,
        to: &ParticipantId,
        path: &str,
        body: &Value,
    ) -> Option<u16> {
        let got = Self::arrive(net, about, to, &post(format!("{BASE}{path}"), body)).await;
        got.ok().map(|got| got.status.as_u16())
    }

    /// Sends with network faults.
    async fn call(&self, to: &Member, sent: Sent) -> Result<Got, PeerError> {
        self.life.proceed().await;
        self.faults.delay().await;
        if self.faults.strikes(12) {
            return Err(lost());
        }
        let sent = Arc::new(sent);
        if self.faults.strikes(12) {
            // Delivers a duplicate some time later.
            let (net, about, to, sent) = (self.net.clone(), self.about.clone(), to.id.clone(), sent.clone());
            let pause = Duration::from_millis(self.faults.chance.below(20_000));
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let _ = Self::arrive(&net, &about, &to, &sent).await;
            });
        }
        let got = Self::arrive(&self.net, &self.about, &to.id, &sent).await;
        self.faults.delay().await;
        self.life.proceed().await;
        if self.faults.strikes(12) {
            return Err(lost());
        }
        let got = got?;
        if got.status.is_success() {
            return Ok(got);
        }
        let said: Value = serde_json::from_slice(&got.body).unwrap_or_default();
        let reason = said.get("reason").or(said.get("detail")).map(Value::to_string).unwrap_or_default();
        let code = said.get("code").or(said.get("title")).and_then(Value::as_str).map(str::to_owned);
        Err(PeerError::Refused { status: got.status.as_u16(), code, reason, promise: promise(&got.headers) })
    }

    async fn text(&self, to: &Member, path: String) -> Result<String, PeerError> {
        Ok(String::from_utf8(self.call(to, get(path)).await?.body.to_vec()).unwrap())
    }
}

fn promise(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("crosspark-promise")?.to_str().unwrap().to_owned())
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

#[async_trait]
impl Peer for SimPeer {
    async fn catalog(
        &self,
        to: &Member,
        since: Option<u64>,
        _next: Option<&str>,
    ) -> Result<PeerCatalogPage, PeerError> {
        let context = "https://w3id.org/dspace/2025/1/context.jsonld";
        let mut message = json!({"@context": [context], "@type": "CatalogRequestMessage"});
        if let Some(since) = since {
            let change = json!({"property": "crosspark:change", "operator": "gt", "value": since.to_string()});
            message["filter"] = json!([change]);
        }
        let body = value(&self.call(to, post(format!("{BASE}/catalog/request"), &message)).await?.body);
        Ok(PeerCatalogPage { body, next: None })
    }

    async fn dataset(&self, to: &Member, id: &DatasetId) -> Result<Value, PeerError> {
        Ok(value(&self.call(to, get(format!("{BASE}/catalog/datasets/{id}"))).await?.body))
    }

    async fn deliver(&self, to: &Member, letter: &Envelope<'_>) -> Result<Answer<Option<ProcessId>>, PeerError> {
        let (path, body) = wire_message(letter, &self.own, &to.id);
        let path = if letter.message.is_ours() { path } else { format!("{BASE}{path}") };
        let sent = match body {
            Value::String(jws) => {
                let kind = (header::CONTENT_TYPE, "application/jose".to_owned());
                Sent { method: Method::POST, path, headers: vec![kind], body: jws.into() }
            }
            body => post(path, &body),
        };
        let got = self.call(to, sent).await?;
        let (answer, name) = (value(&got.body), letter.message.answer_pid_member());
        let pid = name.and_then(|name| answer.get(name)?.as_str()).map(|pid| pid.parse().unwrap());
        Ok(Answer { body: pid, promise: promise(&got.headers) })
    }

    async fn manifest(&self, to: &Member, digest: &Digest) -> Result<String, PeerError> {
        self.text(to, format!("/manifests/{digest}")).await
    }

    async fn schema(&self, to: &Member, digest: &Digest) -> Result<PeerSchema, PeerError> {
        Ok(PeerSchema { text: self.text(to, format!("/schemas/{digest}")).await?, statement: None })
    }

    async fn data(
        &self,
        to: &Member,
        transfer: &ProcessId,
        token: &str,
        range: std::ops::Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError> {
        let mut sent = get(format!("/data/{transfer}"));
        sent.headers.push((header::AUTHORIZATION, format!("Bearer {token}")));
        sent.headers.push((header::RANGE, format!("bytes={}-{}", range.start, range.end - 1)));
        let mut body = self.call(to, sent).await?.body;
        match self.faults.lie {
            Some(Lie::Other) => body = body.iter().map(|byte| byte ^ 1).collect(),
            Some(Lie::More) => body = [&body[..], b"more"].concat().into(),
            Some(Lie::Less) => body.truncate(body.len().div_ceil(2)),
            None => {}
        }
        // The body arrives in pieces, and the connection may break between two of them.
        let broken = self.faults.strikes(3).then(|| self.faults.chance.below(body.len() as u64) as usize);
        let end = broken.unwrap_or(body.len());
        let mut pieces: Vec<Result<Bytes, PeerError>> =
            body[..end].chunks(1 + end / 3).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        pieces.extend(broken.map(|_| Err(lost())));
        let life = self.life.clone();
        let stream = futures_util::stream::iter(pieces).then(move |piece| {
            let life = life.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                life.proceed().await;
                piece
            }
        });
        Ok(stream.boxed())
    }

    async fn pull(&self, _: &Member, _: &Endpoint, _: Option<&str>) -> Result<PlainData, PeerError> {
        Err(lost())
    }

    async fn key(&self, to: &Member, transfer: &ProcessId, request: &str) -> Result<Answer<String>, PeerError> {
        let kind = (header::CONTENT_TYPE, "application/jose".to_owned());
        let path = format!("/data/{transfer}/key");
        let sent = Sent { method: Method::POST, path, headers: vec![kind], body: request.to_owned().into() };
        let got = self.call(to, sent).await?;
        Ok(Answer { body: String::from_utf8(got.body.to_vec()).unwrap(), promise: promise(&got.headers) })
    }

    async fn checkpoint(&self, to: &Member) -> Result<String, PeerError> {
        self.text(to, "/log/checkpoint".into()).await
    }

    async fn observed_checkpoint(&self, to: &Member) -> Result<Option<String>, PeerError> {
        Ok(Some(self.text(to, "/seen".into()).await?).filter(|note| !note.is_empty()))
    }

    async fn register(&self, to: &Member, sequence: Option<u64>) -> Result<String, PeerError> {
        self.text(to, sequence.map_or("/register".into(), |sequence| format!("/register/{sequence}"))).await
    }

    async fn reach(&self, to: &Member) -> Result<Option<Timestamp>, PeerError> {
        self.text(to, "/.well-known/dspace-version".into()).await.map(|_| None)
    }

    async fn root(&self, to: &Member, version: u64) -> Result<String, PeerError> {
        self.text(to, format!("/root/{version}")).await
    }
}
