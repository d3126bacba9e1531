//! Puts a node together from its configuration and folder, and runs it.

mod identity;
mod refresh;
mod standing;

pub use identity::{LogSigner, OwnKeys, certificate_path, own_entry, signing_key, signing_key_of};

use crate::config::{AllianceSource, Config, ConfigError};
use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::random::{Random, SystemRandomness};
use crate::core::time::{Clock, SystemClock};
use crate::identity::key::KeyUse;
use crate::identity::register::{KeyName, Member, RegisterError, VerifiedRegister};
use crate::identity::root::{RootChain, RootError, VerifiedRoot};
use crate::index::Index;
use crate::keys::{Kek, KekError, KeyFile, KeyFileError};
use crate::net::{AddressRule, CertificateResolver, MemberClients, NetError, server_config};
use crate::protocol::HttpPeer;
use crate::server::{Rules, serve};
use crate::service::ports::{DecisionMaker, Peer, PolicyDecides};
use crate::service::{CountedRefusal, DocumentKey, Node, Parts, Trust};
use crate::storage::{ReadOnlyMode, Store, StoreError, sqlite};
use crate::{blob::Blobs, management, protocol, schema};
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::{TcpListener, TcpSocket};
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
    /// In a folder that was restored from a backup and not yet compared with what others saw.
    pub const RESTORED: &str = "restored";
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

/// Takes `address`; who connects is refused until [`listen`].
fn bind(address: SocketAddr) -> Result<TcpSocket, AssemblyError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound.map_err(|error| file_error(Path::new(&format!("cannot listen on {address}")), error))
}

