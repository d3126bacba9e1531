//! Plain data for consumers that cannot take it sealed: only where the policy names that channel, counted once a transfer,
//! logged before the first byte, and cut as soon as the policy no longer holds. trust.md, "Agreement and release".

use super::super::refusal::Error;
use super::super::{Counterparty, Node, release};
use super::{evaluate_agreement, moved};
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::blob::name_of;
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::limits;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::{OpenError, Package};
use crate::identity::document;
use crate::negotiation::Role;
use crate::policy::{Channel, Decision};
use crate::storage::{AgreementRow, Change, Guard, StoreError, VersionRow, Write};
use crate::transfer::{State, Transfer};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// What is kept for all plain downloads.
pub struct Pulls {
    places: Arc<Semaphore>,
    /// One that reads slowly must not take the places of all.
    of_members: Mutex<HashMap<ParticipantId, Arc<Semaphore>>>,
    /// By blob, where each frame's text ends; the newest last.
    indexes: Mutex<VecDeque<(Digest, Arc<Vec<u64>>)>>,
}

impl Default for Pulls {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(limits::PULLS_MAX));
        Self { places, of_members: Mutex::default(), indexes: Mutex::default() }
    }
}

impl Pulls {
    /// Places for one more download, its member's first: whoever waits for its own takes none of the others'.
    async fn cell(&self, member: &ParticipantId) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let own = {
            let mut of_members = self.of_members.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(limits::PULLS_PER_MEMBER_MAX));
            of_members.entry(member.clone()).or_insert_with(new).clone()
        };
        let both = async { Ok([own.acquire_owned().await?, self.places.clone().acquire_owned().await?]) };
        match tokio::time::timeout(limits::PULL_WAIT_MAX, both).await {
            Ok(Ok::<_, AcquireError>(places)) => Ok(places),
            _ => Err(Error::Unavailable("too many plain downloads at once; try again".into())),
        }
    }

    fn known(&self, blob: &Digest) -> Option<Arc<Vec<u64>>> {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.iter().find(|(known, _)| known == blob).map(|(_, ends)| ends.clone())
    }

    fn keep(&self, blob: Digest, ends: Arc<Vec<u64>>) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if indexes.len() == limits::PULL_INDEXES_MAX {
            indexes.pop_front();
        }
        indexes.push_back((blob, ends));
    }
}

/// Plain data that is being served.
pub struct Plain {
    node: Arc<Node>,
    to: Counterparty,
    transfer: ProcessId,
    package: Package<File>,
    ends: Arc<Vec<u64>>,
    _places: [OwnedSemaphorePermit; 2],
}

impl Plain {
    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The text from `at` to the end of its frame, or to `end`. Whether it may still be served is asked each time.
    pub async fn piece(mut self, at: u64, end: u64) -> io::Result<(Vec<u8>, Self)> {
        self.node
            .check_still_permitted(&self.to, &self.transfer)
            .await
            .map_err(|error| io::Error::other(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            let n = self.ends.partition_point(|frame_end| *frame_end <= at);
            let begin = n.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let text = self.package.frame(n).map_err(|error| io::Error::other(error.to_string()))?;
            let upto = (end - begin).min(text.len() as u64) as usize;
            let piece = text.get((at - begin) as usize..upto);
            Ok((piece.ok_or_else(|| io::Error::other("a frame is shorter than its head says"))?.to_vec(), self))
        })
        .await?
    }
}

impl Node {
    /// Plain data for a transfer whose token was good. The first time under a transfer it is decided, counted and logged.
    pub(super) async fn serve_plain(
        self: &Arc<Self>,
        to: &Counterparty,
        transfer: Transfer,
        row: AgreementRow,
        facts: &mut Facts,
    ) -> Result<Plain, Error> {
        let places = self.pulls.cell(&to.participant).await?;
        let manifest = row.agreement.manifest.ok_or_else(|| Error::Internal("no manifest".into()))?;
        let version = self.parts.store.version_by_manifest(&manifest).await?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version is gone"))?;
        release::ensure_not_withdrawn(&version)?;
        let id = transfer.id.clone();
        // Opened first: what cannot be read is no use.
        let (package, ends) = self.open_own(&version).await?;
        self.count_pull(transfer, row, manifest, facts).await?;
        Ok(Plain { node: self.clone(), to: to.clone(), transfer: id, package, ends, _places: places })
    }

