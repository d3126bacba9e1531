//! Creation of a node (folder, four keys, join request), and its joining with the welcome.

mod kek;
mod rotate;
mod token;

pub use kek::change_kek;
pub use rotate::{Asked, Wanted, renew, rotate};
pub use token::admin_token;

use crate::alliance::Welcome;
use crate::assembly::{self, AssemblyError, files, load_root, open_store};
use crate::audit::entry::{Draft, Facts, Kind};
use crate::config::{self, Config};
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::json;
use crate::core::random::{self, Random};
use crate::core::time::{Clock, NodeClock, Timestamp};
use crate::durable::{create_private, make_folder, write_whole};
use crate::identity::document::{self, MultiSigned};
use crate::identity::join::JoinRequest;
use crate::identity::key::{Bytes, KeyUse, SigningKey};
use crate::identity::register::{KeyEntry, Member, VerifiedRegister};
use crate::identity::root::VerifiedRoot;
use crate::identity::x509::Presented;
use crate::keys::{Kek, KeyFile};
use crate::node::{UserRole, details};
use crate::operations::{NewToken, mint_token};
use crate::protocol::BASE;
use crate::storage::sqlite::FILE;
use crate::storage::{Change, Write};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Name of the join request in a node's folder.
pub const JOIN_REQUEST: &str = "join-request.json";
/// Validity of a node's keys in days (5 years); certificates expire earlier.
const KEY_DAYS: i64 = 5 * 365;
/// Validity of the first admin token in days.
const FIRST_TOKEN_DAYS: u32 = 30;

/// A park's details for the creation of its node.
pub struct NewNode {
    /// The configuration, with absolute paths.
    pub config: Config,
    /// Names by language tag.
    pub names: BTreeMap<String, Text>,
    /// Jurisdiction, such as `CN-BJ`.
    pub jurisdiction: Text,
    /// Name of the administrator.
    pub admin: Text,
}

