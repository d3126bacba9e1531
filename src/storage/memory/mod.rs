//! A store in memory for simulations: the same contract without files or threads, so that a run is determined by its
//! seed. Committed data is on the [`Disk`], which outlives the store as a disk outlives a process.

mod state;

use super::{
    AgreementRow, CatalogChange, Change, Due, EntryRow, Holding, IdempotencyRow, Logged, Maintenance, Outgoing,
    ReleaseRow, SchemaRow, Secret, Store, StoreError, StoreStats, SubscriptionRow, TokenRow, VersionRow,
};
use crate::audit::checkpoint::{Checkpoint, CheckpointSigner};
use crate::audit::entry::Opening;
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, LogOrigin, MessageId, OfferId, ParticipantId, ProcessId, SourceName,
    Text, TokenId,
};
use crate::core::limits;
use crate::core::time::{Clock, NodeClock, Timestamp};
use crate::identity::register::KeyName;
use crate::negotiation::{Negotiation, Role};
use crate::source::Source;
use crate::transfer::Transfer;
use async_trait::async_trait;
use state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// The durable data. Clones share it; [`Disk::copy`] does not.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Creates a separate disk with the same content.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in memory.
pub struct MemoryStore {
    disk: Disk,
    origin: LogOrigin,
    signer: Arc<dyn CheckpointSigner>,
    clock: Arc<NodeClock>,
    commits: watch::Sender<u64>,
    outbox: Notify,
    /// Whether no more changes are accepted.
    closed: AtomicBool,
}

