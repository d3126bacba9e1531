//! Assembly of a node from its configuration and folder.

use super::error::{AssemblyError, file_error};
use super::folder::{files, load_trust, lock, open_blobs};
use super::identity::{self, LogSigner, OwnKeys};
use super::reload::{ActiveKeys, own_member};
use crate::blob::{Measure, Space};
use crate::config::{Config, Disk};
use crate::core::id::ParticipantId;
use crate::core::random::{Random, SystemRandomness};
use crate::core::time::{Clock, NodeClock, SystemClock};
use crate::delivery::ReceivedMax;
use crate::identity::key::KeyUse;
use crate::identity::register::Member;
use crate::index::Index;
use crate::keys::{Kek, KeyFile};
use crate::net::{AddressRule, CertificateResolver, MemberClients};
use crate::node::{DecisionMaker, DocumentKey, Identity, Peer, PolicyDecides, Quotas, TrustState};
use crate::protocol::HttpPeer;
use crate::schema::{self, SchemaRegistry};
use crate::services::{Parts, Ports, Secrets, Services, Stores};
use crate::storage::{ReadOnlyMode, Store, sqlite};
use std::fs::File;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Opens the store of a node's folder, with the signer of its checkpoints.
pub fn open_store(
    config: &Config,
    kek: &Kek,
    clock: Arc<NodeClock>,
    read_only: Arc<ReadOnlyMode>,
) -> Result<(Arc<dyn Store>, Arc<LogSigner>), AssemblyError> {
    let listed = identity::own_entry(&config.data, &config.participant);
    let key = identity::signing_key_of(&config.data, KeyUse::Log, kek, listed.as_ref(), clock.now())?;
    // Another participant id would sign checkpoints of a log that does not exist.
    let owner = key.id().participant();
    if owner != config.participant {
        let named = &config.participant;
        return Err(AssemblyError::Mismatch(format!(
            "`participant` is {named}, but the keys in the folder belong to {owner}"
        )));
    }
    let signer = Arc::new(LogSigner::new(key, read_only));
    let store = sqlite::open(&config.data, config.participant.log_origin(0), signer.clone(), clock)?;
    Ok((store, signer))
}

/// An assembled node that is ready to run.
pub struct Assembled {
    /// The use cases of the node.
    pub services: Services,
    pub(super) config: Config,
    pub(super) active: Arc<ActiveKeys>,
    pub(super) newer: mpsc::Receiver<(ParticipantId, u64)>,
    _lock: File,
}

/// Wraps the store.
pub type WrapStore = Box<dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send>;

/// Replacements for tests and examples.
#[derive(Default)]
pub struct Overrides {
    /// Wrapper of the store.
    pub store: Option<WrapStore>,
    /// Clock.
    pub clock: Option<Arc<dyn Clock>>,
    /// Connection to the peers.
    pub peer: Option<Arc<dyn Peer>>,
    /// Decision maker.
    pub decisions: Option<Arc<dyn DecisionMaker>>,
    /// Measure of the disk's space.
    pub disk: Option<Measure>,
}

const MIB: u64 = 1 << 20;

fn received_max(disk: &Disk) -> ReceivedMax {
    let bytes = |mib: Option<u64>| mib.map_or(u64::MAX, |mib| mib.saturating_mul(MIB));
    ReceivedMax {
        delivery: bytes(disk.delivery_mib_max),
        provider: bytes(disk.provider_mib_max),
        all: bytes(disk.received_mib_max),
    }
}

/// Fails unless the register lists this node with the endpoint in its configuration.
fn check_member(config: &Config, member: &Member) -> Result<(), AssemblyError> {
    if member.endpoint != config.peer.endpoint {
        let (own, listed) = (&config.peer.endpoint, &member.endpoint);
        return Err(AssemblyError::Mismatch(format!("`peer.endpoint` is {own}, but the register lists {listed}")));
    }
    Ok(())
}

