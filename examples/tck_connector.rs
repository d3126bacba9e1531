//! A connector for the Dataspace Protocol's conformance kit: the node's own routes, service and store, with one fixed
//! counterparty, seeded datasets and agreements, and a script in place of the policy's decisions (`tests/tck/run`).
//!
//! The kit uses plain HTTP without authentication, which a node never accepts. This example therefore takes the place
//! of TLS termination: it presents the counterparty's certificate with every request, and translates between `http` and
//! `https`, and between the kit's name and the counterparty's participant id.

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use crosspark::agreement::{Agreement, Versions};
use crosspark::alliance::{Alliance, NewConnector};
use crosspark::assembly::{Overrides, assemble};
use crosspark::audit::entry::{Draft, Facts, Kind};
use crosspark::config::{Config, Disk, Log, ManagementListener, PeerListener};
use crosspark::contracts::NegotiationRequest;
use crosspark::core::digest::Digest;
use crosspark::core::id::{DatasetId, ParticipantId, ProcessId, Text, TokenId};
use crosspark::core::random::SystemRandomness;
use crosspark::core::time::{Clock, NodeClock, SystemClock, Timestamp};
use crosspark::dataset::manifest::SchemaRef;
use crosspark::enrol::{self, NewNode};
use crosspark::identity::endpoint::Endpoint;
use crosspark::identity::register::Member;
use crosspark::identity::x509::{Der, Presented};
use crosspark::keys::Kek;
use crosspark::negotiation::{Negotiation, Role, State as Stage};
use crosspark::node::{
    Answer, Assessment, DecisionMaker, Envelope, NegotiationStep, Peer, PeerCatalogPage, PeerError, PeerSchema,
    PlainData, TransferStep, User, UserRole,
};
use crosspark::policy::{Channel, Decision, Policy};
use crosspark::protocol::{self, Connection, wire_message};
use crosspark::services::Services;
use crosspark::storage::{AgreementRow, Change, VersionRow, Write};
use crosspark::transfer::{State as Phase, Transfer};
use futures_util::stream::BoxStream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The kit's own participant id.
const KIT: &str = "TCK_PARTICIPANT";
/// The kit's participant id in the register.
const COUNTERPARTY: &str = "did:web:tck.example";
/// The port of this connector, and that on which the kit listens, if the command line does not give them.
const PORTS: [u16; 2] = [8090, 8083];
/// Delay of outgoing messages: the kit expects a message only after its own, which triggers it, is answered.
const PAUSE: Duration = Duration::from_millis(500);
/// Pauses between delivery attempts of one message. They are few: a late delivery would disturb the next test.
const RETRIES: [Duration; 3] = [Duration::from_millis(300), Duration::from_millis(300), Duration::from_millis(600)];

/// Steps by state: `STATE` or, if a process can return to it, `STATE@REVISION`.
type Script = &'static [(&'static str, &'static [(&'static str, &'static str)])];

const PROVIDED: Script = &[
    ("ACN0101", &[("REQUESTED@1", "offer")]),
    ("ACN0102", &[("REQUESTED@1", "offer"), ("REQUESTED@3", "terminate")]),
    ("ACN0103", &[("REQUESTED@1", "offer"), ("ACCEPTED", "agree"), ("VERIFIED", "finalize")]),
    ("ACN0104", &[("REQUESTED", "agree"), ("VERIFIED", "finalize")]),
    ("ACN0201", &[("REQUESTED", "terminate")]),
    ("ACN0202", &[]),
    ("ACN0203", &[("REQUESTED", "agree")]),
    ("ACN0204", &[("REQUESTED@1", "offer")]),
    ("ACN0205", &[("REQUESTED@1", "offer"), ("OFFERED", "terminate")]),
    ("ACN0206", &[("REQUESTED@1", "offer"), ("ACCEPTED", "terminate")]),
    ("ACN0207", &[("REQUESTED", "agree"), ("VERIFIED", "terminate")]),
    ("ACN0301", &[("REQUESTED", "agree"), ("VERIFIED", "finalize")]),
    ("ACN0302", &[("REQUESTED@1", "offer")]),
    ("ACN0303", &[("REQUESTED@1", "offer")]),
    ("ACN0304", &[("REQUESTED@1", "offer")]),
    ("CAT0101", &[]),
    ("CAT0102", &[]),
];

