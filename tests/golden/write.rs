//! Generates the golden files: an alliance of two parks, one dataset, one delivery.

use crosspark::agreement::{Agreement, Claim, Versions};
use crosspark::audit::checkpoint::{Checkpoint, verifier_key};
use crosspark::audit::entry::{self, Decision, Draft, Entry, Facts, FieldOpening, Kind};
use crosspark::audit::merkle::{self, leaf_hash};
use crosspark::audit::promise::Promise;
use crosspark::audit::receipt::Receipt;
use crosspark::audit::tile::{Edge, TileSubtrees};
use crosspark::core::digest::{Digest, KeyedHasher};
use crosspark::core::id::{AgreementId, DatasetId, EntryId, KeyId, LogOrigin, OfferId, ParticipantId, ProcessId, Text};
use crosspark::core::json;
use crosspark::core::time::Timestamp;
use crosspark::dataset::assemble::{Assembled, Job, SOURCE_LABEL, assemble};
use crosspark::dataset::container::DataKey;
use crosspark::dataset::manifest::{
    ALGORITHM, Container, Manifest, Provenance, SEGMENT_BYTES, SchemaRef, TextRef, associated_data,
};
use crosspark::dataset::quality::Plan;
use crosspark::dataset::release::{self, HPKE, KeyAnswer, KeyRequest, OneTimeKey};
use crosspark::dataset::unique::in_memory;
use crosspark::identity::document::{self, Document, MultiSigned, Signed};
use crosspark::identity::endpoint::Endpoint;
use crosspark::identity::join::JoinRequest;
use crosspark::identity::key::{Bytes, KeyUse, PublicKey, SigningKey};
use crosspark::identity::register::{KeyEntry, Member, Register, Status, Witnesses};
use crosspark::identity::root::{NamedKey, Root};
use crosspark::identity::rotation::{KeyProof, Rotation};
use crosspark::identity::schemas::{SchemaEntry, SchemaStatement};
use crosspark::identity::x509;
use crosspark::ingest::{Chunks, Form, Input};
use crosspark::policy::Policy;
use crosspark::schema::{Schema, built_in};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use zeroize::Zeroizing;

/// Members out of order, numbers and escapes not in canonical form, white space and an empty line.
const SOURCE: &str = concat!(
    r#"{ "period": "2024", "area": "XA-01", "area_name": "\u5317\u56ed", "indicator": "gross output", "#,
    r#""value": 1250.50, "unit": "million yuan", "estimated": false }"#,
    "\r\n\n",
    r#"{"indicator":"patents, \"granted\"","area":"XA-01","area_name":"北园","period":"2024-Q3","value":37.0}"#,
    "\n",
    r#"{"value":-2.5e-1,"unit":"percent","period":"2025","indicator":"gross output change","area":"XB-07","#,
    r#""area_name":"S\u00fcdpark","note":"a\/b\tc","estimated":true}"#,
    "\n"
);

const VALIDITY_MS: i64 = 2 * 365 * 86_400_000;

/// 2026-03-02T08:00:00.000Z plus `ms` milliseconds.
pub fn time(ms: i64) -> Timestamp {
    Timestamp::from_ms(1_772_438_400_000).plus_ms(ms)
}

fn park(name: &str) -> ParticipantId {
    ParticipantId::parse(&format!("did:web:{name}.example")).unwrap()
}

fn uuid(n: u8) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-0000000000{n:02x}")
}

fn short(text: &str) -> Text {
    Text::parse(text).unwrap()
}

fn names(en: &str, zh: &str) -> BTreeMap<String, Text> {
    [("en".to_owned(), short(en)), ("zh".to_owned(), short(zh))].into()
}

fn signing_key(owner: &ParticipantId, n: u32, seed: u8) -> SigningKey {
    SigningKey::from_seed(owner.key(n), &Zeroizing::new([seed; 32]))
}

fn named(key: &SigningKey) -> NamedKey {
    NamedKey { id: key.id().clone(), public: key.public() }
}

/// Root keys 1 to 3, of which two must sign, and register key 4.
struct Alliance {
    id: ParticipantId,
    signers: Vec<SigningKey>,
    register: SigningKey,
    ca: Vec<u8>,
}

