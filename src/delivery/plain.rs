//! Plain data for consumers that cannot open sealed data: served only if the policy permits this channel, counted once
//! per transfer, logged before the first byte, and cut off as soon as the policy no longer permits it.

use super::DataPlane;
use super::evaluation::{ensure_not_withdrawn, evaluate_agreement, is_withdrawn, state_code};
use super::facts::transition_facts;
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::blob::name_of;
use crate::core::digest::Digest;
use crate::core::id::ProcessId;
use crate::core::limits;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::{OpenError, Package};
use crate::identity::document;
use crate::negotiation::Role;
use crate::node::{Counterparty, Error};
use crate::policy::{Channel, Decision};
use crate::storage::{AgreementRow, Change, Guard, StoreError, VersionRow, Write};
use crate::transfer::{State, Transfer};
use std::fs::File;
use std::io;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Plain data that is being served.
pub struct Plain {
    data_plane: Arc<DataPlane>,
    to: Counterparty,
    transfer: ProcessId,
    package: Package<File>,
    ends: Arc<Vec<u64>>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Plain {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The text from `at` to the end of its frame, or to `end`. Every call checks whether serving is still permitted.
    pub async fn piece(mut self, at: u64, end: u64) -> io::Result<(Vec<u8>, Self)> {
        self.data_plane
            .check_still_permitted(&self.to, &self.transfer)
            .await
            .map_err(|error| io::Error::other(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            let n = self.ends.partition_point(|frame_end| *frame_end <= at);
            let begin = n.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let text = self.package.frame(n).map_err(|error| io::Error::other(error.to_string()))?;
            let upto = (end - begin).min(text.len() as u64) as usize;
            let piece = text.get((at - begin) as usize..upto);
            Ok((piece.ok_or_else(|| io::Error::other("a frame is shorter than its header states"))?.to_vec(), self))
        })
        .await?
    }
}

impl DataPlane {
    /// Plain data for a transfer with a valid token. The first download of a transfer is counted and logged.
    pub(super) async fn serve_plain(
        self: &Arc<Self>,
        to: &Counterparty,
        transfer: Transfer,
        row: AgreementRow,
        facts: &mut Facts,
    ) -> Result<Plain, Error> {
        let permits = self.pulls.places.take(&to.participant).await?;
        let manifest =
            row.agreement.manifest.ok_or_else(|| Error::Internal("the agreement names no manifest".into()))?;
        let version = self.node.store().version_by_manifest(&manifest).await?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version no longer exists"))?;
        ensure_not_withdrawn(&version)?;
        let id = transfer.id.clone();
        // Opened first: data that cannot be read must not count as a use.
        let (package, ends) = self.open_own(&version).await?;
        self.count_pull(transfer, row, manifest, facts).await?;
        Ok(Plain { data_plane: self.clone(), to: to.clone(), transfer: id, package, ends, _permits: permits })
    }

