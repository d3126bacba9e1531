//! A connector that is not a crosspark node: it speaks only the Dataspace Protocol. It records the messages that it
//! receives and answers them from a table.

use super::{Alliance, good, text, unknown_identity};
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use crosspark::core::digest::Digest;
use crosspark::core::id::ParticipantId;
use crosspark::core::time::{Clock, SystemClock};
use crosspark::identity::bearer;
use crosspark::identity::key::SigningKey;
use crosspark::identity::x509::{Der, Presented};
use crosspark::net::{CertificateResolver, TlsIdentity, server_config};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

pub const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";

/// A received message: path and body, with the bearer token if there was one.
#[derive(Debug, Clone)]
pub struct Heard {
    pub path: String,
    pub body: Value,
    pub token: Option<String>,
}

/// A prepared response, used before those of the protocol.
struct Prepared {
    /// End of the path.
    end: String,
    status: u16,
    body: Vec<u8>,
    kind: &'static str,
    /// How often it is used.
    times: usize,
}

#[derive(Clone, Default)]
struct Ears {
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Violations of the protocol's rules in received messages.
    wrong: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<Prepared>>>,
}

pub struct Connector {
    pub id: String,
    pub endpoint: String,
    pub identity: TlsIdentity,
    /// Signs its bearer tokens, if it cannot use client certificates.
    pub token_key: Option<SigningKey>,
    ears: Ears,
}

async fn hear(State(ears): State<Ears>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let token = bearer_of(request.headers());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if body.is_object() {
        ears.wrong.lock().unwrap().extend(super::broken(&body));
    }
    ears.heard.lock().unwrap().push(Heard { path: path.clone(), body: body.clone(), token });
    let mut answers = ears.answers.lock().unwrap();
    if let Some(answer) = answers.iter_mut().find(|answer| path.ends_with(&answer.end) && answer.times > 0) {
        answer.times -= 1;
        let status = StatusCode::from_u16(answer.status).unwrap();
        return (status, [("content-type", answer.kind)], Bytes::from(answer.body.clone())).into_response();
    }
    drop(answers);
    let opens = ["/negotiations/request", "/negotiations/offers", "/transfers/request"];
    if !opens.iter().any(|known| path.ends_with(known)) {
        return StatusCode::OK.into_response();
    }
    let own = own_name(&body);
    let kind = if path.contains("transfers") { "TransferProcess" } else { "ContractNegotiation" };
    let mut answer = json!({"@context": [CONTEXT], "@type": kind, "state": "REQUESTED"});
    for name in ["consumerPid", "providerPid"] {
        answer[name] = body.get(name).cloned().unwrap_or_else(|| own.clone().into());
    }
    (StatusCode::CREATED, Json(answer)).into_response()
}

/// The connector's pid for the process that a message opens.
pub fn own_name(body: &Value) -> String {
    format!("urn:uuid:{}", hex::encode(Digest::of(body.to_string().as_bytes()).as_bytes()))
}

fn bearer_of(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?.to_owned())
}

impl Connector {
    /// Starts the connector and adds it to the alliance's register.
    pub async fn start(alliance: &Alliance, name: &str, by_token: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}/protocol/2025-1", listener.local_addr().unwrap());
        let (identity, ears) = (unknown_identity(), Ears::default());
        let acceptor =
            TlsAcceptor::from(Arc::new(server_config(Arc::new(CertificateResolver::new(&identity).unwrap())).unwrap()));
        let router = Router::new().fallback(hear).with_state(ears.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        let id = format!("did:web:{name}.example");
        let participant: ParticipantId = id.parse().unwrap();
        // Its TLS key is the first in the register, its token key the second.
        let token_key = by_token.then(|| SigningKey::from_seed(participant.key(2), &Zeroizing::new([9; 32])));
        let made = Self { id, endpoint, identity, token_key, ears };
        made.admit(alliance);
        made
    }