impl Alliance {
    fn new() -> Self {
        let id = park("alliance");
        let signers = (1..=3).map(|n| signing_key(&id, n, n as u8)).collect();
        let register = signing_key(&id, 4, 4);
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        Self { id, signers, register, ca }
    }

    fn root(&self) -> (Root, MultiSigned) {
        let root = Root {
            alliance: self.id.clone(),
            names: names("Example alliance", "示例联盟"),
            version: 1,
            previous: None,
            signers: self.signers.iter().map(named).collect(),
            threshold: 2,
            register_key: named(&self.register),
            ca: vec![Bytes(self.ca.clone())],
            issued: time(-86_400_000),
        };
        let signed = MultiSigned::sign(&root, &[&self.signers[0], &self.signers[2]]);
        (root, signed)
    }
}

/// A park with its four keys: TLS is key 1, document 2, log 3, witness 4.
struct Park {
    id: ParticipantId,
    document: SigningKey,
    log: SigningKey,
    witness: SigningKey,
    csr: Vec<u8>,
}

impl Park {
    fn new(name: &str, seed: u8) -> Self {
        let id = park(name);
        let key = |n: u32| signing_key(&id, n, seed + n as u8);
        let parameters = CertificateParams::new(vec![id.host().to_owned()]).unwrap();
        let csr = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        Self { document: key(2), log: key(3), witness: key(4), csr, id }
    }

    fn endpoint(&self, path: &str) -> Endpoint {
        Endpoint::parse(&format!("https://{}:8443{path}", self.id.host())).unwrap()
    }

    fn keys(&self) -> Vec<KeyEntry> {
        let entry = |id: KeyId, usage, public| {
            let (from, until) = (time(-86_400_000), time(VALIDITY_MS));
            KeyEntry { id, usage, public: Bytes(public), from, until, proof: None }
        };
        let own = |key: &SigningKey, usage| entry(key.id().clone(), usage, key.public().as_bytes().to_vec());
        vec![
            entry(self.id.key(1), KeyUse::Tls, x509::csr_public_key(&self.csr).unwrap()),
            own(&self.document, KeyUse::Document),
            own(&self.log, KeyUse::Log),
            own(&self.witness, KeyUse::Witness),
        ]
    }

    fn join_request(&self) -> (Digest, MultiSigned) {
        let request = JoinRequest {
            participant: self.id.clone(),
            names: names("Park A", "甲园"),
            jurisdiction: short("CN-BJ"),
            endpoint: self.endpoint(""),
            callbacks: vec![self.endpoint("/dsp/2025-1")],
            keys: self.keys(),
            csr: Bytes(self.csr.clone()),
            issued: time(-80_000_000),
        };
        let signed = MultiSigned::sign(&request, &[&self.document, &self.log, &self.witness]);
        (document::digest(&request), signed)
    }

    /// A rotation to a new document key, proven by the old one.
    fn rotation(&self) -> MultiSigned {
        let new = signing_key(&self.id, 5, 0x35);
        let (public, from, until) = (Bytes(new.public().as_bytes().to_vec()), time(0), time(VALIDITY_MS));
        let entry = KeyEntry { id: new.id().clone(), usage: KeyUse::Document, public, from, until, proof: None };
        let keys = vec![KeyProof::prove(&entry, &self.document)];
        let rotation = Rotation { participant: self.id.clone(), keys, csr: None, issued: time(1_000) };
        MultiSigned::sign(&rotation, &[&new, &self.document])
    }

    fn member(&self, english: &str, chinese: &str) -> Member {
        Member {
            id: self.id.clone(),
            names: names(english, chinese),
            jurisdiction: short("CN-BJ"),
            endpoint: self.endpoint(""),
            callbacks: vec![self.endpoint("/dsp/2025-1")],
            status: Status::Active,
            reason: None,
            groups: BTreeSet::from([short("founders")]),
            attributes: BTreeMap::new(),
            keys: self.keys(),
            connector: None,
        }
    }
}

/// The exchanged data, and what both parties refer to.
struct Delivery {
    a: Park,
    b: Park,
    key: DataKey,
    person: FieldOpening,
    policy: Policy,
    manifest: Signed<Manifest>,
    agreement: Digest,
}

impl Delivery {
    fn transfer(&self) -> ProcessId {
        ProcessId::parse(&uuid(4)).unwrap()
    }
}

