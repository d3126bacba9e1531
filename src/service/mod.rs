//! Use cases, one a file. Only this room changes state, and only through `Store::commit`, which takes the change, its
//! evidence and its messages together.

pub mod access;
mod audit;
mod catalog;
mod find;
mod health;
mod message;
mod negotiate;
mod once;
mod outbox;
mod peer_logs;
pub mod ports;
mod process;
mod publish;
mod receive;
mod recovery;
mod refusal;
mod register;
mod release;
mod requests;
mod roots;
mod rulings;
mod token;
pub mod trace;
mod transfer;
mod withdraw;

pub use access::{Counterparty, Standing};
pub use catalog::{CatalogPage, PageStart};
pub use health::{Expiry, Health};
pub use message::{Message, Termination};
pub use negotiate::{ContractOffer, ContractRequest, PlainAgreement, Terms};
pub use once::IdempotencyKey;
pub use process::{Inbound, Transition};
pub use publish::{Publication, Published};
pub use recovery::LogBehind;
pub use refusal::{CountedRefusal, Error};
pub use register::object;
pub use requests::{NegotiationRequest, Opened, RequestStage, RequestView};
pub use rulings::{ApprovalDecision, PendingApproval};
pub use token::{NewToken, Role as UserRole, User, mint as mint_token, usual_days};
pub use transfer::{Data, DataAddress, TransferRequest};

