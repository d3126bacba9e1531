//! All parsers of external input as functions that must not panic, hang or allocate without bound on any input, with
//! checks of what must hold for accepted input. Documents are signed here before parsing, so that the code behind the
//! signature check is reached.

use crosspark::agreement::{Agreement, Claim};
use crosspark::audit::checkpoint::Checkpoint;
use crosspark::audit::promise::Promise;
use crosspark::audit::receipt::Receipt;
use crosspark::audit::tile::TileId;
use crosspark::catalog::{Filter, Offered};
use crosspark::config::Config;
use crosspark::core::digest::Digest;
use crosspark::core::id::{DatasetId, KeyId, ParticipantId, Text};
use crosspark::core::json;
use crosspark::core::time::Timestamp;
use crosspark::core::trace::TraceId;
use crosspark::dataset::assemble::{self, Decoder};
use crosspark::dataset::container::{DataKey, Sealer};
use crosspark::dataset::frame;
use crosspark::dataset::manifest::{ALGORITHM, Container, Manifest, Provenance, SEGMENT_BYTES, SchemaRef, TextRef};
use crosspark::dataset::open::{Package, Stop, Verification};
use crosspark::dataset::quality::{Detail, Plan};
use crosspark::dataset::release::{KeyAnswer, KeyRequest};
use crosspark::dataset::unique::in_memory;
use crosspark::identity::bearer;
use crosspark::identity::document::{self, Document, MultiSigned};
use crosspark::identity::endpoint::Endpoint;
use crosspark::identity::join::{self, JoinRequest};
use crosspark::identity::key::{Bytes, SigningKey, base64url};
use crosspark::identity::register::VerifiedRegister;
use crosspark::identity::root::{NamedKey, Root, VerifiedRoot};
use crosspark::identity::rotation::{self, KeyProof};
use crosspark::identity::x509::{self, Presented};
use crosspark::ingest::{Chunks, Format, Input, Packing, Reading};
use crosspark::policy::Policy;
use crosspark::protocol::Incoming;
use crosspark::schema::{self, Schema, Validator};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// A fuzz target: its name, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: &[Target] = &[
    ("wire", wire),
    ("register", register),
    ("manifest", manifest),
    ("documents", documents),
    ("container", container),
    ("tape", tape),
    ("records", records),
    ("csv", csv),
    ("document", document),
    ("dialect", dialect),
    ("policy", policy),
    ("checkpoint", checkpoint),
    ("config", config),
    ("names", names),
];

fn key() -> SigningKey {
    let alliance = ParticipantId::parse("did:web:alliance.example").unwrap();
    SigningKey::from_seed(alliance.key(1), &Zeroizing::new([7; 32]))
}

/// Signs an arbitrary payload as a document of type `D`, as a holder of a valid key could.
fn forge<D: Document>(payload: &[u8], key: &SigningKey) -> String {
    let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{}"}}"#, key.id(), D::TYP);
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(payload));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", base64url(&signature))
}

/// Checks that a verified document has the digest of its payload and can be hashed again.
fn verify<D: Document + Clone>(payload: &[u8]) {
    let key = key();
    let jws = forge::<D>(payload, &key);
    if let Ok(signed) = document::verify::<D>(&jws, |_| Some(key.public())) {
        assert_eq!(signed.digest(), Digest::of(payload));
        let _ = document::digest(signed.body());
    }
    let _ = document::claimed_signer(&String::from_utf8_lossy(payload));
}

