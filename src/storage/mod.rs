//! The store: commits state, log entries and outgoing messages atomically.
//!
//! ```text
//! read -> decide (pure) -> commit -> on Conflict read again (bounded)
//! ```
//! A [`Change`] carries each fact on which the decision is based as a [`Guard`], and at least one log entry. The trait
//! takes no closures, so that other backends can implement the same contract. When `commit` returns, the change is
//! durable (fsynced).

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

use crate::audit::entry::{Draft, FieldOpening, Kind, Opening};
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, MessageId, OfferId, ParticipantId, ProcessId, Text, TokenId,
};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::register::KeyName;
use crate::negotiation::Negotiation;
use crate::transfer::Transfer;
use async_trait::async_trait;

/// A fact on which a decision is based. If it no longer holds, the commit is a conflict and the decision is repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum Guard {
    /// The installed register has this sequence; this covers the status, keys and groups of all members.
    Register(u64),
    /// The offer is current and has this policy.
    Offer(OfferId, Digest),
    /// The version with this manifest has not been withdrawn.
    NotWithdrawn(Digest),
    /// The process still has this revision.
    Process(ProcessId, u64),
    /// The agreement has this number of uses.
    Count(AgreementId, u64),
    /// The member has fewer open processes than this.
    OpenProcesses(ParticipantId, u64),
    /// An administrator's token other than this one is valid at this time.
    OtherAdmin(TokenId, Timestamp),
    /// The decision was made at this time, at most [`limits::DECISION_AGE_MS_MAX`] before its entry.
    DecidedAt(Timestamp),
}

impl Guard {
    /// Whether a decision is too old for an entry of this time.
    fn is_too_old(&self, now: Timestamp) -> bool {
        matches!(self, Self::DecidedAt(at) if at.plus_ms(limits::DECISION_AGE_MS_MAX) < now)
    }
}

/// A change of state. Inserting an existing row or updating a row with another revision is a conflict.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Installs the next register.
    InstallRegister {
        /// Sequence; must follow the installed one.
        sequence: u64,
        /// SHA-256 of the payload.
        digest: Digest,
        /// The document, JWS.
        jws: String,
    },
    /// Installs the next root document.
    InstallRoot {
        /// Version.
        version: u64,
        /// The document, JSON.
        json: String,
    },
    /// Puts a member's key that its old key did not sign into quarantine, until it is confirmed.
    Quarantine(KeyName),
    /// Releases a key from quarantine, after an administrator compared it with the member.
    ConfirmKey(KeyName),
    /// Inserts a dataset version as the newest.
    InsertVersion(Box<VersionRow>),
    /// Withdraws a dataset: it is no longer offered, and none of its versions is delivered.
    Withdraw {
        /// Dataset.
        dataset: DatasetId,
        /// Time of the withdrawal.
        at: Timestamp,
    },
    /// Records that a provider withdrew a dataset.
    Recall {
        /// Provider.
        provider: ParticipantId,
        /// Dataset.
        dataset: DatasetId,
        /// The provider's reason.
        reason: String,
    },
    /// Makes the messages due that were to wait beyond this time.
    HastenOutbox(Timestamp),
    /// Stores a negotiation: a new one with revision 1, otherwise the successor of the previous revision.
    PutNegotiation(Box<Negotiation>),
    /// Stores a transfer, likewise.
    PutTransfer(Box<Transfer>),
    /// Inserts a concluded agreement.
    InsertAgreement(Box<AgreementRow>),
    /// Counts a use, if fewer than `max` were counted.
    CountUse {
        /// Agreement.
        agreement: AgreementId,
        /// Maximum number of uses.
        max: Option<u64>,
    },
    /// Inserts a key release; its nonce and one-time key must be new.
    InsertRelease(Box<ReleaseRow>),
    /// Stores a peer's dataset: a new one with revision 1, otherwise the successor of the previous revision.
    PutHolding(Box<Holding>),
    /// Inserts a management token.
    InsertToken(TokenRow),
    /// Revokes a management token.
    RevokeToken(TokenId),
    /// Replaces a wrapped secret by the same secret wrapped under another key-encryption key.
    Rewrap {
        /// The secret as stored so far.
        secret: Secret,
        /// The newly wrapped secret.
        wrapped: String,
    },
    /// Stores the response to a creation with an idempotency key, which must be new. Removes expired ones.
    IdempotencyKey(IdempotencyRow),
    /// Removes an abandoned message from the outbox.
    DropMessage(MessageId),
    /// Inserts the receipt of a transfer; there is at most one.
    InsertReceipt {
        /// Transfer.
        transfer: ProcessId,
        /// The document, JWS.
        jws: String,
    },
}

