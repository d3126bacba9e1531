//! A gate before the store: while it is shut, nothing is written and the reason is said.

use super::interposed::Interpose;
use super::{Change, Chore, Logged, Store, StoreError};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;

/// The gate; open at first.
#[derive(Debug)]
pub struct Gate(watch::Sender<Option<String>>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Gate {
    /// Shuts it, or gives another reason.
    pub fn shut(&self, reason: impl Into<String>) {
        self.0.send_replace(Some(reason.into()));
    }

    /// Opens it.
    pub fn open(&self) {
        self.0.send_replace(None);
    }

    /// Why it is shut.
    pub fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Completes when it is open.
    pub async fn opened(&self) {
        // The sender is this gate's own: it cannot be gone.
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }

    fn pass(&self) -> Result<(), StoreError> {
        self.reason().map_or(Ok(()), |reason| Err(StoreError::ReadOnly(reason)))
    }
}

#[async_trait]
impl Interpose for Arc<Gate> {
    async fn commit(&self, inner: &Arc<dyn Store>, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.pass()?;
        inner.commit(change).await
    }

    async fn housekeep(&self, inner: &Arc<dyn Store>, chores: Vec<Chore>) -> Result<(), StoreError> {
        self.pass()?;
        inner.housekeep(chores).await
    }
}
