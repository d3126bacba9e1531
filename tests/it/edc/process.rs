//! A running Eclipse EDC: its keys, its entry in the alliance's register, its configuration and its management API.

use crate::harness::*;
use crosspark::core::digest::Digest;
use crosspark::core::id::ParticipantId;
use crosspark::identity::key::SigningKey;
use reqwest::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use zeroize::Zeroizing;

const PASSWORD: &str = "changeit";
/// Seed of the key that signs its tokens.
const SEED: [u8; 32] = [11; 32];

/// An EDC connector in a process of its own.
pub struct Edc {
    pub id: String,
    /// Its endpoint of the protocol, without version.
    pub protocol: String,
    /// Its data plane's public end.
    pub public: String,
    management: String,
    folder: PathBuf,
    client: Client,
    child: Option<Child>,
    /// Logs for the message of a failed test: its own and those of the parks.
    logs: Vec<PathBuf>,
}

/// Where `tests/edc/run` has put the class path; `None` if the tests with EDC are to be skipped.
pub fn class_path() -> Option<String> {
    let found = std::env::var("CROSSPARK_EDC").ok();
    if found.is_none() {
        eprintln!("skipped: tests/edc/run starts these tests (they need a JDK and Maven)");
    }
    found
}

impl Edc {
    /// Makes its keys and adds it to the register.
    pub fn admit(alliance: &Alliance) -> Self {
        let folder = alliance.folder.path().join("edc");
        std::fs::create_dir(&folder).unwrap();
        let [protocol, public, management] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
        let made = Self {
            id: "did:web:edc.example".into(),
            protocol: format!("https://{protocol}/protocol"),
            public: format!("https://{public}/public"),
            management: format!("https://{management}/management"),
            folder,
            client: anonymous(),
            child: None,
            logs: Vec::new(),
        };
        let (pin, token_pin) = made.make_keys(alliance);
        let (path, endpoint) = (alliance.path(), format!("{}/2025-1", made.protocol));
        let (certificate, token_key) = (made.folder.join("tls.pem"), made.folder.join("token.pem"));
        let mut args = vec!["alliance", "connector", text(&path), "--id", &made.id, "--name", "en=Works"];
        args.extend(["--jurisdiction", "DE", "--endpoint", &endpoint, "--callback", &made.protocol]);
        args.extend(["--data", &made.public, "--group", "pilot", "--certificate", text(&certificate)]);
        args.extend(["--fingerprint", &pin, "--token-key", text(&token_key), "--fingerprint", &token_pin]);
        good(&args);
        made
    }

    /// Its TLS key and trust store, made by the JDK's keytool, and the key of its tokens. Returns the fingerprints.
    fn make_keys(&self, alliance: &Alliance) -> (String, String) {
        let store = self.folder.join("tls.p12");
        let with = |store: &Path, args: &[&str]| {
            let common = ["-storetype", "PKCS12", "-storepass", PASSWORD, "-noprompt", "-keystore", text(store)];
            let output = Command::new("keytool").args(args).args(common).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        };
        let name = "CN=edc.example";
        let key = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-dname", name, "-alias", "tls"];
        with(&store, &[&key[..], &["-validity", "30", "-ext", "san=dns:edc.example,ip:127.0.0.1"]].concat());
        let pem = self.folder.join("tls.pem");
        with(&store, &["-exportcert", "-rfc", "-alias", "tls", "-file", text(&pem)]);
        let trusted = self.folder.join("trusted.p12");
        let ca = alliance.path().join("ca.pem");
        with(&trusted, &["-importcert", "-alias", "alliance", "-file", text(&ca)]);
        with(&trusted, &["-importcert", "-alias", "own", "-file", text(&pem)]);
        let pin = fingerprint_of(&pem);
        // PKCS#8 and SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 sections 4 and 7).
        let private = [&hex::decode("302e020100300506032b657004220420").unwrap()[..], &SEED].concat();
        std::fs::write(self.folder.join("token.pkcs8"), private).unwrap();
        let spki = spki_of(&self.token_key());
        std::fs::write(self.folder.join("token.pem"), pem_text("PUBLIC KEY", &spki)).unwrap();
        (pin, Digest::of(&spki).fingerprint())
    }

    fn token_key(&self) -> SigningKey {
        let participant: ParticipantId = self.id.parse().unwrap();
        // Its TLS key is the first in the register.
        SigningKey::from_seed(participant.key(2), &Zeroizing::new(SEED))
    }

