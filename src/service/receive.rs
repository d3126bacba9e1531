//! Delivery, consumer's side: sealed bytes, then the key, then every check, then the receipt. Each stage is durable,
//! and a restart goes on where it stopped.

use super::message::Message;
use super::ports::PeerError;
use super::refusal::Error;
use super::register::object;
use super::transfer::{moved, token_cell};
use super::{Node, publish, trace};
use crate::agreement::Agreement;
use crate::audit::entry::{Decision, Facts, Kind};
use crate::audit::receipt::Receipt;
use crate::core::id::{HoldingId, ProcessId, Text};
use crate::core::limits;
use crate::core::random;
use crate::dataset::container::DataKey;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::Package;
use crate::dataset::release::{HPKE, KeyAnswer, KeyRequest, OneTimeKey};
use crate::identity::document::{self, Signed};
use crate::identity::key::Bytes;
use crate::identity::register::{Member, Status};
use crate::keys::Cell;
use crate::negotiation::Role;
use crate::storage::{AgreementRow, Change, Holding, HoldingState, StoreError, Write};
use crate::transfer::{Event, State, Transfer};
use futures_util::StreamExt;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Why a delivery stopped.
enum Stop {
    /// It can go on later.
    Later(String),
    /// It will never verify, or was refused: the transfer ends.
    Never(String),
}

/// How a provider refuses while the transfer is paused: its message that says so may still be on the way.
const PAUSED: &str = "the transfer is SUSPENDED";

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        let reason = format!("the provider {error}");
        if error.is_passing() || reason.contains(PAUSED) { Self::Later(reason) } else { Self::Never(reason) }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Later(format!("this node's disk: {error}"))
    }
}

/// 250 ms, doubling, at most [`limits::OUTBOX_BACKOFF_MAX`].
fn pause(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(11)).min(limits::OUTBOX_BACKOFF_MAX)
}

/// Where a holding's data key is wrapped.
pub fn key_cell(holding: &HoldingId) -> Cell<'_> {
    Cell { table: "holding", row: holding.as_str(), column: "key" }
}

fn never(error: impl std::fmt::Display) -> Stop {
    Stop::Never(error.to_string())
}

/// The parts of a delivery that do not change.
struct Delivery {
    transfer: Transfer,
    row: AgreementRow,
    provider: Member,
    provider_pid: ProcessId,
}

impl Node {
    /// Brings in the dataset of a started transfer, in the background, once at a time.
    pub(super) fn deliver(self: &Arc<Self>, transfer: &ProcessId) {
        if !self.delivering().insert(transfer.clone()) {
            return;
        }
        let (node, id) = (self.clone(), transfer.clone());
        let found = trace::current();
        tokio::spawn(trace::within(found, async move {
            for attempt in 0u32.. {
                match node.try_deliver(&id).await {
                    Ok(()) => break,
                    Err(Stop::Later(reason)) => {
                        tracing::info!(process = %id, attempt, reason, "delivery paused");
                        tokio::time::sleep(pause(attempt)).await;
                    }
                    Err(Stop::Never(reason)) => match node.give_up(&id, &reason).await {
                        Ok(()) => break,
                        Err(error) => {
                            tracing::warn!(%error, process = %id, "the failure could not be logged yet");
                            tokio::time::sleep(pause(attempt)).await;
                        }
                    },
                }
            }
            node.delivering().remove(&id);
            // It may have been started again between the last look and this line.
            let again = node.parts.store.transfer(&id).await.ok().flatten();
            if again.is_some_and(|transfer| transfer.state == State::Started) {
                node.deliver(&id);
            }
        }));
    }

    async fn try_deliver(self: &Arc<Self>, id: &ProcessId) -> Result<(), Stop> {
        let transfer = self.parts.store.transfer(id).await?;
        // Ended meanwhile, by whomever.
        let Some(transfer) = transfer.filter(|t| t.state == State::Started) else { return Ok(()) };
        let row = self.parts.store.agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| never("the agreement is missing"))?;
        let trust = self.trust();
        let provider = trust.register.member(&transfer.peer).cloned();
        let now = self.now();
        if !row.agreement.is_valid(now) {
            return Err(never("the agreement has ended"));
        }
        let active = |member: &Member| member.status == Status::Active && trust.register.is_current(now);
        let provider = provider.filter(active);
        let provider =
            provider.ok_or_else(|| Stop::Later("the provider is no active member, or the register expired".into()))?;
        let provider_pid = transfer.peer_pid.clone().ok_or_else(|| never("the provider's process is unknown"))?;
        let places = self.places_for(&provider.id);
        let _place = places.acquire().await.map_err(|error| Stop::Later(error.to_string()))?;
        let delivery = Delivery { transfer, row, provider, provider_pid };