fn wire(data: &[u8]) {
    for kind in [
        "CatalogRequestMessage",
        "ContractRequestMessage",
        "ContractOfferMessage",
        "ContractAgreementMessage",
        "ContractAgreementVerificationMessage",
        "ContractNegotiationEventMessage",
        "ContractNegotiationTerminationMessage",
        "TransferRequestMessage",
        "TransferStartMessage",
        "TransferSuspensionMessage",
        "TransferCompletionMessage",
    ] {
        let Ok(message) = Incoming::read(data, kind) else { continue };
        let _ = (message.contract_request(), message.transfer_request(), message.agreement(), message.data_address());
        let _ = (message.contract_offer(), message.terms(), message.claim(), message.signature());
        let _ = (message.pids(crosspark::negotiation::Role::Consumer), message.reason());
        let filter = message.optional::<serde_json::Value>("filter").ok().flatten();
        let _ = Filter::read(filter.as_ref());
    }
    if let Ok(value) = json::read_value(data).map(json::ld::plain)
        && let Ok(offered) = Offered::from_dcat(&value)
    {
        // An accepted dataset can be offered again.
        let again = Offered::from_dcat(&offered.to_dcat("https://a.example")).unwrap();
        assert_eq!(again.manifest, offered.manifest);
    }
}

static ROOT: LazyLock<VerifiedRoot> = LazyLock::new(|| {
    let register = key();
    let root = SigningKey::from_seed(register.id().participant().key(2), &Zeroizing::new([8; 32]));
    let named = |key: &SigningKey| NamedKey { id: key.id().clone(), public: key.public() };
    let body = Root {
        alliance: register.id().participant(),
        names: BTreeMap::new(),
        version: 1,
        previous: None,
        signers: vec![named(&root)],
        threshold: 1,
        register_key: named(&register),
        ca: vec![Bytes(vec![1])],
        issued: Timestamp::from_ms(0),
    };
    let json = json::to_canonical(&MultiSigned::sign(&body, &[&root]));
    VerifiedRoot::verify(&json, &document::digest(&body)).unwrap()
});

fn register(data: &[u8]) {
    // Authors of seeds do not know the digest of the root document, so they write a placeholder.
    let text = String::from_utf8_lossy(data).replace("ROOT", &ROOT.digest().to_string());
    let jws = forge::<crosspark::identity::register::Register>(text.as_bytes(), &key());
    if let Ok(register) = VerifiedRegister::verify(&jws, &ROOT) {
        let names = register.unproven(&register);
        assert!(names.is_empty(), "a register has no unproven keys compared with itself");
        let all =
            register.stated().members.iter().flat_map(|member| member.keys.iter().map(|key| key.name())).collect();
        let bare = register.without(&all);
        assert!(bare.body().members.iter().all(|member| member.keys.is_empty()));
    }
    let _ = VerifiedRoot::verify(data, &Digest::of(b"other"));
    let _ = ROOT.verify_successor(data);
}

fn manifest(data: &[u8]) {
    verify::<Manifest>(data);
}

fn documents(data: &[u8]) {
    verify::<Claim>(data);
    verify::<Agreement>(data);
    verify::<KeyRequest>(data);
    verify::<KeyAnswer>(data);
    verify::<Receipt>(data);
    verify::<Promise>(data);
    verify::<KeyProof>(data);
    let _ = join::verify(data, &Digest::of(b"other"));
    let _ = rotation::claimed_participant(data);
    if let Ok(document) = MultiSigned::parse::<JoinRequest>(data) {
        let _ = document.claimed::<JoinRequest>();
        let _ = document.claimed_signers();
    }
    let _ = x509::csr_public_key(data);
    let _ = Presented::parse(&rustls_pki_types(data));
    let _ = crosspark::schema::Schema::parse(data);
}

fn rustls_pki_types(data: &[u8]) -> crosspark::identity::x509::Der<'_> {
    crosspark::identity::x509::Der::from(data)
}

fn example_manifest(frames: u64, records: u64) -> Manifest {
    let digest = Digest::of(b"");
    let keyed = crosspark::core::digest::KeyedHasher::new(&[1; 32], "fuzz").finish();
    Manifest {
        publisher: ParticipantId::parse("did:web:a.example").unwrap(),
        dataset: DatasetId::parse("urn:uuid:fuzz").unwrap(),
        version: 1,
        schema: SchemaRef { id: "urn:x".into(), version: "1.0.0".into(), digest },
        records,
        container: Container { algorithm: ALGORITHM.into(), segment: SEGMENT_BYTES, size: 0, digest },
        text: TextRef { size: 0, digest: keyed, frames },
        provenance: Provenance { source: keyed, format: "ndjson".into(), mapping: None, tool: "fuzz".into() },
        policy: digest,
        published: Timestamp::from_ms(0),
        quality: Default::default(),
        changes: None,
        files: None,
    }
}

