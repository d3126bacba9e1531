//! The store: commits state, log entries and outgoing messages atomically.
//!
//! ```text
//! read -> decide (pure) -> commit -> on Conflict read again (bounded)
//! ```
//! A [`Change`] carries each fact on which the decision is based as a [`Guard`], and at least one log entry. The trait
//! takes no closures, so that other backends can implement the same contract. When `commit` returns, the change is
//! durable (fsynced).

mod change;
#[cfg(test)]
mod conformance;
mod error;
mod read_only;
pub mod interceptor;
pub mod memory;
mod rows;
pub mod sqlite;

pub use change::{Change, Guard, Logged, Maintenance, Write};
pub use error::{Conflict, StoreError};
pub use read_only::ReadOnlyMode;
pub use rows::{
    AgreementRow, CatalogChange, Due, EntryRow, Holding, HoldingState, IdempotencyRow, Outgoing, ReleaseRow, SchemaRow,
    Secret, SecretKind, StoreStats, SubscriptionRow, TokenRow, VersionRow,
};

use crate::audit::entry::Opening;
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, MessageId, OfferId, ParticipantId, ProcessId, SourceName, Text, TokenId,
};
use crate::core::time::Timestamp;
use crate::identity::register::KeyName;
use crate::negotiation::Negotiation;
use crate::source::Source;
use crate::transfer::Transfer;
use async_trait::async_trait;

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

    /// The schemas that this node has published or fetched, at most `limit`.
    async fn schemas(&self, limit: usize) -> Result<Vec<SchemaRow>, StoreError>;
    /// One of them, with its text.
    async fn schema(&self, digest: &Digest) -> Result<Option<(SchemaRow, String)>, StoreError>;

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

    /// A source by its name.
    async fn source(&self, name: &SourceName) -> Result<Option<Source>, StoreError>;
    /// All sources, ordered by name.
    async fn sources(&self) -> Result<Vec<Source>, StoreError>;

    /// All subscriptions, ordered by identifier.
    async fn subscriptions(&self) -> Result<Vec<SubscriptionRow>, StoreError>;

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