/// Error in creating a node, joining, or changing its keys.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Files, keys, store.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Path of the file or folder.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// The welcome is invalid or not for this node.
    #[error("the welcome: {0}")]
    Welcome(String),
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> EnrolError {
    EnrolError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Creates a node's folder, never overwriting one. Returns the join request's fingerprint and the first admin token's
/// secret.
pub async fn init(
    new: &NewNode,
    toml: &str,
    now: Timestamp,
    random: &dyn Random,
    clock: Arc<NodeClock>,
) -> Result<(Digest, Zeroizing<String>), EnrolError> {
    let folder = &new.config.data;
    let configuration = folder.join(config::FILE);
    if configuration.exists() {
        return Err(file_error(folder, "this folder already contains a node, which is never overwritten"));
    }
    // The configuration is written last: without it, the folder contains only the remains of an interrupted attempt.
    let interrupted = clear_interrupted(folder).map_err(|error| file_error(folder, error))?;
    // The contents are sealed or wrapped; other users still have no reason to read them.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder, private).map_err(|error| file_error(folder, error))?;
    let keys = folder.join(files::KEYS);
    make_folder(&keys).map_err(|error| file_error(&keys, error))?;
    let kek_path = &new.config.kek_file;
    let kek = if interrupted && kek_path.exists() { Kek::load(kek_path) } else { Kek::create(kek_path, random) };
    let kek = kek.map_err(AssemblyError::from)?;
    let request = join_request(new, &kek, now, random)?;
    let fingerprint = document::digest(&request.body);
    let path = folder.join(JOIN_REQUEST);
    write_whole(&path, &json::to_canonical(&request.signed)).map_err(|error| file_error(&path, error))?;

    let (store, _) = open_store(&new.config, &kek, clock, Arc::default())?;
    let token = NewToken { role: UserRole::Admin, person: new.admin.clone(), enterprise: None, days: FIRST_TOKEN_DAYS };
    let (row, secret, entry) = mint_token(&token, now, random).map_err(|error| file_error(folder, error))?;
    let facts = Facts {
        detail: details(json!({"participant": new.config.participant, "join": fingerprint})),
        ..Facts::default()
    };
    let change = Change::new(Draft::new(Kind::LogBegun, facts, random)).entry(entry).write(Write::InsertToken(row));
    store.commit(change).await.map_err(AssemblyError::from)?;
    store.close().await.map_err(AssemblyError::from)?;
    // Last: a folder with a configuration is complete.
    create_private(&configuration, toml.as_bytes()).map_err(|error| file_error(&configuration, error))?;
    Ok((fingerprint, secret))
}

/// Refuses a folder that may be older than the checkpoints that its peers hold: nothing is committed to it.
fn must_be_settled(folder: &Path) -> Result<(), EnrolError> {
    if folder.join(files::RESTORED).exists() {
        let reason =
            "it was restored from a backup: run the node until its log has been compared with its peers' checkpoints";
        return Err(file_error(folder, reason));
    }
    Ok(())
}

/// Removes the remains of an interrupted [`init`], whose keys have not been published. Returns whether there were any.
fn clear_interrupted(folder: &Path) -> std::io::Result<bool> {
    let keys = folder.join(files::KEYS);
    if !keys.exists() {
        return Ok(false);
    }
    for name in [JOIN_REQUEST.to_owned(), FILE.to_owned(), format!("{FILE}-wal"), format!("{FILE}-shm")] {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // The folder itself stays: it shows that the key-encryption key belongs to this node.
    for file in keys.read_dir()? {
        std::fs::remove_file(file?.path())?;
    }
    Ok(true)
}

struct SignedRequest {
    body: JoinRequest,
    signed: MultiSigned,
}

fn join_request(new: &NewNode, kek: &Kek, now: Timestamp, random: &dyn Random) -> Result<SignedRequest, EnrolError> {
    let participant: &ParticipantId = &new.config.participant;
    let folder = new.config.data.join(files::KEYS);
    let until = now.plus_ms(KEY_DAYS * 86_400_000);
    let file = |usage: KeyUse| folder.join(format!("{}.key", usage.name()));
    let entry = |n: u32, usage, public| KeyEntry {
        id: participant.key(n),
        usage,
        public: Bytes(public),
        from: now,
        until,
        proof: None,
    };

    let failed = |error: rcgen::Error| file_error(&folder, error);
    let tls = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let secret = Zeroizing::new(tls.serialize_der());
    KeyFile::create(&file(KeyUse::Tls), &participant.key(1), KeyUse::Tls.name(), &secret, kek, random)
        .map_err(AssemblyError::from)?;
    let params = CertificateParams::new(vec![]).map_err(failed)?;
    let csr = params.serialize_request(&tls).map_err(failed)?;

    let mut keys = vec![entry(1, KeyUse::Tls, tls.subject_public_key_info())];
    let mut signing = Vec::new();
    for (n, usage) in [(2, KeyUse::Document), (3, KeyUse::Log), (4, KeyUse::Witness)] {
        let seed = Zeroizing::new(random::bytes::<32>(random));
        KeyFile::create(&file(usage), &participant.key(n), usage.name(), &seed[..], kek, random)
            .map_err(AssemblyError::from)?;
        let key = SigningKey::from_seed(participant.key(n), &seed);
        keys.push(entry(n, usage, key.public().as_bytes().to_vec()));
        signing.push(key);
    }
    let endpoint = new.config.peer.endpoint.clone();
    let callback = crate::identity::endpoint::Endpoint::parse(&endpoint.join(BASE));
    let body = JoinRequest {
        participant: participant.clone(),
        names: new.names.clone(),
        jurisdiction: new.jurisdiction.clone(),
        callbacks: vec![callback.map_err(|error| file_error(&folder, error))?],
        endpoint,
        keys,
        csr: Bytes(csr.der().to_vec()),
        issued: now,
    };
    let signed = MultiSigned::sign(&body, &signing.iter().collect::<Vec<_>>());
    Ok(SignedRequest { body, signed })
}

/// Joins with a welcome: checks the root against the fingerprint that people compared, the register under that root,
/// and that the register and the certificate are for this node's own keys.
pub async fn join(
    config: &Config,
    welcome: &[u8],
    fingerprint: &Digest,
    random: &dyn Random,
    clock: Arc<NodeClock>,
) -> Result<VerifiedRegister, EnrolError> {
    let refuse = |reason: String| EnrolError::Welcome(reason);
    let folder = &config.data;
    let _lock = assembly::lock(folder)?;
    let welcome: Welcome = json::read(welcome).map_err(|error| refuse(error.to_string()))?;
    if welcome.format != "welcome/1" {
        return Err(refuse(format!("its format is `{}`, expected welcome/1", welcome.format)));
    }
    let root = VerifiedRoot::verify(&json::to_canonical(&welcome.root), fingerprint)
        .map_err(|error| refuse(error.to_string()))?;
    let register = VerifiedRegister::verify(&welcome.register, &root).map_err(|error| refuse(error.to_string()))?;
    let now = clock.now();
    let kek = Kek::load(&config.kek_file).map_err(AssemblyError::from)?;
    check_own(config, &kek, &register, &welcome.certificate, now)?;

    let (store, _) = open_store(config, &kek, clock, Arc::default())?;
    let installed = store.register_sequence().await.map_err(AssemblyError::from)?;
    if installed == 0 {
        let body = register.body();
        let facts = Facts {
            detail: details(json!({
                "sequence": body.sequence, "digest": register.digest(), "source": "welcome", "root": root.digest(),
                "members": body.members.len(), "expires": body.expires,
            })),
            ..Facts::default()
        };
        let write = Write::InstallRegister {
            sequence: body.sequence,
            digest: register.digest(),
            jws: register.jws().to_owned(),
        };
        let change = Change::new(Draft::new(Kind::RegisterInstalled, facts, random)).write(write);
        store.commit(change).await.map_err(AssemblyError::from)?;
    } else if load_root(folder).is_ok_and(|known| known.digest() != root.digest()) {
        return Err(refuse("this node has joined another alliance".into()));
    }
    store.close().await.map_err(AssemblyError::from)?;
    for (name, bytes) in [
        (files::CERTIFICATE, welcome.certificate.into_bytes()),
        (files::ROOT_FINGERPRINT, format!("{}\n", root.digest()).into_bytes()),
        (files::ROOT, root.to_json()),
    ] {
        let path = folder.join(name);
        write_whole(&path, &bytes).map_err(|error| file_error(&path, error))?;
    }
    Ok(register)
}

/// Checks that the register lists this node's own public keys and that the certificate is for its TLS key.
fn check_own(
    config: &Config,
    kek: &Kek,
    register: &VerifiedRegister,
    certificate: &str,
    now: Timestamp,
) -> Result<(), EnrolError> {
    let refuse = |reason: &str| EnrolError::Welcome(reason.to_owned());
    let der = CertificateDer::from_pem_slice(certificate.as_bytes());
    let der = der.map_err(|_| refuse("its certificate is not valid PEM"))?;
    let presented = Presented::parse(&der).map_err(|error| refuse(&format!("its certificate: {error}")))?;
    let is_other = |member: &&Member| member.id != config.participant && member.has_pin(&presented.pin(), now);
    if let Some(other) = register.body().members.iter().find(is_other) {
        return Err(refuse(&format!("it is the welcome of {}, and this node is {}", other.id, config.participant)));
    }
    let member = register.member(&config.participant);
    let member =
        member.ok_or_else(|| refuse(&format!("its register does not list this node, {}", config.participant)))?;
    for usage in [KeyUse::Document, KeyUse::Log, KeyUse::Witness] {
        let own = assembly::signing_key(&config.data, usage, kek)?;
        if member.key(own.id(), usage, now) != Some(own.public()) {
            return Err(refuse(&format!("its register lists another {} key for this node", usage.name())));
        }
    }
    if !member.has_pin(&presented.pin(), now) {
        return Err(refuse("its certificate is not for the TLS key that its register lists for this node"));
    }
    if member.endpoint != config.peer.endpoint {
        return Err(refuse("its register lists another endpoint for this node than the configuration"));
    }
    Ok(())
}