use crate::audit::entry::{Draft, Facts, Kind};
use crate::audit::promise::Promise;
use crate::blob::Blobs;
use crate::core::digest::Digest;
use crate::core::id::{EntryId, KeyId, LogOrigin, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::random::Random;
use crate::core::time::{Clock, Timestamp};
use crate::core::trace::TraceId;
use crate::identity::document;
use crate::identity::endpoint::Endpoint;
use crate::identity::key::{PublicKey, SigningKey};
use crate::identity::register::{KeyName, Member, VerifiedRegister};
use crate::identity::root::RootChain;
use crate::index::Index;
use crate::keys::Kek;
use crate::schema::{Schema, Validator};
use crate::storage::Write;
use crate::storage::interceptor::Intercepted;
use crate::storage::{Change, Logged, Maintenance, ReadOnlyMode, Store, StoreError};
use ports::{DecisionMaker, Peer};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

/// Whom this node believes at the moment.
#[derive(Debug)]
pub struct Trust {
    /// The root documents.
    pub roots: RootChain,
    /// The newest register, without the keys in quarantine.
    pub register: VerifiedRegister,
    /// Keys that nobody has proven or confirmed.
    pub quarantine: BTreeSet<KeyName>,
}

impl Trust {
    /// Nothing is decided, for or against anybody, on a register that has expired: the decision waits for the next one.
    pub fn ensure_current(&self, at: Timestamp) -> Result<(), StoreError> {
        if self.register.is_current(at) {
            return Ok(());
        }
        Err(StoreError::Unavailable("the register has expired; the alliance operator must renew it".into()))
    }

    /// A member of the register.
    pub fn member(&self, id: &ParticipantId) -> Result<&Member, Error> {
        self.register.member(id).ok_or_else(|| {
            let sequence = self.register.body().sequence;
            let hint = "if it joined lately, give this node a newer register (or an alliance URL)";
            Error::not_found(format!("{id} is no member in register {sequence}, the newest of this node; {hint}"))
        })
    }
}

/// A schema and its validator.
pub struct CompiledSchema {
    /// The schema.
    pub schema: Schema,
    /// Compiled.
    pub validator: Validator,
}

/// The key that signs this node's documents at the moment.
#[derive(Debug)]
pub struct DocumentKey(RwLock<Arc<SigningKey>>);

impl DocumentKey {
    /// At first `key`.
    pub fn new(key: SigningKey) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    /// The key.
    pub fn present(&self) -> Arc<SigningKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, key: SigningKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

/// What a node is made of; see [`Node::new`].
pub struct Parts {
    /// Who it is.
    pub me: ParticipantId,
    /// The origin of its log.
    pub origin: LogOrigin,
    /// Where its peer listener is.
    pub endpoint: Endpoint,
    /// Its document key.
    pub document_key: Arc<DocumentKey>,
    /// The secret under which transfer tokens are made.
    pub token_key: Zeroizing<[u8; 32]>,
    /// Its key-encryption key.
    pub kek: Kek,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The sealed bytes of its own datasets.
    pub blobs: Blobs,
    /// The sealed bytes that came from peers.
    pub received: Blobs,
    /// What the peers let this node see.
    pub index: Index,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Peers.
    pub peer: Arc<dyn Peer>,
    /// Who decides.
    pub decisions: Arc<dyn DecisionMaker>,
    /// Schemas that it knows.
    pub schemas: Vec<Schema>,
    /// Whom it believes at first.
    pub trust: Arc<Trust>,
    /// The sequence of its register, for whoever tells it to peers.
    pub sequence: Arc<AtomicU64>,
    /// Log entries that one member may cause in a minute.
    pub writes_per_member_per_minute: u32,
    /// Whether changes are taken.
    pub read_only: Arc<ReadOnlyMode>,
    /// Every key with which it ever signed checkpoints.
    pub log_keys: Vec<PublicKey>,
}

/// A node: all use cases are its methods.
pub struct Node {
    parts: Parts,
    trust: watch::Sender<Arc<Trust>>,
    certificate_end: AtomicI64,
    schemas: BTreeMap<Digest, Arc<CompiledSchema>>,
    strangers: refusal::Counter,
    quotas: refusal::Quotas,
    /// Deliveries under way, so that none runs twice.
    delivering: Mutex<HashSet<ProcessId>>,
    /// Places for deliveries, by provider.
    providers: Mutex<HashMap<ParticipantId, Arc<Semaphore>>>,
    verifications: Semaphore,
    publications: Semaphore,
    pulls: transfer::Pulls,
    refresh: tokio::sync::Mutex<()>,
    /// When which member had no register that could be taken.
    fruitless: Mutex<HashMap<ParticipantId, Timestamp>>,
    /// Registers that were refused and logged.
    refused_registers: Mutex<VecDeque<Digest>>,
    outbox_wake: tokio::sync::Notify,
    counters: Counters,
    reaching: Semaphore,
    /// Registers and root documents that are believed and not yet stored: the node takes no changes.
    believed_only: Mutex<BelievedOnly>,
    /// Whether anybody had this node's register or a newer one since the start.
    register_confirmed: AtomicBool,
}

#[derive(Default)]
struct BelievedOnly {
    changes: Vec<Change>,
    registers: BTreeMap<u64, String>,
}

/// What is counted for whoever watches the node.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections of peers that are open.
    pub connections: Arc<AtomicU64>,
    /// Refusals since the start: by kind of entry, or by the reason for which a caller was turned away.
    refusals: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    fn count(&self, what: String) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    fn refused(&self, kind: Kind) {
        self.count(kind.name());
    }

    fn turned_away(&self, reason: CountedRefusal) {
        self.count(reason.name().to_owned());
    }

    /// Refusals since the start.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Node {
    /// Makes a node; nothing runs yet.
    pub fn new(mut parts: Parts) -> Result<Arc<Self>, crate::schema::SchemaError> {
        let mut schemas = BTreeMap::new();
        for schema in std::mem::take(&mut parts.schemas) {
            let compiled = CompiledSchema { validator: schema.validator()?, schema };
            schemas.insert(compiled.schema.digest(), Arc::new(compiled));
        }
        parts.store = Arc::new(Intercepted::new(parts.store.clone(), parts.read_only.clone()));
        parts.sequence.store(parts.trust.register.body().sequence, Ordering::Relaxed);
        Ok(Arc::new(Self {
            trust: watch::Sender::new(parts.trust.clone()),
            certificate_end: AtomicI64::new(i64::MAX),
            parts,
            schemas,
            strangers: refusal::Counter::default(),
            quotas: refusal::Quotas::default(),
            delivering: Mutex::new(HashSet::new()),
            providers: Mutex::default(),
            verifications: Semaphore::new(limits::VERIFICATIONS_MAX),
            publications: Semaphore::new(limits::PUBLICATIONS_MAX),
            pulls: transfer::Pulls::default(),
            refresh: tokio::sync::Mutex::new(()),
            fruitless: Mutex::default(),
            refused_registers: Mutex::default(),
            outbox_wake: tokio::sync::Notify::new(),
            counters: Counters::default(),
            reaching: Semaphore::new(limits::REACH_CHECKS_MAX),
            believed_only: Mutex::default(),
            register_confirmed: AtomicBool::new(false),
        }))
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who this node is.
    pub fn me(&self) -> &ParticipantId {
        &self.parts.me
    }

    /// The origin of its log.
    pub fn origin(&self) -> &LogOrigin {
        &self.parts.origin
    }

    /// Where its peer listener is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.parts.endpoint
    }

    /// The store, for reading.
    pub fn store(&self) -> &dyn Store {
        self.parts.store.as_ref()
    }

    /// A new trace.
    pub fn new_trace(&self) -> TraceId {
        TraceId::generate(self.random())
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Whom this node believes now.
    pub fn trust(&self) -> Arc<Trust> {
        self.trust.borrow().clone()
    }

    /// Completes when what is believed changes.
    pub fn trust_changes(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Believes what `next` makes of the present trust, if it makes something of it.
    fn believe(&self, next: impl FnOnce(&Trust) -> Option<Trust>) {
        self.trust.send_if_modified(|trust| match next(trust) {
            Some(next) => {
                self.parts.sequence.store(next.register.body().sequence, Ordering::Relaxed);
                *trust = Arc::new(next);
                true
            }
            None => false,
        });
    }

    /// The key that signs this node's documents.
    fn document_key(&self) -> Arc<SigningKey> {
        self.parts.document_key.present()
    }

    /// From now on signs with `key`: the register lists it.
    pub fn use_document_key(&self, key: SigningKey) {
        self.parts.document_key.change(key);
    }

    /// When the certificate that this node presents ends.
    pub fn certificate_end(&self) -> Timestamp {
        Timestamp::from_ms(self.certificate_end.load(Ordering::Relaxed))
    }

    /// This node presents another certificate.
    pub fn set_certificate_end(&self, at: Timestamp) {
        self.certificate_end.store(at.ms(), Ordering::Relaxed);
    }

    /// A key that this node signed with: the present one, or one that the register still lists.
    fn own_key(&self, kid: &KeyId) -> Option<PublicKey> {
        let own = self.document_key();
        let listed = || (kid.participant() == *self.me()).then(|| self.trust().register.document_key(kid, self.now()));
        if kid == own.id() { Some(own.public()) } else { listed().flatten() }
    }

    /// The document key that `kid` had at `at`, by the register of that time: its owner may have left since.
    async fn document_key_then(&self, kid: &KeyId, at: Timestamp) -> Option<PublicKey> {
        let trust = self.trust();
        if let Some(key) = trust.register.document_key(kid, at) {
            return Some(key);
        }
        for sequence in (1..trust.register.body().sequence).rev() {
            let register = self.past_register(sequence).await?;
            if register.body().issued <= at {
                return register.document_key(kid, at);
            }
        }
        None
    }

    /// A register by its sequence, also one that is only believed yet.
    async fn stored_register(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        let believed = self.believed_only().registers.get(&sequence).cloned();
        if believed.is_some() { Ok(believed) } else { self.parts.store.register(sequence).await }
    }

    fn believed_only(&self) -> MutexGuard<'_, BelievedOnly> {
        self.believed_only.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a change of what is believed. While no changes are taken it is kept: suspensions count all the same, and
    /// the right peers are asked.
    async fn commit_trust(&self, change: Change) -> Result<(), StoreError> {
        if let Some(reason) = self.parts.read_only.reason() {
            let mut kept = self.believed_only();
            if kept.changes.len() >= limits::PAGE_ROWS_MAX {
                return Err(StoreError::ReadOnly(reason));
            }
            for write in &change.writes {
                if let Write::InstallRegister { sequence, jws, .. } = write {
                    kept.registers.insert(*sequence, jws.clone());
                }
            }
            kept.changes.push(change);
            return Ok(());
        }
        self.parts.store.commit(change).await.map(drop)
    }

    /// Commits what was only believed.
    async fn commit_believed(&self) -> Result<(), StoreError> {
        let kept = std::mem::take(&mut *self.believed_only());
        for change in kept.changes {
            self.parts.store.commit(change).await?;
        }
        Ok(())
    }

    /// A register that was installed before, without the keys in quarantine.
    async fn past_register(&self, sequence: u64) -> Option<VerifiedRegister> {
        let trust = self.trust();
        let jws = self.stored_register(sequence).await.ok()??;
        Some(VerifiedRegister::verify_in(&jws, &trust.roots).ok()?.without(&trust.quarantine))
    }

    fn random(&self) -> &dyn Random {
        self.parts.random.as_ref()
    }

    fn draft(&self, kind: Kind, facts: Facts) -> Draft {
        let id = EntryId::generate_at(self.now(), self.random());
        Draft { id, ..Draft::new(kind, facts, self.random()) }
    }

    /// The places for deliveries from a provider.
    fn places_for(&self, provider: &ParticipantId) -> Arc<Semaphore> {
        let mut providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        let places = || Arc::new(Semaphore::new(limits::DELIVERIES_PER_PROVIDER_MAX));
        providers.entry(provider.clone()).or_insert_with(places).clone()
    }

    fn delivering(&self) -> MutexGuard<'_, HashSet<ProcessId>> {
        self.delivering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schemas of the register that this node knows.
    pub fn known_schemas(&self) -> Vec<Arc<CompiledSchema>> {
        let trust = self.trust();
        let listed = |compiled: &&Arc<CompiledSchema>| {
            trust.register.body().schemas.iter().any(|entry| entry.digest == compiled.schema.digest())
        };
        self.schemas.values().filter(listed).cloned().collect()
    }

    /// A signed promise that an entry is in this node's log. trust.md, "The log".
    pub fn promise(&self, to: &ParticipantId, logged: &Logged) -> String {
        let promise = Promise {
            origin: self.parts.origin.clone(),
            participant: self.parts.me.clone(),
            to: to.clone(),
            entry: logged.id.clone(),
            leaf: logged.leaf,
        };
        document::sign(promise, &self.document_key()).jws().to_owned()
    }

    /// Keeps a promise that a peer made, if it is signed by that peer and made to this node.
    async fn store_promise(&self, from: &ParticipantId, jws: Option<String>) {
        let Some(jws) = jws else { return };
        let (trust, now) = (self.trust(), self.now());
        let verified = document::verify::<Promise>(&jws, |kid| trust.register.document_key(kid, now));
        match verified {
            Ok(promise)
                if promise.body().participant == *from
                    && promise.body().to == self.parts.me
                    && promise.body().origin == from.log_origin(0) =>
            {
                let entry = promise.body().entry.clone();
                let task = Maintenance::Promise { participant: from.clone(), entry, jws };
                if let Err(error) = self.parts.store.maintain(vec![task]).await {
                    tracing::warn!(%error, peer = %from, "a peer's promise could not be kept");
                }
            }
            Ok(_) => tracing::warn!(peer = %from, "a promise names somebody else"),
            Err(error) => tracing::warn!(%error, peer = %from, "a promise does not verify"),
        }
    }

    /// Signs a checkpoint over all entries now: before the node stops, or before the log is exported.
    pub async fn seal_log(&self) -> Result<(), Error> {
        self.flush_counted_refusals().await;
        Ok(self.parts.store.maintain(vec![Maintenance::Checkpoint]).await?)
    }
}
