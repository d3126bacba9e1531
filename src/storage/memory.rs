//! A store in memory, for simulations: the same contract, no file, no thread, so that a run is a function of its seed.
//! What was committed is on the [`Disk`], which outlives the store as a disk outlives a process.

use super::{
    AgreementRow, Change, Chore, EntryRow, Guard, Holding, Logged, Outgoing, ReleaseRow, Secret, SecretKind, Store,
    StoreError, TokenRow, VersionRow, Write,
};
use crate::audit::checkpoint::{Checkpoint, CheckpointSigner};
use crate::audit::entry::{self, Draft, Opening};
use crate::audit::merkle::leaf_hash;
use crate::audit::tile::{self, Edge};
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, LogOrigin, OfferId, ParticipantId, ProcessId, TokenId,
};
use crate::core::json;
use crate::core::limits;
use crate::core::time::{Clock, Timestamp};
use crate::identity::register::KeyName;
use crate::negotiation::{Negotiation, Role};
use crate::transfer::Transfer;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// What is durable. A clone shares it; [`Disk::copy`] does not.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Another disk with the same content.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Default)]
struct State {
    registers: BTreeMap<u64, String>,
    roots: BTreeMap<u64, String>,
    /// Whether the key was confirmed.
    quarantine: BTreeMap<KeyName, bool>,
    /// In order of publication; the last of a dataset is its newest.
    versions: Vec<VersionRow>,
    negotiations: BTreeMap<ProcessId, Negotiation>,
    transfers: BTreeMap<ProcessId, Transfer>,
    agreements: BTreeMap<AgreementId, AgreementRow>,
    releases: Vec<ReleaseRow>,
    holdings: BTreeMap<HoldingId, Holding>,
    tokens: BTreeMap<TokenId, TokenRow>,
    receipts: BTreeMap<ProcessId, String>,
    /// By order of arrival: the message and when it is due.
    outbox: BTreeMap<u64, (Outgoing, Timestamp)>,
    messages: u64,
    log: Log,
    peer_checkpoints: BTreeMap<(ParticipantId, u64, String), ()>,
    promises: BTreeMap<(ParticipantId, EntryId), String>,
}

#[derive(Clone, Default)]
struct Log {
    edge: Edge,
    time: Timestamp,
    entries: Vec<EntryRow>,
    tiles: BTreeMap<(u8, u64), Vec<u8>>,
    checkpoint: Option<(u64, Timestamp, String)>,
}

/// The store.
pub struct MemoryStore {
    disk: Disk,
    origin: LogOrigin,
    signer: Arc<dyn CheckpointSigner>,
    clock: Arc<dyn Clock>,
    commits: watch::Sender<u64>,
    outbox: Notify,
}

impl MemoryStore {
    /// Opens what is on the disk.
    pub fn open(disk: &Disk, origin: LogOrigin, signer: Arc<dyn CheckpointSigner>, clock: Arc<dyn Clock>) -> Self {
        let commits = watch::Sender::new(0);
        Self { disk: disk.clone(), origin, signer, clock, commits, outbox: Notify::new() }
    }

    /// A transaction: all of `work`, or nothing of it.
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
        let (now, size) = (self.clock.now(), state.log.edge.size());
        let due = match &state.log.checkpoint {
            Some((signed, _, _)) if *signed == size => false,
            Some((_, at, _)) => force || now >= at.plus_ms(limits::CHECKPOINT_INTERVAL_MS),
            None => size > 0,
        };
        if due {
            let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: state.log.edge.root() };
            state.log.checkpoint = Some((size, now, self.signer.sign(&checkpoint)));
        }
    }
}

impl State {
    fn newest(&self, dataset: &DatasetId) -> Option<&VersionRow> {
        self.versions.iter().rev().find(|row| row.dataset == *dataset)
    }

