//! The store: state, evidence and outgoing messages move together or not at all.
//!
//! ```text
//! read -> decide (pure) -> commit -> on Conflict read again (bounded)
//! ```
//! A [`Change`] carries every fact that the decision read as a [`Guard`], and at least one log entry. No closure
//! crosses the trait, so that another backend can keep the same contract. When `commit` returns, the change is
//! durable: what was acknowledged was fsynced.

#[cfg(test)]
mod conformance;
mod read_only;
pub mod interceptor;
pub mod memory;
mod rows;
pub mod sqlite;

pub use read_only::ReadOnlyMode;
pub use rows::{
    AgreementRow, CatalogChange, Due, EntryRow, Holding, HoldingState, IdempotencyRow, Outgoing, ReleaseRow, Secret,
    SecretKind, StoreStats, TokenRow, VersionRow,
};

use crate::audit::entry::{Draft, FieldOpening, Opening};
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, MessageId, OfferId, ParticipantId, ProcessId, TokenId,
};
use crate::core::time::Timestamp;
use crate::identity::register::KeyName;
use crate::negotiation::Negotiation;
use crate::transfer::Transfer;
use async_trait::async_trait;

/// A fact that a decision read. If it no longer holds, the commit is a conflict and the decision is made again.
#[derive(Debug, Clone, PartialEq)]
pub enum Guard {
    /// The installed register has this sequence (and with it, every member's status, keys and groups).
    Register(u64),
    /// The offer stands, with this policy.
    Offer(OfferId, Digest),
    /// The version with this manifest is not withdrawn.
    NotWithdrawn(Digest),
    /// The process is unchanged.
    Process(ProcessId, u64),
    /// The releases counted under the agreement.
    Count(AgreementId, u64),
    /// The member has fewer open processes than this.
    OpenProcesses(ParticipantId, u64),
}

/// A change of state. Inserts of what exists and updates of what moved on are conflicts.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The next register.
    InstallRegister {
        /// Its sequence; the installed one is one less.
        sequence: u64,
        /// Its digest.
        digest: Digest,
        /// The document.
        jws: String,
    },
    /// The next root document.
    InstallRoot {
        /// Its version.
        version: u64,
        /// The document.
        json: String,
    },
    /// A member's key that its old key did not sign: not believed before it is confirmed.
    Quarantine(KeyName),
    /// An administrator compared the key with its member: it is believed.
    ConfirmKey(KeyName),
    /// A dataset version, and that it is the newest.
    InsertVersion(Box<VersionRow>),
    /// A dataset is no longer offered, and none of its versions is delivered any more.
    Withdraw {
        /// Which.
        dataset: DatasetId,
        /// When.
        at: Timestamp,
    },
    /// A provider withdrew a dataset.
    Recall {
        /// Whose.
        provider: ParticipantId,
        /// Which.
        dataset: DatasetId,
        /// Why, in its words.
        reason: String,
    },
    /// A negotiation: new with revision 1, else the successor of the revision before.
    PutNegotiation(Box<Negotiation>),
    /// A transfer, likewise.
    PutTransfer(Box<Transfer>),
    /// An agreement that both sides signed.
    InsertAgreement(Box<AgreementRow>),
    /// Counts a release, if fewer than `max` were counted.
    CountUse {
        /// Under which agreement.
        agreement: AgreementId,
        /// How many are allowed in all.
        max: Option<u64>,
    },
    /// A released key; its nonce and one-time key must be new.
    InsertRelease(Box<ReleaseRow>),
    /// A dataset of a peer: new with revision 1, else the successor of the revision before.
    PutHolding(Box<Holding>),
    /// A management token.
    InsertToken(TokenRow),
    /// Its end.
    RevokeToken(TokenId),
    /// A secret is wrapped under another key-encryption key.
    Rewrap {
        /// As it was.
        secret: Secret,
        /// As it is now.
        wrapped: String,
    },
    /// The answer to a creation with an idempotency key, which must be new. Those of a week ago are forgotten.
    IdempotencyKey(IdempotencyRow),
    /// A message is given up.
    DropMessage(MessageId),
    /// A receipt, one a transfer.
    InsertReceipt {
        /// The transfer.
        transfer: ProcessId,
        /// The document.
        jws: String,
    },
}

