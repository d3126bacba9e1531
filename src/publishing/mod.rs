//! Publication and withdrawal of datasets.

mod publish;
mod sealing;
mod unchanged;
mod withdraw;

pub use publish::{Publication, Published};

use crate::blob::Blobs;
use crate::contracts::Negotiations;
use crate::core::digest::Digest;
use crate::core::limits;
use crate::delivery::Transfers;
use crate::discovery::Discovery;
use crate::idempotency::Idempotency;
use crate::keys::Kek;
use crate::node::{Error, Node};
use crate::schema::SchemaRegistry;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Publishes and withdraws datasets.
pub struct Publishing {
    node: Arc<Node>,
    idempotency: Arc<Idempotency>,
    discovery: Arc<Discovery>,
    negotiations: Arc<Negotiations>,
    transfers: Arc<Transfers>,
    schemas: Arc<SchemaRegistry>,
    kek: Arc<Kek>,
    published: Blobs,
    permits: Semaphore,
}

impl Publishing {
    /// Stores sealed datasets in `published`.
    pub fn new(
        node: Arc<Node>,
        idempotency: Arc<Idempotency>,
        discovery: Arc<Discovery>,
        negotiations: Arc<Negotiations>,
        transfers: Arc<Transfers>,
        schemas: Arc<SchemaRegistry>,
        kek: Arc<Kek>,
        published: Blobs,
    ) -> Arc<Self> {
        let permits = Semaphore::new(limits::PUBLICATIONS_MAX);
        Arc::new(Self { node, idempotency, discovery, negotiations, transfers, schemas, kek, published, permits })
    }

    /// Names of the stored sealed bytes.
    pub fn stored(&self) -> std::io::Result<Vec<String>> {
        self.published.names()
    }

    /// Removes the unreferenced ones of these sealed bytes, which a crash left behind. They must have been listed before
    /// anything is published.
    pub async fn sweep(&self, stored: Vec<String>) -> Result<(), Error> {
        let disk = |error: std::io::Error| Error::Unavailable(format!("sealed bytes cannot be cleaned up: {error}"));
        for name in stored {
            let digest = Digest::parse(&format!("sha256:{name}"));
            if let Ok(digest) = digest
                && !self.node.store().has_version_of(&digest).await?
            {
                tracing::info!(name, "removed the sealed bytes of an interrupted publication");
                self.published.remove(&name).map_err(disk)?;
            }
        }
        Ok(())
    }
}