        let holding = match self.parts.store.holding_of(id).await? {
            Some(holding) => holding,
            None => self.begin_holding(&delivery).await?,
        };
        let manifest = self.check_manifest(&delivery, &holding.manifest)?;
        let holding = match holding.state {
            HoldingState::Fetching => {
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

    fn check_manifest(&self, delivery: &Delivery, jws: &str) -> Result<Signed<Manifest>, Stop> {
        let (trust, now) = (self.trust(), self.now());
        let signed = document::verify::<Manifest>(jws, |kid| trust.register.document_key(kid, now)).map_err(never)?;
        let (body, agreement) = (signed.body(), &delivery.row.agreement);
        let wrong = [
            ("digest", Some(signed.digest()) != agreement.manifest),
            ("publisher", body.publisher != agreement.provider),
            ("dataset", body.dataset != agreement.dataset),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((what, _)) => Err(never(format!("the manifest's {what} is not what was agreed"))),
            None => Ok(signed),
        }
    }

    async fn begin_holding(&self, delivery: &Delivery) -> Result<Holding, Stop> {
        let digest = delivery.row.agreement.manifest.ok_or_else(|| never("the agreement names no manifest"))?;
        let jws = self.parts.peer.manifest(&delivery.provider, &digest).await?;
        let manifest = self.check_manifest(delivery, &jws)?;
        let body = manifest.body();
        if body.container.size > limits::CONTAINER_BYTES_MAX {
            return Err(never("the container is larger than this node takes"));
        }
        let title = self.parts.peer.dataset(&delivery.provider, &body.dataset).await;
        let title = title.ok().and_then(|dataset| Text::parse(dataset.get("title")?.as_str()?).ok());
        let title = title.or_else(|| Text::parse(body.dataset.as_str()).ok()).ok_or_else(|| never("no title"))?;
        let holding = Holding {
            id: HoldingId::generate(self.random()),
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
            updated: self.now(),
        };
        self.put_holding(delivery, Kind::DatasetFetching, &holding, json!({})).await?;
        Ok(holding)
    }

    async fn put_holding(
        &self,
        delivery: &Delivery,
        kind: Kind,
        holding: &Holding,
        detail: serde_json::Value,
    ) -> Result<(), StoreError> {
        let change = Change::new(self.draft(kind, holding_facts(&delivery.row.agreement, holding, detail)));
        self.parts.store.commit(change.write(Write::PutHolding(Box::new(holding.clone())))).await.map(drop)
    }

    /// Fetches what is not here yet, by ranges, and checks the digest of the whole.
    async fn fetch_sealed(&self, delivery: &Delivery, holding: &Holding) -> Result<(), Stop> {
        let (blobs, name) = (&self.parts.received, holding.id.to_string());
        if blobs.has(&name) {
            return Ok(());
        }
        let token = delivery.transfer.wrapped_token.as_deref().ok_or_else(|| never("there is no transfer token"))?;
        let token = self.parts.kek.unwrap(token_cell(&delivery.transfer.id), token).map_err(never)?;
        let token = std::str::from_utf8(&token).map_err(never)?;
        let mut part = blobs.part(&name)?;
        if part.size() > holding.bytes {
            part.restart()?;
        }
        while part.size() < holding.bytes {
            let end = holding.bytes.min(part.size() + limits::DOWNLOAD_RANGE_BYTES);
            let wanted = end - part.size();
            let range = part.size()..end;
            let mut stream = self.parts.peer.data(&delivery.provider, &delivery.provider_pid, token, range).await?;
            let mut got = 0u64;
            while let Some(bytes) = stream.next().await {
                let bytes = bytes?;
                got += bytes.len() as u64;
                if got > wanted {
                    return Err(never("the provider sent more bytes than were asked for"));
                }
                part = tokio::task::spawn_blocking(move || part.append(&bytes).map(|()| part))
                    .await
                    .map_err(|error| Stop::Later(error.to_string()))??;
            }
            if got == 0 {
                return Err(Stop::Later("the provider sent no bytes".into()));
            }
        }
        let (blobs, expected) = (blobs.clone(), holding.blob);
        let kept = tokio::task::spawn_blocking(move || blobs.keep_part(part, &name, &expected));
        match kept.await.map_err(|error| Stop::Later(error.to_string()))?? {
            Ok(()) => Ok(()),
            Err(found) => Err(never(format!("the sealed bytes have the digest {found}, the manifest says {expected}"))),
        }
    }

    /// Signs a key request; its one-time key is stored, wrapped, before anybody is asked.
    async fn prepare_request(&self, delivery: &Delivery, holding: Holding) -> Result<Holding, Stop> {
        let seen = self.observe_checkpoint(&delivery.provider).await;
        let one_time = OneTimeKey::generate(self.random());
        let (agreement, now) = (&delivery.row.agreement, self.now());
        let request = KeyRequest {
            provider: agreement.provider.clone(),
            consumer: self.me().clone(),
            transfer: delivery.provider_pid.clone(),
            agreement: delivery.row.digest,
            manifest: holding.manifest_digest,
            purpose: agreement.purpose.clone().ok_or_else(|| never("the agreement names no purpose"))?,
            enterprise: agreement.enterprise.clone().ok_or_else(|| never("the agreement names no enterprise"))?,
            hpke: HPKE.to_owned(),
            key: Bytes(one_time.public()),
            nonce: Bytes(random::bytes::<32>(self.random()).to_vec()),
            seen,
            issued: now,
            expires: now.plus_ms(limits::KEY_REQUEST_LIFE_MS),
        };
        let signed = document::sign(request, &self.document_key());
        let cell = Cell { table: "holding", row: holding.id.as_str(), column: "one-time-key" };
        let wrapped = self.parts.kek.wrap(cell, one_time.expose(), self.random());
        let next = Holding {
            revision: holding.revision + 1,
            state: HoldingState::Asked,
            key_request: Some(signed.jws().to_owned()),
            wrapped_one_time_key: Some(wrapped),
            updated: now,
            ..holding
        };
        self.put_holding(delivery, Kind::KeyRequested, &next, json!({"request": signed.digest()})).await?;
        Ok(next)
    }

    async fn obtain_key(&self, delivery: &Delivery, holding: Holding) -> Result<(DataKey, Holding), Stop> {
        let missing = || never("the key request is missing");
        let jws = holding.key_request.clone().ok_or_else(missing)?;
        let request = document::verify::<KeyRequest>(&jws, |kid| self.own_key(kid)).map_err(never)?;
        if request.body().expires <= self.now() {
            // It was never answered in its time; a new one is made.
            let fresh = self.prepare_request(delivery, holding).await?;
            return Box::pin(self.obtain_key(delivery, fresh)).await;
        }
        let wrapped = holding.wrapped_one_time_key.clone().ok_or_else(missing)?;
        let cell = Cell { table: "holding", row: holding.id.as_str(), column: "one-time-key" };
        let one_time = self.parts.kek.unwrap(cell, &wrapped).map_err(never)?;
        let one_time = OneTimeKey::from_slice(&one_time).ok_or_else(missing)?;
        let answered = self.parts.peer.key(&delivery.provider, &delivery.provider_pid, &jws).await;
        if let Err(PeerError::Refused { promise, .. }) = &answered {
            self.store_promise(&delivery.provider.id, promise.clone()).await;
        }
        let answered = answered?;
        self.store_promise(&delivery.provider.id, answered.promise).await;
        let (trust, now) = (self.trust(), self.now());
        let answer = document::verify::<KeyAnswer>(&answered.body, |kid| trust.register.document_key(kid, now));
        let answer = answer.map_err(never)?.into_body();
        if answer.provider != delivery.provider.id
            || answer.consumer != *self.me()
            || answer.request != request.digest()
        {
            return Err(never("the provider answered another key request"));
        }
        let key = one_time.open(&request.digest(), &answer.enc.0, &answer.sealed.0).map_err(never)?;
        // Kept, wrapped, before the long check: a crash in it must not cost another release.
        let next = Holding {
            revision: holding.revision + 1,
            state: HoldingState::Keyed,
            wrapped_key: Some(self.parts.kek.wrap(key_cell(&holding.id), key.expose(), self.random())),
            wrapped_one_time_key: None,
            updated: now,
            ..holding
        };
        self.put_holding(delivery, Kind::KeyObtained, &next, json!({"request": request.digest()})).await?;
        Ok((key, next))
    }

    fn kept_key(&self, holding: &Holding) -> Result<DataKey, Stop> {
        let wrapped = holding.wrapped_key.as_deref().ok_or_else(|| never("the key is missing"))?;
        let key = self.parts.kek.unwrap(key_cell(&holding.id), wrapped).map_err(never)?;
        DataKey::from_slice(&key).ok_or_else(|| never("a data key has 32 bytes"))
    }

    async fn verify_and_keep(
        self: &Arc<Self>,
        delivery: Delivery,
        holding: Holding,
        manifest: Signed<Manifest>,
        key: DataKey,
    ) -> Result<(), Stop> {
        let schema = self.known_schemas().into_iter().find(|c| c.schema.digest() == manifest.body().schema.digest);
        let schema =
            schema.ok_or_else(|| never(format!("the schema {} is not known here", manifest.body().schema.id)))?;
        let (blobs, name, body, data_key) =
            (self.parts.received.clone(), holding.id.to_string(), manifest.body().clone(), key);
        let _place = self.verifications.acquire().await.map_err(|error| Stop::Later(error.to_string()))?;
        let verified = tokio::task::spawn_blocking(move || {
            let package = Package::open(blobs.read(&name)?, &data_key, &body).map_err(never)?;
            package.verify(publish::threads(), &data_key, &body, &schema.validator).map_err(never)
        });
        verified.await.map_err(|error| Stop::Later(error.to_string()))??;
        self.commit_verified(delivery, holding).await.map_err(Stop::from)
    }

    /// One commit: the kept key, the receipt, the end of the transfer, and the messages that say so.
    async fn commit_verified(&self, delivery: Delivery, holding: Holding) -> Result<(), StoreError> {
        let now = self.now();
        let receipt = Receipt {
            consumer: self.me().clone(),
            provider: delivery.provider.id.clone(),
            transfer: delivery.provider_pid.clone(),
            agreement: delivery.row.digest,
            manifest: holding.manifest_digest,
            bytes: holding.bytes,
            records: holding.records,
            received: now,
        };
        let receipt = document::sign(receipt, &self.document_key());
        let next = Holding { revision: holding.revision + 1, state: HoldingState::Verified, updated: now, ..holding };
        let facts = holding_facts(&delivery.row.agreement, &next, json!({"receipt": receipt.jws()}));
        let completed = delivery.transfer.clone().apply(Role::Consumer, Event::Complete, now);
        let Ok(transfer) = completed else { return Err(StoreError::Conflict("the transfer")) };
        let receipt = Message::Receipt { transfer: delivery.provider_pid.clone(), receipt: receipt.jws().to_owned() };
        let done = Message::TransferCompletion {
            role: Role::Consumer,
            pid: transfer.id.clone(),
            peer_pid: delivery.provider_pid,
        };
        let change = Change::new(self.draft(Kind::DatasetReceived, facts))
            .entry(self.draft(Kind::TransferTransition, moved(&transfer, Role::Consumer, Some(&delivery.row))))
            .send(receipt.outgoing(&transfer.peer, &transfer.id, self.random()))
            .send(done.outgoing(&transfer.peer, &transfer.id, self.random()))
            .write(Write::PutHolding(Box::new(next)))
            .write(Write::PutTransfer(Box::new(transfer)));
        let (request, provider) = (delivery.transfer.negotiation, delivery.provider.id);
        self.parts.store.commit(change).await?;
        tracing::info!(process = %request, %provider, "delivered and verified");
        Ok(())
    }

    /// The delivery will never verify: logged, the transfer ended, the bytes removed.
    async fn give_up(self: &Arc<Self>, id: &ProcessId, reason: &str) -> Result<(), Error> {
        tracing::warn!(process = %id, reason, "delivery failed");
        // One that was paused meanwhile is not given up: the peer refused what it need not give now.
        let transfer = self.parts.store.transfer(id).await?.filter(|transfer| transfer.state != State::Suspended);
        let Some(transfer) = transfer else { return Ok(()) };
        let Some(row) = self.parts.store.agreement(&transfer.agreement).await? else { return Ok(()) };
        let now = self.now();
        let holding = self.parts.store.holding_of(id).await?;
        let mut facts = moved(&transfer, Role::Consumer, Some(&row));
        facts.decision = Some(Decision::Refused);
        facts.detail = object(json!({"reason": reason}));
        let mut change = Change::new(self.draft(Kind::DatasetRejected, facts));
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
            change.outbox.extend(message.map(|message| message.outgoing(&ended.peer, &ended.id, self.random())));
            change = change
                .entry(self.draft(Kind::TransferTransition, moved(&ended, Role::Consumer, Some(&row))))
                .write(Write::PutTransfer(Box::new(ended)));
        }
        self.parts.store.commit(change).await?;
        if let Some(Err(error)) = name.map(|name| self.parts.received.remove(&name)) {
            tracing::warn!(%error, "rejected bytes could not be removed");
        }
        Ok(())
    }
}

fn holding_facts(agreement: &Agreement, holding: &Holding, detail: serde_json::Value) -> Facts {
    let mut all = object(json!({
        "holding": holding.id, "manifest": holding.manifest_digest, "bytes": holding.bytes, "records": holding.records,
    }));
    all.extend(object(detail));
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
