//! Discovery: this node's catalog for its peers, the peers' catalogs for this node, and the shared schemas.

mod catalog;
mod search;
mod visibility;

pub use catalog::{CatalogPage, PageStart};
pub use visibility::visible_offer;

use crate::index::Index;
use crate::node::{Node, Peer};
use crate::schema::{CompiledSchema, SchemaRegistry};
use std::sync::Arc;

/// Serves this node's catalog, and searches those of the peers.
pub struct Discovery {
    node: Arc<Node>,
    peer: Arc<dyn Peer>,
    index: Index,
    schemas: Arc<SchemaRegistry>,
}

impl Discovery {
    /// `index` is the search index of the peers' catalogs.
    pub fn new(node: Arc<Node>, peer: Arc<dyn Peer>, index: Index, schemas: Arc<SchemaRegistry>) -> Self {
        Self { node, peer, index, schemas }
    }

    /// The schemas that the register lists and this node knows.
    pub fn schemas(&self) -> Vec<Arc<CompiledSchema>> {
        self.schemas.listed(&self.node.trust().register)
    }
}