    fn holds(&self, guard: &Guard) -> Result<(), StoreError> {
        let (what, holds) = match guard {
            Guard::Register(sequence) => ("the register", self.register_sequence() == *sequence),
            Guard::Offer(offer, policy) => {
                let version = self.versions.iter().find(|row| row.offer == *offer && row.policy_digest == *policy);
                let stands = |row: &VersionRow| self.newest(&row.dataset).is_some_and(|new| new.offer == *offer);
                ("the offer", version.is_some_and(stands))
            }
            Guard::Process(id, revision) => {
                let negotiation = self.negotiations.get(id).map(|n| n.revision);
                let transfer = self.transfers.get(id).map(|t| t.revision);
                ("the process", negotiation.or(transfer) == Some(*revision))
            }
            Guard::Count(id, used) => ("the count", self.agreements.get(id).is_some_and(|row| row.used == *used)),
            Guard::OpenProcesses(peer, max) => {
                let negotiations = self.negotiations.values().filter(|n| n.peer == *peer && !n.state.is_final());
                let transfers = self.transfers.values().filter(|t| t.peer == *peer && !t.state.is_final());
                ("the number of open processes", ((negotiations.count() + transfers.count()) as u64) < *max)
            }
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict(what)) }
    }

    fn register_sequence(&self) -> u64 {
        self.registers.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    /// A process is new, or the successor of what is there; and no other has its peer's name for it.
    fn check_process(&self, key: (&ProcessId, Role, &ParticipantId, Option<&ProcessId>), revision: u64) -> bool {
        let (id, role, peer, peer_pid) = key;
        let negotiations =
            self.negotiations.values().map(|n| (&n.id, n.role, &n.peer, n.peer_pid.as_ref(), n.revision));
        let transfers = self.transfers.values().map(|t| (&t.id, t.role, &t.peer, t.peer_pid.as_ref(), t.revision));
        let all: Vec<_> = negotiations.chain(transfers).collect();
        let known = all.iter().find(|known| known.0 == id);
        let follows = match known {
            None => revision == 1,
            Some(known) => known.1 == role && known.2 == peer && known.4 + 1 == revision,
        };
        let taken = |other: &&(&ProcessId, Role, &ParticipantId, Option<&ProcessId>, u64)| {
            other.0 != id && other.2 == peer && peer_pid.is_some() && other.3 == peer_pid
        };
        follows && !all.iter().any(|other| taken(&other))
    }

    fn apply(&mut self, write: &Write) -> Result<(), StoreError> {
        let (what, done) = match write {
            Write::InstallRegister { sequence, jws, .. } => {
                let follows = self.registers.is_empty() || self.register_sequence() + 1 == *sequence;
                ("the register", follows && self.registers.insert(*sequence, jws.clone()).is_none())
            }
            Write::InstallRoot { version, json } => {
                ("the root document", self.roots.insert(*version, json.clone()).is_none())
            }
            Write::Quarantine(key) => {
                self.quarantine.entry(key.clone()).or_default();
                ("the quarantine", true)
            }
            Write::ConfirmKey(key) => {
                let known = self.quarantine.get_mut(key);
                ("the quarantine", known.is_some_and(|confirmed| !std::mem::replace(confirmed, true)))
            }
            Write::InsertVersion(row) => {
                let follows = self.newest(&row.dataset).map_or(0, |newest| newest.version) + 1 == row.version;
                let unique = !self
                    .versions
                    .iter()
                    .any(|known| known.offer == row.offer || known.manifest_digest == row.manifest_digest);
                self.versions.push(VersionRow::clone(row));
                ("the dataset", follows && unique)
            }
            Write::PutNegotiation(n) => {
                let fits = self.check_process((&n.id, n.role, &n.peer, n.peer_pid.as_ref()), n.revision);
                self.negotiations.insert(n.id.clone(), Negotiation::clone(n));
                ("the process", fits)
            }
            Write::PutTransfer(t) => {
                let fits = self.check_process((&t.id, t.role, &t.peer, t.peer_pid.as_ref()), t.revision);
                self.transfers.insert(t.id.clone(), Transfer::clone(t));
                ("the process", fits)
            }
            Write::InsertAgreement(row) => {
                let row = AgreementRow { used: 0, ..AgreementRow::clone(row) };
                ("the agreement", self.agreements.insert(row.id.clone(), row).is_none())
            }
            Write::Use { agreement, max } => match self.agreements.get_mut(agreement) {
                Some(row) if max.is_none_or(|max| row.used < max) => {
                    row.used += 1;
                    ("the count", true)
                }
                _ => ("the count", false),
            },
            Write::InsertRelease(row) => {
                let reuses = |known: &ReleaseRow| {
                    known.request == row.request || known.nonce == row.nonce || known.one_time_key == row.one_time_key
                };
                let new = !self.releases.iter().any(reuses);
                self.releases.push(ReleaseRow::clone(row));
                ("the key request", new)
            }
            Write::PutHolding(row) => {
                let known = self.holdings.insert(row.id.clone(), Holding::clone(row));
                let twins = self.holdings.values().filter(|other| other.transfer == row.transfer).count();
                ("the holding", known.map_or(0, |known| known.revision) + 1 == row.revision && twins == 1)
            }
            Write::InsertToken(row) => {
                let unique = !self.tokens.values().any(|known| known.hash == row.hash);
                ("the token", unique && self.tokens.insert(row.id.clone(), row.clone()).is_none())
            }
            Write::RevokeToken(id) => match self.tokens.get_mut(id) {
                Some(row) => ("the token", !std::mem::replace(&mut row.revoked, true)),
                None => ("the token", false),
            },
            Write::Rewrap { secret, wrapped } => {
                let place = self.secrets().into_iter().find(|(known, _)| known == secret).map(|(_, place)| place);
                ("the secret", place.map(|place| *place = wrapped.clone()).is_some())
            }
            Write::DropMessage(id) => {
                let before = self.outbox.len();
                self.outbox.retain(|_, (message, _)| message.id != *id);
                ("the outbox", self.outbox.len() < before)
            }
            Write::InsertReceipt { transfer, jws } => {
                ("the receipt", self.receipts.insert(transfer.clone(), jws.clone()).is_none())
            }
        };
        if done { Ok(()) } else { Err(StoreError::Conflict(what)) }
    }

    fn append(&mut self, drafts: &[Draft], origin: &LogOrigin, now: Timestamp) -> Result<Vec<Logged>, StoreError> {
        let log = &mut self.log;
        log.time = log.time.max(now);
        let mut logged = Vec::new();
        let mut full = Vec::new();
        for draft in drafts {
            let body = json::to_canonical(&draft.at(origin, log.time));
            let leaf = entry::commitment(&draft.salt, &body);
            let entry = serde_json::from_slice(&body).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            let index = log.edge.size();
            log.entries.push(EntryRow { index, entry, leaf, salt: draft.salt, fields: draft.openings.clone() });
            log.edge.append(leaf_hash(leaf.as_bytes()), &mut full);
            logged.push(Logged { id: draft.id.clone(), leaf, time: log.time });
        }
        for tile in full.into_iter().chain(log.edge.partial()) {
            log.tiles.insert((tile.level, tile.index), tile::to_bytes(&tile.hashes));
        }
        Ok(logged)
    }

    /// Every wrapped secret, and where it stands.
    fn secrets(&mut self) -> Vec<(Secret, &mut String)> {
        let mut found = Vec::new();
        for version in &mut self.versions {
            let row = format!("{}/{}", version.dataset, version.version);
            found.push((SecretKind::VersionKey, row, &mut version.wrapped_key));
        }
        for holding in self.holdings.values_mut() {
            let row = holding.id.to_string();
            let keys = (holding.wrapped_key.as_mut(), holding.wrapped_one_time_key.as_mut());
            found.extend(keys.0.map(|place| (SecretKind::HoldingKey, row.clone(), place)));
            found.extend(keys.1.map(|place| (SecretKind::OneTimeKey, row, place)));
        }
        for transfer in self.transfers.values_mut() {
            let row = transfer.id.to_string();
            found.extend(transfer.wrapped_token.as_mut().map(|place| (SecretKind::TransferToken, row, place)));
        }
        found.into_iter().map(|(kind, row, place)| (Secret { kind, row, wrapped: place.clone() }, place)).collect()
    }

    fn chore(&mut self, chore: &Chore) {
        match chore {
            Chore::Checkpoint => {}
            Chore::Sent(id) => self.outbox.retain(|_, (message, _)| message.id != *id),
            Chore::Retry { id, at } => {
                for (message, due) in self.outbox.values_mut().filter(|(message, _)| message.id == *id) {
                    message.attempts += 1;
                    *due = *at;
                }
            }
            Chore::PeerCheckpoint { participant, size, note } => {
                self.peer_checkpoints.insert((participant.clone(), *size, note.clone()), ());
            }
            Chore::Promise { participant, entry, jws } => {
                self.promises.entry((participant.clone(), entry.clone())).or_insert_with(|| jws.clone());
            }
        }
    }

    /// The first message of each process, with when it is due.
    fn first_messages(&self) -> Vec<&(Outgoing, Timestamp)> {
        let mut seen = std::collections::BTreeSet::new();
        self.outbox.values().filter(|(message, _)| seen.insert(&message.process)).collect()
    }
}

