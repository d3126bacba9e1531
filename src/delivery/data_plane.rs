//! The provider's data plane.

use super::pulls::Pulls;
use super::tokens::TransferTokens;
use crate::blob::Blobs;
use crate::dataset::container::DataKey;
use crate::keys::{Cell, Kek};
use crate::membership::Membership;
use crate::node::{Error, Node};
use crate::storage::VersionRow;
use std::sync::Arc;

/// The provider's data plane: manifests, sealed and plain data, keys, receipts.
pub struct DataPlane {
    pub(super) node: Arc<Node>,
    pub(super) membership: Arc<Membership>,
    kek: Arc<Kek>,
    pub(super) published: Blobs,
    pub(super) tokens: Arc<TransferTokens>,
    pub(super) pulls: Pulls,
}

impl DataPlane {
    /// Serves the blobs in `published`.
    pub fn new(
        node: Arc<Node>,
        membership: Arc<Membership>,
        kek: Arc<Kek>,
        published: Blobs,
        tokens: Arc<TransferTokens>,
    ) -> Arc<Self> {
        Arc::new(Self { node, membership, kek, published, tokens, pulls: Pulls::default() })
    }

    /// The data key of a version that this node published.
    pub(super) fn data_key(&self, version: &VersionRow) -> Result<DataKey, Error> {
        let row = format!("{}/{}", version.dataset, version.version);
        let cell = Cell { table: "version", row: &row, column: "key" };
        let key = self.kek.unwrap(cell, &version.wrapped_key).map_err(|e| Error::Internal(e.to_string()))?;
        DataKey::from_slice(&key).ok_or_else(|| Error::Internal("a stored data key does not have 32 bytes".into()))
    }
}