    /// Starts it as a peer of `parks`, and waits until it answers.
    pub async fn start(&mut self, class_path: &str, parks: &[&Park]) {
        self.write_configuration(parks);
        self.logs = parks.iter().map(|park| park.folder.with_extension("log")).collect();
        self.logs.push(self.folder.join("log"));
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let trusted = self.folder.join("trusted.p12");
        let child = Command::new("java")
            .args(["-Xmx512m", &format!("-Djavax.net.ssl.trustStore={}", text(&trusted))])
            .arg(format!("-Djavax.net.ssl.trustStorePassword={PASSWORD}"))
            .arg(format!("-Dedc.fs.config={}", text(&self.folder.join("edc.properties"))))
            .args(["-cp", class_path, "org.eclipse.edc.boot.system.runtime.BaseRuntime"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..600 {
            if self.try_post("/v3/assets/request", &query()).await.is_some_and(|(status, _)| status == 200) {
                return;
            }
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "EDC has ended: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("EDC does not answer: {}", self.log());
    }

    fn write_configuration(&self, parks: &[&Park]) {
        let port = |url: &str| url.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
        let keys: Vec<String> = parks.iter().map(|park| key_line(park)).collect();
        std::fs::write(self.folder.join("peers.properties"), keys.join("\n")).unwrap();
        let (store, token) = (self.folder.join("tls.p12"), self.folder.join("token.pkcs8"));
        let peers = self.folder.join("peers.properties");
        let kid = self.token_key().id().to_string();
        let [default, control] = [free_port().to_string(), free_port().to_string()];
        let mut lines: Vec<String> = [
            ("edc.participant.id", self.id.as_str()),
            ("edc.dsp.callback.address", &self.protocol),
            ("web.http.port", &default),
            ("web.http.path", "/api"),
            ("web.http.control.port", &control),
            ("web.http.control.path", "/control"),
            ("web.http.management.port", &port(&self.management)),
            ("web.http.management.path", "/management"),
            ("web.http.protocol.port", &port(&self.protocol)),
            ("web.http.protocol.path", "/protocol"),
            ("edc.control.endpoint", &format!("https://127.0.0.1:{control}/control")),
            ("edc.web.https.keystore.path", text(&store)),
            ("edc.web.https.keystore.type", "PKCS12"),
            ("edc.web.https.keystore.password", PASSWORD),
            ("edc.web.https.keymanager.password", PASSWORD),
            ("edc.transfer.proxy.token.signer.privatekey.alias", "data-plane-private"),
            ("edc.transfer.proxy.token.verifier.publickey.alias", "data-plane-public"),
            ("crosspark.public", &self.public),
            ("crosspark.token.key", text(&token)),
            ("crosspark.token.kid", &kid),
            ("crosspark.peers", text(&peers)),
        ]
        .map(|(name, value)| format!("{name}={value}"))
        .into();
        let machines = ["negotiation.consumer", "negotiation.provider", "transfer", "dataplane"];
        let wait = |machine: &str| format!("edc.{machine}.state-machine.iteration-wait-millis=50");
        lines.extend(machines.map(wait));
        std::fs::write(self.folder.join("edc.properties"), lines.join("\n")).unwrap();
    }

    pub async fn try_post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let response = self.client.post(format!("{}{path}", self.management)).json(body).send().await.ok()?;
        let (status, bytes) = (response.status().as_u16(), response.bytes().await.ok()?);
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Some((status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text())))
    }

    /// Sends a management request that must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(path, body).await.expect("EDC answers");
        assert!(status < 300, "{path} {body}: {status} {answer} {}", self.log());
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.management)).send().await.unwrap();
        response.json().await.unwrap()
    }

    /// Waits until the process at `path` is in the given state.
    pub async fn wait(&self, path: &str, state: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..300 {
            last = self.get(path).await;
            if last["state"] == state {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} is not {state} but {last}: {}", self.log());
    }

    /// Offers what is at `source` under a policy.
    pub async fn offer(&self, id: &str, title: &str, source: &str, mut policy: Value) {
        let named = |kind: &str, more: Value| {
            let mut body = json!({"@context": self::context(), "@type": kind, "@id": format!("{kind} of {id}")});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        policy["@type"] = "Set".into();
        let address = json!({"type": "HttpData", "baseUrl": source});
        let asset = json!({"@id": id, "properties": {"name": title}, "dataAddress": address});
        self.post("/v3/assets", &named("Asset", asset)).await;
        let made = self.post("/v3/policydefinitions", &named("PolicyDefinition", json!({"policy": policy}))).await;
        let only = json!({"operandLeft": "https://w3id.org/edc/v0.0.1/ns/id", "operator": "=", "operandRight": id});
        let offer = json!({
            "accessPolicyId": made["@id"], "contractPolicyId": made["@id"], "assetsSelector": [only],
        });
        self.post("/v3/contractdefinitions", &named("ContractDefinition", offer)).await;
    }

    /// What its consumer gets from the provider of the transfer at `path`: status and body.
    pub async fn consume(&self, path: &str) -> (u16, String) {
        let transfer = path.rsplit('/').next().unwrap();
        let url = format!("{}/{transfer}", self.public.replace("/public", "/consumed"));
        let response = self.client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub fn log(&self) -> String {
        self.logs.iter().map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect()
    }
}

impl Drop for Edc {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A management request's JSON-LD context.
pub fn context() -> Value {
    json!({"@vocab": "https://w3id.org/edc/v0.0.1/ns/", "odrl": "http://www.w3.org/ns/odrl/2/"})
}

fn query() -> Value {
    json!({"@context": context(), "@type": "QuerySpec"})
}

fn spki_of(key: &SigningKey) -> Vec<u8> {
    [&hex::decode("302a300506032b6570032100").unwrap()[..], key.public().as_bytes()].concat()
}

/// A park's document key as a line of `peers.properties`.
fn key_line(park: &Park) -> String {
    let key = park.document_key();
    let spki = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, spki_of(&key));
    // A colon ends a property's name unless it is escaped.
    format!("{}={spki}", key.id().to_string().replace(':', "\\:").replace('#', "\\#"))
}

fn fingerprint_of(pem: &Path) -> String {
    use crosspark::identity::x509::{Der, Presented};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(&std::fs::read(pem).unwrap()).unwrap();
    Presented::parse(&Der::from(der.to_vec())).unwrap().pin().fingerprint()
}