fn policy() -> Policy {
    // Not in normal form, so that the digest shows that it is computed from the normal form.
    let text = json!({"permission": {"action": "odrl:use", "constraint": [
        {"leftOperand": "recipient", "operator": "eq", "rightOperand": "did:web:park-b.example"},
        {"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": ["regional planning", "statistics"]},
        {"leftOperand": "dateTime", "operator": "lt", "rightOperand": "2027-01-01T00:00:00Z"},
        {"leftOperand": "count", "operator": "lteq", "rightOperand": "5"},
    ]}});
    Policy::from_value(&text).unwrap()
}

fn seal(a: &Park, schema: &Schema, key: &DataKey) -> (Vec<u8>, Assembled) {
    let dataset = DatasetId::parse(&uuid(1)).unwrap();
    let context = associated_data(&a.id, &dataset, 1, &schema.digest());
    let (mut chunks, decoder) =
        Chunks::open(Input::plain(SOURCE.as_bytes(), Form::Ndjson).unwrap(), schema, None).unwrap();
    let validator = schema.validator().unwrap();
    let job = Job {
        threads: 1,
        decoder: &*decoder,
        validator: &validator,
        plan: &Plan::nothing(),
        scratch: &in_memory,
        progress: &AtomicU64::new(0),
    };
    assemble(&job, key, &context, || chunks.next_chunk(), Vec::new()).unwrap().finish().unwrap()
}

fn manifest(a: &Park, schema: &Schema, key: &DataKey, assembled: &Assembled, policy: &Policy) -> Signed<Manifest> {
    let mut source = KeyedHasher::new(key.expose(), SOURCE_LABEL);
    source.update(SOURCE.as_bytes());
    let source = source.finish();
    let manifest = Manifest {
        publisher: a.id.clone(),
        dataset: DatasetId::parse(&uuid(1)).unwrap(),
        version: 1,
        schema: SchemaRef { id: schema.id().into(), version: schema.version().into(), digest: schema.digest() },
        records: assembled.records,
        container: Container {
            algorithm: ALGORITHM.into(),
            segment: SEGMENT_BYTES,
            size: assembled.size,
            digest: assembled.digest,
        },
        text: TextRef { size: assembled.text_size, digest: assembled.text_digest, frames: assembled.frames },
        provenance: Provenance { source, format: "ndjson".into(), mapping: None, tool: "crosspark/0.1.0".into() },
        policy: policy.digest(),
        published: time(0),
        quality: Default::default(),
        changes: None,
        files: None,
    };
    document::sign(manifest, &a.document)
}

fn register(alliance: &Alliance, root: &Root, a: &Park, b: &Park, schema: &Schema) -> Signed<Register> {
    let register = Register {
        alliance: alliance.id.clone(),
        sequence: 1,
        previous: None,
        root: document::digest(root),
        issued: time(-3_600_000),
        expires: time(14 * 86_400_000 - 3_600_000),
        members: vec![a.member("Park A", "甲园"), b.member("Park B", "乙园")],
        auditors: Vec::new(),
        witnesses: Witnesses { quorum: 0, keys: Vec::new() },
        schemas: vec![SchemaEntry {
            id: schema.id().into(),
            version: schema.version().into(),
            digest: schema.digest(),
            owner: None,
            deprecated: None,
        }],
    };
    document::sign(register, &alliance.register)
}

fn claim(delivery: &Delivery) -> Claim {
    Claim {
        consumer: delivery.b.id.clone(),
        provider: delivery.a.id.clone(),
        process: ProcessId::parse(&uuid(2)).unwrap(),
        offer: OfferId::parse(&uuid(3)).unwrap(),
        dataset: delivery.manifest.body().dataset.clone(),
        purpose: short("regional planning"),
        enterprise: short("Example Works"),
        person: delivery.person.commitment(),
        issued: time(1_000),
    }
}

fn agreement(delivery: &Delivery) -> Agreement {
    let claim = claim(delivery);
    Agreement {
        id: AgreementId::parse(&uuid(5)).unwrap(),
        provider: claim.provider,
        consumer: claim.consumer,
        dataset: claim.dataset,
        versions: Versions::One(1),
        manifest: Some(delivery.manifest.digest()),
        policy: delivery.policy.to_value(),
        policy_digest: delivery.policy.digest(),
        purpose: Some(claim.purpose),
        enterprise: Some(claim.enterprise),
        person: Some(claim.person),
        valid_from: time(2_000),
        valid_until: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(),
    }
}

