//! Fetching the sealed bytes of a delivery.

use super::downloads::{Delivery, Downloads, Failure, permanent};
use super::facts::token_cell;
use crate::core::limits;
use crate::storage::Holding;
use futures_util::StreamExt;

impl Downloads {
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
        while part.size() < holding.bytes {
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
                part = tokio::task::spawn_blocking(move || part.append(&bytes).map(|()| part))
                    .await
                    .map_err(|error| Failure::Transient(error.to_string()))??;
            }
            if got == 0 {
                return Err(Failure::Transient("the provider sent no bytes".into()));
            }
        }
        let (blobs, expected) = (blobs.clone(), holding.blob);
        let kept = tokio::task::spawn_blocking(move || blobs.keep_part(part, &name, &expected));
        match kept.await.map_err(|error| Failure::Transient(error.to_string()))?? {
            Ok(()) => Ok(()),
            Err(found) => {
                Err(permanent(format!("the sealed bytes have the digest {found}, but the manifest states {expected}")))
            }
        }
    }
}
