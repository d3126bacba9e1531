//! What is committed: facts that must still hold, changes of state, log entries and messages.

use super::rows::{
    AgreementRow, Holding, IdempotencyRow, Outgoing, ReleaseRow, SchemaRow, Secret, SubscriptionRow, TokenRow,
    VersionRow,
};
use crate::audit::entry::{Draft, FieldOpening, Kind};
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, MessageId, OfferId, ParticipantId, ProcessId, SourceName, SubscriptionId, TokenId,
};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::register::KeyName;
use crate::negotiation::Negotiation;
use crate::source::Source;
use crate::transfer::Transfer;

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
    pub(super) fn is_too_old(&self, now: Timestamp) -> bool {
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
    /// Keeps a schema with its text. If it is kept already, only a statement that was missing is added.
    PutSchema(Box<SchemaRow>, String),
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
    /// Stores a source: a new one with revision 1, otherwise the successor of the previous revision.
    PutSource(Box<Source>),
    /// Removes a source.
    RemoveSource(SourceName),
    /// Stores a subscription: a new one with revision 1, otherwise the successor of the previous revision.
    PutSubscription(Box<SubscriptionRow>),
    /// Removes a subscription.
    RemoveSubscription(SubscriptionId),
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
    /// A run of the source began; ignored if there is no such source.
    SourceRunning {
        /// Source.
        name: SourceName,
        /// Start of the run.
        at: Timestamp,
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