    fn admit(&self, alliance: &Alliance) {
        let (certificate, key) = (self.file(alliance, "pem"), self.file(alliance, "key.pem"));
        let der = self.identity.chain[0].as_ref();
        std::fs::write(&certificate, pem_text("CERTIFICATE", der)).unwrap();
        let pin = Presented::parse(&Der::from(der.to_vec())).unwrap().pin().fingerprint();
        let (path, data) = (alliance.path(), self.endpoint.replace("/protocol/2025-1", "/data"));
        let mut args = vec!["alliance", "connector", text(&path), "--id", &self.id, "--name", "en=Connector"];
        args.extend(["--jurisdiction", "DE", "--endpoint", &self.endpoint, "--data", &data, "--group", "pilot"]);
        args.extend(["--certificate", text(&certificate), "--fingerprint", &pin]);
        let mut token_pin = String::new();
        if let Some(token_key) = &self.token_key {
            // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4).
            let head = hex::decode("302a300506032b6570032100").unwrap();
            let spki = [&head[..], token_key.public().as_bytes()].concat();
            std::fs::write(&key, pem_text("PUBLIC KEY", &spki)).unwrap();
            token_pin = Digest::of(&spki).fingerprint();
        }
        if self.token_key.is_some() {
            args.extend(["--token-key", text(&key), "--fingerprint", &token_pin]);
        }
        good(&args);
    }

    fn file(&self, alliance: &Alliance, suffix: &str) -> PathBuf {
        alliance.folder.path().join(format!("{}.{suffix}", self.id.replace(':', "-")))
    }

    /// Prepares the response to requests for a path below the connector's base, or for a complete path below `/data`.
    pub fn answers(&self, path: &str, body: impl Into<Vec<u8>>, kind: &'static str) {
        let base = if path.starts_with("/data") { "" } else { "/protocol/2025-1" };
        self.prepares(Prepared {
            end: format!("{base}{path}"),
            status: 200,
            body: body.into(),
            kind,
            times: usize::MAX,
        });
    }

    /// Refuses messages whose path ends like this, as the protocol's error with a reason.
    pub fn refuses(&self, end: &str, reason: &str) {
        self.refuses_times(end, 400, reason, usize::MAX);
    }

    /// Refuses so many messages with a status.
    pub fn refuses_times(&self, end: &str, status: u16, reason: &str, times: usize) {
        let error = json!({
            "@context": [CONTEXT], "@type": "ContractNegotiationError", "code": status.to_string(), "reason": [reason],
        });
        let (end, body) = (end.to_owned(), error.to_string().into());
        self.prepares(Prepared { end, status, body, kind: "application/json", times });
    }

    fn prepares(&self, answer: Prepared) {
        self.ears.answers.lock().unwrap().push(answer);
    }

    /// Waits for a message of this `@type`, skipping the first `skip` ones.
    pub async fn hears(&self, kind: &str, skip: usize) -> Heard {
        for _ in 0..1_000 {
            let heard = self.ears.heard.lock().unwrap().clone();
            if let Some(found) = heard.into_iter().filter(|heard| heard.body["@type"] == kind).nth(skip) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {kind} was received: {:#?}", self.ears.heard.lock().unwrap());
    }

    pub fn all_heard(&self) -> Vec<Heard> {
        self.ears.heard.lock().unwrap().clone()
    }

    /// The connector's bearer token for a park.
    pub fn bearer(&self, audience: &str) -> Option<String> {
        Some(bearer::make(self.token_key.as_ref()?, &audience.parse().unwrap(), SystemClock.now()))
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let wrong = self.ears.wrong.lock().unwrap();
        assert!(std::thread::panicking() || wrong.is_empty(), "{wrong:#?}");
    }
}

/// Builds a message of the protocol.
pub fn message(kind: &str, members: Value) -> Value {
    let mut all = json!({"@context": [CONTEXT], "@type": kind, "@id": format!("urn:x:{}", rand())});
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}

fn rand() -> String {
    use crosspark::core::random::{SystemRandomness, bytes};
    hex::encode(bytes::<8>(&SystemRandomness::new()))
}

pub fn pem_text(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
