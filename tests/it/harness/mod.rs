//! An alliance and parks in a temporary folder, created by the program's own commands. When a park's node is stopped,
//! its log must verify.

mod connector;
mod rules;
mod running;

pub use connector::{CONTEXT, Connector, message, own_name, pem_text};
pub use rules::broken;
pub use running::{Here, Running, ShiftedClock};

use crosspark::assembly::{self, Overrides};
use crosspark::config::Config;
use crosspark::core::digest::Digest;
use crosspark::core::time::{Clock, SystemClock};
use crosspark::identity::key::KeyUse;
use crosspark::identity::register::{Member, VerifiedRegister};
use crosspark::identity::root::{RootChain, VerifiedRoot};
use crosspark::keys::{Kek, KeyFile};
use crosspark::net::{AddressRule, MemberClients, TlsIdentity, own_node_client};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_crosspark");
pub const ENTERPRISE: &str = "Silkroad Visual Beijing Center";

pub fn crosspark(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

/// Runs a command that must succeed, and returns its JSON output.
pub fn good(args: &[&str]) -> Value {
    let output = crosspark(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The fingerprint of a join request, as printed by `node init`.
pub fn request_fingerprint(path: &Path) -> String {
    use crosspark::identity::{document::MultiSigned, join::JoinRequest};
    let document = MultiSigned::parse::<JoinRequest>(&std::fs::read(path).unwrap()).unwrap();
    document.claimed::<JoinRequest>().unwrap().1.fingerprint()
}

pub struct Alliance {
    pub folder: tempfile::TempDir,
    pub fingerprint: String,
}

impl Alliance {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alliance = folder.path().join("alliance");
        let made = good(&["alliance", "init", text(&alliance), "--id", "did:web:alliance.example"]);
        Self { fingerprint: made["fingerprint"].as_str().unwrap().to_owned(), folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("alliance")
    }

    /// Creates nodes, admits them all, and lets them join with the newest register.
    pub fn parks<const N: usize>(&self, names: [&str; N]) -> [Park; N] {
        let parks = names.map(|name| Park::make(self, name));
        parks.iter().for_each(|park| park.admit(self));
        let newest = std::fs::read_to_string(self.path().join("register.jws")).unwrap();
        for park in &parks {
            let welcome = park.folder.with_extension("welcome");
            let mut value: Value = serde_json::from_slice(&std::fs::read(&welcome).unwrap()).unwrap();
            value["register"] = newest.clone().into();
            std::fs::write(&welcome, value.to_string()).unwrap();
            park.join(self);
        }
        parks
    }

    pub fn command(&self, command: &str, member: &Park) {
        let path = self.path();
        let args = ["alliance", command, text(&path), &member.id, "--reason", "a test"];
        let given = match command {
            "renew" => 3,
            "suspend" => 6,
            _ => 4,
        };
        good(&args[..given]);
    }

    /// The chain of all root documents.
    pub fn roots(&self) -> RootChain {
        let first = std::fs::read(self.path().join("root.json")).unwrap();
        let compared = Digest::parse_fingerprint(&self.fingerprint).unwrap();
        let mut roots = RootChain::new(VerifiedRoot::verify(&first, &compared).unwrap());
        for version in 2.. {
            let Ok(next) = std::fs::read(self.path().join(format!("roots/{version}.json"))) else { break };
            roots = roots.extended(&next).unwrap();
        }
        roots
    }

    pub fn register(&self) -> String {
        std::fs::read_to_string(self.path().join("register.jws")).unwrap()
    }

    /// A certificate from the alliance for the park's TLS key with the given validity (days from now).
    pub fn certificate(&self, park: &Park, from: i64, until: i64) -> TlsIdentity {
        let kek = Kek::load(&self.path().with_extension("kek")).unwrap();
        let (_, ca) = KeyFile::load(&self.path().join("keys/ca.key"), "ca", &kek).unwrap();
        let pkcs8 = PrivatePkcs8KeyDer::from(ca.as_slice());
        let ca = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = std::fs::read(self.path().join("ca.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from_pem_slice(&pem).unwrap(), ca).unwrap();
        let key = park.tls_key();
        let mut params = CertificateParams::new(vec!["park.example".into()]).unwrap();
        let day = |days: i64| SystemClock.now().plus_ms(days * 86_400_000).to_offset_date_time();
        (params.not_before, params.not_after) = (day(from), day(until));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        identity(params.signed_by(&key, &issuer).unwrap().der().clone(), &key)
    }
}

fn identity(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsIdentity {
    TlsIdentity { chain: vec![certificate], key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
}

/// A certificate that no alliance issued.
pub fn unknown_identity() -> TlsIdentity {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["stranger.example".into()]).unwrap().self_signed(&key).unwrap();
    identity(certificate.der().clone(), &key)
}

pub struct Park {
    pub id: String,
    pub folder: PathBuf,
    pub endpoint: String,
    pub management: String,
    fingerprint: String,
    pub alliance_fingerprint: String,
    admin: String,
    tokens: std::sync::Mutex<Vec<(String, String)>>,
}

/// A free port below the range for outgoing connections, so that no such connection takes it before the node listens.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (n % 22_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Park {
    pub fn make(alliance: &Alliance, name: &str) -> Self {
        let folder = alliance.folder.path().join(name);
        let id = format!("did:web:{name}.example");
        let (endpoint, management) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let url = format!("https://{endpoint}");
        let label = format!("en={name}");
        let made = good(&[
            "node",
            "init",
            text(&folder),
            "--id",
            &id,
            "--name",
            &label,
            "--jurisdiction",
            "CN-BJ",
            "--endpoint",
            &url,
            "--listen",
            &endpoint,
            "--management",
            &management,
            "--allow-private-addresses",
        ]);
        let member = |name: &str| made[name].as_str().unwrap().to_owned();
        Self {
            id,
            folder,
            endpoint: url,
            management: format!("http://{management}"),
            fingerprint: member("fingerprint"),
            alliance_fingerprint: alliance.fingerprint.clone(),
            admin: member("adminToken"),
            tokens: std::sync::Mutex::default(),
        }
    }

    pub fn admit(&self, alliance: &Alliance) {
        let (request, welcome) = (self.folder.join("join-request.json"), self.folder.with_extension("welcome"));
        good(&[
            "alliance",
            "admit",
            text(&alliance.path()),
            "--request",
            text(&request),
            "--fingerprint",
            &self.fingerprint,
            "--group",
            "pilot",
            "--welcome",
            text(&welcome),
        ]);
    }

    pub fn join(&self, alliance: &Alliance) {
        let welcome = self.folder.with_extension("welcome");
        let args = ["node", "join", text(&self.folder), "--welcome", text(&welcome)];
        good(&[&args[..], &["--root-fingerprint", &alliance.fingerprint]].concat());
    }

    pub fn kek(&self) -> Kek {
        Kek::load(&self.folder.with_extension("kek")).unwrap()
    }

    fn tls_key(&self) -> KeyPair {
        let (_, pkcs8) = KeyFile::load(&self.folder.join("keys/tls.key"), "tls", &self.kek()).unwrap();
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256).unwrap()
    }

    /// The TLS identity of the park's node.
    pub fn identity(&self) -> TlsIdentity {
        let pem = std::fs::read(self.folder.join("tls.pem")).unwrap();
        identity(CertificateDer::from_pem_slice(&pem).unwrap(), &self.tls_key())
    }

    pub fn document_key(&self) -> crosspark::identity::key::SigningKey {
        assembly::signing_key(&self.folder, KeyUse::Document, &self.kek()).unwrap()
    }

    /// The park's entry in the newest register of the alliance.
    pub fn member(&self, alliance: &Alliance) -> Member {
        let register = VerifiedRegister::verify_in(&alliance.register(), &alliance.roots()).unwrap();
        register.member(&self.id.parse().unwrap()).unwrap().clone()
    }

    /// A client that connects to this park's peer listener as `identity`.
    pub fn client(&self, alliance: &Alliance, identity: TlsIdentity) -> reqwest::Client {
        let ca = alliance.roots().ca().map(<[u8]>::to_vec).collect();
        let rule = AddressRule { allow_private: true };
        let (clients, member) = (MemberClients::new(identity, ca, rule, Arc::new(SystemClock)), self.member(alliance));
        clients.client(&member, member.endpoint.as_str()).unwrap()
    }

    /// The TLS configuration of such a client.
    pub fn client_config(&self, alliance: &Alliance, identity: TlsIdentity) -> rustls::ClientConfig {
        let ca = alliance.roots().ca().map(<[u8]>::to_vec).collect();
        let rule = AddressRule { allow_private: true };
        let clients = MemberClients::new(identity, ca, rule, Arc::new(SystemClock));
        clients.tls(&self.member(alliance)).unwrap()
    }

    /// Starts the node as a process and waits until it is ready.
    pub async fn start(&self) -> Running<'_> {
        let mut running = self.spawn(&[]);
        running.wait_ready().await;
        running
    }

    /// Starts the node as a process, under another program if `by` names one.
    pub fn spawn(&self, by: &[&str]) -> Running<'_> {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.with_extension("log")).unwrap();
        let all: Vec<&str> = by.iter().chain(&[PROGRAM, "serve", text(&self.folder)]).copied().collect();
        let child = Command::new(all[0])
            .args(&all[1..])
            .env("CROSSPARK_LOG", std::env::var("CROSSPARK_LOG").as_deref().unwrap_or("info"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Running { park: self, child: Some(child) }
    }

    /// Runs the node in this process with `overrides`.
    pub async fn start_here(&self, overrides: Overrides) -> Here {
        let config = Config::load(&self.folder.join("crosspark.toml")).unwrap();
        let assembled = assembly::assemble(config, overrides).await.unwrap();
        let services = assembled.services.clone();
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(async move { assembled.run(stopping).await.unwrap() });
        self.wait_http().await;
        Here { services, stop, task }
    }

    async fn wait_http(&self) {
        let client = own_node_client().unwrap();
        for _ in 0..3_000 {
            let ready = client.get(format!("{}/readyz", self.management)).send().await;
            if ready.is_ok_and(|response| response.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} did not become ready: {}", self.id, self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }

    /// The last lines of the log.
    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub fn admin_token(&self) -> String {
        self.admin.clone()
    }

    /// The tokens used so far: role and secret.
    pub fn tokens(&self) -> Vec<(String, String)> {
        self.tokens.lock().unwrap().clone()
    }

    /// Uses only these tokens, and new ones for other roles.
    pub fn use_tokens(&self, tokens: &[(String, String)]) {
        *self.tokens.lock().unwrap() = tokens.to_vec();
    }

    pub async fn token_of(&self, role: &str) -> String {
        self.token(role).await
    }

    async fn token(&self, role: &str) -> String {
        if role == "admin" {
            return self.admin.clone();
        }
        if let Some((_, secret)) = self.tokens.lock().unwrap().iter().find(|(known, _)| known == role) {
            return secret.clone();
        }
        let enterprise = (role == "requester").then_some(ENTERPRISE);
        let body = json!({"role": role, "person": "Li Hua", "enterprise": enterprise, "days": 60});
        let (status, made) = self.call("POST", "/v1/tokens", &self.admin.clone(), Some(body)).await;
        assert_eq!(status, 201, "{made}");
        let secret = made["secret"].as_str().unwrap().to_owned();
        self.tokens.lock().unwrap().push((role.to_owned(), secret.clone()));
        secret
    }

    /// Calls the management API with any token.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = own_node_client().unwrap().request(method, format!("{}{path}", self.management));
        request = request.bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{error:?} {}", self.log_end()));
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap_or_else(|error| panic!("{error:?} {}", self.log_end()));
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
    }

    /// Sends a GET request to the management API in a role; it must succeed.
    pub async fn get(&self, role: &str, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &self.token(role).await, None).await;
        assert!(status < 300, "{path}: {status} {body}");
        body
    }

    /// Publishes by the command line, and returns the output and the exit code.
    pub async fn publish(&self, schema: &str, records: &str, format: &str, policy: &Value) -> (Value, i32) {
        let file = self.folder.with_extension(format);
        let policy_file = self.folder.with_extension("policy");
        std::fs::write(&file, records).unwrap();
        std::fs::write(&policy_file, policy.to_string()).unwrap();
        let (token, schema) = (self.token("publisher").await, format!("urn:crosspark:schema:{schema}"));
        let args = ["publish", text(&file), "--schema", &schema, "--policy", text(&policy_file), "--title", "Sample"];
        let node = ["--node", &self.management, "--token", &token, "--json"];
        let args: Vec<String> = args.iter().chain(&node).map(ToString::to_string).collect();
        let output =
            tokio::task::spawn_blocking(move || crosspark(&args.iter().map(String::as_str).collect::<Vec<_>>()));
        let output = output.await.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(complaint));
        (answer, output.status.code().unwrap())
    }

    /// Requests a dataset and waits until it is delivered or refused.
    pub async fn request(&self, provider: &Park, dataset: &str, purpose: &str) -> Value {
        let view = self.begin_request(provider, dataset, purpose).await;
        self.wait(&view, 60).await
    }

    pub async fn begin_request(&self, provider: &Park, dataset: &str, purpose: &str) -> Value {
        let begun = self.try_request(provider, dataset, purpose).await;
        begun.unwrap_or_else(|| panic!("the request was not accepted: {}", self.log()))
    }

    /// Begins a request of another connector's dataset.
    pub async fn request_from(&self, provider: &str, dataset: &str, purpose: &str) -> Value {
        let body = json!({"provider": provider, "dataset": dataset, "purpose": purpose});
        let (status, view) = self.call("POST", "/v1/requests", &self.token("requester").await, Some(body)).await;
        assert_eq!(status, 202, "{view}");
        view
    }

    /// Requests a dataset; none if the node does not accept the request or does not answer.
    pub async fn try_request(&self, provider: &Park, dataset: &str, purpose: &str) -> Option<Value> {
        let body = json!({"provider": provider.id, "dataset": dataset, "purpose": purpose});
        let token = self.token("requester").await;
        let request = own_node_client().unwrap().post(format!("{}/v1/requests", self.management)).bearer_auth(token);
        let response = request.json(&body).send().await.ok()?;
        if response.status() == 202 { response.json().await.ok() } else { None }
    }

    pub async fn wait(&self, view: &Value, seconds: u64) -> Value {
        let id = view["id"].as_str().unwrap();
        self.get("requester", &format!("/v1/requests/{id}?wait={seconds}")).await
    }

    /// The data of a delivered request, as text.
    pub async fn data(&self, view: &Value, format: &str) -> String {
        let path = format!("/v1/requests/{}/data?format={format}", view["id"].as_str().unwrap());
        let url = format!("{}{path}", self.management);
        let request = own_node_client().unwrap().get(url).bearer_auth(self.token("requester").await);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        response.text().await.unwrap()
    }

    /// All log entries. Has the log signed first, which also writes the counted refusals.
    pub async fn entries(&self) -> Vec<Value> {
        self.get("auditor", "/v1/audit/checkpoint").await;
        let found = self.get("auditor", "/v1/audit/entries?limit=1000").await;
        found["entries"].as_array().unwrap().clone()
    }

    /// Runs `audit verify`, and returns its exit code and report.
    pub fn verify(&self, held_by: &[&Park]) -> (i32, Value) {
        let mut args = vec!["audit", "verify", text(&self.folder), "--participant", &self.id, "--json"];
        args.extend(["--root-fingerprint", &self.alliance_fingerprint]);
        held_by.iter().for_each(|other| args.extend(["--held-by", text(&other.folder)]));
        let output = crosspark(&args);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(complaint));
        (output.status.code().unwrap(), report)
    }
}

/// A policy for the given constraints (left, operator, right).
pub fn policy(constraints: &[(&str, &str, Value)]) -> Value {
    let list: Vec<Value> = constraints
        .iter()
        .map(|(left, operator, right)| json!({"leftOperand": left, "operator": operator, "rightOperand": right}))
        .collect();
    json!({"permission": [{"action": "use", "constraint": list}]})
}

/// A policy for research and planning.
pub fn research() -> Value {
    policy(&[("purpose", "isAnyOf", json!(["research", "planning"]))])
}

/// `n` valid records of the schema economic-indicator.
pub fn records(n: usize) -> String {
    (0..n).map(|i| format!("{{\"area\":\"A{i}\",\"period\":\"2024\",\"value\":{i}.5}}\n")).collect()
}

pub fn dataset_of(published: &Value) -> &str {
    published["dataset"].as_str().unwrap_or_else(|| panic!("not published: {published}"))
}

/// A client without a certificate that accepts any server certificate.
#[allow(clippy::disallowed_methods, reason = "another connector does not use our client")]
pub fn anonymous() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap()
}