const CONSUMED: Script = &[
    ("ACNC0101", &[("OFFERED", "accept"), ("AGREED", "verify")]),
    ("ACNC0102", &[("OFFERED@2", "counter")]),
    ("ACNC0103", &[("OFFERED", "terminate")]),
    ("ACNC0104", &[("AGREED", "verify")]),
    ("ACNC0202", &[("REQUESTED", "terminate")]),
    ("ACNC0203", &[("AGREED", "terminate")]),
    ("ACNC0205", &[("OFFERED", "accept")]),
    ("ACNC0206", &[("AGREED", "verify")]),
    ("ACNC0304", &[("OFFERED", "accept")]),
    ("ACNC0305", &[("OFFERED", "accept")]),
    ("ACNC0306", &[("OFFERED", "accept")]),
];

const SERVED: Script = &[
    ("ATP0101", &[("REQUESTED", "start"), ("STARTED", "terminate")]),
    ("ATP0102", &[("REQUESTED", "start"), ("STARTED", "complete")]),
    ("ATP0103", &[("REQUESTED", "start"), ("STARTED", "suspend"), ("SUSPENDED", "terminate")]),
    ("ATP0104", &[("REQUESTED", "start"), ("STARTED@2", "suspend"), ("SUSPENDED", "start"), ("STARTED@4", "complete")]),
    ("ATP0105", &[("REQUESTED", "terminate")]),
    ("ATP0201", &[("REQUESTED", "start")]),
    ("ATP0202", &[("REQUESTED", "start")]),
    ("ATP0203", &[("REQUESTED", "start")]),
    ("ATP0204", &[("REQUESTED", "start")]),
    ("ATP0205", &[]),
    ("ATP0301", &[]),
    ("ATP0302", &[]),
    ("ATP0303", &[("REQUESTED", "start")]),
    ("ATP0304", &[("REQUESTED", "start")]),
    ("ATP0305", &[("REQUESTED", "start")]),
    ("ATP0306", &[("REQUESTED", "start")]),
];

const RECEIVED: Script = &[
    ("ATPC0101", &[]),
    ("ATPC0102", &[]),
    ("ATPC0103", &[]),
    ("ATPC0104", &[]),
    ("ATPC0105", &[]),
    ("ATPC0201", &[("STARTED", "terminate")]),
    ("ATPC0202", &[("STARTED", "complete")]),
    ("ATPC0203", &[("STARTED", "suspend"), ("SUSPENDED", "terminate")]),
    ("ATPC0204", &[]),
    ("ATPC0205", &[("REQUESTED", "terminate")]),
    ("ATPC0301", &[]),
    ("ATPC0302", &[]),
    ("ATPC0303", &[]),
    ("ATPC0304", &[]),
    ("ATPC0305", &[]),
    ("ATPC0306", &[]),
];

/// The scripted step of a process.
fn scripted(script: Script, id: &str, state: &str, revision: u64) -> Option<&'static str> {
    let (_, lines) = script.iter().find(|(known, _)| *known == id)?;
    let at = format!("{state}@{revision}");
    lines.iter().find(|(when, _)| *when == state || *when == at).map(|(_, word)| *word)
}

struct Scripted;

impl DecisionMaker for Scripted {
    fn negotiation(&self, negotiation: &Negotiation, _says: &Assessment) -> NegotiationStep {
        let script = if negotiation.role == Role::Provider { PROVIDED } else { CONSUMED };
        let dataset = negotiation.subject.dataset.as_str();
        match scripted(script, dataset, negotiation.state.name(), negotiation.revision) {
            Some("offer") => NegotiationStep::Offer,
            Some("counter") => NegotiationStep::Counter(negotiation.subject.policy.clone()),
            Some("accept") => NegotiationStep::Accept,
            Some("agree") => NegotiationStep::Agree,
            Some("verify") => NegotiationStep::Verify,
            Some("finalize") => NegotiationStep::Finalize,
            // The termination message needs the peer's process id.
            Some("terminate") if negotiation.peer_pid.is_some() => NegotiationStep::Terminate("by the script".into()),
            _ => NegotiationStep::Wait,
        }
    }