/// A schema and its validator, compiled once.
static SCHEMA: LazyLock<(Schema, Validator)> = LazyLock::new(|| {
    let schema = schema::built_in().swap_remove(0);
    let validator = schema.validator().unwrap();
    (schema, validator)
});

/// Uses the bytes as a sealed container, and as the plaintext of one.
fn container(data: &[u8]) {
    let key = DataKey::from_bytes([3; 32]);
    let validator = &SCHEMA.1;
    let plan = Plan::of(&SCHEMA.0, Detail::Bounds);
    let try_open = |sealed: Vec<u8>, manifest: &Manifest| {
        if let Ok(mut package) = Package::open(Cursor::new(sealed.clone()), &key, manifest) {
            let mut bytes = 0;
            let _ = package.read(|frame| {
                bytes += frame.len();
                Ok(())
            });
            let again = Package::open(Cursor::new(sealed), &key, manifest).unwrap();
            let (key, plan, stop) = (&key, &plan, &Stop::default());
            let by = Verification { threads: 1, key, manifest, validator, plan, scratch: &in_memory, stop };
            let _ = again.verify(&by);
        }
    };
    try_open(data.to_vec(), &example_manifest(1, 1));
    let size = data.len() as u64;
    let range = |range: std::ops::Range<u64>| {
        Ok::<_, frame::FrameError>(data[range.start as usize..range.end as usize].to_vec())
    };
    let (frames, records) = match frame::read_table(size, range) {
        Ok(frames) => (frames.len() as u64, frames.iter().map(|frame| u64::from(frame.records)).sum()),
        Err(_) => (1, 1),
    };
    let manifest = example_manifest(frames, records);
    let mut sealer = Sealer::new(Vec::new(), &key, &manifest.associated_data()).unwrap();
    sealer.write_all(data).unwrap();
    try_open(sealer.finish().unwrap().0, &manifest);
}

fn tape(data: &[u8]) {
    let Ok(canonical) = json::canonicalize(data) else { return };
    // The canonical form is stable, and another parser reads the same value from it as from the source.
    assert_eq!(json::canonicalize(&canonical).unwrap(), canonical);
    let (ours, theirs): (serde_json::Value, serde_json::Value) =
        (serde_json::from_slice(&canonical).unwrap(), serde_json::from_slice(data).unwrap());
    assert!(same(&ours, &theirs), "{ours} {theirs}");
}

/// Equality in which 1 equals 1.0.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn ingest(data: &[u8], format: Format, reading: &Reading) {
    let (schema, validator) = &*SCHEMA;
    let spool = |_: &mut dyn std::io::Read| Err(std::io::ErrorKind::Unsupported.into());
    let input = Input::open(Cursor::new(data), format, reading, &spool);
    let Ok((mut chunks, decoder)) = input.and_then(|input| Chunks::open(input, schema, None)) else { return };
    let decoder: &dyn Decoder = decoder.as_ref();
    let key = DataKey::from_bytes([3; 32]);
    let none = std::sync::atomic::AtomicU64::new(0);
    let plan = Plan::of(schema, Detail::Bounds);
    let job = assemble::Job { threads: 1, decoder, validator, plan: &plan, scratch: &in_memory, progress: &none };
    let _ = assemble::assemble(&job, &key, b"", || chunks.next_chunk(), Vec::new());
}

fn records(data: &[u8]) {
    ingest(data, Format::Ndjson, &Reading::default());
}

fn document(data: &[u8]) {
    for at in ["", "/data"] {
        ingest(data, Format::Json, &Reading { at: at.into(), ..Reading::default() });
    }
}

