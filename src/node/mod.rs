//! The context of every use case: identity, trust, clock, random bytes, store and refusals. It makes no decisions; the
//! modules that build on it do.

mod counterparty;
mod decisions;
mod error;
mod facts;
mod gate;
mod identity;
mod message;
mod peer;
mod places;
mod process;
mod refusals;
pub mod trace;
mod trust;
mod user;

pub use counterparty::Counterparty;
pub use decisions::{Assessment, DecisionMaker, NegotiationStep, PolicyDecides, TransferStep};
pub use error::{Error, Recorded, TRANSFER_SUSPENDED};
pub use facts::{detail, details};
pub use identity::{DocumentKey, Identity};
pub use message::{Message, Termination};
pub use peer::{Answer, Envelope, Peer, PeerCatalogPage, PeerError, PeerSchema, PlainData};
pub use places::{Place, Places};
pub use process::{Inbound, Transition, run_steps};
pub use refusals::{CountedRefusal, Quotas, Refusals};
pub use trust::{Trust, TrustState};
pub use user::{Role as UserRole, User};

use crate::audit::entry::{Draft, Facts, Kind};
use crate::blob::Space;
use crate::core::id::{EntryId, KeyId, LogOrigin, ParticipantId};
use crate::core::random::Random;
use crate::core::time::{Clock, NodeClock, Timestamp};
use crate::core::trace::TraceId;
use crate::identity::endpoint::Endpoint;
use crate::identity::key::{PublicKey, SigningKey};
use crate::storage::interceptor::Intercepted;
use crate::storage::{ReadOnlyMode, Store, StoreError};
use gate::Gate;
use std::sync::Arc;
use tokio::sync::watch;

/// Time, randomness and disk, passed in so that tests can repeat a run.
pub struct Environment {
    /// The clock.
    pub clock: Arc<NodeClock>,
    /// The source of random bytes.
    pub random: Arc<dyn Random>,
    /// The space of the disk that holds the node's folder.
    pub space: Arc<Space>,
}

/// The context of the use cases.
pub struct Node {
    identity: Identity,
    trust: TrustState,
    environment: Environment,
    store: Arc<dyn Store>,
    read_only: Arc<ReadOnlyMode>,
    refusals: Refusals,
}

impl Node {
    /// Makes the context. Writes to `store` are refused while `read_only` is on.
    pub fn new(
        identity: Identity,
        trust: TrustState,
        environment: Environment,
        store: Arc<dyn Store>,
        read_only: Arc<ReadOnlyMode>,
        refusals: Refusals,
    ) -> Arc<Self> {
        let gate = Gate { read_only: read_only.clone(), space: environment.space.clone() };
        let store = Arc::new(Intercepted::new(store, gate));
        Arc::new(Self { identity, trust, environment, store, read_only, refusals })
    }

    /// This node's participant id.
    pub fn me(&self) -> &ParticipantId {
        &self.identity.participant
    }

    /// The origin line of this node's log.
    pub fn origin(&self) -> &LogOrigin {
        &self.identity.origin
    }

    /// The endpoint of the peer listener, as in the register.
    pub fn endpoint(&self) -> &Endpoint {
        &self.identity.endpoint
    }

    /// The key that signs this node's documents now.
    pub fn document_key(&self) -> Arc<SigningKey> {
        self.identity.document_key.current()
    }

    /// Replaces the key that signs this node's documents; the register must list `key`.
    pub fn use_document_key(&self, key: SigningKey) {
        self.identity.document_key.replace(key);
    }

    /// A document key of this node: the current one, or an earlier one that the register still lists.
    pub fn own_key(&self, kid: &KeyId) -> Option<PublicKey> {
        let own = self.document_key();
        let listed = || (kid.participant() == *self.me()).then(|| self.trust().register.document_key(kid, self.now()));
        if kid == own.id() { Some(own.public()) } else { listed().flatten() }
    }

    /// The clock.
    pub fn clock(&self) -> &NodeClock {
        &self.environment.clock
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.environment.clock.now()
    }

    /// The source of random bytes.
    pub fn random(&self) -> &dyn Random {
        self.environment.random.as_ref()
    }

    /// The store. Only the use cases commit to it (`tests/it/tidy.rs`).
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The mode in which no changes are accepted.
    pub fn read_only(&self) -> &ReadOnlyMode {
        &self.read_only
    }

    /// The space of the disk that holds this node's folder.
    pub fn space(&self) -> &Space {
        &self.environment.space
    }

    /// Why no changes are accepted now: read-only mode, a clock that is behind, or a full disk.
    pub fn closed(&self) -> Option<String> {
        self.read_only.reason().or_else(|| self.clock().behind()).or_else(|| self.space().exhausted())
    }

    /// Fails if no changes are accepted: data that may be outdated must not be served or decided on.
    pub fn ensure_writable(&self) -> Result<(), Error> {
        self.closed().map_or(Ok(()), |reason| Err(StoreError::ReadOnly(reason).into()))
    }

    /// A new trace id.
    pub fn new_trace(&self) -> TraceId {
        TraceId::generate(self.random())
    }

    /// A new log entry, not committed yet.
    pub fn draft(&self, kind: Kind, facts: Facts) -> Draft {
        let id = EntryId::generate_at(self.now(), self.random());
        Draft { id, ..Draft::new(kind, facts, self.random()) }
    }

    /// The root documents and the register that this node trusts now.
    pub fn trust(&self) -> Arc<Trust> {
        self.trust.current()
    }

    /// Notifies of changes of trust.
    pub fn trust_changes(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Replaces the trust by the result of `next`; `None` leaves it unchanged.
    pub fn update_trust(&self, next: impl FnOnce(&Trust) -> Option<Trust>) {
        self.trust.update(next);
    }

    /// Counters of refusals since the start.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }
}