/// The secret of the transfer tokens: in a key file, if the key-encryption key was ever changed.
fn token_key(config: &Config, kek: &Kek) -> Result<Zeroizing<[u8; 32]>, AssemblyError> {
    let kept = KeyFile::all(&config.data.join(files::KEYS), "token", kek)?.pop();
    let kept = kept.and_then(|(_, secret)| <[u8; 32]>::try_from(secret.as_slice()).ok());
    Ok(kept.map_or_else(|| kek.token_key().clone(), Zeroizing::new))
}

/// Assembles the node of a configuration. It starts in read-only mode.
pub async fn assemble(config: Config, overrides: Overrides) -> Result<Assembled, AssemblyError> {
    let held = lock(&config.data)?;
    let clock = Arc::new(NodeClock::new(overrides.clock.unwrap_or_else(|| Arc::new(SystemClock))));
    let kek = Kek::load(&config.kek_file)?;
    let read_only = Arc::new(ReadOnlyMode::default());
    read_only.enter("the node is starting");
    let (mut store, signer) = open_store(&config, &kek, clock.clone(), read_only.clone())?;
    if let Some(wrap) = overrides.store {
        store = wrap(store);
    }
    // The node's own keys are trusted without confirmation: otherwise it could not start with new keys in quarantine.
    let own = identity::held_keys(&config.data, &kek)?;
    let trust = load_trust(&config, store.as_ref(), &own).await?;
    let member = own_member(&config.participant, &trust)?;
    check_member(&config, member)?;
    let keys = OwnKeys::load(&config.data, &kek, member, clock.now())?;

    let rule = AddressRule { allow_private: config.peer.allow_private_addresses };
    let ca = trust.roots.ca().map(<[u8]>::to_vec).collect();
    let resolver = Arc::new(CertificateResolver::new(&keys.tls)?);
    let clients = Arc::new(MemberClients::new(keys.tls, ca, rule, clock.clone()));
    let sequence = Arc::new(AtomicU64::new(0));
    let (report, newer) = mpsc::channel(16);
    let identity = Identity {
        participant: config.participant.clone(),
        origin: config.participant.log_origin(0),
        endpoint: config.peer.endpoint.clone(),
        document_key: Arc::new(DocumentKey::new(keys.document)),
    };
    let peer = HttpPeer::new(
        identity.endpoint.clone(),
        clients.clone(),
        identity.document_key.clone(),
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
    let schemas = SchemaRegistry::new(schema::built_in());
    let random: Arc<dyn Random> = Arc::new(SystemRandomness::new());
    let services = Services::new(Parts {
        identity,
        trust: TrustState::new(trust, sequence),
        log_keys: identity::log_keys(&config.data, &kek)?,
        stores: stores(&config, store, read_only, overrides.disk)?,
        secrets: Secrets { token_key: token_key(&config, &kek)?, kek },
        ports: Ports {
            clock,
            random,
            peer: overrides.peer.unwrap_or_else(|| Arc::new(peer)),
            decisions: overrides.decisions.unwrap_or_else(|| Arc::new(PolicyDecides)),
        },
        schemas,
        quotas: Quotas {
            writes_per_minute: config.peer.writes_per_member_per_minute,
            bytes_per_day: config.peer.stored_mib_per_member_per_day.saturating_mul(MIB),
        },
        received_max: received_max(&config.disk),
        connections: config.connections.clone(),
    });
    services.operations.health.set_certificate_end(keys.certificate_until);
    Ok(Assembled { services, config, active: Arc::new(active), newer, _lock: held })
}

fn stores(
    config: &Config,
    store: Arc<dyn Store>,
    read_only: Arc<ReadOnlyMode>,
    measure: Option<Measure>,
) -> Result<Stores, AssemblyError> {
    let reserve = config.disk.reserve_mib.saturating_mul(MIB);
    let space = Arc::new(match measure {
        Some(measure) => Space::measured(&config.data, reserve, measure),
        None => Space::new(&config.data, reserve),
    });
    space.hold_ballast();
    Ok(Stores {
        store,
        read_only,
        published: open_blobs(&config.data.join(files::BLOBS), &space)?,
        received: open_blobs(&config.data.join(files::RECEIVED), &space)?,
        space,
        index: Index::open(&config.data).map_err(|error| file_error(&config.data, error))?,
    })
}