type Found<T> = Result<Option<T>, StoreError>;
type Listed<T> = Result<Vec<T>, StoreError>;

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.transact(|state| {
            change.guards.iter().try_for_each(|guard| state.holds(guard))?;
            change.writes.iter().try_for_each(|write| state.apply(write))?;
            let now = self.clock.now();
            for message in &change.outbox {
                state.messages += 1;
                state.outbox.insert(state.messages, (message.clone(), now));
            }
            let logged = state.append(change.entries(), &self.origin, now)?;
            self.sign(state, false);
            Ok(logged)
        })
    }

    async fn housekeep(&self, chores: Vec<Chore>) -> Result<(), StoreError> {
        self.transact(|state| {
            chores.iter().for_each(|chore| state.chore(chore));
            self.sign(state, chores.contains(&Chore::Checkpoint));
            Ok(())
        })
    }

    async fn registers(&self, from: u64, limit: usize) -> Listed<String> {
        Ok(self.disk.state().registers.range(from..).take(limit).map(|(_, jws)| jws.clone()).collect())
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

    async fn dataset(&self, id: &DatasetId) -> Found<VersionRow> {
        Ok(self.disk.state().newest(id).cloned())
    }

    async fn datasets(&self, after: Option<&DatasetId>, limit: usize) -> Listed<VersionRow> {
        let state = self.disk.state();
        let newest: BTreeMap<_, _> = state.versions.iter().map(|row| (&row.dataset, row)).collect();
        let later = newest.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(later.take(limit).map(|(_, row)| row.clone()).collect())
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
        let state = self.disk.state();
        let negotiations = state.negotiations.values().filter(|n| !n.state.is_final()).map(|n| n.id.clone());
        let transfers = state.transfers.values().filter(|t| !t.state.is_final()).map(|t| t.id.clone());
        Ok((negotiations.collect(), transfers.collect()))
    }

    async fn transfer_of(&self, negotiation: &ProcessId) -> Found<Transfer> {
        Ok(self.disk.state().transfers.values().find(|t| t.negotiation == *negotiation).cloned())
    }

    async fn requests(&self, limit: usize) -> Listed<Negotiation> {
        let state = self.disk.state();
        let mut own: Vec<Negotiation> =
            state.negotiations.values().filter(|n| n.role == Role::Consumer).cloned().collect();
        own.sort_by_key(|n| std::cmp::Reverse(n.started));
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

    async fn holdings(&self, limit: usize) -> Listed<Holding> {
        let mut all: Vec<Holding> = self.disk.state().holdings.values().cloned().collect();
        all.sort_by_key(|holding| std::cmp::Reverse(holding.updated));
        all.truncate(limit);
        Ok(all)
    }

    async fn token(&self, hash: &Digest) -> Found<TokenRow> {
        Ok(self.disk.state().tokens.values().find(|row| row.hash == *hash).cloned())
    }

    async fn tokens(&self) -> Listed<TokenRow> {
        Ok(self.disk.state().tokens.values().cloned().collect())
    }

    async fn outbox_due(&self, now: Timestamp, limit: usize) -> Listed<Outgoing> {
        let state = self.disk.state();
        let due = state.first_messages().into_iter().filter(|(_, due)| *due <= now);
        Ok(due.take(limit).map(|(message, _)| message.clone()).collect())
    }

    async fn outbox_next(&self, now: Timestamp) -> Result<(Option<Timestamp>, u64), StoreError> {
        let state = self.disk.state();
        let next = state.first_messages().into_iter().map(|(_, due)| *due).filter(|due| *due > now).min();
        Ok((next, state.outbox.len() as u64))
    }

    async fn checkpoint(&self) -> Found<String> {
        Ok(self.disk.state().log.checkpoint.as_ref().map(|(_, _, note)| note.clone()))
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