/// An atomic commit.
#[derive(Debug, Clone)]
pub struct Change {
    /// Facts that must still hold at the commit.
    pub guards: Vec<Guard>,
    /// Changes of state.
    pub writes: Vec<Write>,
    /// Messages to send.
    pub outbox: Vec<Outgoing>,
    entries: Vec<Draft>,
}

impl Change {
    /// Creates a change with its first log entry; a change without entries is not possible.
    pub fn new(entry: Draft) -> Self {
        Self { guards: Vec::new(), writes: Vec::new(), outbox: Vec::new(), entries: vec![entry] }
    }

    /// Adds a log entry.
    pub fn entry(mut self, entry: Draft) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds the acting person to the first log entry.
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

    /// Adds an outgoing message.
    pub fn send(mut self, message: Outgoing) -> Self {
        self.outbox.push(message);
        self
    }

    /// Whether it lets a clock that is behind the log be followed again.
    pub fn corrects_clock(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == Kind::ClockCorrected)
    }

    /// The log entries, at least one.
    pub fn entries(&self) -> &[Draft] {
        &self.entries
    }
}

/// A committed log entry, as needed for a promise. The index is deliberately not included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Identifier of the entry.
    pub id: EntryId,
    /// Data of the leaf.
    pub leaf: Digest,
    /// Time of the entry.
    pub time: Timestamp,
}

/// Bookkeeping that needs no log entry, because it does not change the state of the domain.
#[derive(Debug, Clone, PartialEq)]
pub enum Maintenance {
    /// The message was delivered.
    Sent(MessageId),
    /// The peer's identifier of a process, from its response; ignored if already set, or used by another process.
    PeerPid {
        /// This node's identifier of the process.
        process: ProcessId,
        /// The peer's identifier of the process.
        peer_pid: ProcessId,
    },
    /// The delivery failed and is to be retried.
    Retry {
        /// Message.
        id: MessageId,
        /// Time of the next attempt.
        at: Timestamp,
        /// Why this one failed, for people.
        failure: String,
        /// Whether the peer answered with a conflict.
        conflict: bool,
    },
    /// Signs a checkpoint now, if the log has grown since the last one.
    Checkpoint,
    /// Accepts no more changes, so that the log does not grow after the last checkpoint.
    Close,
    /// Stores a verified checkpoint of a peer.
    PeerCheckpoint {
        /// Peer.
        participant: ParticipantId,
        /// Size of the log.
        size: u64,
        /// The signed note.
        note: String,
    },
    /// Stores a promise that a peer made to this node.
    Promise {
        /// Peer.
        participant: ParticipantId,
        /// Entry in the peer's log.
        entry: EntryId,
        /// The document, JWS.
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
    /// The decision is too old.
    #[error("the time")]
    DecisionAge,
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

/// Why the store did not perform an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A guard or uniqueness did not hold; nothing was changed.
    #[error("{0} has changed in the meantime")]
    Conflict(Conflict),
    /// Too many changes are waiting; nothing was changed.
    #[error("the node is busy: too many changes are waiting")]
    Busy,
    /// The database failed (disk full, I/O error). Nothing was acknowledged, and this process will see no part of the
    /// change; after a failed fsync, however, it may turn out to be committed after a restart. Callers that retry must
    /// handle both cases.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The disk is full, and the change does not end a process; nothing was changed.
    #[error("{0}")]
    Full(String),
    /// The node is in read-only mode, or its clock is behind; nothing was changed.
    #[error("this node is read-only: {0}")]
    ReadOnly(String),
    /// The node is stopping; nothing was changed.
    #[error("this node is stopping")]
    Closed,
    /// Stored data cannot be parsed.
    #[error("the database contains data that this version cannot read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether certainly nothing was changed.
    pub fn changed_nothing(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Busy | Self::ReadOnly(_) | Self::Full(_) | Self::Closed)
    }
}

