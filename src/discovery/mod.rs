//! Discovery: this node's catalog for its peers, and the peers' catalogs for this node.

mod catalog;
mod search;
mod visibility;

pub use catalog::{CatalogPage, PageStart};
pub use visibility::visible_offer;

use crate::catalog::Offered;
use crate::core::digest::Digest;
use crate::index::Index;
use crate::node::{Node, Peer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Serves this node's catalog, and searches those of the peers.
pub struct Discovery {
    node: Arc<Node>,
    peer: Arc<dyn Peer>,
    index: Index,
}

impl Discovery {
    /// `index` is the search index of the peers' catalogs.
    pub fn new(node: Arc<Node>, peer: Arc<dyn Peer>, index: Index) -> Self {
        Self { node, peer, index }
    }

    /// Tells whether the schemas of these datasets are shared.
    fn mark_shared<'a>(&self, offered: impl IntoIterator<Item = &'a mut Offered>) {
        let trust = self.node.trust();
        let listed: BTreeSet<&Digest> = trust.register.body().schemas.iter().map(|entry| &entry.digest).collect();
        for one in offered {
            one.shared = one.schema.as_ref().map(|schema| listed.contains(&schema.digest));
        }
    }
}