/// What is committed at once.
#[derive(Debug, Clone)]
pub struct Change {
    /// Facts that must still hold.
    pub guards: Vec<Guard>,
    /// Changes of state.
    pub writes: Vec<Write>,
    /// Messages to send.
    pub outbox: Vec<Outgoing>,
    entries: Vec<Draft>,
}

impl Change {
    /// A change with its first log entry: there is none without.
    pub fn new(entry: Draft) -> Self {
        Self { guards: Vec::new(), writes: Vec::new(), outbox: Vec::new(), entries: vec![entry] }
    }

    /// Adds an entry.
    pub fn entry(mut self, entry: Draft) -> Self {
        self.entries.push(entry);
        self
    }

    /// Names the person who did it in the first entry.
    pub fn by(mut self, person: FieldOpening) -> Self {
        if let Some(first) = self.entries.first_mut() {
            *first = first.clone().with_field(person);
        }
        self
    }

    /// Adds a guard.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds a write.
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Adds a message.
    pub fn send(mut self, message: Outgoing) -> Self {
        self.outbox.push(message);
        self
    }

    /// The entries, at least one.
    pub fn entries(&self) -> &[Draft] {
        &self.entries
    }
}

/// What a commit says of an entry: enough for a promise. Its index is not part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The entry.
    pub id: EntryId,
    /// The leaf's data.
    pub leaf: Digest,
    /// Its time.
    pub time: Timestamp,
}

/// Bookkeeping that is no change of state: a closed list.
#[derive(Debug, Clone, PartialEq)]
pub enum Maintenance {
    /// The message was delivered.
    Sent(MessageId),
    /// The other side's answer tells how it names the process; nothing is done if that is known, or taken.
    Named {
        /// The process, as this node names it.
        process: ProcessId,
        /// As the other side does.
        peer_pid: ProcessId,
    },
    /// It was not; try again then.
    Retry {
        /// The message.
        id: MessageId,
        /// When.
        at: Timestamp,
    },
    /// Sign a checkpoint now if the log grew since the last.
    Checkpoint,
    /// A peer's checkpoint that was verified.
    PeerCheckpoint {
        /// Whose.
        participant: ParticipantId,
        /// Size.
        size: u64,
        /// The note.
        note: String,
    },
    /// A promise that a peer made to this node.
    Promise {
        /// Whose.
        participant: ParticipantId,
        /// Which entry of its log.
        entry: EntryId,
        /// The document.
        jws: String,
    },
}

/// The fact that did not hold when a change was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The agreement exists.
    #[error("the agreement")]
    Agreement,
    /// The dataset has another version, or is withdrawn.
    #[error("the dataset")]
    Dataset,
    /// The holding has another revision.
    #[error("the holding")]
    Holding,
    /// The idempotency key exists.
    #[error("the idempotency key")]
    IdempotencyKey,
    /// The request, its nonce or its one-time key exists.
    #[error("the key request")]
    KeyRequest,
    /// The offer has another policy, or is no longer valid.
    #[error("the offer")]
    Offer,
    /// The member has too many open processes.
    #[error("the number of open processes")]
    OpenProcesses,
    /// The message is gone.
    #[error("the outbox")]
    Outbox,
    /// The negotiation or transfer has another revision.
    #[error("the process")]
    Process,
    /// The key is not in quarantine.
    #[error("the quarantine")]
    Quarantine,
    /// The withdrawal notice exists.
    #[error("the withdrawal notice")]
    Recall,
    /// The transfer has a receipt.
    #[error("the receipt")]
    Receipt,
    /// A newer register is installed.
    #[error("the register")]
    Register,
    /// The root document exists.
    #[error("the root document")]
    RootDocument,
    /// The secret was wrapped again.
    #[error("the secret")]
    Secret,
    /// The token exists, or is revoked.
    #[error("the token")]
    Token,
    /// The number of uses differs, or is at its maximum.
    #[error("the use count")]
    UseCount,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A guard or uniqueness did not hold; nothing was changed.
    #[error("{0} changed meanwhile")]
    Conflict(Conflict),
    /// Too many changes are waiting; nothing was changed.
    #[error("the node is busy: too many changes are waiting")]
    Busy,
    /// The database does not serve (disk full, I/O error). Nothing was acknowledged, and nothing of it is seen while
    /// this process lives; after a failed fsync a restart may still find it committed. Whoever tries again must be
    /// prepared for both.
    #[error("the database does not serve: {0}")]
    Unavailable(String),
    /// Changes are not taken at the moment; nothing was changed.
    #[error("this node is read-only: {0}")]
    ReadOnly(String),
    /// What is stored cannot be read.
    #[error("the database holds what this version cannot read: {0}")]
    Corrupt(String),
}