fn key_request(delivery: &Delivery, one_time: &OneTimeKey, seen: String) -> Signed<KeyRequest> {
    let claim = claim(delivery);
    let request = KeyRequest {
        provider: claim.provider,
        consumer: claim.consumer,
        transfer: delivery.transfer(),
        agreement: delivery.agreement,
        manifest: delivery.manifest.digest(),
        purpose: claim.purpose,
        enterprise: claim.enterprise,
        hpke: HPKE.into(),
        key: Bytes(one_time.public()),
        nonce: Bytes(vec![0x4e; 32]),
        seen: Some(seen),
        issued: time(4_000),
        expires: time(604_000),
    };
    document::sign(request, &delivery.b.document)
}

fn key_answer(delivery: &Delivery, request: &Signed<KeyRequest>) -> Signed<KeyAnswer> {
    let (enc, sealed) = release::seal(&delivery.key, &request.body().key.0, &request.digest()).unwrap();
    let answer = KeyAnswer {
        provider: delivery.a.id.clone(),
        consumer: delivery.b.id.clone(),
        request: request.digest(),
        enc: Bytes(enc),
        sealed: Bytes(sealed),
        issued: time(5_000),
    };
    document::sign(answer, &delivery.a.document)
}

fn receipt(delivery: &Delivery) -> Signed<Receipt> {
    let manifest = delivery.manifest.body();
    let receipt = Receipt {
        consumer: delivery.b.id.clone(),
        provider: delivery.a.id.clone(),
        transfer: delivery.transfer(),
        agreement: delivery.agreement,
        manifest: delivery.manifest.digest(),
        bytes: manifest.container.size,
        records: manifest.records,
        received: time(6_000),
    };
    document::sign(receipt, &delivery.b.document)
}

