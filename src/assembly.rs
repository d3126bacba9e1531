//! Puts a node together from its configuration and folder, and runs it.

use crate::config::{Config, ConfigError};
use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::random::{Random, SystemRandomness};
use crate::core::time::{Clock, SystemClock};
use crate::identity::key::{KeyUse, SigningKey};
use crate::identity::register::{RegisterError, VerifiedRegister};
use crate::identity::root::{RootError, VerifiedRoot};
use crate::keys::{Kek, KekError, KeyFile, KeyFileError};
use crate::net::{AddressRule, MemberClients, NetError, TlsIdentity, operator_client, server_config};
use crate::protocol::HttpPeer;
use crate::server::{Rules, serve};
use crate::service::ports::PolicyDecides;
use crate::service::{Node, Parts, Stranger, Trust};
use crate::storage::{Store, StoreError, sqlite};
use crate::{blob::Blobs, management, protocol, schema};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// Names of the files in a node's folder.
pub mod files {
    /// The lock that keeps a second process out.
    pub const LOCK: &str = "lock";
    /// The root document.
    pub const ROOT: &str = "root.json";
    /// Fingerprint of the root document that the administrator compared.
    pub const ROOT_FINGERPRINT: &str = "root.fingerprint";
    /// The certificate chain, PEM.
    pub const CERTIFICATE: &str = "tls.pem";
    /// Key files.
    pub const KEYS: &str = "keys";
    /// Sealed bytes of this node's own datasets.
    pub const BLOBS: &str = "blobs";
    /// Sealed bytes that came from peers: apart, so that no peer's manifest can name one of ours.
    pub const RECEIVED: &str = "received";
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// Key files.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root document.
    #[error("the root document in this folder: {0}")]
    Root(#[from] RootError),
    /// The register.
    #[error("the register in this folder: {0}")]
    Register(#[from] RegisterError),
    /// TLS.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file.
    #[error("{path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The node has not joined.
    #[error(
        "this node has not joined an alliance yet: run `crosspark node join` with the welcome that the alliance operator sends"
    )]
    NotJoined,
    /// The configuration is of another node than the folder.
    #[error("the configuration does not fit this folder: {0}")]
    Mismatch(String),
    /// Another process has the folder.
    #[error("the folder {0} is in use by another process; one node, one folder")]
    Locked(PathBuf),
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> AssemblyError {
    AssemblyError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Takes the folder for this process; the lock ends with the returned file.
pub fn lock(folder: &Path) -> Result<File, AssemblyError> {
    let path = folder.join(files::LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| file_error(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AssemblyError::Locked(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(&path, error)),
    }
}

/// Loads an Ed25519 key from the node's folder.
pub fn signing_key(folder: &Path, usage: KeyUse, kek: &Kek) -> Result<SigningKey, AssemblyError> {
    let path = folder.join(files::KEYS).join(format!("{}.key", usage.name()));
    let (id, secret) = KeyFile::load(&path, usage.name(), kek)?;
    let seed = <[u8; 32]>::try_from(secret.as_slice()).map(Zeroizing::new);
    let seed = seed.map_err(|_| file_error(&path, "an Ed25519 seed has 32 bytes"))?;
    Ok(SigningKey::from_seed(id, &seed))
}

/// Opens the store of a node's folder.
pub fn open_store(config: &Config, kek: &Kek, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, AssemblyError> {
    let signer = Arc::new(signing_key(&config.data, KeyUse::Log, kek)?);
    // Another name would sign checkpoints of a log that does not exist.
    let owner = signer.id().participant();
    if owner != config.participant {
        let named = &config.participant;
        return Err(AssemblyError::Mismatch(format!("`participant` is {named}, the keys here are of {owner}")));
    }
    Ok(sqlite::open(&config.data, config.participant.log_origin(0), signer, clock)?)
}

/// Loads whom the node believes: the root document against the compared fingerprint, then every register in turn.
pub async fn load_trust(config: &Config, store: &dyn Store) -> Result<Trust, AssemblyError> {
    let root = load_root(&config.data)?;
    let newest = store.register_sequence().await?;
    let jws = store.registers(newest, 1).await?.pop().ok_or(AssemblyError::NotJoined)?;
    // Each was verified as the successor of the one before when it was installed, and logged.
    Ok(Trust { register: VerifiedRegister::verify(&jws, &root)?, root })
}

/// Loads the root document of a node's folder.
pub fn load_root(folder: &Path) -> Result<VerifiedRoot, AssemblyError> {
    let (path, fingerprint) = (folder.join(files::ROOT), folder.join(files::ROOT_FINGERPRINT));
    if !path.exists() {
        return Err(AssemblyError::NotJoined);
    }
    let text = std::fs::read_to_string(&fingerprint).map_err(|error| file_error(&fingerprint, error))?;
    let compared = Digest::parse_fingerprint(&text).map_err(|error| file_error(&fingerprint, error))?;
    let root = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
    Ok(VerifiedRoot::verify(&root, &compared)?)
}

fn open_blobs(folder: &Path) -> Result<Blobs, AssemblyError> {
    Blobs::open(folder).map_err(|error| file_error(folder, error))
}

fn tls_identity(folder: &Path, kek: &Kek) -> Result<TlsIdentity, AssemblyError> {
    let path = folder.join(files::CERTIFICATE);
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
    let chain = chain.map_err(|error| file_error(&path, error))?;
    let key = folder.join(files::KEYS).join("tls.key");
    let (_, pkcs8) = KeyFile::load(&key, KeyUse::Tls.name(), kek)?;
    Ok(TlsIdentity { chain, key: PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into() })
}

/// A node that is ready to run, and what runs it.
pub struct Assembled {
    /// The node.
    pub node: Arc<Node>,
    config: Config,
    tls: TlsIdentity,
    newer: mpsc::Receiver<(ParticipantId, u64)>,
    _lock: File,
}

/// Puts another store before the real one.
pub type WrapStore = Box<dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send>;

/// What tests put in place of the usual.
#[derive(Default)]
pub struct Overrides {
    /// Wraps the store.
    pub store: Option<WrapStore>,
    /// Another clock.
    pub clock: Option<Arc<dyn Clock>>,
}

/// The register must list this node, where its configuration says that it is.
fn check_member(config: &Config, trust: &Trust) -> Result<(), AssemblyError> {
    let Some(member) = trust.register.member(&config.participant) else {
        let sequence = trust.register.body().sequence;
        return Err(AssemblyError::Mismatch(format!("register {sequence} does not list {}", config.participant)));
    };
    if member.endpoint != config.peer.endpoint {
        let (own, listed) = (&config.peer.endpoint, &member.endpoint);
        return Err(AssemblyError::Mismatch(format!("`peer.endpoint` is {own}, the register has {listed}")));
    }
    Ok(())
}

/// Assembles the node of a configuration.
pub async fn assemble(config: Config, overrides: Overrides) -> Result<Assembled, AssemblyError> {
    let held = lock(&config.data)?;
    let clock = overrides.clock.unwrap_or_else(|| Arc::new(SystemClock));
    let random: Arc<dyn Random> = Arc::new(SystemRandomness::new());
    let kek = Kek::load(&config.kek_file)?;
    let mut store = open_store(&config, &kek, clock.clone())?;
    if let Some(wrap) = overrides.store {
        store = wrap(store);
    }
    let trust = load_trust(&config, store.as_ref()).await?;
    check_member(&config, &trust)?;
    let tls = tls_identity(&config.data, &kek)?;
    let ca = trust.root.body().ca.iter().map(|certificate| certificate.0.clone()).collect();
    let rule = AddressRule { allow_private: config.peer.allow_private_addresses };
    let clients = MemberClients::new(tls.clone(), ca, rule, clock.clone());
    let sequence = Arc::new(AtomicU64::new(0));
    let (report, newer) = mpsc::channel(16);
    let peer = HttpPeer::new(config.peer.endpoint.clone(), clients, sequence.clone(), store.clone(), report);
    let parts = Parts {
        me: config.participant.clone(),
        origin: config.participant.log_origin(0),
        endpoint: config.peer.endpoint.clone(),
        document_key: signing_key(&config.data, KeyUse::Document, &kek)?,
        kek,
        store,
        blobs: open_blobs(&config.data.join(files::BLOBS))?,
        received: open_blobs(&config.data.join(files::RECEIVED))?,
        clock,
        random,
        peer: Arc::new(peer),
        decisions: Arc::new(PolicyDecides),
        schemas: schema::built_in(),
        trust,
        sequence,
    };
    let node = Node::new(parts).map_err(|error| file_error(Path::new("schemas"), error))?;
    Ok(Assembled { node, config, tls, newer, _lock: held })
}

impl Assembled {
    /// Listens and serves until `stop` turns true; then finishes what is in flight and signs the log's tail.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Result<(), AssemblyError> {
        self.node.sweep().await.map_err(|error| file_error(&self.config.data, error))?;
        let bind = async |address| {
            TcpListener::bind(address)
                .await
                .map_err(|error| file_error(Path::new(&format!("cannot listen on {address}")), error))
        };
        let peers = bind(self.config.peer.listen).await?;
        let users = bind(self.config.management.listen).await?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&self.tls)?));
        let node = self.node.clone();
        let shed: Arc<dyn Fn() + Send + Sync> = Arc::new(move || node.count_stranger(Stranger::Shed));
        let peer_rules = Rules {
            shed: shed.clone(),
            tls: Some(acceptor),
            request_time_max: Some(limits::REQUEST_TIME_MAX),
            per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
        };
        let user_rules = Rules { tls: None, request_time_max: None, per_address_max: limits::CONNECTIONS_MAX, shed };
        tracing::info!(
            participant = %self.config.participant, peers = %self.config.peer.listen,
            management = %self.config.management.listen, "ready"
        );
        let outbox = tokio::spawn(self.node.clone().run_outbox());
        let refresh = tokio::spawn(refresh(self.node.clone(), self.config.clone()));
        let node = self.node.clone();
        let catch_up = tokio::spawn(async move {
            while let Some((peer, sequence)) = self.newer.recv().await {
                node.catch_up(&peer, sequence).await;
            }
        });
        tokio::join!(
            serve(peers, protocol::router(self.node.clone()), peer_rules, stop.clone()),
            serve(users, management::router(self.node.clone(), stop.clone()), user_rules, stop),
        );
        [outbox, refresh, catch_up].iter().for_each(tokio::task::JoinHandle::abort);
        if let Err(error) = self.node.seal_log().await {
            tracing::error!(%error, "the log's tail could not be signed");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Asks the alliance and the peers for newer registers, at once and then every minute.
async fn refresh(node: Arc<Node>, config: Config) {
    loop {
        if let Some(source) = &config.alliance {
            let roots = source.ca_file.as_ref().and_then(|path| std::fs::read(path).ok());
            if let Err(error) = refresh_from_alliance(&node, &source.url, roots.as_deref()).await {
                tracing::warn!(url = source.url, error, "the alliance's register could not be fetched");
            }
        }
        node.refresh_from_peers().await;
        tokio::time::sleep(limits::REGISTER_REFRESH_EVERY).await;
    }
}

/// The alliance's URL is a folder of files: `register.jws`, and `registers/N.jws` for the ones between.
async fn refresh_from_alliance(node: &Node, url: &str, roots: Option<&[u8]>) -> Result<(), String> {
    let client = operator_client(roots).map_err(|error| error.to_string())?;
    let base = url.trim_end_matches('/');
    let fetch = async |path: String| -> Result<String, String> {
        let response = client.get(path).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&piece);
            if body.len() > limits::REGISTER_BYTES_MAX {
                return Err("the answer is too long".into());
            }
        }
        String::from_utf8(body).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
    };
    let newest = fetch(format!("{base}/register.jws")).await?;
    let trust = node.trust();
    let newest = VerifiedRegister::verify(&newest, &trust.root).map_err(|error| error.to_string())?;
    for sequence in trust.register.body().sequence + 1..=newest.body().sequence {
        let jws = fetch(format!("{base}/registers/{sequence}.jws")).await?;
        node.install_register(&jws, url).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
