//! The consumer's side of a delivery: sealed bytes, data key, verification, receipt. Each stage is durable, and a
//! restart continues with the first incomplete one.

use super::concurrency::Concurrency;
use crate::agreement::Agreement;
use crate::audit::entry::{Facts, Kind};
use crate::blob::Blobs;
use crate::core::id::{HoldingId, ProcessId, Text};
use crate::core::time::backoff;
use crate::dataset::manifest::Manifest;
use crate::evidence::Evidence;
use crate::identity::document::{self, Signed};
use crate::identity::register::{Member, Status};
use crate::keys::{Cell, Kek};
use crate::membership::Membership;
use crate::node::{Error, Node, Peer, PeerError, TRANSFER_SUSPENDED, details, trace};
use crate::schemas::{Missing, Schemas};
use crate::storage::{AgreementRow, Change, Holding, HoldingState, StoreError, Write};
use crate::transfer::{State, Transfer};
use serde_json::json;
use std::sync::Arc;

/// Why an attempt to download failed.
pub(super) enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// The data can never be verified, or was refused: the transfer ends.
    Permanent(String),
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        let reason = format!("the provider {error}");
        // A suspended transfer may be resumed; the suspension message may not have arrived yet.
        let suspended = error.code() == Some(TRANSFER_SUSPENDED);
        if error.is_transient() || suspended { Self::Transient(reason) } else { Self::Permanent(reason) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Transient(error.to_string())
    }
}

impl From<Missing> for Failure {
    fn from(error: Missing) -> Self {
        match error {
            Missing::Yet(reason) => Self::Transient(reason),
            Missing::Forever(reason) => Self::Permanent(reason),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Self::Permanent(format!("there is no room for the data: {error}"));
        }
        Self::Transient(format!("received data could not be read or written: {error}"))
    }
}

/// The cell that holds a holding's wrapped data key.
pub(super) fn key_cell(holding: &HoldingId) -> Cell<'_> {
    Cell { table: "holding", row: holding.as_str(), column: "key" }
}

/// A failure that no further attempt can repair.
pub(super) fn permanent(error: impl std::fmt::Display) -> Failure {
    Failure::Permanent(error.to_string())
}

/// The facts of one attempt.
pub(super) struct Delivery {
    pub(super) transfer: Transfer,
    pub(super) row: AgreementRow,
    pub(super) provider: Member,
    pub(super) provider_pid: ProcessId,
}

/// Fetches, verifies, stores and opens the datasets of peers.
pub struct Downloads {
    pub(super) node: Arc<Node>,
    pub(super) evidence: Arc<Evidence>,
    pub(super) membership: Arc<Membership>,
    pub(super) peer: Arc<dyn Peer>,
    pub(super) kek: Arc<Kek>,
    pub(super) received: Blobs,
    pub(super) schemas: Arc<Schemas>,
    pub(super) received_max: ReceivedMax,
    pub(super) concurrency: Concurrency,
}

/// Most bytes that are accepted and kept.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedMax {
    /// Of one delivery.
    pub delivery: u64,
    /// Of one provider.
    pub provider: u64,
    /// Of all providers.
    pub all: u64,
}

impl Default for ReceivedMax {
    fn default() -> Self {
        Self { delivery: u64::MAX, provider: u64::MAX, all: u64::MAX }
    }
}

impl Downloads {
    /// Stores datasets in `received`.
    pub fn new(
        node: Arc<Node>,
        evidence: Arc<Evidence>,
        membership: Arc<Membership>,
        peer: Arc<dyn Peer>,
        kek: Arc<Kek>,
        received: Blobs,
        schemas: Arc<Schemas>,
        received_max: ReceivedMax,
    ) -> Arc<Self> {
        let concurrency = Concurrency::new();
        Arc::new(Self { node, evidence, membership, peer, kek, received, schemas, received_max, concurrency })
    }

    /// Downloads in progress.
    pub fn count(&self) -> usize {
        self.concurrency.transfers().len()
    }

    /// Free and total bytes of the disk that holds received datasets.
    pub fn disk_space(&self) -> Option<(u64, u64)> {
        self.received.space().bytes().ok()
    }

    /// Names of the stored received bytes.
    pub fn stored(&self) -> std::io::Result<Vec<String>> {
        Ok([self.received.names()?, self.received.parts()?].concat())
    }

