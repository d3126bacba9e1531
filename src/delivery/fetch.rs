//! Fetching the sealed bytes of a delivery.

use super::downloads::{Delivery, Downloads, Failure, permanent};
use super::facts::token_cell;
use crate::blob::{Mismatch, TooFull};
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::limits;
use crate::dataset::manifest::{Manifest, is_too_dense};
use crate::storage::Holding;
use crate::transfer::State;
use futures_util::StreamExt;

/// Other downloads end, and then there may be room.
pub(super) fn no_room(full: TooFull) -> Failure {
    let reason = format!("there is no room: {full}");
    if full.without_others { Failure::Permanent(reason) } else { Failure::Transient(reason) }
}

impl Downloads {
    /// Fails if a delivery is larger than this node's operator or disk allows, before any of it is fetched.
    pub(super) async fn admit(&self, provider: &ParticipantId, manifest: &Manifest) -> Result<(), Failure> {
        let (sealed, content, max) = (manifest.container.size, manifest.content_size(), self.received_max);
        let mib = |bytes: u64| bytes >> 20;
        if sealed > limits::CONTAINER_BYTES_MAX.min(max.delivery) {
            return Err(permanent(format!("the delivery of {} MiB is larger than this node accepts", mib(sealed))));
        }
        if is_too_dense(content, sealed) {
            let (content, sealed) = (mib(content), mib(sealed));
            return Err(permanent(format!(
                "{sealed} MiB that become {content} MiB are refused: the provider must divide the dataset"
            )));
        }
        if self.node.store().holding_with(provider, &manifest.container.digest).await?.is_some() {
            // The same container is kept already, and needs no more room.
            return Ok(());
        }
        for (of, max, whose) in [(Some(provider), max.provider, "this provider"), (None, max.all, "all providers")] {
            if max < u64::MAX {
                let kept = self.node.store().received_bytes(of).await?;
                if kept.saturating_add(sealed) > max {
                    let (kept, max) = (mib(kept), mib(max));
                    return Err(permanent(format!(
                        "{kept} MiB of {whose} are kept already, and at most {max} MiB may be"
                    )));
                }
            }
        }
        self.received.space().promise(sealed).map(drop).map_err(no_room)
    }

    /// Fails if the transfer is no longer under way: a provider that ends it may go on sending.
    async fn must_be_started(&self, transfer: &ProcessId) -> Result<(), Failure> {
        match self.node.store().transfer(transfer).await?.is_some_and(|transfer| transfer.state == State::Started) {
            true => Ok(()),
            false => Err(Failure::Transient("the transfer was suspended or ended".into())),
        }
    }

    /// Completes when the transfer is no longer under way.
    pub(super) async fn interrupted(&self, transfer: &ProcessId) {
        let mut seen = 0;
        while !matches!(self.must_be_started(transfer).await, Err(Failure::Transient(_))) {
            seen = self.node.store().changed(seen).await;
            tokio::time::sleep(limits::INTERRUPTION_CHECK_INTERVAL).await;
        }
    }

    /// Uses the bytes of the same container that another transfer delivered.
    async fn share(&self, holding: &Holding) -> Result<bool, Failure> {
        let Some(kept) = self.node.store().holding_with(&holding.provider, &holding.blob).await? else {
            return Ok(false);
        };
        let (blobs, blob, name) = (self.received.clone(), holding.blob, holding.id.to_string());
        let shared = tokio::task::spawn_blocking(move || blobs.share(kept.id.as_str(), &name, &blob));
        Ok(shared.await.map_err(|error| Failure::Transient(error.to_string()))??)
    }

    /// Fetches the missing bytes in ranges, and checks the digest of the complete container.
    pub(super) async fn fetch_sealed(&self, delivery: &Delivery, holding: &Holding) -> Result<(), Failure> {
        let (blobs, name) = (&self.received, holding.id.to_string());
        if blobs.has(&name) {
            return Ok(());
        }
        if self.share(holding).await? {
            return Ok(());
        }
        let token =
            delivery.transfer.wrapped_token.as_deref().ok_or_else(|| permanent("the transfer token is missing"))?;
        let token = self.kek.unwrap(token_cell(&delivery.transfer.id), token).map_err(permanent)?;
        let token = std::str::from_utf8(&token).map_err(permanent)?;
        let mut part = blobs.part(&name)?;
        if part.size() > holding.bytes {
            part.restart()?;
        }
        let mut promised = blobs.space().promise(holding.bytes - part.size()).map_err(|full| {
            if full.without_others {
                // What was fetched so far makes room for others.
                let _ = blobs.remove(&name);
            }
            no_room(full)
        })?;
        while part.size() < holding.bytes {
            self.must_be_started(&delivery.transfer.id).await?;
            let end = holding.bytes.min(part.size() + limits::DOWNLOAD_RANGE_BYTES);
            let wanted = end - part.size();
            let range = part.size()..end;
            let mut stream = self.peer.data(&delivery.provider, &delivery.provider_pid, token, range).await?;
            let mut got = 0u64;
            while let Some(bytes) = stream.next().await {
                let bytes = bytes?;
                got += bytes.len() as u64;
                if got > wanted {
                    return Err(permanent("the provider sent more bytes than requested"));
                }
                promised.used(bytes.len() as u64);
                let appended = tokio::task::spawn_blocking(move || part.append(&bytes).map(|()| part)).await;
                let appended = appended.map_err(|error| Failure::Transient(error.to_string()))?;
                part = appended.inspect_err(|error| {
                    if error.kind() == std::io::ErrorKind::StorageFull {
                        let _ = blobs.remove(&name);
                    }
                })?;
            }
            if got == 0 {
                return Err(Failure::Transient("the provider sent no bytes".into()));
            }
        }
        let (blobs, expected) = (blobs.clone(), holding.blob);
        let kept = tokio::task::spawn_blocking(move || blobs.keep_part(part, &name, &expected));
        match kept.await.map_err(|error| Failure::Transient(error.to_string()))?? {
            Ok(()) => Ok(()),
            Err(Mismatch::Interrupted) => {
                Err(Failure::Transient("the bytes received before the last start are damaged".into()))
            }
            Err(Mismatch::Digest(found)) => {
                Err(permanent(format!("the sealed bytes have the digest {found}, but the manifest states {expected}")))
            }
        }
    }
}