fn listen(socket: TcpSocket) -> Result<TcpListener, AssemblyError> {
    let listener = socket.listen(limits::CONNECTIONS_WAITING_MAX);
    listener.map_err(|error| file_error(Path::new("cannot listen"), error))
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

/// Opens the store of a node's folder; what signs its checkpoints comes with it.
pub fn open_store(
    config: &Config,
    kek: &Kek,
    clock: Arc<dyn Clock>,
    read_only: Arc<ReadOnlyMode>,
) -> Result<(Arc<dyn Store>, Arc<LogSigner>), AssemblyError> {
    let listed = own_entry(&config.data, &config.participant);
    let key = identity::signing_key_of(&config.data, KeyUse::Log, kek, listed.as_ref(), clock.now())?;
    // Another name would sign checkpoints of a log that does not exist.
    let owner = key.id().participant();
    if owner != config.participant {
        let named = &config.participant;
        return Err(AssemblyError::Mismatch(format!("`participant` is {named}, the keys here are of {owner}")));
    }
    let signer = Arc::new(LogSigner::new(key, read_only));
    let store = sqlite::open(&config.data, config.participant.log_origin(0), signer.clone(), clock)?;
    Ok((store, signer))
}

/// Loads whom the node believes: the root document against the compared fingerprint, its successors, and the newest
/// register without the keys in quarantine, but for those that this node itself has, `held`.
pub async fn load_trust(config: &Config, store: &dyn Store, held: &[KeyName]) -> Result<Trust, AssemblyError> {
    let mut roots = RootChain::new(load_root(&config.data)?);
    for json in store.roots().await? {
        roots = roots.extended(json.as_bytes())?;
    }
    let newest = store.register_sequence().await?;
    let jws = store.register(newest).await?.ok_or(AssemblyError::NotJoined)?;
    let quarantine = store.quarantined().await?.into_iter().filter(|key| !held.contains(key)).collect();
    // Each was verified as the successor of the one before when it was installed, and logged.
    let register = VerifiedRegister::verify_in(&jws, &roots)?.without(&quarantine);
    Ok(Trust { roots, register, quarantine })
}

/// Takes the folder of keys: keys must not be made while all are wrapped anew.
pub fn lock_keys(folder: &Path) -> Result<File, AssemblyError> {
    lock(&folder.join(files::KEYS))
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

/// A node that is ready to run, and what runs it.
pub struct Assembled {
    /// The node.
    pub node: Arc<Node>,
    config: Config,
    active: Arc<ActiveKeys>,
    newer: mpsc::Receiver<(ParticipantId, u64)>,
    _lock: File,
}

/// What a node acts with, changed while it runs.
struct ActiveKeys {
    folder: PathBuf,
    kek_file: PathBuf,
    clock: Arc<dyn Clock>,
    resolver: Arc<CertificateResolver>,
    clients: Arc<MemberClients>,
    signer: Arc<LogSigner>,
    alliance: Arc<RwLock<Option<AllianceSource>>>,
}

impl ActiveKeys {
    /// The keys of this very node that are filed as in quarantine although it has them in its folder.
    async fn held(&self, node: &Node) -> Result<Vec<KeyName>, AssemblyError> {
        let mut waiting = node.store().quarantined().await?;
        waiting.retain(|(key, _)| key.participant() == *node.me());
        if waiting.is_empty() {
            return Ok(waiting);
        }
        let held = identity::held_keys(&self.folder, &Kek::load(&self.kek_file)?)?;
        waiting.retain(|name| held.contains(name));
        Ok(waiting)
    }

    /// Loads keys and certificates again, as the register lists them. On an error everything stays as it was.
    fn reload_keys(&self, node: &Node) -> Result<(), AssemblyError> {
        let trust = node.trust();
        let kek = Kek::load(&self.kek_file)?;
        let member = own_member(node.me(), &trust)?;
        let keys = OwnKeys::load(&self.folder, &kek, member, self.clock.now())?;
        self.resolver.change(&keys.tls)?;
        self.clients.change(keys.tls, trust.roots.ca().map(<[u8]>::to_vec).collect());
        self.signer.change(keys.log);
        node.use_document_key(keys.document);
        node.set_certificate_end(keys.certificate_until);
        Ok(())
    }

    /// Reads the configuration again: the alliance's URL and the log level change at once, the rest at the next start.
    fn reload_config(&self, path: &Path, running: &Config) -> Result<(), AssemblyError> {
        let new = Config::load(path)?;
        crate::telemetry::change(&new.log);
        *self.alliance.write().unwrap_or_else(PoisonError::into_inner) = new.alliance.clone();
        let at_start = |config: &Config| (config.peer.clone(), config.management.clone(), config.data.clone());
        if at_start(&new) != at_start(running) {
            tracing::warn!("`peer`, `management` and `data` in the configuration take effect at the next start");
        }
        Ok(())
    }
}

fn own_member<'a>(me: &ParticipantId, trust: &'a Trust) -> Result<&'a Member, AssemblyError> {
    let sequence = trust.register.body().sequence;
    let missing = || AssemblyError::Mismatch(format!("register {sequence} does not list {me}"));
    trust.register.member(me).ok_or_else(missing)
}

/// Puts another store before the real one.
pub type WrapStore = Box<dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send>;

/// What tests and examples put in place of the usual.
#[derive(Default)]
pub struct Overrides {
    /// Wraps the store.
    pub store: Option<WrapStore>,
    /// Another clock.
    pub clock: Option<Arc<dyn Clock>>,
    /// Another way to the peers.
    pub peer: Option<Arc<dyn Peer>>,
    /// Another one who decides.
    pub decisions: Option<Arc<dyn DecisionMaker>>,
}

/// The register must list this node, where its configuration says that it is.
fn check_member(config: &Config, member: &Member) -> Result<(), AssemblyError> {
    if member.endpoint != config.peer.endpoint {
        let (own, listed) = (&config.peer.endpoint, &member.endpoint);
        return Err(AssemblyError::Mismatch(format!("`peer.endpoint` is {own}, the register has {listed}")));
    }
    Ok(())
}

