//! Golden files: one small exchange in every format of FORMATS.md, written once and kept. If a change stops them from
//! opening, it has changed a format. `CROSSPARK_GOLDEN=write` writes them again, which is only for new formats.
//!
//! Seeds, identifiers and times are fixed; the container header, the sealed key and the ECDSA keys are random.

#[path = "golden/write.rs"]
mod write;

use crosspark::agreement::{Agreement, Claim};
use crosspark::audit::check::{Check, Held, Row};
use crosspark::audit::checkpoint::{Checkpoint, verifier_key};
use crosspark::audit::entry::FieldOpening;
use crosspark::audit::merkle::{Hash, leaf_hash, verify_inclusion};
use crosspark::audit::promise::Promise;
use crosspark::audit::receipt::Receipt;
use crosspark::core::digest::{Digest, KeyedHasher};
use crosspark::core::id::{KeyId, ParticipantId};
use crosspark::core::json;
use crosspark::core::time::Timestamp;
use crosspark::dataset::assemble::SOURCE_LABEL;
use crosspark::dataset::container::DataKey;
use crosspark::dataset::manifest::Manifest;
use crosspark::dataset::open::{Package, Stop, Verification};
use crosspark::dataset::quality::Plan;
use crosspark::dataset::release::{KeyAnswer, KeyRequest, OneTimeKey};
use crosspark::dataset::unique::in_memory;
use crosspark::identity::document::{self, Document, MultiSigned, Signed};
use crosspark::identity::join::{self, JoinRequest};
use crosspark::identity::key::{KeyUse, PublicKey, base64url, from_base64url};
use crosspark::identity::register::VerifiedRegister;
use crosspark::identity::root::VerifiedRoot;
use crosspark::identity::rotation;
use crosspark::identity::schemas::{SchemaStatement, namespace};
use crosspark::schema::{Schema, Validator};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Artifacts by file name, as bytes.
type Files = BTreeMap<String, Vec<u8>>;

/// The first invalid artifact, and the reason.
type Fault = (&'static str, String);

const NAMES: [&str; 26] = [
    "agreement.consumer.jws",
    "agreement.provider.jws",
    "claim.jws",
    "container.sealed",
    "data-key.hex",
    "join-request.json",
    "key-answer.jws",
    "key-request.jws",
    "keys.json",
    "log/checkpoint",
    "log/entries.json",
    "log/inclusion-proof.json",
    "log/verifier-key.txt",
    "manifest.jws",
    "one-time-key.hex",
    "promise.jws",
    "receipt.jws",
    "records.ndjson",
    "register.jws",
    "root-fingerprint.txt",
    "root.json",
    "rotation.json",
    "schema-statement.jws",
    "schema.json",
    "source.ndjson",
    "join-fingerprint.txt",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The committed files. All tests use this static, so that writing precedes the first read.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    if std::env::var("CROSSPARK_GOLDEN").is_ok_and(|wish| wish == "write") {
        write::write(&folder());
    }
    let read = |name: &str| std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    NAMES.iter().map(|name| ((*name).to_owned(), read(name))).collect()
});

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| Schema::parse(&FILES["schema.json"]).unwrap().validator().unwrap());

fn fault<E: ToString>(artifact: &'static str) -> impl Fn(E) -> Fault {
    move |error| (artifact, error.to_string())
}

fn ensure(holds: bool, artifact: &'static str, what: &str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err((artifact, what.to_owned())) }
}

fn text<'a>(files: &'a Files, artifact: &'static str) -> Result<&'a str, Fault> {
    std::str::from_utf8(&files[artifact]).map_err(fault(artifact))
}

fn secret(files: &Files, artifact: &'static str) -> Result<Vec<u8>, Fault> {
    hex::decode(text(files, artifact)?.trim()).map_err(fault(artifact))
}

fn fingerprint(files: &Files, artifact: &'static str) -> Result<Digest, Fault> {
    Digest::parse_fingerprint(text(files, artifact)?).map_err(fault(artifact))
}