    async fn open_own(self: &Arc<Self>, version: &VersionRow) -> Result<(Package<File>, Arc<Vec<u64>>), Error> {
        let jws = self.manifest_as_signed_now(version).await?;
        let manifest = document::verify::<Manifest>(&jws, |kid| self.own_key(kid));
        let manifest = manifest.map_err(|error| Error::Internal(error.to_string()))?.into_body();
        let (key, blob, node) = (release::data_key(self, version)?, version.blob, self.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let file = node.parts.blobs.read(&name_of(&blob));
            let file = file.map_err(|error| Error::Unavailable(format!("the sealed bytes cannot be read: {error}")))?;
            let broken = |error: OpenError| Error::Internal(error.to_string());
            let mut package = Package::open(file, &key, &manifest).map_err(broken)?;
            let ends = match node.pulls.known(&blob) {
                Some(ends) => ends,
                None => {
                    let ends = Arc::new(package.text_ends(&manifest).map_err(broken)?);
                    node.pulls.keep(blob, ends.clone());
                    ends
                }
            };
            Ok((package, ends))
        });
        opened.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// Decides, and on the first time counts and logs, in one commit under guards on what the decision read.
    async fn count_pull(
        &self,
        mut transfer: Transfer,
        mut row: AgreementRow,
        manifest: Digest,
        refused: &mut Facts,
    ) -> Result<(), Error> {
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let (now, trust) = (self.now(), self.trust());
            if self.is_withdrawn(&row).await? {
                return Err(Error::forbidden("withdrawn", "the provider withdrew the dataset"));
            }
            // A use that is counted already is not counted against itself.
            let used = row.used.saturating_sub(u64::from(transfer.pulled.is_some()));
            let said = evaluate_agreement(&trust, &AgreementRow { used, ..row.clone() }, Channel::Pull, now);
            let (rule, max) = match said {
                Decision::Permitted { rule, count_max } => (rule, count_max),
                Decision::Refused { rule, reason } => {
                    refused.rule = Some(rule);
                    return Err(Error::forbidden("policy", reason));
                }
                Decision::Undetermined { .. } => {
                    return Err(Error::forbidden("policy", "the policy leaves this undetermined"));
                }
            };
            if transfer.state != State::Started {
                return Err(Error::forbidden("state", format!("the transfer is {}", transfer.state.name())));
            }
            if transfer.pulled.is_some() {
                return Ok(());
            }
            let next =
                Transfer { pulled: Some(now), revision: transfer.revision + 1, updated: now, ..transfer.clone() };
            let mut facts = moved(&next, Role::Provider, Some(&row));
            (facts.rule, facts.decision) = (Some(rule), Some(Logged::Permitted));
            let change = Change::new(self.draft(Kind::DataReleased, facts))
                .guard(Guard::Register(trust.register.body().sequence))
                .guard(Guard::Count(row.id.clone(), row.used))
                .guard(Guard::Stands(manifest))
                .write(Write::Use { agreement: row.id.clone(), max })
                .write(Write::PutTransfer(Box::new(next)));
            match self.parts.store.commit(change).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let gone = || Error::Internal("a transfer or its agreement is gone".into());
            transfer = self.parts.store.transfer(&transfer.id).await?.ok_or_else(gone)?;
            row = self.parts.store.agreement(&row.id).await?.ok_or_else(gone)?;
        }
        Err(Error::Unavailable("the facts change all the time; try again".into()))
    }

    /// Whether the version that was agreed on is withdrawn.
    pub(in crate::service) async fn is_withdrawn(&self, row: &AgreementRow) -> Result<bool, StoreError> {
        let Some(manifest) = row.agreement.manifest else { return Ok(false) };
        Ok(self.parts.store.version_by_manifest(&manifest).await?.is_some_and(|version| version.withdrawn.is_some()))
    }

    /// Whether what is being served may still be served; where it is cut, the log says so.
    async fn check_still_permitted(self: &Arc<Self>, to: &Counterparty, id: &ProcessId) -> Result<(), Error> {
        let mut facts = Facts { process: Some(id.clone()), ..Facts::default() };
        match self.still_allows(id, &mut facts).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse(to, Kind::DataRefused, facts, error).await),
        }
    }

    async fn still_allows(&self, id: &ProcessId, facts: &mut Facts) -> Result<(), Error> {
        let gone = || Error::Internal("a transfer or its agreement is gone".into());
        let transfer = self.parts.store.transfer(id).await?.ok_or_else(gone)?;
        let mut row = self.parts.store.agreement(&transfer.agreement).await?.ok_or_else(gone)?;
        *facts = moved(&transfer, Role::Provider, Some(&row));
        row.used = row.used.saturating_sub(1);
        if self.is_withdrawn(&row).await? {
            return Err(Error::forbidden("withdrawn", "the provider withdrew the dataset"));
        }
        let now = self.now();
        let good = transfer.state == State::Started && transfer.token_until.is_some_and(|until| now < until);
        match evaluate_agreement(&self.trust(), &row, Channel::Pull, now) {
            Decision::Permitted { .. } if good => Ok(()),
            Decision::Refused { rule, reason } => {
                facts.rule = Some(rule);
                Err(Error::forbidden("policy", reason))
            }
            _ => Err(Error::forbidden("state", "the transfer or its token has ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_member_leaves_places_for_others() {
        let pulls = Pulls::default();
        let [one, other] = ["did:web:a.example", "did:web:b.example"].map(|id| ParticipantId::parse(id).unwrap());
        let mut held = Vec::new();
        for _ in 0..limits::PULLS_PER_MEMBER_MAX {
            held.push(pulls.cell(&one).await.unwrap());
        }
        assert!(matches!(pulls.cell(&one).await, Err(Error::Unavailable(_))));
        assert_eq!(pulls.places.available_permits(), limits::PULLS_MAX - limits::PULLS_PER_MEMBER_MAX);
        held.push(pulls.cell(&other).await.unwrap());
        drop(held.remove(0));
        assert!(pulls.cell(&one).await.is_ok());
    }
}