fn detail(members: &[(&str, Value)]) -> Map<String, Value> {
    members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn concerned(delivery: &Delivery) -> Facts {
    Facts {
        parties: vec![delivery.b.id.clone()],
        dataset: Some(delivery.manifest.body().dataset.clone()),
        agreement: Some(AgreementId::parse(&uuid(5)).unwrap()),
        enterprise: Some(short("Example Works")),
        purpose: Some(short("regional planning")),
        ..Facts::default()
    }
}

fn draft(n: u8, kind: Kind, facts: Facts) -> Draft {
    let id = EntryId::parse(&uuid(0x10 + n)).unwrap();
    Draft { id, salt: [0xa0 + n; 32], kind, facts, openings: Vec::new() }
}

/// The provider's log before the key request.
fn drafts_before(delivery: &Delivery, register: &Digest, signatures: [&str; 2]) -> Vec<Draft> {
    let manifest = delivery.manifest.body();
    let published = Facts {
        dataset: Some(manifest.dataset.clone()),
        detail: detail(&[
            ("version", json!(manifest.version)),
            ("manifest", json!(delivery.manifest.digest())),
            ("records", json!(manifest.records)),
            ("policy", json!(manifest.policy)),
        ]),
        ..Facts::default()
    };
    let installed =
        Facts { detail: detail(&[("sequence", json!(1)), ("digest", json!(register))]), ..Facts::default() };
    let agreed = Facts {
        process: Some(ProcessId::parse(&uuid(6)).unwrap()),
        detail: detail(&[
            ("state", json!("FINALIZED")),
            ("providerSignature", json!(signatures[0])),
            ("consumerSignature", json!(signatures[1])),
        ]),
        ..concerned(delivery)
    };
    vec![
        draft(0, Kind::LogBegun, Facts::default()),
        draft(1, Kind::RegisterInstalled, installed),
        draft(2, Kind::DatasetPublished, published),
        draft(3, Kind::NegotiationTransition, agreed).with_field(delivery.person.clone()),
    ]
}

/// The entries after the key request: seven in all, so that the tree is not balanced.
fn drafts_after(delivery: &Delivery, request: &Signed<KeyRequest>, receipt: &Signed<Receipt>) -> Vec<Draft> {
    let released = Facts {
        process: Some(delivery.transfer()),
        decision: Some(Decision::Permitted),
        rule: Some("/permission/0".into()),
        detail: detail(&[
            ("request", json!(request.digest())),
            ("agreement", json!(delivery.agreement)),
            ("manifest", json!(delivery.manifest.digest())),
            ("nonce", json!(request.body().nonce)),
            ("used", json!(0)),
        ]),
        ..concerned(delivery)
    };
    let received = Facts {
        process: Some(delivery.transfer()),
        detail: detail(&[("receipt", json!(receipt.jws())), ("records", json!(receipt.body().records))]),
        ..concerned(delivery)
    };
    let refused = Facts {
        decision: Some(Decision::Refused),
        rule: Some("/permission/0/constraint/3".into()),
        ..concerned(delivery)
    };
    vec![
        draft(4, Kind::KeyReleased, released),
        draft(5, Kind::ReceiptReceived, received),
        draft(6, Kind::KeyRefused, refused),
    ]
}

/// The log as opened for an auditor.
struct Log {
    origin: LogOrigin,
    edge: Edge,
    lines: Vec<Value>,
    leaves: Vec<Digest>,
}

impl Log {
    fn new(origin: LogOrigin, drafts: &[Draft]) -> Self {
        let mut log = Self { origin, edge: Edge::default(), lines: Vec::new(), leaves: Vec::new() };
        for (n, draft) in drafts.iter().enumerate() {
            log.append(draft, time(n as i64 * 1_000));
        }
        log
    }

    fn append(&mut self, draft: &Draft, at: Timestamp) {
        let entry: Entry = draft.at(&self.origin, at);
        let leaf = entry::commitment(&draft.salt, &json::to_canonical(&entry));
        let mut line = json!({"salt": hex::encode(draft.salt), "entry": entry, "leaf": leaf});
        if !draft.openings.is_empty() {
            line["fields"] = json!(draft.openings);
        }
        self.edge.append(leaf_hash(leaf.as_bytes()), &mut Vec::new());
        self.lines.push(line);
        self.leaves.push(leaf);
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size: self.edge.size(), root: self.edge.root() }
    }

    fn inclusion(&self, index: u64) -> Value {
        let tile = |level, index| {
            self.edge.partial().find(|tile| (tile.level, tile.index) == (level, index)).map(|tile| tile.hashes)
        };
        let proof = merkle::inclusion_proof(&TileSubtrees(tile), index, self.edge.size()).unwrap();
        let proof: Vec<String> = proof.iter().map(hex::encode).collect();
        json!({"index": index, "size": self.edge.size(), "proof": proof})
    }
}

fn public_keys(alliance: &Alliance, parks: [&Park; 2]) -> BTreeMap<KeyId, PublicKey> {
    let of_parks = parks.into_iter().flat_map(|park| [&park.document, &park.log, &park.witness]);
    let all = alliance.signers.iter().chain([&alliance.register]).chain(of_parks);
    all.map(|key| (key.id().clone(), key.public())).collect()
}

struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    fn put_json(&self, name: &str, value: &impl Serialize) {
        self.put(name, format!("{}\n", serde_json::to_string_pretty(value).unwrap()));
    }

    fn put_document<D: Document>(&self, name: &str, signed: &Signed<D>) {
        self.put(name, signed.jws());
    }
}