/// Reads the files like a node that trusts only the fingerprint of the root; each step relies on the previous ones.
struct Exchange<'a> {
    files: &'a Files,
    register: VerifiedRegister,
    at: Timestamp,
}

impl<'a> Exchange<'a> {
    fn begin(files: &'a Files) -> Result<Self, Fault> {
        let expected = fingerprint(files, "root-fingerprint.txt")?;
        let root = VerifiedRoot::verify(&files["root.json"], &expected).map_err(fault("root.json"))?;
        let jws = text(files, "register.jws")?;
        let register = VerifiedRegister::verify(jws, &root).map_err(fault("register.jws"))?;
        Ok(Self { files, register, at: write::time(60_000) })
    }

    fn document<D: Document>(&self, artifact: &'static str) -> Result<Signed<D>, Fault> {
        let keys = |kid: &KeyId| self.register.document_key(kid, self.at);
        document::verify(text(self.files, artifact)?, keys).map_err(fault(artifact))
    }

    fn manifest(&self) -> Result<Signed<Manifest>, Fault> {
        self.document("manifest.jws")
    }

    fn data_key(&self) -> Result<DataKey, Fault> {
        let bytes = secret(self.files, "data-key.hex")?;
        DataKey::from_slice(&bytes).ok_or_else(|| fault("data-key.hex")("not 32 bytes"))
    }

    fn join_request(&self) -> Result<(), Fault> {
        let artifact = "join-request.json";
        let expected = fingerprint(self.files, "join-fingerprint.txt")?;
        let request = join::verify(&self.files[artifact], &expected).map_err(fault(artifact))?;
        let member = self.register.member(&request.participant);
        ensure(member.is_some_and(|member| member.keys == request.keys), artifact, "keys differ from the register")
    }

    fn rotation(&self) -> Result<(), Fault> {
        let artifact = "rotation.json";
        let bytes = &self.files[artifact];
        let participant = rotation::claimed_participant(bytes).map_err(fault(artifact))?;
        let member = self.register.member(&participant).ok_or_else(|| fault(artifact)("not of a member"))?;
        let (_, proven) = rotation::verify(bytes, member, None, self.at).map_err(fault(artifact))?;
        ensure(proven, artifact, "the old document key did not sign")
    }

    fn container(&self, manifest: &Manifest) -> Result<(), Fault> {
        let bytes = &self.files["container.sealed"];
        let stated = &manifest.container;
        ensure(bytes.len() as u64 == stated.size, "container.sealed", "wrong size")?;
        ensure(Digest::of(bytes) == stated.digest, "container.sealed", "wrong digest")?;
        let key = self.data_key()?;
        let mut source = KeyedHasher::new(key.expose(), SOURCE_LABEL);
        source.update(&self.files["source.ndjson"]);
        ensure(source.finish() == manifest.provenance.source, "source.ndjson", "wrong keyed digest")?;
        let records = unseal(bytes, &key, manifest).map_err(fault("container.sealed"))?;
        ensure(records == self.files["records.ndjson"], "records.ndjson", "records differ from the container")
    }

    fn agreement(&self, manifest: &Signed<Manifest>) -> Result<Signed<Agreement>, Fault> {
        let claim: Signed<Claim> = self.document("claim.jws")?;
        let by_provider: Signed<Agreement> = self.document("agreement.provider.jws")?;
        let by_consumer: Signed<Agreement> = self.document("agreement.consumer.jws")?;
        let body = by_provider.body();
        ensure(by_provider.signer().participant() == body.provider, "agreement.provider.jws", "wrong signer")?;
        ensure(by_consumer.signer().participant() == body.consumer, "agreement.consumer.jws", "wrong signer")?;
        ensure(by_provider.digest() == by_consumer.digest(), "agreement.consumer.jws", "payloads differ")?;
        let policy = body.policy().map_err(fault("agreement.provider.jws"))?;
        body.check_against(claim.body(), &policy).map_err(fault("agreement.provider.jws"))?;
        ensure(body.manifest == Some(manifest.digest()), "agreement.provider.jws", "wrong manifest")?;
        ensure(policy.digest() == manifest.body().policy, "agreement.provider.jws", "not the published policy")?;
        Ok(by_provider)
    }