    /// Removes the unneeded ones of these received bytes, which a crash or an ended transfer left behind. They must have
    /// been listed before any download starts.
    pub async fn sweep(&self, stored: Vec<String>) -> Result<(), Error> {
        let disk =
            |error: std::io::Error| Error::Unavailable(format!("received datasets cannot be cleaned up: {error}"));
        for name in stored {
            let Ok(id) = HoldingId::parse(&name) else { continue };
            if !self.needs(&id).await? {
                self.received.remove(&name).map_err(disk)?;
            }
        }
        Ok(())
    }

    /// Whether the received bytes are kept: they are verified, or the transfer may still complete.
    async fn needs(&self, id: &HoldingId) -> Result<bool, StoreError> {
        let store = self.node.store();
        let Some(holding) = store.holding(id).await? else { return Ok(false) };
        if store.transfer(&holding.transfer).await?.is_some_and(|transfer| !transfer.state.is_final()) {
            return Ok(holding.state != HoldingState::Failed);
        }
        // Read after the transfer, which ends in the commit that makes the holding verified.
        Ok(store.holding(id).await?.is_some_and(|holding| holding.state == HoldingState::Verified))
    }

    /// Removes the received bytes of a transfer that has ended, unless they are verified.
    pub(super) async fn clean_up(&self, ended: &ProcessId) -> Result<(), StoreError> {
        let Some(holding) = self.node.store().holding_of(ended).await? else { return Ok(()) };
        if !self.needs(&holding.id).await?
            && let Err(error) = self.received.remove(holding.id.as_str())
        {
            tracing::warn!(%error, process = %ended, "the bytes of an ended transfer could not be removed");
        }
        Ok(())
    }

    /// Fetches the dataset of a started transfer in the background, unless it is being fetched.
    pub fn start(self: &Arc<Self>, transfer: &ProcessId) {
        if !self.concurrency.transfers().insert(transfer.clone()) {
            return;
        }
        let (downloads, id) = (self.clone(), transfer.clone());
        tokio::spawn(trace::within(trace::current(), async move {
            for attempt in 0u32.. {
                match downloads.attempt(&id).await {
                    Ok(()) => break,
                    Err(Failure::Transient(reason)) => {
                        tracing::info!(process = %id, attempt, reason, "download interrupted; trying again");
                        tokio::time::sleep(backoff(attempt)).await;
                    }
                    Err(Failure::Permanent(reason)) => match downloads.give_up(&id, &reason).await {
                        Ok(()) => break,
                        Err(error) => {
                            tracing::warn!(%error, process = %id, "the failed download could not be logged yet");
                            tokio::time::sleep(backoff(attempt)).await;
                        }
                    },
                }
            }
            downloads.concurrency.transfers().remove(&id);
            // The transfer may have been resumed since the last attempt.
            match downloads.node.store().transfer(&id).await {
                Ok(Some(transfer)) if transfer.state == State::Started => downloads.start(&id),
                // It ended while its bytes were being written.
                Ok(Some(transfer)) if transfer.state.is_final() => drop(downloads.clean_up(&id).await),
                _ => {}
            }
        }));
    }

    async fn attempt(self: &Arc<Self>, id: &ProcessId) -> Result<(), Failure> {
        let transfer = self.node.store().transfer(id).await?;
        // The transfer was suspended or ended in the meantime.
        let Some(transfer) = transfer.filter(|t| t.state == State::Started) else { return Ok(()) };
        let row = self.node.store().agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| permanent("the agreement is missing"))?;
        let trust = self.node.trust();
        let provider = trust.register.member(&transfer.peer).cloned();
        let now = self.node.now();
        if !row.agreement.is_valid(now) {
            return Err(permanent("the agreement has ended"));
        }
        let active = |member: &Member| member.status == Status::Active && trust.register.is_current(now);
        let provider = provider.filter(active);
        let provider = provider.ok_or_else(|| {
            Failure::Transient("the provider is not an active member, or the register has expired".into())
        })?;
        let provider_pid =
            transfer.peer_pid.clone().ok_or_else(|| permanent("the provider's process id is unknown"))?;
        let permits = self.concurrency.permits_of(&provider.id);
        let _permit = permits.downloads.acquire().await.map_err(|error| Failure::Transient(error.to_string()))?;
        let delivery = Delivery { transfer, row, provider, provider_pid };

