//! The log of this node for those who may read it, and promises: this node's own, and those that peers made to it.

mod log;
mod promises;

use crate::node::Node;
use std::sync::Arc;

/// Reads the log; makes and stores promises.
pub struct Evidence {
    node: Arc<Node>,
}

impl Evidence {
    /// For this node's log.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}