/// Writes all golden files.
pub fn write(path: &Path) {
    std::fs::create_dir_all(path.join("log")).unwrap();
    let folder = Folder(path);
    let schema = built_in()
        .into_iter()
        .find(|s| s.id() == "urn:crosspark:schema:economic-indicator" && s.version() == "1.0.0")
        .unwrap();
    let (alliance, a, b) = (Alliance::new(), Park::new("park-a", 0x10), Park::new("park-b", 0x20));

    let (root, signed_root) = alliance.root();
    folder.put("root.json", json::to_canonical(&signed_root));
    folder.put("root-fingerprint.txt", format!("{}\n", document::digest(&root).fingerprint()));
    let (join_digest, join_request) = a.join_request();
    folder.put("join-request.json", json::to_canonical(&join_request));
    folder.put("rotation.json", json::to_canonical(&a.rotation()));
    folder.put("join-fingerprint.txt", format!("{}\n", join_digest.fingerprint()));
    let register = register(&alliance, &root, &a, &b, &schema);
    folder.put_document("register.jws", &register);
    folder.put_json("keys.json", &public_keys(&alliance, [&a, &b]));

    let (key, policy) = (DataKey::from_bytes([7; 32]), policy());
    let (container, assembled) = seal(&a, &schema, &key);
    let manifest = manifest(&a, &schema, &key, &assembled, &policy);
    folder.put("schema.json", json::to_canonical(schema.value()));
    folder.put("source.ndjson", SOURCE);
    folder.put("records.ndjson", expected_records());
    folder.put("data-key.hex", format!("{}\n", hex::encode(key.expose())));
    folder.put("container.sealed", &container);
    folder.put_document("manifest.jws", &manifest);

    let person = FieldOpening { name: "person".into(), salt: [0x50; 32], value: short("Li Example") };
    let mut delivery = Delivery { a, b, key, person, policy, manifest, agreement: Digest::of(b"") };
    write_exchange(&folder, &mut delivery, &register.digest());
}

fn write_exchange(folder: &Folder<'_>, delivery: &mut Delivery, register: &Digest) {
    folder.put_document("claim.jws", &document::sign(claim(delivery), &delivery.b.document));
    let agreed = agreement(delivery);
    delivery.agreement = document::digest(&agreed);
    let by_provider = document::sign(agreed.clone(), &delivery.a.document);
    let by_consumer = document::sign(agreed, &delivery.b.document);
    folder.put_document("agreement.provider.jws", &by_provider);
    folder.put_document("agreement.consumer.jws", &by_consumer);
    let receipt = receipt(delivery);
    folder.put_document("receipt.jws", &receipt);
    let statement = SchemaStatement {
        publisher: delivery.a.id.clone(),
        id: format!("{}/growth", delivery.a.id),
        version: "1.2.0".into(),
        digest: Digest::of(b"a schema of the park"),
        issued: delivery.manifest.body().published,
    };
    folder.put_document("schema-statement.jws", &document::sign(statement, &delivery.a.document));

    let origin = delivery.a.id.log_origin(0);
    let mut drafts = drafts_before(delivery, register, [by_provider.jws(), by_consumer.jws()]);
    let seen = Log::new(origin.clone(), &drafts).checkpoint().sign(&delivery.a.log);
    let one_time = OneTimeKey::from_slice(&[9; 32]).unwrap();
    let request = key_request(delivery, &one_time, seen);
    folder.put("one-time-key.hex", format!("{}\n", hex::encode(one_time.expose())));
    folder.put_document("key-request.jws", &request);
    folder.put_document("key-answer.jws", &key_answer(delivery, &request));
    drafts.extend(drafts_after(delivery, &request, &receipt));
    write_log(folder, delivery, &Log::new(origin, &drafts), &drafts[4].id);
}

fn write_log(folder: &Folder<'_>, delivery: &Delivery, log: &Log, released: &EntryId) {
    let promise = Promise {
        origin: log.origin.clone(),
        participant: delivery.a.id.clone(),
        to: delivery.b.id.clone(),
        entry: released.clone(),
        leaf: log.leaves[4],
    };
    folder.put_document("promise.jws", &document::sign(promise, &delivery.a.document));
    folder.put_json("log/entries.json", &log.lines);
    folder.put("log/checkpoint", log.checkpoint().sign(&delivery.a.log));
    folder.put_json("log/inclusion-proof.json", &log.inclusion(4));
    let key = verifier_key(&log.origin, &delivery.a.log.public());
    folder.put("log/verifier-key.txt", format!("{key}\n"));
}

/// Written by hand: the required content of the container, independent of this program.
fn expected_records() -> String {
    [
        r#"{"area":"XA-01","area_name":"北园","estimated":false,"indicator":"gross output","period":"2024","unit":"million yuan","value":1250.5}"#,
        r#"{"area":"XA-01","area_name":"北园","indicator":"patents, \"granted\"","period":"2024-Q3","value":37}"#,
        r#"{"area":"XB-07","area_name":"Südpark","estimated":true,"indicator":"gross output change","note":"a/b\tc","period":"2025","unit":"percent","value":-0.25}"#,
    ]
    .map(|line| format!("{line}\n"))
    .concat()
}