impl MemoryStore {
    /// Opens the store on a disk.
    pub fn open(disk: &Disk, origin: LogOrigin, signer: Arc<dyn CheckpointSigner>, clock: Arc<NodeClock>) -> Self {
        let commits = watch::Sender::new(0);
        clock.observe(disk.state().log.time);
        Self {
            disk: disk.clone(),
            origin,
            signer,
            clock,
            commits,
            outbox: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Runs a transaction: all of `work` is applied, or nothing.
    fn transact<T>(&self, work: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let done = {
            let mut state = self.disk.state();
            let mut next = state.clone();
            let done = work(&mut next)?;
            *state = next;
            done
        };
        self.commits.send_modify(|count| *count += 1);
        self.outbox.notify_one();
        Ok(done)
    }

    fn sign(&self, state: &mut State, force: bool) {
        let (now, size) = (self.clock.system_now(), state.log.edge.size());
        let due = match state.log.checkpoints.last() {
            Some((signed, _, _)) if *signed == size => false,
            Some((_, at, _)) => force || now < *at || now >= at.plus_ms(limits::CHECKPOINT_INTERVAL_MS),
            None => size > 0,
        };
        if due {
            let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: state.log.edge.root() };
            state.log.checkpoints.push((size, now, self.signer.sign(&checkpoint)));
        }
    }
}

type Found<T> = Result<Option<T>, StoreError>;
type Listed<T> = Result<Vec<T>, StoreError>;

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, change: Change) -> Result<Vec<Logged>, StoreError> {
        let behind = self.clock.behind().filter(|_| !change.corrects_clock());
        if let Some(reason) = behind {
            return Err(StoreError::ReadOnly(reason));
        }
        let corrects = change.corrects_clock();
        let now = if corrects { self.clock.system_now() } else { self.clock.now() };
        let logged = self.transact(|state| {
            if self.closed.load(Ordering::SeqCst) {
                return Err(StoreError::Closed);
            }
            change.guards.iter().try_for_each(|guard| state.holds(guard, now))?;
            change.writes.iter().try_for_each(|write| state.apply(write))?;
            for message in &change.outbox {
                state.messages += 1;
                state.outbox.insert(state.messages, (message.clone(), now));
            }
            let logged = state.append(change.entries(), &self.origin, now)?;
            self.sign(state, false);
            Ok(logged)
        })?;
        if corrects {
            self.clock.follow_system();
        }
        self.clock.observe(self.disk.state().log.time);
        Ok(logged)
    }

    async fn maintain(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.transact(|state| {
            tasks.iter().for_each(|task| state.task(task));
            self.sign(state, tasks.contains(&Maintenance::Checkpoint));
            self.closed.fetch_or(tasks.contains(&Maintenance::Close), Ordering::SeqCst);
            Ok(())
        })
    }

    async fn register(&self, sequence: u64) -> Found<String> {
        Ok(self.disk.state().registers.get(&sequence).cloned())
    }

    async fn register_sequence(&self) -> Result<u64, StoreError> {
        Ok(self.disk.state().register_sequence())
    }

    async fn roots(&self) -> Listed<String> {
        Ok(self.disk.state().roots.values().cloned().collect())
    }

    async fn quarantined(&self) -> Listed<KeyName> {
        let state = self.disk.state();
        Ok(state.quarantine.iter().filter(|(_, confirmed)| !**confirmed).map(|(key, _)| key.clone()).collect())
    }

    async fn secrets_not_under(&self, kek: &str, limit: usize) -> Listed<Secret> {
        let mut state = self.disk.state();
        let under = |secret: &Secret| secret.wrapped.split_once('.').is_some_and(|(id, _)| id == kek);
        let all = state.secrets().into_iter().map(|(secret, _)| secret);
        Ok(all.filter(|secret| !under(secret)).take(limit).collect())
    }

    async fn schemas(&self, limit: usize) -> Listed<SchemaRow> {
        Ok(self.disk.state().schemas.iter().take(limit).map(|(row, _)| row.clone()).collect())
    }

    async fn schema(&self, digest: &Digest) -> Found<(SchemaRow, String)> {
        Ok(self.disk.state().schemas.iter().find(|(row, _)| row.digest == *digest).cloned())
    }

    async fn dataset(&self, id: &DatasetId) -> Found<VersionRow> {
        Ok(self.disk.state().newest(id).cloned())
    }

    async fn datasets(&self, after: Option<&DatasetId>, limit: usize) -> Listed<VersionRow> {
        let state = self.disk.state();
        let offered = state.versions.iter().filter(|row| row.withdrawn.is_none());
        let newest: BTreeMap<_, _> = offered.map(|row| (&row.dataset, row)).collect();
        let later = newest.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(later.take(limit).map(|(_, row)| row.clone()).collect())
    }

    async fn visible(&self, keys: &[String], after: Option<&DatasetId>, limit: usize) -> Listed<VersionRow> {
        let state = self.disk.state();
        let seen = state.visible.iter().filter(|((key, _), (_, gone))| !gone && keys.contains(key));
        let ids: BTreeSet<_> = seen.map(|((_, id), _)| id).filter(|id| after.is_none_or(|after| *id > after)).collect();
        Ok(ids.into_iter().take(limit).filter_map(|id| state.newest(id)).cloned().collect())
    }

    async fn changes(&self, keys: &[String], since: u64, limit: usize) -> Listed<CatalogChange> {
        let state = self.disk.state();
        let mut changed: BTreeMap<&DatasetId, (u64, bool)> = BTreeMap::new();
        for ((key, id), (change, gone)) in &state.visible {
            if keys.contains(key) && *change > since {
                let seen = changed.entry(id).or_insert((*change, *gone));
                *seen = (seen.0.max(*change), seen.1 && *gone);
            }
        }
        let mut all: Vec<_> = changed.into_iter().collect();
        all.sort_by_key(|(id, (change, _))| (*change, (*id).clone()));
        let seen = |(id, (change, gone)): (&DatasetId, (u64, bool))| {
            let version = state.newest(id).filter(|_| !gone).cloned();
            CatalogChange { change, dataset: id.clone(), version }
        };
        Ok(all.into_iter().take(limit).map(seen).collect())
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        Ok(self.disk.state().last_change())
    }

    async fn holders(&self, dataset: &DatasetId) -> Listed<ParticipantId> {
        let state = self.disk.state();
        let on = state.agreements.values().filter(|row| row.agreement.dataset == *dataset);
        Ok(on.map(|row| row.peer.clone()).collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn recalled(&self, provider: &ParticipantId, dataset: &DatasetId) -> Found<String> {
        Ok(self.disk.state().recalled.get(&(provider.clone(), dataset.clone())).cloned())
    }

    async fn version_by_manifest(&self, manifest: &Digest) -> Found<VersionRow> {
        Ok(self.disk.state().versions.iter().find(|row| row.manifest_digest == *manifest).cloned())
    }

    async fn version_by_offer(&self, offer: &OfferId) -> Found<VersionRow> {
        Ok(self.disk.state().versions.iter().find(|row| row.offer == *offer).cloned())
    }

    async fn has_version_of(&self, blob: &Digest) -> Result<bool, StoreError> {
        Ok(self.disk.state().versions.iter().any(|row| row.blob == *blob))
    }

    async fn negotiation(&self, id: &ProcessId) -> Found<Negotiation> {
        Ok(self.disk.state().negotiations.get(id).cloned())
    }

    async fn transfer(&self, id: &ProcessId) -> Found<Transfer> {
        Ok(self.disk.state().transfers.get(id).cloned())
    }

    async fn process_by_peer(&self, peer: &ParticipantId, pid: &ProcessId) -> Found<ProcessId> {
        let state = self.disk.state();
        let negotiation = state.negotiations.values().find(|n| n.peer == *peer && n.peer_pid.as_ref() == Some(pid));
        let transfer = state.transfers.values().find(|t| t.peer == *peer && t.peer_pid.as_ref() == Some(pid));
        Ok(negotiation.map(|n| n.id.clone()).or_else(|| transfer.map(|t| t.id.clone())))
    }

    async fn open_processes(&self) -> Result<(Vec<ProcessId>, Vec<ProcessId>), StoreError> {
        Ok(self.disk.state().open())
    }

    async fn open_negotiations(&self, after: Option<&ProcessId>, limit: usize) -> Result<Vec<Negotiation>, StoreError> {
        let state = self.disk.state();
        let open = state.negotiations.values().filter(|n| !n.state.is_final());
        Ok(open.filter(|n| after.is_none_or(|after| n.id > *after)).take(limit).cloned().collect())
    }

    async fn transfer_of(&self, negotiation: &ProcessId) -> Found<Transfer> {
        Ok(self.disk.state().transfers.values().find(|t| t.negotiation == *negotiation).cloned())
    }

    async fn requests(
        &self,
        enterprise: &Text,
        before: Option<&(Timestamp, ProcessId)>,
        limit: usize,
    ) -> Listed<Negotiation> {
        let state = self.disk.state();
        let mut own: Vec<Negotiation> =
            state.negotiations.values().filter(|n| n.role == Role::Consumer).cloned().collect();
        own.retain(|n| n.subject.enterprise.as_ref() == Some(enterprise));
        let key = |n: &Negotiation| (n.started, n.id.clone());
        own.retain(|n| before.is_none_or(|before| key(n) < *before));
        own.sort_by_key(|n| std::cmp::Reverse(key(n)));
        own.truncate(limit);
        Ok(own)
    }

    async fn agreement(&self, id: &AgreementId) -> Found<AgreementRow> {
        Ok(self.disk.state().agreements.get(id).cloned())
    }

    async fn has_agreement_on(&self, peer: &ParticipantId, manifest: &Digest) -> Result<bool, StoreError> {
        let of = |row: &AgreementRow| row.peer == *peer && row.agreement.manifest == Some(*manifest);
        Ok(self.disk.state().agreements.values().any(of))
    }

    async fn release(&self, request: &Digest) -> Found<ReleaseRow> {
        Ok(self.disk.state().releases.iter().find(|row| row.request == *request).cloned())
    }

    async fn receipt(&self, transfer: &ProcessId) -> Found<String> {
        Ok(self.disk.state().receipts.get(transfer).cloned())
    }

    async fn holding(&self, id: &HoldingId) -> Found<Holding> {
        Ok(self.disk.state().holdings.get(id).cloned())
    }

    async fn holding_of(&self, transfer: &ProcessId) -> Found<Holding> {
        Ok(self.disk.state().holdings.values().find(|holding| holding.transfer == *transfer).cloned())
    }

    async fn holding_with(&self, provider: &ParticipantId, blob: &Digest) -> Found<Holding> {
        let state = self.disk.state();
        let complete = |holding: &&Holding| {
            use crate::storage::HoldingState::{Asked, Keyed, Verified};
            (&holding.provider, &holding.blob) == (provider, blob) && matches!(holding.state, Asked | Keyed | Verified)
        };
        Ok(state.holdings.values().find(complete).cloned())
    }

    async fn received_bytes(&self, provider: Option<&ParticipantId>) -> Result<u64, StoreError> {
        let state = self.disk.state();
        let is_open = |id| state.transfers.get(id).is_some_and(|transfer: &Transfer| !transfer.state.is_final());
        let kept = state
            .holdings
            .values()
            .filter(|holding| holding.state == crate::storage::HoldingState::Verified || is_open(&holding.transfer));
        let kept = kept.filter(|holding| provider.is_none_or(|provider| holding.provider == *provider));
        let once: BTreeMap<_, u64> = kept.map(|h| ((h.provider.clone(), h.blob), h.bytes)).collect();
        Ok(once.values().sum())
    }

    async fn holdings(&self, limit: usize) -> Listed<Holding> {
        let mut all: Vec<Holding> = self.disk.state().holdings.values().cloned().collect();
        all.sort_by_key(|holding| std::cmp::Reverse(holding.updated));
        all.truncate(limit);
        Ok(all)
    }

    async fn source(&self, name: &SourceName) -> Found<Source> {
        Ok(self.disk.state().sources.get(name).cloned())
    }

    async fn sources(&self) -> Listed<Source> {
        Ok(self.disk.state().sources.values().cloned().collect())
    }

    async fn subscriptions(&self) -> Listed<SubscriptionRow> {
        Ok(self.disk.state().subscriptions.values().cloned().collect())
    }

    async fn token(&self, hash: &Digest) -> Found<TokenRow> {
        Ok(self.disk.state().tokens.values().find(|row| row.hash == *hash).cloned())
    }

    async fn idempotent_request(&self, token: &TokenId, key: &str) -> Found<IdempotencyRow> {
        Ok(self.disk.state().once.get(&(token.clone(), key.to_owned())).cloned())
    }

    async fn tokens(&self) -> Listed<TokenRow> {
        Ok(self.disk.state().tokens.values().cloned().collect())
    }

    async fn outbox_due(&self, now: Timestamp, limit: usize) -> Listed<Due> {
        let state = self.disk.state();
        let mut counts: BTreeMap<&ParticipantId, usize> = BTreeMap::new();
        let due = state.first_messages().into_iter().filter(|(_, due)| *due <= now).filter(|(message, _)| {
            let count = counts.entry(&message.to).or_default();
            *count += 1;
            *count <= limits::OUTBOX_PER_MEMBER_MAX
        });
        Ok(due.take(limit).map(|(message, _)| Due { id: message.id.clone(), to: message.to.clone() }).collect())
    }

    async fn outgoing(&self, id: &MessageId) -> Found<Outgoing> {
        Ok(self.disk.state().outbox.values().find(|(message, _)| message.id == *id).map(|(message, _)| message.clone()))
    }

    async fn first_outgoing(&self, process: &ProcessId) -> Found<Outgoing> {
        let state = self.disk.state();
        Ok(state.outbox.values().find(|(message, _)| message.process == *process).map(|(message, _)| message.clone()))
    }

    async fn outbox_next(&self, now: Timestamp) -> Result<(Option<Timestamp>, u64), StoreError> {
        let state = self.disk.state();
        let next = state.first_messages().into_iter().map(|(_, due)| *due).filter(|due| *due > now).min();
        Ok((next, state.outbox.len() as u64))
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        let state = self.disk.state();
        let (negotiations, transfers) = state.open();
        Ok(StoreStats {
            entries: state.log.edge.size(),
            signed: state.log.checkpoints.last().map_or(0, |(size, ..)| *size),
            signed_at: state.log.checkpoints.last().map(|(_, at, _)| *at),
            outbox: state.outbox.len() as u64,
            outbox_since: None,
            open_processes: (negotiations.len() + transfers.len()) as u64,
            bytes: 0,
        })
    }

    async fn checkpoint(&self) -> Found<String> {
        Ok(self.disk.state().log.checkpoints.last().map(|(_, _, note)| note.clone()))
    }

    async fn checkpoint_at(&self, size: u64) -> Found<String> {
        let state = self.disk.state();
        Ok(state.log.checkpoints.iter().find(|(signed, ..)| *signed == size).map(|(_, _, note)| note.clone()))
    }

    async fn tile(&self, level: u8, index: u64) -> Found<Vec<u8>> {
        Ok(self.disk.state().log.tiles.get(&(level, index)).cloned())
    }

    async fn leaves(&self, from: u64, limit: usize) -> Listed<Vec<u8>> {
        let state = self.disk.state();
        let rows = state.log.entries.iter().skip(from as usize).take(limit);
        Ok(rows.map(|row| row.leaf.as_bytes().to_vec()).collect())
    }

    async fn entries(&self, from: u64, limit: usize) -> Listed<EntryRow> {
        Ok(self.disk.state().log.entries.iter().skip(from as usize).take(limit).cloned().collect())
    }

    async fn alarms(&self, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        let state = self.disk.state();
        let of = |row: &&EntryRow| row.entry.get("kind").and_then(serde_json::Value::as_str) == Some("peer.alarm");
        Ok(state.log.entries.iter().rev().filter(of).take(limit).cloned().collect())
    }

    async fn opening(&self, id: &EntryId) -> Found<Opening> {
        let state = self.disk.state();
        let of = |row: &&EntryRow| row.entry.get("id").and_then(serde_json::Value::as_str) == Some(id.as_str());
        Ok(state.log.entries.iter().find(of).cloned().map(|row| Opening {
            index: row.index,
            salt: row.salt,
            entry: row.entry,
            fields: row.fields,
        }))
    }

    async fn peer_checkpoint(&self, participant: &ParticipantId) -> Found<String> {
        let state = self.disk.state();
        let of = state.peer_checkpoints.keys().filter(|(who, ..)| who == participant);
        Ok(of.max_by_key(|(_, size, _)| *size).map(|(_, _, note)| note.clone()))
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut commits = self.commits.subscribe();
        if commits.wait_for(|count| *count > seen).await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.commits.borrow()
    }

    async fn outbox_filled(&self) {
        self.outbox.notified().await;
    }
}
