//! The keys in a node's folder that it uses: for each use the newest one that the register lists and that is valid.

use super::error::{AssemblyError, file_error};
use super::folder::{files, load_root};
use crate::audit::checkpoint::{Checkpoint, CheckpointSigner};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId};
use crate::core::time::Timestamp;
use crate::identity::key::{KeyUse, PublicKey, SigningKey};
use crate::identity::register::{KeyName, Member, VerifiedRegister};
use crate::identity::root::RootChain;
use crate::identity::x509::Presented;
use crate::keys::{Kek, KeyFile};
use crate::net::TlsIdentity;
use crate::storage::{ReadOnlyMode, sqlite};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// The keys that a node uses.
pub struct OwnKeys {
    /// TLS key and certificate.
    pub tls: TlsIdentity,
    /// Expiry of the certificate.
    pub certificate_until: Timestamp,
    /// Document key.
    pub document: SigningKey,
    /// Log key, which signs checkpoints.
    pub log: SigningKey,
}

impl OwnKeys {
    /// The keys in `folder` that are listed by `member`, this node's entry in the register.
    pub fn load(folder: &Path, kek: &Kek, member: &Member, now: Timestamp) -> Result<Self, AssemblyError> {
        let (tls, certificate_until) = tls_identity(folder, kek, member, now)?;
        let document = signing_key_of(folder, KeyUse::Document, kek, Some(member), now)?;
        let log = signing_key_of(folder, KeyUse::Log, kek, Some(member), now)?;
        Ok(Self { tls, certificate_until, document, log })
    }
}

fn ed25519(path: &Path, id: KeyId, seed: &Zeroizing<Vec<u8>>) -> Result<SigningKey, AssemblyError> {
    let seed = <[u8; 32]>::try_from(seed.as_slice()).map(Zeroizing::new);
    let seed = seed.map_err(|_| file_error(path, "the Ed25519 seed does not have 32 bytes"))?;
    Ok(SigningKey::from_seed(id, &seed))
}

/// The first Ed25519 key of a use in a node's folder.
pub fn signing_key(folder: &Path, usage: KeyUse, kek: &Kek) -> Result<SigningKey, AssemblyError> {
    let path = folder.join(files::KEYS).join(format!("{}.key", usage.name()));
    let (id, seed) = KeyFile::load(&path, usage.name(), kek)?;
    ed25519(&path, id, &seed)
}

/// The newest Ed25519 key of a use that `member` lists, or the first one if none is listed yet.
pub fn signing_key_of(
    folder: &Path,
    usage: KeyUse,
    kek: &Kek,
    member: Option<&Member>,
    now: Timestamp,
) -> Result<SigningKey, AssemblyError> {
    let keys = folder.join(files::KEYS);
    for (id, seed) in KeyFile::all(&keys, usage.name(), kek)?.into_iter().rev() {
        let key = ed25519(&keys, id, &seed)?;
        if member.is_some_and(|member| member.key(key.id(), usage, now) == Some(key.public())) {
            return Ok(key);
        }
    }
    signing_key(folder, usage, kek)
}

/// The public keys of all log keys in a node's folder.
pub fn log_keys(folder: &Path, kek: &Kek) -> Result<Vec<PublicKey>, AssemblyError> {
    let keys = folder.join(files::KEYS);
    let all = KeyFile::all(&keys, KeyUse::Log.name(), kek)?.into_iter();
    all.map(|(id, seed)| Ok(ed25519(&keys, id, &seed)?.public())).collect()
}

/// The names of all keys in a node's folder.
pub fn held_keys(folder: &Path, kek: &Kek) -> Result<Vec<KeyName>, AssemblyError> {
    let keys = folder.join(files::KEYS);
    let mut held = Vec::new();
    for usage in [KeyUse::Document, KeyUse::Log, KeyUse::Witness] {
        for (id, seed) in KeyFile::all(&keys, usage.name(), kek)? {
            let key = ed25519(&keys, id.clone(), &seed)?;
            held.push((id, Digest::of(key.public().as_bytes())));
        }
    }
    for (id, pkcs8) in KeyFile::all(&keys, KeyUse::Tls.name(), kek)? {
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256);
        let pair = pair.map_err(|error| file_error(&keys, error))?;
        held.push((id, Digest::of(&pair.subject_public_key_info())));
    }
    Ok(held)
}

/// Path of the certificate of a TLS key.
pub fn certificate_path(folder: &Path, key: &KeyId) -> PathBuf {
    let numbered = folder.join(format!("tls-{}.pem", key.number()));
    let first = KeyFile::number_of(&folder.join(files::KEYS).join("tls.key"));
    if first.is_none_or(|number| number == key.number()) { folder.join(files::CERTIFICATE) } else { numbered }
}

/// The newest TLS key that is listed and has a certificate.
fn tls_identity(
    folder: &Path,
    kek: &Kek,
    member: &Member,
    now: Timestamp,
) -> Result<(TlsIdentity, Timestamp), AssemblyError> {
    let mut problem = None;
    for (id, pkcs8) in KeyFile::all(&folder.join(files::KEYS), KeyUse::Tls.name(), kek)?.into_iter().rev() {
        let path = certificate_path(folder, &id);
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        let presented = chain.as_ref().ok().and_then(|chain| Presented::parse(chain.first()?).ok());
        match (chain, presented) {
            (Ok(chain), Some(presented)) if member.has_pin(&presented.pin(), now) => {
                let key = PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into();
                return Ok((TlsIdentity { chain, key }, presented.not_after()));
            }
            (Err(error), _) => problem = Some(file_error(&path, error)),
            _ => problem = Some(file_error(&path, "the register does not list the key of this certificate")),
        }
    }
    Err(problem.unwrap_or_else(|| file_error(folder, "there is no TLS key")))
}

/// This node's entry in the newest register of its folder, if it has joined.
pub fn own_entry(folder: &Path, me: &ParticipantId) -> Option<Member> {
    let log = sqlite::log_rows(&folder.join(sqlite::FILE)).ok()?;
    let mut roots = RootChain::new(load_root(folder).ok()?);
    for json in log.roots().ok()? {
        roots = roots.extended(json.as_bytes()).ok()?;
    }
    let register = VerifiedRegister::verify_in(&log.newest_register().ok()??, &roots).ok()?;
    register.member(me).cloned()
}

/// Signs checkpoints with the current log key, except in read-only mode.
pub struct LogSigner {
    key: RwLock<Arc<SigningKey>>,
    read_only: Arc<ReadOnlyMode>,
}

impl LogSigner {
    /// `key` is the current log key.
    pub fn new(key: SigningKey, read_only: Arc<ReadOnlyMode>) -> Self {
        Self { key: RwLock::new(Arc::new(key)), read_only }
    }

    /// Replaces the log key.
    pub fn change(&self, key: SigningKey) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl CheckpointSigner for LogSigner {
    fn is_ready(&self) -> bool {
        self.read_only.reason().is_none()
    }

    fn sign(&self, checkpoint: &Checkpoint) -> String {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner).clone();
        checkpoint.sign(&key)
    }
}
