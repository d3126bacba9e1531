//! The content of a [`super::MemoryStore`]'s disk, and the effect of changes on it.

use crate::audit::entry::{self, Draft, Kind};
use crate::audit::merkle::leaf_hash;
use crate::audit::tile::{self, Edge};
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, LogOrigin, ParticipantId, ProcessId, SourceName, SubscriptionId,
    TokenId,
};
use crate::core::json;
use crate::core::time::Timestamp;
use crate::identity::register::KeyName;
use crate::negotiation::{Negotiation, Role};
use crate::source::Source;
use crate::storage::{
    AgreementRow, Conflict, EntryRow, Guard, Holding, IdempotencyRow, Logged, Maintenance, Outgoing, ReleaseRow,
    SchemaRow, Secret, SecretKind, StoreError, SubscriptionRow, TokenRow, VersionRow, Write,
};
use crate::transfer::Transfer;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Default)]
pub struct State {
    pub registers: BTreeMap<u64, String>,
    pub roots: BTreeMap<u64, String>,
    /// Quarantined keys, and whether each was confirmed.
    pub quarantine: BTreeMap<KeyName, bool>,
    /// Schemas in the order in which they were kept, with their texts.
    pub schemas: Vec<(SchemaRow, String)>,
    /// Versions in order of publication; the last one of a dataset is the newest.
    pub versions: Vec<VersionRow>,
    /// By audience key and dataset: the change number, and whether the dataset is gone.
    pub visible: BTreeMap<(String, DatasetId), (u64, bool)>,
    pub recalled: BTreeMap<(ParticipantId, DatasetId), String>,
    pub negotiations: BTreeMap<ProcessId, Negotiation>,
    pub transfers: BTreeMap<ProcessId, Transfer>,
    pub agreements: BTreeMap<AgreementId, AgreementRow>,
    pub releases: Vec<ReleaseRow>,
    pub holdings: BTreeMap<HoldingId, Holding>,
    pub sources: BTreeMap<SourceName, Source>,
    pub subscriptions: BTreeMap<SubscriptionId, SubscriptionRow>,
    pub tokens: BTreeMap<TokenId, TokenRow>,
    pub once: BTreeMap<(TokenId, String), IdempotencyRow>,
    pub receipts: BTreeMap<ProcessId, String>,
    /// Messages by order of arrival, with the time at which they are due.
    pub outbox: BTreeMap<u64, (Outgoing, Timestamp)>,
    pub messages: u64,
    pub log: Log,
    pub peer_checkpoints: BTreeMap<(ParticipantId, u64, String), ()>,
    pub promises: BTreeMap<(ParticipantId, EntryId), String>,
}

#[derive(Clone, Default)]
pub struct Log {
    pub edge: Edge,
    pub time: Timestamp,
    pub entries: Vec<EntryRow>,
    pub tiles: BTreeMap<(u8, u64), Vec<u8>>,
    pub checkpoints: Vec<(u64, Timestamp, String)>,
}

impl State {
    pub fn newest(&self, dataset: &DatasetId) -> Option<&VersionRow> {
        self.versions.iter().rev().find(|row| row.dataset == *dataset && row.withdrawn.is_none())
    }

    pub fn last_change(&self) -> u64 {
        self.visible.values().map(|(change, _)| *change).max().unwrap_or(0)
    }

    fn show(&mut self, dataset: &DatasetId, audience: &BTreeSet<String>) {
        let change = self.last_change() + 1;
        for ((_, seen), state) in self.visible.iter_mut().filter(|(_, state)| !state.1) {
            if seen == dataset {
                *state = (change, true);
            }
        }
        for key in audience {
            self.visible.insert((key.clone(), dataset.clone()), (change, false));
        }
    }

