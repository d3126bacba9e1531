//! The end of a download: the dataset is verified before the receipt is signed; invalid data is removed.

use super::downloads::{Delivery, Downloads, Failure, holding_facts, permanent};
use super::facts::transition_facts;
use super::fetch::no_room;
use crate::audit::entry::{Decision, Kind};
use crate::audit::receipt::Receipt;
use crate::core::id::ProcessId;
use crate::core::{limits, parallelism};
use crate::dataset::container::DataKey;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::{OpenError, Package, Stop, Verification};
use crate::dataset::quality::Plan;
use crate::dataset::unique::Temporary;
use crate::identity::document::{self, Signed};
use crate::negotiation::Role;
use crate::node::{Error, Message, details};
use crate::storage::{Change, Conflict, Holding, HoldingState, StoreError, Write};
use crate::transfer::{Event, State};
use serde_json::json;
use tokio::sync::AcquireError;

impl Downloads {
    /// Verifies seal, counts and every record, and completes the transfer.
    pub(super) async fn verify_and_keep(
        &self,
        delivery: Delivery,
        holding: Holding,
        manifest: Signed<Manifest>,
        key: DataKey,
    ) -> Result<(), Failure> {
        let schema = self.schemas.obtain(&manifest.body().schema, &delivery.provider).await?;
        let (blobs, name, body, data_key) =
            (self.received.clone(), holding.id.to_string(), manifest.body().clone(), key);
        let unavailable = |error: AcquireError| Failure::Transient(error.to_string());
        let of_provider = self.concurrency.permits_of(&delivery.provider.id).verification;
        let _one_per_provider = of_provider.acquire().await.map_err(unavailable)?;
        let _permit = self.concurrency.verifications.acquire().await.map_err(unavailable)?;
        let stop = Stop::default();
        let stopped = stop.clone();
        let verifying = tokio::task::spawn_blocking(move || {
            let package = Package::open(blobs.read(&name)?, &data_key, &body).map_err(permanent)?;
            // The keys of many records are sorted on the disk.
            let validator = schema.validator().map_err(permanent)?;
            let sorted = body.records > limits::KEYS_IN_MEMORY_MAX as u64 && !validator.key().is_empty();
            let needed = if sorted { body.records.saturating_mul(limits::KEY_BYTES) } else { 0 };
            let _room = blobs.space().promise(needed).map_err(no_room)?;
            let scratch = || Ok(Box::new(blobs.scratch()?) as Box<dyn Temporary>);
            // What the manifest does not state need not be counted.
            let plan = Plan::stated(&schema.schema, &body.quality);
            let by = Verification {
                threads: parallelism(),
                key: &data_key,
                manifest: &body,
                validator,
                plan: &plan,
                scratch: &scratch,
                stop: &stopped,
            };
            match package.verify(&by) {
                // The disk, not the data.
                Err(OpenError::Sink(error)) => Err(Failure::Transient(format!("it could not be verified: {error}"))),
                Err(OpenError::Stopped) => Err(Failure::Transient("the transfer was suspended or ended".into())),
                verified => verified.map_err(permanent),
            }
        });
        let stopping = async {
            self.interrupted(&delivery.transfer.id).await;
            stop.stop();
            std::future::pending::<()>().await;
        };
        let verified = tokio::select! {
            verified = verifying => verified,
            () = stopping => return Err(Failure::Transient("the transfer was ended".into())),
        };
        verified.map_err(|error| Failure::Transient(error.to_string()))??;
        self.commit_verified(delivery, holding).await.map_err(Failure::from)
    }