        let holding = match self.node.store().holding_of(id).await? {
            Some(holding) => holding,
            None => self.begin_holding(&delivery).await?,
        };
        let manifest = self.check_manifest(&delivery, &holding.manifest)?;
        let holding = match holding.state {
            HoldingState::Fetching => {
                let container = self.concurrency.container(&delivery.provider.id, &holding.blob);
                let _alone = container.lock().await;
                self.fetch_sealed(&delivery, &holding).await?;
                self.prepare_request(&delivery, holding).await?
            }
            HoldingState::Asked | HoldingState::Keyed => holding,
            HoldingState::Verified | HoldingState::Failed => return Ok(()),
        };
        let (key, holding) = match holding.state {
            HoldingState::Keyed => (self.kept_key(&holding)?, holding),
            _ => self.obtain_key(&delivery, holding).await?,
        };
        self.verify_and_keep(delivery, holding, manifest, key).await
    }

    fn check_manifest(&self, delivery: &Delivery, jws: &str) -> Result<Signed<Manifest>, Failure> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let signed =
            document::verify::<Manifest>(jws, |kid| trust.register.document_key(kid, now)).map_err(permanent)?;
        let (body, agreement) = (signed.body(), &delivery.row.agreement);
        let wrong = [
            ("digest", Some(signed.digest()) != agreement.manifest),
            ("publisher", body.publisher != agreement.provider),
            ("dataset", body.dataset != agreement.dataset),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((what, _)) => Err(permanent(format!("the {what} of the manifest does not match the agreement"))),
            None => Ok(signed),
        }
    }

    async fn begin_holding(&self, delivery: &Delivery) -> Result<Holding, Failure> {
        let digest = delivery.row.agreement.manifest.ok_or_else(|| permanent("the agreement names no manifest"))?;
        let jws = self.peer.manifest(&delivery.provider, &digest).await?;
        let manifest = self.check_manifest(delivery, &jws)?;
        let body = manifest.body();
        self.admit(&delivery.provider.id, body).await?;
        self.schemas.obtain(&body.schema, &delivery.provider).await?;
        let title = self.peer.dataset(&delivery.provider, &body.dataset).await;
        let title = title.ok().and_then(|dataset| Text::parse(dataset.get("title")?.as_str()?).ok());
        let title = title
            .or_else(|| Text::parse(body.dataset.as_str()).ok())
            .ok_or_else(|| permanent("the dataset has no title"))?;
        let holding = Holding {
            id: HoldingId::generate(self.node.random()),
            revision: 1,
            provider: delivery.provider.id.clone(),
            transfer: delivery.transfer.id.clone(),
            request: delivery.transfer.negotiation.clone(),
            agreement: delivery.row.id.clone(),
            state: HoldingState::Fetching,
            manifest: jws,
            manifest_digest: digest,
            blob: body.container.digest,
            bytes: body.container.size,
            records: body.records,
            title,
            key_request: None,
            wrapped_one_time_key: None,
            wrapped_key: None,
            reason: None,
            updated: self.node.now(),
        };
        self.put_holding(delivery, Kind::DatasetFetching, &holding, json!({})).await?;
        Ok(holding)
    }

    pub(super) async fn put_holding(
        &self,
        delivery: &Delivery,
        kind: Kind,
        holding: &Holding,
        detail: serde_json::Value,
    ) -> Result<(), StoreError> {
        let change = Change::new(self.node.draft(kind, holding_facts(&delivery.row.agreement, holding, detail)));
        self.node.store().commit(change.write(Write::PutHolding(Box::new(holding.clone())))).await.map(drop)
    }
}

/// The facts of a holding's change.
pub(super) fn holding_facts(agreement: &Agreement, holding: &Holding, detail: serde_json::Value) -> Facts {
    let mut all = details(json!({
        "holding": holding.id, "manifest": holding.manifest_digest, "bytes": holding.bytes, "records": holding.records,
    }));
    all.extend(details(detail));
    Facts {
        parties: vec![holding.provider.clone()],
        dataset: Some(agreement.dataset.clone()),
        process: Some(holding.transfer.clone()),
        agreement: Some(agreement.id.clone()),
        enterprise: agreement.enterprise.clone(),
        purpose: agreement.purpose.clone(),
        detail: all,
        ..Facts::default()
    }
}