/// A transactional store of a node's state, log and outbox.
#[async_trait]
pub trait Store: Send + Sync {
    /// Commits a change and returns its log entries in order.
    async fn commit(&self, change: Change) -> Result<Vec<Logged>, StoreError>;
    /// Performs maintenance tasks.
    async fn maintain(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError>;
    /// Signs a checkpoint over all entries and accepts no more changes.
    async fn close(&self) -> Result<(), StoreError> {
        self.maintain(vec![Maintenance::Checkpoint, Maintenance::Close]).await
    }

    /// The register with exactly this sequence.
    async fn register(&self, sequence: u64) -> Result<Option<String>, StoreError>;
    /// The sequence of the newest register, or 0 if there is none.
    async fn register_sequence(&self) -> Result<u64, StoreError>;

    /// Root documents newer than the one in the node's folder, ordered by version.
    async fn roots(&self) -> Result<Vec<String>, StoreError>;
    /// The keys in quarantine.
    async fn quarantined(&self) -> Result<Vec<KeyName>, StoreError>;

    /// At most `limit` secrets that are not wrapped under this key-encryption key.
    async fn secrets_not_under(&self, kek: &str, limit: usize) -> Result<Vec<Secret>, StoreError>;

    /// The newest version of a dataset.
    async fn dataset(&self, id: &DatasetId) -> Result<Option<VersionRow>, StoreError>;
    /// The newest versions of all datasets, ordered by identifier, after `after`.
    async fn datasets(&self, after: Option<&DatasetId>, limit: usize) -> Result<Vec<VersionRow>, StoreError>;
    /// The newest versions of the datasets visible to one of these audience keys, ordered by identifier, after `after`.
    async fn visible(
        &self,
        keys: &[String],
        after: Option<&DatasetId>,
        limit: usize,
    ) -> Result<Vec<VersionRow>, StoreError>;
    /// The changes of what these audience keys may see, after the change number `since`, in order.
    async fn changes(&self, keys: &[String], since: u64, limit: usize) -> Result<Vec<CatalogChange>, StoreError>;
    /// The number of the last change of the catalog.
    async fn last_change(&self) -> Result<u64, StoreError>;
    /// The peers that have an agreement for the dataset.
    async fn holders(&self, dataset: &DatasetId) -> Result<Vec<ParticipantId>, StoreError>;
    /// The reason why a provider withdrew a dataset, if it did.
    async fn recalled(&self, provider: &ParticipantId, dataset: &DatasetId) -> Result<Option<String>, StoreError>;
    /// The version with this manifest.
    async fn version_by_manifest(&self, manifest: &Digest) -> Result<Option<VersionRow>, StoreError>;
    /// The version of an offer.
    async fn version_by_offer(&self, offer: &OfferId) -> Result<Option<VersionRow>, StoreError>;

    /// Whether a version uses this blob.
    async fn has_version_of(&self, blob: &Digest) -> Result<bool, StoreError>;

    /// A negotiation by this node's identifier.
    async fn negotiation(&self, id: &ProcessId) -> Result<Option<Negotiation>, StoreError>;
    /// A transfer by this node's identifier.
    async fn transfer(&self, id: &ProcessId) -> Result<Option<Transfer>, StoreError>;
    /// This node's identifier of a process, by the peer's identifier.
    async fn process_by_peer(&self, peer: &ParticipantId, pid: &ProcessId) -> Result<Option<ProcessId>, StoreError>;
    /// Negotiations and transfers that are not in a final state.
    async fn open_processes(&self) -> Result<(Vec<ProcessId>, Vec<ProcessId>), StoreError>;
    /// Negotiations that are not in a final state, ordered by identifier, after `after`.
    async fn open_negotiations(&self, after: Option<&ProcessId>, limit: usize) -> Result<Vec<Negotiation>, StoreError>;
    /// The transfer that followed a negotiation.
    async fn transfer_of(&self, negotiation: &ProcessId) -> Result<Option<Transfer>, StoreError>;
    /// Negotiations started by this node on behalf of an enterprise, newest first, before `before` (start time and
    /// identifier).
    async fn requests(
        &self,
        enterprise: &Text,
        before: Option<&(Timestamp, ProcessId)>,
        limit: usize,
    ) -> Result<Vec<Negotiation>, StoreError>;

    /// An agreement by its identifier.
    async fn agreement(&self, id: &AgreementId) -> Result<Option<AgreementRow>, StoreError>;
    /// Whether the peer has an agreement for this manifest.
    async fn has_agreement_on(&self, peer: &ParticipantId, manifest: &Digest) -> Result<bool, StoreError>;
    /// A key release by the digest of its request.
    async fn release(&self, request: &Digest) -> Result<Option<ReleaseRow>, StoreError>;
    /// The receipt of a transfer.
    async fn receipt(&self, transfer: &ProcessId) -> Result<Option<String>, StoreError>;
    /// A peer's dataset by its identifier.
    async fn holding(&self, id: &HoldingId) -> Result<Option<Holding>, StoreError>;
    /// The peer's dataset that a transfer delivers.
    async fn holding_of(&self, transfer: &ProcessId) -> Result<Option<Holding>, StoreError>;
    /// A dataset of this provider with this container, whose sealed bytes are complete.
    async fn holding_with(&self, provider: &ParticipantId, blob: &Digest) -> Result<Option<Holding>, StoreError>;
    /// Sealed bytes of peers' datasets that are kept or under way, of one provider or of all; a container that was
    /// delivered twice counts once.
    async fn received_bytes(&self, provider: Option<&ParticipantId>) -> Result<u64, StoreError>;
    /// Peers' datasets, last updated first.
    async fn holdings(&self, limit: usize) -> Result<Vec<Holding>, StoreError>;

    /// A token by the hash of its secret.
    async fn token(&self, hash: &Digest) -> Result<Option<TokenRow>, StoreError>;
    /// The creation with this idempotency key of a token.
    async fn idempotent_request(&self, token: &TokenId, key: &str) -> Result<Option<IdempotencyRow>, StoreError>;
    /// All tokens.
    async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError>;

    /// The next due message of each process, at most [`crate::core::limits::OUTBOX_PER_MEMBER_MAX`] per recipient.
    async fn outbox_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError>;
    /// A message of the outbox.
    async fn outgoing(&self, id: &MessageId) -> Result<Option<Outgoing>, StoreError>;
    /// The first waiting message of a process.
    async fn first_outgoing(&self, process: &ProcessId) -> Result<Option<Outgoing>, StoreError>;
    /// The time after `now` at which the next message is due, and the number of all waiting messages.
    async fn outbox_next(&self, now: Timestamp) -> Result<(Option<Timestamp>, u64), StoreError>;

    /// Statistics of the store.
    async fn stats(&self) -> Result<StoreStats, StoreError>;
    /// The newest checkpoint of this node's log.
    async fn checkpoint(&self) -> Result<Option<String>, StoreError>;
    /// The checkpoint of this node's log with this size, if one was signed.
    async fn checkpoint_at(&self, size: u64) -> Result<Option<String>, StoreError>;
    /// The bytes of a tile.
    async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Leaf data of at most `limit` entries, starting at index `from`.
    async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError>;
    /// At most `limit` entries, starting at index `from`.
    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError>;
    /// The newest alarms about peers' logs, at most `limit`.
    async fn alarms(&self, limit: usize) -> Result<Vec<EntryRow>, StoreError>;
    /// The opening of an entry.
    async fn opening(&self, id: &EntryId) -> Result<Option<Opening>, StoreError>;
    /// The newest verified checkpoint of a peer's log.
    async fn peer_checkpoint(&self, participant: &ParticipantId) -> Result<Option<String>, StoreError>;

    /// Completes once more than `seen` commits were made, and returns their number.
    async fn changed(&self, seen: u64) -> u64;
    /// Completes when a message was added to the outbox.
    async fn outbox_filled(&self);
}