    fn transfer(&self, transfer: &Transfer, _policy: Option<&Decision>) -> TransferStep {
        let script = if transfer.role == Role::Provider { SERVED } else { RECEIVED };
        match scripted(script, transfer.agreement.as_str(), transfer.state.name(), transfer.revision) {
            Some("start") => TransferStep::Start,
            Some("suspend") => TransferStep::Suspend("by the script".into()),
            Some("complete") => TransferStep::Complete,
            Some("terminate") if transfer.peer_pid.is_some() => TransferStep::Terminate("by the script".into()),
            _ => TransferStep::Wait,
        }
    }

    fn delivery(&self, _negotiation: &Negotiation, _connector: bool) -> Option<Channel> {
        None
    }
}

/// Translates a message for the kit.
fn to_kit(text: &str) -> String {
    text.replace("\"https://localhost", "\"http://localhost").replace(COUNTERPARTY, KIT)
}

/// Translates a message from the kit.
fn from_kit(text: &str) -> String {
    text.replace("\"http://", "\"https://").replace(KIT, COUNTERPARTY)
}

/// The kit as a peer.
struct KitPeer {
    own: Endpoint,
    client: reqwest::Client,
}

fn not_asked<T>() -> Result<T, PeerError> {
    Err(PeerError::Unreachable("the conformance kit does not support this call".into()))
}

#[async_trait]
impl Peer for KitPeer {
    async fn deliver(&self, to: &Member, letter: &Envelope<'_>) -> Result<Answer<Option<ProcessId>>, PeerError> {
        tokio::time::sleep(PAUSE).await;
        let (path, body) = wire_message(letter, &self.own, &to.id);
        let url = letter.callback.unwrap_or(&to.endpoint).join(&path).replace("https://", "http://");
        let body = to_kit(&body.to_string());
        let mut last = PeerError::Invalid("not sent".into());
        for pause in RETRIES {
            let request = self.client.post(&url).header("content-type", "application/json").body(body.clone());
            match request.timeout(Duration::from_secs(3)).send().await {
                Ok(answer) if answer.status().is_success() => {
                    let answer: Value = answer.json().await.unwrap_or_default();
                    let name = letter.message.answer_pid_member().and_then(|name| answer.get(name)?.as_str());
                    return Ok(Answer { body: name.and_then(|pid| ProcessId::parse(pid).ok()), promise: None });
                }
                Ok(answer) => last = PeerError::Invalid(answer.status().to_string()),
                Err(error) => last = PeerError::Invalid(error.to_string()),
            }
            tokio::time::sleep(pause).await;
        }
        Err(last)
    }