    fn key_release(&self, manifest: &Digest, agreement: &Digest) -> Result<(), Fault> {
        let request: Signed<KeyRequest> = self.document("key-request.jws")?;
        let (asked, digest) = (request.body(), request.digest());
        ensure(asked.manifest == *manifest && asked.agreement == *agreement, "key-request.jws", "another delivery")?;
        let one_time = OneTimeKey::from_slice(&secret(self.files, "one-time-key.hex")?);
        let one_time = one_time.ok_or_else(|| fault("one-time-key.hex")("not 32 bytes"))?;
        ensure(asked.key.0 == one_time.public(), "one-time-key.hex", "not the key of the request")?;
        let answer: Signed<KeyAnswer> = self.document("key-answer.jws")?;
        ensure(answer.body().request == digest, "key-answer.jws", "answers another request")?;
        let opened = one_time.open(&digest, &answer.body().enc.0, &answer.body().sealed.0);
        let opened = opened.map_err(fault("key-answer.jws"))?;
        ensure(opened == self.data_key()?, "data-key.hex", "differs from the released key")
    }

    fn receipt(&self, manifest: &Signed<Manifest>, agreement: &Digest) -> Result<(), Fault> {
        let receipt: Signed<Receipt> = self.document("receipt.jws")?;
        let body = receipt.body();
        let same = body.manifest == manifest.digest()
            && body.agreement == *agreement
            && body.bytes == manifest.body().container.size
            && body.records == manifest.body().records;
        ensure(same, "receipt.jws", "for another delivery")
    }

    fn schema_statement(&self, provider: &ParticipantId) -> Result<(), Fault> {
        let statement: Signed<SchemaStatement> = self.document("schema-statement.jws")?;
        let is_own = namespace(&statement.body().id).as_ref() == Some(provider);
        ensure(is_own && statement.body().publisher == *provider, "schema-statement.jws", "in another namespace")
    }

    fn log_keys(&self, participant: &ParticipantId) -> Vec<PublicKey> {
        let member = self.register.member(participant);
        member.into_iter().flat_map(|m| m.keys_for(KeyUse::Log, self.at)).map(|(_, key)| key).collect()
    }

    fn log(&self, provider: &ParticipantId) -> Result<(), Fault> {
        let (origin, keys) = (provider.log_origin(0), self.log_keys(provider));
        let note = text(self.files, "log/checkpoint")?;
        let checkpoint = Checkpoint::verify(note, &origin, &keys).map_err(fault("log/checkpoint"))?;
        let stated = text(self.files, "log/verifier-key.txt")?.trim_end();
        ensure(keys.iter().any(|key| verifier_key(&origin, key) == stated), "log/verifier-key.txt", "not a log key")?;
        let leaves = self.entries(&checkpoint)?;
        self.inclusion(&checkpoint, &leaves)?;
        let promise: Signed<Promise> = self.document("promise.jws")?;
        let kept = leaves.iter().any(|(id, leaf)| *id == promise.body().entry.as_str() && *leaf == promise.body().leaf);
        ensure(kept && promise.body().origin == origin, "promise.jws", "the log does not contain the entry")
    }

    /// Rebuilds the tree from the openings and returns the identifier and leaf of each entry.
    fn entries(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Digest)>, Fault> {
        let artifact = "log/entries.json";
        let openings: Vec<LogLine> = json::read(&self.files[artifact]).map_err(fault(artifact))?;
        let held = Held { checkpoint: checkpoint.clone(), source: "the checkpoint".into() };
        let mut check = Check::new(checkpoint.origin.clone(), vec![held]);
        let mut leaves = Vec::new();
        for (index, line) in openings.into_iter().enumerate() {
            let id = line.entry["id"].as_str().unwrap_or_default().to_owned();
            leaves.push((id.clone(), line.leaf));
            check.row(&Row {
                index: index as u64,
                id,
                leaf: line.leaf.as_bytes().to_vec(),
                salt: line.salt,
                body: json::to_canonical(&line.entry),
                fields: line.fields,
            });
        }
        let report = check.finish();
        ensure(report.is_good(), artifact, &format!("{:?}", report.faults))?;
        Ok(leaves)
    }