/// The store.
#[async_trait]
pub trait Store: Send + Sync {
    /// Commits a change; its entries in order.
    async fn commit(&self, change: Change) -> Result<Vec<Logged>, StoreError>;
    /// Does chores.
    async fn maintain(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError>;

    /// The register with exactly this sequence.
    async fn register(&self, sequence: u64) -> Result<Option<String>, StoreError>;
    /// The newest register's sequence; 0 if there is none.
    async fn register_sequence(&self) -> Result<u64, StoreError>;

    /// Root documents after the one in the node's folder, in order of their version.
    async fn roots(&self) -> Result<Vec<String>, StoreError>;
    /// The keys in quarantine.
    async fn quarantined(&self) -> Result<Vec<KeyName>, StoreError>;

    /// Secrets that are not wrapped under this key-encryption key, at most `limit`.
    async fn secrets_not_under(&self, kek: &str, limit: usize) -> Result<Vec<Secret>, StoreError>;

    /// The newest version of a dataset.
    async fn dataset(&self, id: &DatasetId) -> Result<Option<VersionRow>, StoreError>;
    /// The newest versions of all datasets, by id after `after`.
    async fn datasets(&self, after: Option<&DatasetId>, limit: usize) -> Result<Vec<VersionRow>, StoreError>;
    /// The newest versions of the datasets that somebody with one of these keys may see, by id after `after`.
    async fn visible(
        &self,
        keys: &[String],
        after: Option<&DatasetId>,
        limit: usize,
    ) -> Result<Vec<VersionRow>, StoreError>;
    /// What changed for somebody with one of these keys after the change `since`, in order.
    async fn changes(&self, keys: &[String], since: u64, limit: usize) -> Result<Vec<CatalogChange>, StoreError>;
    /// The number of the last change of the catalog.
    async fn last_change(&self) -> Result<u64, StoreError>;
    /// The peers that have an agreement on the dataset.
    async fn holders(&self, dataset: &DatasetId) -> Result<Vec<ParticipantId>, StoreError>;
    /// Why a provider withdrew a dataset, if it did.
    async fn recalled(&self, provider: &ParticipantId, dataset: &DatasetId) -> Result<Option<String>, StoreError>;
    /// The version with this manifest.
    async fn version_by_manifest(&self, manifest: &Digest) -> Result<Option<VersionRow>, StoreError>;
    /// The version behind an offer.
    async fn version_by_offer(&self, offer: &OfferId) -> Result<Option<VersionRow>, StoreError>;

    /// Whether a version has this blob.
    async fn has_version_of(&self, blob: &Digest) -> Result<bool, StoreError>;

    /// A negotiation by this node's name for it.
    async fn negotiation(&self, id: &ProcessId) -> Result<Option<Negotiation>, StoreError>;
    /// A transfer by this node's name for it.
    async fn transfer(&self, id: &ProcessId) -> Result<Option<Transfer>, StoreError>;
    /// A process by the other side's name for it: this node's name.
    async fn process_by_peer(&self, peer: &ParticipantId, pid: &ProcessId) -> Result<Option<ProcessId>, StoreError>;
    /// Negotiations and transfers that are not over.
    async fn open_processes(&self) -> Result<(Vec<ProcessId>, Vec<ProcessId>), StoreError>;
    /// Negotiations that are not over, by name after `after`.
    async fn open_negotiations(&self, after: Option<&ProcessId>, limit: usize) -> Result<Vec<Negotiation>, StoreError>;
    /// The transfer that followed a negotiation.
    async fn transfer_of(&self, negotiation: &ProcessId) -> Result<Option<Transfer>, StoreError>;
    /// Negotiations that this node began, newest first; those before `before` (when it began, and its name).
    async fn requests(
        &self,
        before: Option<&(Timestamp, ProcessId)>,
        limit: usize,
    ) -> Result<Vec<Negotiation>, StoreError>;

    /// An agreement.
    async fn agreement(&self, id: &AgreementId) -> Result<Option<AgreementRow>, StoreError>;
    /// Whether the peer has an agreement on this manifest.
    async fn has_agreement_on(&self, peer: &ParticipantId, manifest: &Digest) -> Result<bool, StoreError>;
    /// An answered key request.
    async fn release(&self, request: &Digest) -> Result<Option<ReleaseRow>, StoreError>;
    /// The receipt for a transfer.
    async fn receipt(&self, transfer: &ProcessId) -> Result<Option<String>, StoreError>;
    /// A dataset of a peer.
    async fn holding(&self, id: &HoldingId) -> Result<Option<Holding>, StoreError>;
    /// The holding that a transfer fills.
    async fn holding_of(&self, transfer: &ProcessId) -> Result<Option<Holding>, StoreError>;
    /// Datasets of peers, newest first.
    async fn holdings(&self, limit: usize) -> Result<Vec<Holding>, StoreError>;

    /// A token by the hash of its secret.
    async fn token(&self, hash: &Digest) -> Result<Option<TokenRow>, StoreError>;
    /// The creation with this token's idempotency key.
    async fn idempotent_request(&self, token: &TokenId, key: &str) -> Result<Option<IdempotencyRow>, StoreError>;
    /// All tokens.
    async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError>;

    /// The next message of each process that is due: of each receiver at most
    /// [`crate::core::limits::OUTBOX_PER_MEMBER_MAX`].
    async fn outbox_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError>;
    /// A message of the outbox.
    async fn outgoing(&self, id: &MessageId) -> Result<Option<Outgoing>, StoreError>;
    /// When the next message after `now` is due, and how many wait in all.
    async fn outbox_next(&self, now: Timestamp) -> Result<(Option<Timestamp>, u64), StoreError>;

    /// How the store is doing.
    async fn stats(&self) -> Result<StoreStats, StoreError>;
    /// The newest checkpoint of this node's log.
    async fn checkpoint(&self) -> Result<Option<String>, StoreError>;
    /// The checkpoint of this node's log with this size, if one was ever signed.
    async fn checkpoint_at(&self, size: u64) -> Result<Option<String>, StoreError>;
    /// A tile's bytes.
    async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Leaf data of at most `limit` entries from index `from`.
    async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError>;
    /// Entries from index `from`.
    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError>;
    /// The opening of an entry.
    async fn opening(&self, id: &EntryId) -> Result<Option<Opening>, StoreError>;
    /// The newest verified checkpoint of a peer's log.
    async fn peer_checkpoint(&self, participant: &ParticipantId) -> Result<Option<String>, StoreError>;

    /// Completes when something was committed after `seen` commits; tells how many there were.
    async fn changed(&self, seen: u64) -> u64;
    /// Completes when a message was put into the outbox.
    async fn outbox_filled(&self);
}
