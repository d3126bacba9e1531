//! Read access to this node's log, and promises: those of this node and those of its peers.

mod log;
mod promises;

use crate::node::Node;
use std::sync::Arc;

/// Reads the log; makes and stores promises.
pub struct Evidence {
    node: Arc<Node>,
}

impl Evidence {
    /// Evidence of this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}