    fn inclusion(&self, checkpoint: &Checkpoint, leaves: &[(String, Digest)]) -> Result<(), Fault> {
        let artifact = "log/inclusion-proof.json";
        let proof: Inclusion = json::read(&self.files[artifact]).map_err(fault(artifact))?;
        let hashes: Result<Vec<Hash>, _> = proof.proof.iter().map(|hash| hash_of(hash)).collect();
        let leaf = leaves.get(proof.index as usize).map(|(_, leaf)| leaf_hash(leaf.as_bytes())).unwrap_or_default();
        let hashes = hashes.map_err(fault(artifact))?;
        let holds = proof.size == checkpoint.size
            && verify_inclusion(proof.index, proof.size, &leaf, &hashes, &checkpoint.root);
        ensure(holds, artifact, "does not lead to the checkpoint's root")
    }
}

#[derive(Deserialize)]
struct LogLine {
    #[serde(with = "hex::serde")]
    salt: Vec<u8>,
    entry: Value,
    leaf: Digest,
    #[serde(default)]
    fields: Vec<FieldOpening>,
}

#[derive(Deserialize)]
struct Inclusion {
    index: u64,
    size: u64,
    proof: Vec<String>,
}

fn hash_of(text: &str) -> Result<Hash, hex::FromHexError> {
    let mut hash = Hash::default();
    hex::decode_to_slice(text, &mut hash).map(|()| hash)
}

