//! A store with an interceptor for its writes: for read-only mode, and for tests that change facts, fail the storage or
//! stop the process at a chosen step. Reads are not intercepted.

use super::{
    AgreementRow, CatalogChange, Change, Due, EntryRow, Holding, IdempotencyRow, Logged, Maintenance, Outgoing,
    ReleaseRow, SchemaRow, Secret, Store, StoreError, StoreStats, SubscriptionRow, TokenRow, VersionRow,
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
use std::sync::Arc;

/// Intercepts the writes to a store.
#[async_trait]
pub trait Interceptor: Send + Sync {
    /// Intercepts a commit.
    async fn commit(&self, inner: &Arc<dyn Store>, change: Change) -> Result<Vec<Logged>, StoreError> {
        inner.commit(change).await
    }

    /// Intercepts maintenance tasks.
    async fn maintain(&self, inner: &Arc<dyn Store>, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        inner.maintain(tasks).await
    }
}

/// A store whose writes pass through an interceptor.
pub struct Intercepted<I> {
    inner: Arc<dyn Store>,
    by: I,
}

impl<I: Interceptor> Intercepted<I> {
    /// Wraps `inner` with the interceptor `by`.
    pub fn new(inner: Arc<dyn Store>, by: I) -> Self {
        Self { inner, by }
    }
}

type Found<T> = Result<Option<T>, StoreError>;
type Listed<T> = Result<Vec<T>, StoreError>;

macro_rules! pass_through {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl<I: Interceptor> Store for Intercepted<I> {
            async fn commit(&self, change: Change) -> Result<Vec<Logged>, StoreError> {
                self.by.commit(&self.inner, change).await
            }

            async fn maintain(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
                self.by.maintain(&self.inner, tasks).await
            }

            $(async fn $name(&self $(, $arg: $type)*) -> $answer { self.inner.$name($($arg),*).await })*
        }
    };
}

pass_through! {
    register(sequence: u64) -> Found<String>;
    register_sequence() -> Result<u64, StoreError>;
    roots() -> Listed<String>;
    quarantined() -> Listed<KeyName>;
    secrets_not_under(kek: &str, limit: usize) -> Listed<Secret>;
    schemas(limit: usize) -> Listed<SchemaRow>;
    schema(digest: &Digest) -> Found<(SchemaRow, String)>;
    dataset(id: &DatasetId) -> Found<VersionRow>;
    datasets(after: Option<&DatasetId>, limit: usize) -> Listed<VersionRow>;
    visible(keys: &[String], after: Option<&DatasetId>, limit: usize) -> Listed<VersionRow>;
    changes(keys: &[String], since: u64, limit: usize) -> Listed<CatalogChange>;
    last_change() -> Result<u64, StoreError>;
    holders(dataset: &DatasetId) -> Listed<ParticipantId>;
    recalled(provider: &ParticipantId, dataset: &DatasetId) -> Found<String>;
    version_by_manifest(manifest: &Digest) -> Found<VersionRow>;
    version_by_offer(offer: &OfferId) -> Found<VersionRow>;
    has_version_of(blob: &Digest) -> Result<bool, StoreError>;
    negotiation(id: &ProcessId) -> Found<Negotiation>;
    transfer(id: &ProcessId) -> Found<Transfer>;
    process_by_peer(peer: &ParticipantId, pid: &ProcessId) -> Found<ProcessId>;
    open_processes() -> Result<(Vec<ProcessId>, Vec<ProcessId>), StoreError>;
    open_negotiations(after: Option<&ProcessId>, limit: usize) -> Listed<Negotiation>;
    transfer_of(negotiation: &ProcessId) -> Found<Transfer>;
    requests(enterprise: &Text, before: Option<&(Timestamp, ProcessId)>, limit: usize) -> Listed<Negotiation>;
    agreement(id: &AgreementId) -> Found<AgreementRow>;
    has_agreement_on(peer: &ParticipantId, manifest: &Digest) -> Result<bool, StoreError>;
    release(request: &Digest) -> Found<ReleaseRow>;
    receipt(transfer: &ProcessId) -> Found<String>;
    holding(id: &HoldingId) -> Found<Holding>;
    holding_of(transfer: &ProcessId) -> Found<Holding>;
    holding_with(provider: &ParticipantId, blob: &Digest) -> Found<Holding>;
    received_bytes(provider: Option<&ParticipantId>) -> Result<u64, StoreError>;
    holdings(limit: usize) -> Listed<Holding>;
    source(name: &SourceName) -> Found<Source>;
    sources() -> Listed<Source>;
    subscriptions() -> Listed<SubscriptionRow>;
    token(hash: &Digest) -> Found<TokenRow>;
    idempotent_request(token: &TokenId, key: &str) -> Found<IdempotencyRow>;
    tokens() -> Listed<TokenRow>;
    outbox_due(now: Timestamp, limit: usize) -> Listed<Due>;
    outgoing(id: &MessageId) -> Found<Outgoing>;
    first_outgoing(process: &ProcessId) -> Found<Outgoing>;
    outbox_next(now: Timestamp) -> Result<(Option<Timestamp>, u64), StoreError>;
    stats() -> Result<StoreStats, StoreError>;
    checkpoint() -> Found<String>;
    checkpoint_at(size: u64) -> Found<String>;
    tile(level: u8, index: u64) -> Found<Vec<u8>>;
    leaves(from: u64, limit: usize) -> Listed<Vec<u8>>;
    entries(from: u64, limit: usize) -> Listed<EntryRow>;
    alarms(limit: usize) -> Result<Vec<EntryRow>, StoreError>;
    opening(id: &EntryId) -> Found<Opening>;
    peer_checkpoint(participant: &ParticipantId) -> Found<String>;
    changed(seen: u64) -> u64;
    outbox_filled() -> ();
}