    async fn open_own(self: &Arc<Self>, version: &VersionRow) -> Result<(Package<File>, Arc<Vec<u64>>), Error> {
        let jws = self.signed_manifest(version).await?;
        let manifest = document::verify::<Manifest>(&jws, |kid| self.node.own_key(kid));
        let manifest = manifest.map_err(|error| Error::Internal(error.to_string()))?.into_body();
        let (key, blob, data_plane) = (self.data_key(version)?, version.blob, self.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let file = data_plane.published.read(&name_of(&blob));
            let file = file.map_err(|error| Error::Unavailable(format!("the sealed bytes cannot be read: {error}")))?;
            let broken = |error: OpenError| Error::Internal(error.to_string());
            let mut package = Package::open(file, &key, &manifest).map_err(broken)?;
            let ends = match data_plane.pulls.known(&blob) {
                Some(ends) => ends,
                None => {
                    let ends = Arc::new(package.text_ends(&manifest).map_err(broken)?);
                    data_plane.pulls.keep(blob, ends.clone());
                    ends
                }
            };
            Ok((package, ends))
        });
        opened.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// Evaluates the policy. The first time, the use is counted and logged in one commit, guarded by the facts read.
    async fn count_pull(
        &self,
        mut transfer: Transfer,
        mut row: AgreementRow,
        manifest: Digest,
        refused: &mut Facts,
    ) -> Result<(), Error> {
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let (now, trust) = (self.node.now(), self.node.trust());
            if is_withdrawn(&self.node, &row).await? {
                return Err(Error::forbidden("withdrawn", "the provider withdrew the dataset"));
            }
            // A use that was already counted does not count against itself.
            let used = row.used.saturating_sub(u64::from(transfer.pulled.is_some()));
            let said = evaluate_agreement(&trust, &AgreementRow { used, ..row.clone() }, Channel::Pull, now);
            let (rule, max) = match said {
                Decision::Permitted { rule, count_max } => (rule, count_max),
                Decision::Refused { rule, reason } => {
                    refused.rule = Some(rule);
                    return Err(Error::forbidden("policy", reason));
                }
                Decision::Undetermined { .. } => {
                    return Err(Error::forbidden("policy", "the policy neither permits nor refuses this transfer"));
                }
            };
            if transfer.state != State::Started {
                return Err(Error::forbidden(
                    state_code(transfer.state),
                    format!("the transfer is {}, not STARTED", transfer.state.name()),
                ));
            }
            if transfer.pulled.is_some() {
                return Ok(());
            }
            let next =
                Transfer { pulled: Some(now), revision: transfer.revision + 1, updated: now, ..transfer.clone() };
            let mut facts = transition_facts(&next, Role::Provider, Some(&row));
            (facts.rule, facts.decision) = (Some(rule), Some(Logged::Permitted));
            let change = Change::new(self.node.draft(Kind::DataReleased, facts))
                .guard(Guard::Register(trust.register.body().sequence))
                .guard(Guard::Count(row.id.clone(), row.used))
                .guard(Guard::NotWithdrawn(manifest))
                .guard(Guard::DecidedAt(now))
                .write(Write::CountUse { agreement: row.id.clone(), max })
                .write(Write::PutTransfer(Box::new(next)));
            match self.node.store().commit(change).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let gone = || Error::Internal("a transfer or its agreement no longer exists".into());
            transfer = self.node.store().transfer(&transfer.id).await?.ok_or_else(gone)?;
            row = self.node.store().agreement(&row.id).await?.ok_or_else(gone)?;
        }
        Err(Error::Unavailable("the transfer keeps changing; try again".into()))
    }

    /// Fails when serving is no longer permitted, and logs that.
    async fn check_still_permitted(self: &Arc<Self>, to: &Counterparty, id: &ProcessId) -> Result<(), Error> {
        let mut facts = Facts { process: Some(id.clone()), ..Facts::default() };
        match self.still_allows(id, &mut facts).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.node.refuse(to, Kind::DataRefused, facts, error).await),
        }
    }

    async fn still_allows(&self, id: &ProcessId, facts: &mut Facts) -> Result<(), Error> {
        let gone = || Error::Internal("a transfer or its agreement no longer exists".into());
        let transfer = self.node.store().transfer(id).await?.ok_or_else(gone)?;
        let mut row = self.node.store().agreement(&transfer.agreement).await?.ok_or_else(gone)?;
        *facts = transition_facts(&transfer, Role::Provider, Some(&row));
        row.used = row.used.saturating_sub(1);
        if is_withdrawn(&self.node, &row).await? {
            return Err(Error::forbidden("withdrawn", "the provider withdrew the dataset"));
        }
        let now = self.node.now();
        let good = transfer.state == State::Started && transfer.token_until.is_some_and(|until| now < until);
        match evaluate_agreement(&self.node.trust(), &row, Channel::Pull, now) {
            Decision::Permitted { .. } if good => Ok(()),
            Decision::Refused { rule, reason } => {
                facts.rule = Some(rule);
                Err(Error::forbidden("policy", reason))
            }
            _ => Err(Error::forbidden(
                state_code(transfer.state),
                "the transfer is suspended or has ended, or its token has expired",
            )),
        }
    }
}