/// Opens a container and checks its content against the manifest, but not its digest.
fn unseal(sealed: &[u8], key: &DataKey, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let open = || Package::open(Cursor::new(sealed.to_vec()), key, manifest).map_err(|error| error.to_string());
    open()?
        .verify(&Verification {
            threads: 1,
            key,
            manifest,
            validator: &VALIDATOR,
            plan: &Plan::nothing(),
            scratch: &in_memory,
            stop: &Stop::default(),
        })
        .map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let sink = |frame: &[u8]| {
        text.extend_from_slice(frame);
        Ok(())
    };
    open()?.read(sink).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Checks all files, up to the first invalid artifact.
fn check(files: &Files) -> Result<(), Fault> {
    let exchange = Exchange::begin(files)?;
    let manifest = exchange.manifest()?;
    exchange.container(manifest.body())?;
    let agreement = exchange.agreement(&manifest)?;
    exchange.receipt(&manifest, &agreement.digest())?;
    exchange.schema_statement(&manifest.body().publisher)?;
    exchange.log(&manifest.body().publisher)?;
    exchange.join_request()?;
    exchange.rotation()?;
    exchange.key_release(&manifest.digest(), &agreement.digest())
}

fn altered(name: &str, at: usize, mask: u8) -> Files {
    let mut files = FILES.clone();
    files.get_mut(name).expect("a known file name")[at] ^= mask;
    files
}

#[test]
fn all_files_open_and_agree() {
    check(&FILES).unwrap_or_else(|(artifact, reason)| panic!("{artifact}: {reason}"));
}

#[test]
fn keys_are_those_of_the_register() {
    let listed: BTreeMap<KeyId, PublicKey> = json::read(&FILES["keys.json"]).unwrap();
    let exchange = Exchange::begin(&FILES).unwrap();
    let members = exchange.register.body().members.iter().flat_map(|member| &member.keys);
    for key in members.filter(|key| key.usage != KeyUse::Tls) {
        assert_eq!(listed[&key.id].as_bytes().as_slice(), key.public.0, "{}", key.id);
    }
    let (root, _) = MultiSigned::parse::<crosspark::identity::root::Root>(&FILES["root.json"])
        .and_then(|document| document.claimed::<crosspark::identity::root::Root>())
        .unwrap();
    for key in root.signers.iter().chain([&root.register_key]) {
        assert_eq!(listed[&key.id], key.public, "{}", key.id);
    }
}

#[test]
fn any_altered_byte_is_found_and_its_artifact_named() {
    // Flip the lowest bit, and the case of a letter.
    for name in ["register.jws", "manifest.jws", "receipt.jws", "log/checkpoint", "container.sealed"] {
        for at in 0..FILES[name].len() {
            for mask in [0x01, 0x20] {
                match check(&altered(name, at, mask)) {
                    Err((artifact, _)) => assert_eq!(artifact, name, "byte {at}, mask {mask}"),
                    Ok(()) => panic!("{name}: byte {at}, mask {mask} was altered without detection"),
                }
            }
        }
    }
}

#[test]
fn the_seal_finds_an_altered_byte_without_the_digest() {
    let exchange = Exchange::begin(&FILES).unwrap();
    let (manifest, key) = (exchange.manifest().unwrap(), exchange.data_key().unwrap());
    let sealed = &FILES["container.sealed"];
    assert!(unseal(sealed, &key, manifest.body()).is_ok());
    for at in 0..sealed.len() {
        let files = altered("container.sealed", at, 0x01);
        assert!(unseal(&files["container.sealed"], &key, manifest.body()).is_err(), "byte {at}");
    }
}

#[test]
fn a_join_request_proves_each_of_its_keys() {
    let expected = fingerprint(&FILES, "join-fingerprint.txt").unwrap();
    let (request, digest) = MultiSigned::parse::<JoinRequest>(&FILES["join-request.json"])
        .and_then(|document| document.claimed::<JoinRequest>())
        .unwrap();
    assert_eq!(digest, expected);
    assert_eq!(document::digest(&request), expected, "the payload is the canonical form of the parsed request");
}

/// Whether a document of this kind is read with one more member at its top level.
fn reads_more<D: Document>(name: &'static str) -> bool {
    let jws = text(&FILES, name).unwrap();
    let payload = from_base64url(jws.split('.').nth(1).unwrap()).unwrap();
    let mut members: serde_json::Map<String, Value> = serde_json::from_slice(&payload).unwrap();
    let with = |members: &_| document::claimed::<D>(&format!(".{}.", base64url(&json::to_canonical(members))));
    assert!(with(&members).is_ok(), "{name}");
    members.insert("padding".into(), "x".into());
    with(&members).is_ok()
}

#[test]
fn documents_that_a_receiver_keeps_have_no_further_members() {
    assert!(!reads_more::<Claim>("claim.jws"));
    assert!(!reads_more::<Agreement>("agreement.provider.jws"));
    assert!(!reads_more::<KeyRequest>("key-request.jws"));
    assert!(!reads_more::<KeyAnswer>("key-answer.jws"));
    assert!(!reads_more::<Receipt>("receipt.jws"));
    assert!(!reads_more::<Promise>("promise.jws"));
    assert!(!reads_more::<SchemaStatement>("schema-statement.jws"));
    assert!(reads_more::<Manifest>("manifest.jws"));
}

/// Runs the independent opener; `None` if Python or its packages are missing.
fn run_opener(golden: &Path) -> Option<(bool, String)> {
    let probe = Command::new("python3").args(["-c", "import cryptography, zstandard"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 with cryptography and zstandard not present");
        return None;
    }
    let output = Command::new("python3").arg(folder().join("open.py")).arg(golden).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), said))
}

#[test]
fn a_program_in_another_language_opens_them() {
    LazyLock::force(&FILES);
    if let Some((good, said)) = run_opener(&folder()) {
        assert!(good && said.contains(" passed, 0 failed"), "{said}");
    }
}

#[test]
fn a_program_in_another_language_finds_altered_files() {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("log")).unwrap();
    for (name, line) in [
        ("container.sealed", "FAILED container digest"),
        ("manifest.jws", "FAILED manifest"),
        ("register.jws", "FAILED register"),
        ("receipt.jws", "FAILED receipt"),
        ("log/checkpoint", "FAILED checkpoint"),
    ] {
        for (other, bytes) in altered(name, FILES[name].len() / 2, 0x01) {
            std::fs::write(copy.path().join(other), bytes).unwrap();
        }
        let Some((good, said)) = run_opener(copy.path()) else { return };
        assert!(!good && said.contains(line), "{name}: {said}");
    }
}
