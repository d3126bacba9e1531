//! Publication and withdrawal of datasets.

mod publish;
mod records;
mod sealing;
mod unchanged;
mod withdraw;

pub use publish::{Origin, Published};
pub use records::{Arriving, Piece, Records};

use crate::blob::Blobs;
use crate::contracts::Negotiations;
use crate::core::digest::Digest;
use crate::core::id::TokenId;
use crate::core::limits;
use crate::delivery::Transfers;
use crate::discovery::Discovery;
use crate::idempotency::Idempotency;
use crate::keys::Kek;
use crate::node::{Error, Node, Place, Places, User};
use crate::schemas::Schemas;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Publishes and withdraws datasets.
pub struct Publishing {
    node: Arc<Node>,
    idempotency: Arc<Idempotency>,
    discovery: Arc<Discovery>,
    negotiations: Arc<Negotiations>,
    transfers: Arc<Transfers>,
    schemas: Arc<Schemas>,
    kek: Arc<Kek>,
    published: Blobs,
    uploads: Places<TokenId>,
    /// For publications that have data to work on; those that wait for data have none.
    working: Arc<Semaphore>,
}

impl Publishing {
    /// Stores sealed datasets in `published`.
    pub fn new(
        node: Arc<Node>,
        idempotency: Arc<Idempotency>,
        discovery: Arc<Discovery>,
        negotiations: Arc<Negotiations>,
        transfers: Arc<Transfers>,
        schemas: Arc<Schemas>,
        kek: Arc<Kek>,
        published: Blobs,
    ) -> Arc<Self> {
        let (all, per_token) = (limits::UPLOADS_MAX, limits::UPLOADS_PER_TOKEN_MAX);
        let uploads = Places::new(all, per_token, limits::UPLOAD_WAIT_MAX, "publications");
        let working = Arc::new(Semaphore::new(limits::PUBLICATIONS_MAX));
        Arc::new(Self {
            node,
            idempotency,
            discovery,
            negotiations,
            transfers,
            schemas,
            kek,
            published,
            uploads,
            working,
        })
    }

    /// A place for the upload of a publication, before any of it is read.
    pub async fn place(&self, user: &User) -> Result<Place, Error> {
        self.uploads.take(&user.token).await
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