/// The secret under which transfer tokens are made: a key file where the key-encryption key was changed once.
fn token_key(config: &Config, kek: &Kek) -> Result<Zeroizing<[u8; 32]>, AssemblyError> {
    let kept = KeyFile::all(&config.data.join(files::KEYS), "token", kek)?.pop();
    let kept = kept.and_then(|(_, secret)| <[u8; 32]>::try_from(secret.as_slice()).ok());
    Ok(kept.map_or_else(|| kek.token_key().clone(), Zeroizing::new))
}

/// Assembles the node of a configuration.
pub async fn assemble(config: Config, overrides: Overrides) -> Result<Assembled, AssemblyError> {
    let held = lock(&config.data)?;
    let clock = overrides.clock.unwrap_or_else(|| Arc::new(SystemClock));
    let random: Arc<dyn Random> = Arc::new(SystemRandomness::new());
    let kek = Kek::load(&config.kek_file)?;
    let read_only = Arc::new(ReadOnlyMode::default());
    read_only.enter("it is starting");
    let (mut store, signer) = open_store(&config, &kek, clock.clone(), read_only.clone())?;
    if let Some(wrap) = overrides.store {
        store = wrap(store);
    }
    // Its own keys need nobody's word: a node that confirmed none yet must be able to start.
    let own = identity::held_keys(&config.data, &kek)?;
    let trust = load_trust(&config, store.as_ref(), &own).await?;
    let member = own_member(&config.participant, &trust)?;
    check_member(&config, member)?;
    let keys = OwnKeys::load(&config.data, &kek, member, clock.now())?;
    let ca = trust.roots.ca().map(<[u8]>::to_vec).collect();
    let rule = AddressRule { allow_private: config.peer.allow_private_addresses };
    let resolver = Arc::new(CertificateResolver::new(&keys.tls)?);
    let clients = Arc::new(MemberClients::new(keys.tls, ca, rule, clock.clone()));
    let sequence = Arc::new(AtomicU64::new(0));
    let (report, newer) = mpsc::channel(16);
    let document_key = Arc::new(DocumentKey::new(keys.document));
    let peer = HttpPeer::new(
        config.peer.endpoint.clone(),
        clients.clone(),
        document_key.clone(),
        clock.clone(),
        sequence.clone(),
        store.clone(),
        report,
    );
    let active = ActiveKeys {
        folder: config.data.clone(),
        kek_file: config.kek_file.clone(),
        clock: clock.clone(),
        resolver,
        clients,
        signer,
        alliance: Arc::new(RwLock::new(config.alliance.clone())),
    };
    let log_keys = identity::log_keys(&config.data, &kek)?;
    let parts = Parts {
        me: config.participant.clone(),
        origin: config.participant.log_origin(0),
        endpoint: config.peer.endpoint.clone(),
        document_key,
        token_key: token_key(&config, &kek)?,
        kek,
        store,
        blobs: open_blobs(&config.data.join(files::BLOBS))?,
        received: open_blobs(&config.data.join(files::RECEIVED))?,
        index: Index::open(&config.data).map_err(|error| file_error(&config.data, error))?,
        clock,
        random,
        peer: overrides.peer.unwrap_or_else(|| Arc::new(peer)),
        decisions: overrides.decisions.unwrap_or_else(|| Arc::new(PolicyDecides)),
        schemas: schema::built_in(),
        trust: Arc::new(trust),
        sequence,
        writes_per_member_per_minute: config.peer.writes_per_member_per_minute,
        read_only,
        log_keys,
    };
    let node = Node::new(parts).map_err(|error| file_error(Path::new("schemas"), error))?;
    node.set_certificate_end(keys.certificate_until);
    Ok(Assembled { node, config, active: Arc::new(active), newer, _lock: held })
}

impl Assembled {
    /// What reads the configuration and keys again while the node runs.
    pub fn reloader(&self) -> Reloader {
        let (node, active, config) = (self.node.clone(), self.active.clone(), Arc::new(self.config.clone()));
        Reloader { node, active, config }
    }

