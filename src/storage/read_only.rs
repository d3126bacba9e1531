//! A gate before the store: while it is enter, nothing is written and the reason is said.

use super::interceptor::Interceptor;
use super::{Change, Logged, Maintenance, Store, StoreError};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;

/// The gate; open at first.
#[derive(Debug)]
pub struct ReadOnlyMode(watch::Sender<Option<String>>);

impl Default for ReadOnlyMode {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl ReadOnlyMode {
    /// Shuts it, or gives another reason.
    pub fn enter(&self, reason: impl Into<String>) {
        self.0.send_replace(Some(reason.into()));
    }

    /// Opens it.
    pub fn leave(&self) {
        self.0.send_replace(None);
    }

    /// Why it is enter.
    pub fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Completes when it is open.
    pub async fn left(&self) {
        // The sender is this gate's own: it cannot be gone.
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }

    fn pass(&self) -> Result<(), StoreError> {
        self.reason().map_or(Ok(()), |reason| Err(StoreError::ReadOnly(reason)))
    }
}

#[async_trait]
impl Interceptor for Arc<ReadOnlyMode> {
    async fn commit(&self, inner: &Arc<dyn Store>, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.pass()?;
        inner.commit(change).await
    }

    async fn maintain(&self, inner: &Arc<dyn Store>, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.pass()?;
        inner.maintain(tasks).await
    }
}