    pub fn holds(&self, guard: &Guard, now: Timestamp) -> Result<(), StoreError> {
        let (what, holds) = match guard {
            Guard::Register(sequence) => (Conflict::Register, self.register_sequence() == *sequence),
            Guard::Offer(offer, policy) => {
                let version = self.versions.iter().find(|row| row.offer == *offer && row.policy_digest == *policy);
                let stands = |row: &VersionRow| self.newest(&row.dataset).is_some_and(|new| new.offer == *offer);
                (Conflict::Offer, version.is_some_and(stands))
            }
            Guard::NotWithdrawn(manifest) => {
                let stands = |row: &VersionRow| row.manifest_digest == *manifest && row.withdrawn.is_none();
                (Conflict::Dataset, self.versions.iter().any(stands))
            }
            Guard::Process(id, revision) => {
                let negotiation = self.negotiations.get(id).map(|n| n.revision);
                let transfer = self.transfers.get(id).map(|t| t.revision);
                (Conflict::Process, negotiation.or(transfer) == Some(*revision))
            }
            Guard::OtherAdmin(token, at) => {
                let is_other =
                    |row: &&TokenRow| row.id != *token && !row.revoked && row.role == "admin" && *at < row.expires;
                (Conflict::Token, self.tokens.values().any(|row| is_other(&row)))
            }
            Guard::DecidedAt(_) => (Conflict::DecisionAge, !guard.is_too_old(now)),
            Guard::Count(id, used) => {
                (Conflict::UseCount, self.agreements.get(id).is_some_and(|row| row.used == *used))
            }
            Guard::OpenProcesses(peer, max) => {
                let negotiations = self.negotiations.values().filter(|n| n.peer == *peer && !n.state.is_final());
                let transfers = self.transfers.values().filter(|t| t.peer == *peer && !t.state.is_final());
                (Conflict::OpenProcesses, ((negotiations.count() + transfers.count()) as u64) < *max)
            }
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict(what)) }
    }

    pub fn register_sequence(&self) -> u64 {
        self.registers.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    /// Whether a process is new or the successor of the stored revision, and no other has the same peer identifier.
    pub fn check_process(&self, key: (&ProcessId, Role, &ParticipantId, Option<&ProcessId>), revision: u64) -> bool {
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

    pub fn apply(&mut self, write: &Write) -> Result<(), StoreError> {
        let (what, done) = match write {
            Write::InstallRegister { sequence, jws, .. } => {
                let follows = self.registers.is_empty() || self.register_sequence() + 1 == *sequence;
                (Conflict::Register, follows && self.registers.insert(*sequence, jws.clone()).is_none())
            }
            Write::InstallRoot { version, json } => {
                (Conflict::RootDocument, self.roots.insert(*version, json.clone()).is_none())
            }
            Write::Quarantine(key) => {
                self.quarantine.insert(key.clone(), false);
                (Conflict::Quarantine, true)
            }
            Write::ConfirmKey(key) => {
                let known = self.quarantine.get_mut(key);
                (Conflict::Quarantine, known.is_some_and(|confirmed| !std::mem::replace(confirmed, true)))
            }
            Write::PutSchema(row, text) => {
                let known = self.schemas.iter_mut().find(|(known, _)| known.digest == row.digest);
                let added = match known {
                    Some((known, _)) if known.statement.is_none() && row.statement.is_some() => {
                        known.statement.clone_from(&row.statement);
                        true
                    }
                    Some(_) => false,
                    None => {
                        self.schemas.push((SchemaRow::clone(row), text.clone()));
                        true
                    }
                };
                (Conflict::Schema, added)
            }
            Write::InsertVersion(row) => {
                let follows = self.newest(&row.dataset).map_or(0, |newest| newest.version) + 1 == row.version;
                let unique = !self
                    .versions
                    .iter()
                    .any(|known| known.offer == row.offer || known.manifest_digest == row.manifest_digest);
                self.versions.push(VersionRow::clone(row));
                self.show(&row.dataset, &row.audience);
                (Conflict::Dataset, follows && unique)
            }
            Write::Withdraw { dataset, at } => {
                let known = self.newest(dataset).is_some();
                for row in self.versions.iter_mut().filter(|row| row.dataset == *dataset) {
                    row.withdrawn = Some(*at);
                }
                self.show(dataset, &BTreeSet::new());
                (Conflict::Dataset, known)
            }
            Write::Recall { provider, dataset, reason } => {
                let key = (provider.clone(), dataset.clone());
                (Conflict::Recall, self.recalled.insert(key, reason.clone()).is_none())
            }
            Write::HastenOutbox(now) => {
                self.outbox.values_mut().for_each(|(_, due)| *due = (*due).min(*now));
                return Ok(());
            }
            Write::PutNegotiation(n) => {
                let fits = self.check_process((&n.id, n.role, &n.peer, n.peer_pid.as_ref()), n.revision);
                self.negotiations.insert(n.id.clone(), Negotiation::clone(n));
                (Conflict::Process, fits)
            }
            Write::PutTransfer(t) => {
                let fits = self.check_process((&t.id, t.role, &t.peer, t.peer_pid.as_ref()), t.revision);
                self.transfers.insert(t.id.clone(), Transfer::clone(t));
                (Conflict::Process, fits)
            }
            Write::InsertAgreement(row) => {
                let row = AgreementRow { used: 0, ..AgreementRow::clone(row) };
                (Conflict::Agreement, self.agreements.insert(row.id.clone(), row).is_none())
            }
            Write::CountUse { agreement, max } => match self.agreements.get_mut(agreement) {
                Some(row) if max.is_none_or(|max| row.used < max) => {
                    row.used += 1;
                    (Conflict::UseCount, true)
                }
                _ => (Conflict::UseCount, false),
            },
            Write::InsertRelease(row) => {
                let reuses = |known: &ReleaseRow| {
                    known.request == row.request || known.nonce == row.nonce || known.one_time_key == row.one_time_key
                };
                let new = !self.releases.iter().any(reuses);
                self.releases.push(ReleaseRow::clone(row));
                (Conflict::KeyRequest, new)
            }
            Write::PutHolding(row) => {
                let known = self.holdings.insert(row.id.clone(), Holding::clone(row));
                let twins = self.holdings.values().filter(|other| other.transfer == row.transfer).count();
                (Conflict::Holding, known.map_or(0, |known| known.revision) + 1 == row.revision && twins == 1)
            }
            Write::PutSource(row) => {
                let known = self.sources.insert(row.name.clone(), Source::clone(row));
                (Conflict::Source, known.map_or(0, |known| known.revision) + 1 == row.revision)
            }
            Write::RemoveSource(name) => (Conflict::Source, self.sources.remove(name).is_some()),
            Write::PutSubscription(row) => {
                let known = self.subscriptions.insert(row.id.clone(), SubscriptionRow::clone(row));
                (Conflict::Subscription, known.map_or(0, |known| known.revision) + 1 == row.revision)
            }
            Write::RemoveSubscription(id) => (Conflict::Subscription, self.subscriptions.remove(id).is_some()),
            Write::InsertToken(row) => {
                let unique = !self.tokens.values().any(|known| known.hash == row.hash);
                (Conflict::Token, unique && self.tokens.insert(row.id.clone(), row.clone()).is_none())
            }
            Write::RevokeToken(id) => match self.tokens.get_mut(id) {
                Some(row) => (Conflict::Token, !std::mem::replace(&mut row.revoked, true)),
                None => (Conflict::Token, false),
            },
            Write::Rewrap { secret, wrapped } => {
                let place = self.secrets().into_iter().find(|(known, _)| known == secret).map(|(_, place)| place);
                (Conflict::Secret, place.map(|place| *place = wrapped.clone()).is_some())
            }
            Write::IdempotencyKey(row) => {
                let key = (row.token.clone(), row.key.clone());
                (Conflict::IdempotencyKey, self.once.insert(key, row.clone()).is_none())
            }
            Write::DropMessage(id) => {
                let before = self.outbox.len();
                self.outbox.retain(|_, (message, _)| message.id != *id);
                (Conflict::Outbox, self.outbox.len() < before)
            }
            Write::InsertReceipt { transfer, jws } => {
                (Conflict::Receipt, self.receipts.insert(transfer.clone(), jws.clone()).is_none())
            }
        };
        if done { Ok(()) } else { Err(StoreError::Conflict(what)) }
    }

    pub fn append(&mut self, drafts: &[Draft], origin: &LogOrigin, now: Timestamp) -> Result<Vec<Logged>, StoreError> {
        let log = &mut self.log;
        log.time = log.time.max(now);
        let mut logged = Vec::new();
        let mut full = Vec::new();
        for draft in drafts {
            if draft.kind == Kind::ClockCorrected {
                log.time = now;
            }
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

    /// All wrapped secrets, with mutable access to where they are stored.
    pub fn secrets(&mut self) -> Vec<(Secret, &mut String)> {
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

    pub fn task(&mut self, task: &Maintenance) {
        match task {
            Maintenance::Checkpoint | Maintenance::Close => {}
            Maintenance::Sent(id) => self.outbox.retain(|_, (message, _)| message.id != *id),
            Maintenance::SourceRunning { name, at } => {
                if let Some(source) = self.sources.get_mut(name) {
                    source.progress.running = Some(*at);
                }
            }
            Maintenance::PeerPid { process, peer_pid } => {
                let negotiations = self.negotiations.values().map(|n| (&n.peer, n.peer_pid.as_ref()));
                let mut all = negotiations.chain(self.transfers.values().map(|t| (&t.peer, t.peer_pid.as_ref())));
                let peer = self.negotiations.get(process).map(|n| &n.peer);
                let peer = peer.or_else(|| self.transfers.get(process).map(|t| &t.peer));
                if all.any(|(other, pid)| Some(other) == peer && pid == Some(peer_pid)) {
                    return;
                }
                if let Some(negotiation) = self.negotiations.get_mut(process) {
                    negotiation.peer_pid.get_or_insert_with(|| peer_pid.clone());
                }
                if let Some(transfer) = self.transfers.get_mut(process) {
                    transfer.peer_pid.get_or_insert_with(|| peer_pid.clone());
                }
            }
            Maintenance::Retry { id, at, failure, conflict } => {
                for (message, due) in self.outbox.values_mut().filter(|(message, _)| message.id == *id) {
                    message.attempts += 1;
                    message.conflicts += u32::from(*conflict);
                    message.failure.clone_from(failure);
                    *due = *at;
                }
            }
            Maintenance::PeerCheckpoint { participant, size, note } => {
                self.peer_checkpoints.insert((participant.clone(), *size, note.clone()), ());
            }
            Maintenance::Promise { participant, entry, jws } => {
                self.promises.entry((participant.clone(), entry.clone())).or_insert_with(|| jws.clone());
            }
        }
    }

    /// Negotiations and transfers that are not in a final state.
    pub fn open(&self) -> (Vec<ProcessId>, Vec<ProcessId>) {
        let negotiations = self.negotiations.values().filter(|n| !n.state.is_final()).map(|n| n.id.clone());
        let transfers = self.transfers.values().filter(|t| !t.state.is_final()).map(|t| t.id.clone());
        (negotiations.collect(), transfers.collect())
    }

    /// The first message of each process, with the time at which it is due.
    pub fn first_messages(&self) -> Vec<&(Outgoing, Timestamp)> {
        let mut seen = std::collections::BTreeSet::new();
        self.outbox.values().filter(|(message, _)| seen.insert(&message.process)).collect()
    }
}