    /// Listens and serves until `stop` turns true; then finishes what is in flight and signs the log's tail.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Result<(), AssemblyError> {
        // Held before the comparison, so that a start that cannot serve decides nothing and leaves a restored folder's
        // mark; listened on after it, so that nobody waits for an answer meanwhile.
        let (peers, users) = (bind(self.config.peer.listen)?, bind(self.config.management.listen)?);
        standing::compare_at_start(&self.node, &self.config.data).await;
        let (peers, users) = (listen(peers)?, listen(users)?);
        let acceptor = TlsAcceptor::from(Arc::new(server_config(self.active.resolver.clone())?));
        let node = self.node.clone();
        let shed: Arc<dyn Fn() + Send + Sync> = Arc::new(move || node.count_refusal(CountedRefusal::Shed));
        let known = self.node.clone();
        let peer_rules = Rules {
            shed: shed.clone(),
            tls: Some(acceptor),
            request_time_max: Some(limits::REQUEST_TIME_MAX),
            per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            per_key_max: limits::CONNECTIONS_PER_MEMBER_MAX,
            in_flight_per_caller_max: limits::REQUESTS_PER_MEMBER_MAX,
            in_flight_unauthenticated_max: limits::REQUESTS_UNAUTHENTICATED_MAX,
            is_known: Arc::new(move |pin| known.trust().register.member_by_pin(pin, known.now()).is_some()),
            open: self.node.counters().connections.clone(),
        };
        // The users are this park's own, and all behind one address.
        let user_rules = Rules {
            tls: None,
            request_time_max: None,
            per_address_max: limits::CONNECTIONS_MAX,
            in_flight_per_caller_max: limits::REQUESTS_IN_FLIGHT_MAX,
            in_flight_unauthenticated_max: limits::REQUESTS_IN_FLIGHT_MAX,
            open: Arc::default(),
            ..peer_rules.clone()
        };
        tracing::info!(
            participant = %self.config.participant, peers = %self.config.peer.listen,
            management = %self.config.management.listen, "ready"
        );
        let work = tokio::spawn(standing::work(self.node.clone(), self.config.data.clone()));
        let refresh = tokio::spawn(refresh::refresh(self.node.clone(), self.active.alliance.clone()));
        let follow = tokio::spawn(follow_trust(self.node.clone(), self.active.clone()));
        let find = tokio::spawn(refresh::keep_index(self.node.clone()));
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
        [work, refresh, follow, find, catch_up].iter().for_each(tokio::task::JoinHandle::abort);
        if let Err(error) = self.node.seal_log().await {
            tracing::error!(%error, "the log's tail could not be signed");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Reads configuration, keys and certificates again while the node runs.
#[derive(Clone)]
pub struct Reloader {
    node: Arc<Node>,
    active: Arc<ActiveKeys>,
    config: Arc<Config>,
}

impl Reloader {
    /// Reads them again; what cannot be taken is said, and stays as it was. Connections and transfers go on.
    pub fn reload(&self, path: &Path) {
        let (config, keys) = (self.active.reload_config(path, &self.config), self.active.reload_keys(&self.node));
        match config.and(keys) {
            Ok(()) => tracing::info!("configuration, keys and certificates read again"),
            Err(error) => tracing::error!(%error, "not everything could be read again; the rest stays as it was"),
        }
    }
}

/// A register may list new keys of this node, and a root document another certification authority.
async fn follow_trust(node: Arc<Node>, active: Arc<ActiveKeys>) {
    let mut changes = node.trust_changes();
    loop {
        node.read_only().left().await;
        match active.held(&node).await {
            Ok(held) if !held.is_empty() => {
                if let Err(error) = node.confirm_own_keys(held).await {
                    tracing::error!(%error, "this node's own new keys could not be confirmed");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "this node's own keys could not be read"),
        }
        if changes.changed().await.is_err() {
            return;
        }
        if let Err(error) = active.reload_keys(&node) {
            tracing::error!(%error, "this node goes on with the keys that it had");
        }
    }
}