    /// Commits the verified holding, the completed transfer, the receipt and both messages at once.
    async fn commit_verified(&self, delivery: Delivery, holding: Holding) -> Result<(), StoreError> {
        let now = self.node.now();
        let receipt = Receipt {
            consumer: self.node.me().clone(),
            provider: delivery.provider.id.clone(),
            transfer: delivery.provider_pid.clone(),
            agreement: delivery.row.digest,
            manifest: holding.manifest_digest,
            bytes: holding.bytes,
            records: holding.records,
            received: now,
        };
        let receipt = document::sign(receipt, &self.node.document_key());
        let next = Holding { revision: holding.revision + 1, state: HoldingState::Verified, updated: now, ..holding };
        let facts = holding_facts(&delivery.row.agreement, &next, json!({"receipt": receipt.jws()}));
        let completed = delivery.transfer.clone().apply(Role::Consumer, Event::Complete, now);
        let Ok(transfer) = completed else { return Err(StoreError::Conflict(Conflict::Process)) };
        let receipt = Message::Receipt { transfer: delivery.provider_pid.clone(), receipt: receipt.jws().to_owned() };
        let done = Message::TransferCompletion {
            role: Role::Consumer,
            pid: transfer.id.clone(),
            peer_pid: delivery.provider_pid,
        };
        let change = Change::new(self.node.draft(Kind::DatasetReceived, facts))
            .entry(
                self.node
                    .draft(Kind::TransferTransition, transition_facts(&transfer, Role::Consumer, Some(&delivery.row))),
            )
            .send(receipt.outgoing(&transfer.peer, &transfer.id, self.node.random()))
            .send(done.outgoing(&transfer.peer, &transfer.id, self.node.random()))
            .write(Write::PutHolding(Box::new(next)))
            .write(Write::PutTransfer(Box::new(transfer)));
        let (request, provider) = (delivery.transfer.negotiation, delivery.provider.id);
        self.node.store().commit(change).await?;
        tracing::info!(process = %request, %provider, "dataset delivered and verified");
        Ok(())
    }

    /// Ends a delivery that can never succeed: it is logged, the transfer terminated and the received bytes removed.
    pub(super) async fn give_up(&self, id: &ProcessId, reason: &str) -> Result<(), Error> {
        tracing::warn!(process = %id, reason, "delivery failed; terminating the transfer");
        // A transfer suspended in the meantime may be resumed; until then the provider refuses its requests.
        let transfer = self.node.store().transfer(id).await?.filter(|transfer| transfer.state != State::Suspended);
        let Some(transfer) = transfer else { return Ok(()) };
        let Some(row) = self.node.store().agreement(&transfer.agreement).await? else { return Ok(()) };
        let now = self.node.now();
        let holding = self.node.store().holding_of(id).await?;
        if holding.is_none() && transfer.state.is_final() {
            return Ok(());
        }
        let mut facts = transition_facts(&transfer, Role::Consumer, Some(&row));
        facts.decision = Some(Decision::Refused);
        facts.detail = details(json!({"reason": reason}));
        let mut change = Change::new(self.node.draft(Kind::DatasetRejected, facts));
        let name = holding.as_ref().map(|holding| holding.id.to_string());
        if let Some(holding) = holding {
            let failed = Holding {
                revision: holding.revision + 1,
                state: HoldingState::Failed,
                wrapped_one_time_key: None,
                wrapped_key: None,
                reason: Some(reason.to_owned()),
                updated: now,
                ..holding
            };
            change = change.write(Write::PutHolding(Box::new(failed)));
        }
        if let Ok(mut ended) = transfer.apply(Role::Consumer, Event::Terminate, now) {
            ended.reason = Some(reason.to_owned());
            let message = Message::end_of_transfer(&ended, "rejected", reason);
            change.outbox.extend(message.map(|message| message.outgoing(&ended.peer, &ended.id, self.node.random())));
            change = change
                .entry(self.node.draft(Kind::TransferTransition, transition_facts(&ended, Role::Consumer, Some(&row))))
                .write(Write::PutTransfer(Box::new(ended)));
        }
        self.node.store().commit(change).await?;
        if let Some(Err(error)) = name.map(|name| self.received.remove(&name)) {
            tracing::warn!(%error, "the bytes of a rejected delivery could not be removed");
        }
        Ok(())
    }
}