/// The first bytes say how the others are read.
fn dialect(data: &[u8]) {
    let [a, b, c, d, rest @ ..] = data else { return };
    let of = |list: &[char], at: u8| list[usize::from(at) % list.len()];
    let reading = Reading {
        delimiter: of(&[',', ';', '\t', '|'], *a),
        decimal: of(&['.', ','], *b),
        thousands: Some(of(&[',', '.', ' ', '\''], b / 2)).filter(|_| b % 3 == 0),
        header: u32::from(c % 4) + 1,
        encoding: ["utf-8", "gb18030", "big5", "utf-16le"][usize::from(*d) % 4].into(),
        carriage_returns: d % 5 == 0,
        packing: [Packing::None, Packing::Gzip, Packing::Zstd][usize::from(d / 4) % 3],
        missing: vec!["-".into()],
        ..Reading::default()
    };
    ingest(rest, Format::Csv, &reading);
}

fn csv(data: &[u8]) {
    ingest(data, Format::Csv, &Reading::default());
}

fn policy(data: &[u8]) {
    let Ok(policy) = Policy::parse(data) else { return };
    let again = Policy::from_value(&policy.to_value()).unwrap();
    assert_eq!(again.digest(), policy.digest(), "the normal form is stable");
    let groups = ["pilot"].map(|group| Text::parse(group).unwrap()).into();
    let recipient = ParticipantId::parse("did:web:a.example").unwrap();
    let purpose = Text::parse("research").unwrap();
    for purpose in [None, Some(&purpose)] {
        let facts = crosspark::policy::Facts {
            recipient: &recipient,
            groups: &groups,
            purpose,
            now: Timestamp::from_ms(1),
            used: 1,
            channel: None,
            approved: false,
        };
        assert_eq!(policy.evaluate(&facts), again.evaluate(&facts));
        assert!(policy.is_subset_of(&again));
    }
}

fn checkpoint(data: &[u8]) {
    let key = key();
    let origin = key.id().participant().log_origin(0);
    let text = String::from_utf8_lossy(data);
    let _ = Checkpoint::verify(&text, &origin, &[key.public()]);
    // Use the text as the body of a note that the log signed.
    let body = text.split("\n\n").next().unwrap_or_default();
    let signed = Checkpoint::sign_text(&format!("{body}\n"), &origin, &key);
    if let Ok(checkpoint) = Checkpoint::verify(&signed, &origin, &[key.public()]) {
        assert_eq!(checkpoint.body(), format!("{body}\n"), "a checkpoint has exactly one text");
    }
    let _ = TileId::parse(&text);
}

fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(config) = Config::parse(&text, Path::new("/node/crosspark.toml")) {
        Config::parse(&config.to_toml(), Path::new("/node/crosspark.toml")).unwrap();
    }
}

/// Verifies a bearer token with these claims and a valid signature, and the bytes as a token.
fn token(claims: &[u8]) {
    let key = key();
    let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, key.id());
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims));
    let token = format!("{signed}.{}", base64url(&key.sign(signed.as_bytes())));
    let me = key.id().participant();
    let _ = bearer::verify(&token, &me, Timestamp::from_ms(1_000), |_| Some(key.public()));
    let _ = bearer::verify(&String::from_utf8_lossy(claims), &me, Timestamp::from_ms(1_000), |_| Some(key.public()));
}

/// Checks that accepted ids, times, endpoints and headers are written as they were read.
fn names(data: &[u8]) {
    token(data);
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = ParticipantId::parse(&text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(id) = KeyId::parse(&text) {
        assert_eq!(id.participant().key(id.number()), id);
    }
    if let Ok(time) = Timestamp::parse(&text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
    }
    if let Ok(endpoint) = Endpoint::parse(&text) {
        assert_eq!(Endpoint::parse(endpoint.as_str()), Ok(endpoint.clone()));
        assert!(endpoint.covers(&endpoint));
    }
    if let Ok(digest) = Digest::parse_fingerprint(&text) {
        assert_eq!(Digest::parse_fingerprint(&digest.fingerprint()), Ok(digest));
    }
    let _ = (TraceId::from_header(&text), DatasetId::parse(&text), Text::parse(&text));
}