    async fn catalog(&self, _: &Member, _: Option<u64>, _: Option<&str>) -> Result<PeerCatalogPage, PeerError> {
        not_asked()
    }
    async fn dataset(&self, _: &Member, _: &DatasetId) -> Result<Value, PeerError> {
        not_asked()
    }
    async fn manifest(&self, _: &Member, _: &Digest) -> Result<String, PeerError> {
        not_asked()
    }
    async fn schema(&self, _: &Member, _: &Digest) -> Result<PeerSchema, PeerError> {
        not_asked()
    }
    async fn data(
        &self,
        _: &Member,
        _: &ProcessId,
        _: &str,
        _: std::ops::Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError> {
        not_asked()
    }
    async fn pull(&self, _: &Member, _: &Endpoint, _: Option<&str>) -> Result<PlainData, PeerError> {
        not_asked()
    }
    async fn key(&self, _: &Member, _: &ProcessId, _: &str) -> Result<Answer<String>, PeerError> {
        not_asked()
    }
    async fn checkpoint(&self, _: &Member) -> Result<String, PeerError> {
        not_asked()
    }
    async fn observed_checkpoint(&self, _: &Member) -> Result<Option<String>, PeerError> {
        not_asked()
    }
    async fn register(&self, _: &Member, _: Option<u64>) -> Result<String, PeerError> {
        not_asked()
    }
    async fn reach(&self, _: &Member) -> Result<Option<Timestamp>, PeerError> {
        not_asked()
    }
    async fn root(&self, _: &Member, _: u64) -> Result<String, PeerError> {
        not_asked()
    }
}

/// Takes the place of TLS termination.
async fn as_counterparty(State(about): State<Connection>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    parts.extensions.insert(about);
    let body = from_kit(&String::from_utf8_lossy(&body));
    let (mut parts, body) = next.run(Request::from_parts(parts, Body::from(body))).await.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    parts.headers.remove("content-length");
    Response::from_parts(parts, Body::from(to_kit(&String::from_utf8_lossy(&body))))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initiate {
    offer_id: Option<String>,
    dataset_id: Option<String>,
    agreement_id: Option<String>,
    format: Option<String>,
}

fn text(text: &str) -> Text {
    Text::parse(text).expect("a text")
}

fn open_policy() -> Policy {
    let channels = Channel::ALL.map(Channel::name);
    let constraint = json!([{"leftOperand": "deliveryChannel", "operator": "isAnyOf", "rightOperand": channels}]);
    Policy::from_value(&json!({"permission": [{"action": "use", "constraint": constraint}]})).expect("a policy")
}

fn plain_policy() -> Value {
    json!({"permission": [{"action": "use"}]})
}

/// Starts a negotiation or transfer on request of the kit.
async fn initiate(State(node): State<Services>, Json(wanted): Json<Initiate>) -> Result<(), String> {
    let kit = COUNTERPARTY.parse().map_err(|error| format!("{error}"))?;
    let error = |error: &dyn std::fmt::Display| error.to_string();
    if let Some(agreement) = wanted.agreement_id {
        let channel = wanted.format.as_deref().and_then(Channel::named).unwrap_or(Channel::Pull);
        let agreement = agreement.parse().map_err(|e| error(&e))?;
        return node.delivery.transfers.request(&agreement, channel).await.map(drop).map_err(|e| error(&e));
    }
    let user = User {
        token: TokenId::parse("urn:uuid:tck").map_err(|e| error(&e))?,
        role: UserRole::Requester,
        person: text("Tester"),
        enterprise: Some(text("Conformance")),
    };
    let offer = wanted.offer_id.unwrap_or_default().parse().map_err(|e| error(&e))?;
    let dataset = wanted.dataset_id.unwrap_or_default().parse().map_err(|e| error(&e))?;
    let (purpose, enterprise) = (text("conformance"), text("Conformance"));
    let ask =
        NegotiationRequest { provider: &kit, terms: (offer, dataset, plain_policy()), purpose: &purpose, enterprise };
    node.contracts.requests.ask(&user, ask, None).await.map(drop).map_err(|e| error(&e))
}

/// Creates a node's folder in a new alliance, and the counterparty's certificate.
async fn found(
    folder: &Path,
    listen: SocketAddr,
    kit_port: u16,
    own: &ParticipantId,
) -> anyhow::Result<(Config, Presented)> {
    let (random, now) = (SystemRandomness::new(), SystemClock.now());
    for name in ["alliance", "node"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    let kek = Kek::create(&folder.join("alliance.kek"), &random)?;
    let operator = ParticipantId::parse("did:web:alliance.example")?;
    let mut alliance = Alliance::init(&folder.join("alliance"), kek, &operator, Default::default(), now, &random)?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let presented = Presented::parse(&Der::from(made.cert.der().to_vec()))?;
    let kit = NewConnector {
        id: COUNTERPARTY.parse()?,
        names: [("en".to_owned(), text("Conformance kit"))].into(),
        jurisdiction: text("EU"),
        endpoint: Endpoint::parse(&format!("https://localhost:{kit_port}"))?,
        callbacks: Vec::new(),
        data: vec![Endpoint::parse("https://example.com")?],
        groups: Vec::new(),
        certificates: made.cert.pem().into_bytes(),
        token_key: None,
    };
    alliance.admit_connector(kit, &[presented.pin()], now)?;
    let config = Config {
        participant: own.clone(),
        data: folder.join("node"),
        kek_file: folder.join("node.kek"),
        peer: PeerListener {
            listen,
            endpoint: Endpoint::parse(&format!("https://localhost:{}", listen.port()))?,
            allow_private_addresses: true,
            writes_per_member_per_minute: 12_000,
            stored_mib_per_member_per_day: 256,
        },
        management: ManagementListener { listen },
        alliance: None,
        disk: Disk::default(),
        log: Log::default(),
        connections: Default::default(),
    };
    let names = [("en".to_owned(), text("Connector under test"))].into();
    let new = NewNode { config: config.clone(), names, jurisdiction: text("EU"), admin: text("Tester") };
    let (fingerprint, _) = enrol::init(&new, &config.to_toml(), now, &random, NodeClock::of_system()).await?;
    let request = std::fs::read(config.data.join(enrol::JOIN_REQUEST))?;
    let welcome = alliance.admit(&request, &fingerprint, &[], now, &random)?;
    let welcome = serde_json::to_vec(&welcome)?;
    let root = alliance.root().digest();
    enrol::join(&config, &welcome, &root, &random, NodeClock::of_system()).await?;
    Ok((config, presented))
}

/// Stores the datasets, offers and agreements that the kit's configuration names.
async fn seed(node: &Services, own: &ParticipantId) -> anyhow::Result<()> {
    let (random, now) = (SystemRandomness::new(), node.node.now());
    for (id, _) in PROVIDED {
        let policy = Policy::from_value(&plain_policy())?;
        let digest = Digest::of(id.as_bytes());
        let row = VersionRow {
            dataset: id.parse()?,
            version: 1,
            title: text(id),
            description: String::new(),
            offer: format!("CD123:{id}:456").parse()?,
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            manifest: (*id).to_owned(),
            manifest_digest: digest,
            schema: SchemaRef { id: "urn:none".into(), version: "1.0.0".into(), digest },
            records: 0,
            bytes: 0,
            blob: digest,
            wrapped_key: String::new(),
            published: now,
            about: Default::default(),
            quality: Default::default(),
            audience: policy.audience(),
            withdrawn: None,
        };
        let entry = Draft::new(Kind::DatasetPublished, Facts::default(), &random);
        node.node.store().commit(Change::new(entry).write(Write::InsertVersion(Box::new(row)))).await?;
    }
    let kit = ParticipantId::parse(COUNTERPARTY)?;
    let provided = SERVED.iter().map(|(id, _)| (*id, own, &kit));
    let consumed = RECEIVED.iter().map(|(id, _)| (*id, &kit, own));
    for (id, provider, consumer) in provided.chain(consumed) {
        let policy = open_policy();
        let agreement = Agreement {
            id: id.parse()?,
            provider: provider.clone(),
            consumer: consumer.clone(),
            dataset: "CAT0101".parse()?,
            versions: Versions::All,
            manifest: None,
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            purpose: Some(text("conformance")),
            enterprise: None,
            person: None,
            valid_from: now,
            valid_until: now.plus_ms(86_400_000),
        };
        let row = AgreementRow {
            id: agreement.id.clone(),
            peer: kit.clone(),
            negotiation: format!("urn:tck:{id}").parse()?,
            digest: Digest::of(id.as_bytes()),
            agreement,
            provider: None,
            consumer: None,
            approved: false,
            used: 0,
        };
        let entry = Draft::new(Kind::NegotiationTransition, Facts::default(), &random);
        node.node.store().commit(Change::new(entry).write(Write::InsertAgreement(Box::new(row)))).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Every state in the scripts must exist in the protocol.
    let stages: Vec<&str> = Stage::ALL.map(Stage::name).into_iter().chain(Phase::ALL.map(Phase::name)).collect();
    for (id, lines) in [PROVIDED, CONSUMED, SERVED, RECEIVED].concat() {
        let known = |(when, _): &(&str, &str)| stages.contains(&when.split('@').next().unwrap_or_default());
        assert!(lines.iter().all(known), "{id}");
    }
    let port = |n: usize| std::env::args().nth(n + 1).map_or(Ok(PORTS[n]), |port| port.parse::<u16>());
    let (port, kit_port) = (port(0)?, port(1)?);
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    let own = ParticipantId::parse("did:web:connector.example")?;
    let folder = tempfile::tempdir()?;
    let (config, presented) = found(folder.path(), listen, kit_port, &own).await?;
    let peer = KitPeer { own: config.peer.endpoint.clone(), client: crosspark::net::own_node_client()? };
    let overrides =
        Overrides { peer: Some(Arc::new(peer)), decisions: Some(Arc::new(Scripted)), ..Overrides::default() };
    let assembled = assemble(config, overrides).await?;
    let node = assembled.services.clone();
    node.operations.recovery.begin_writing(false).await?;
    seed(&node, &own).await?;
    tokio::spawn(node.operations.outbox.clone().run());
    let about = Connection { presented: Some(Arc::new(presented)), address: None };
    let protocol = protocol::router(node.clone()).layer(from_fn_with_state(about, as_counterparty));
    let begin = Router::new()
        .route("/initiate/negotiation", post(initiate))
        .route("/initiate/transfer", post(initiate))
        .with_state(node);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("ready on {listen}");
    axum::serve(listener, begin.fallback_service(protocol).into_make_service()).await?;
    Ok(())
}
