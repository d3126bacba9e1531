//! What stands before the store: read-only mode, and a full disk, on which only what ends something is written.

use crate::blob::Space;
use crate::negotiation;
use crate::storage::interceptor::Interceptor;
use crate::storage::{Change, HoldingState, Logged, Maintenance, ReadOnlyMode, Store, StoreError, Write};
use async_trait::async_trait;
use std::sync::Arc;

/// Refuses changes while read-only mode is on or the disk is full.
pub(super) struct Gate {
    pub(super) read_only: Arc<ReadOnlyMode>,
    pub(super) space: Arc<Space>,
}

impl Gate {
    fn pass(&self) -> Result<(), StoreError> {
        self.read_only.reason().map_or(Ok(()), |reason| Err(StoreError::ReadOnly(reason)))
    }
}

/// Whether a change only ends processes, offers or tokens.
fn is_ending(change: &Change) -> bool {
    let ends = |write: &Write| match write {
        Write::PutNegotiation(next) => next.state == negotiation::State::Terminated,
        Write::PutTransfer(next) => next.state.is_final(),
        Write::PutHolding(next) => next.state == HoldingState::Failed,
        Write::Withdraw { .. } | Write::RevokeToken(_) | Write::DropMessage(_) => true,
        _ => false,
    };
    !change.writes.is_empty() && change.writes.iter().all(ends)
}

#[async_trait]
impl Interceptor for Gate {
    async fn commit(&self, inner: &Arc<dyn Store>, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.pass()?;
        match self.space.exhausted().filter(|_| !is_ending(&change)) {
            Some(reason) => Err(StoreError::Full(reason)),
            None => inner.commit(change).await,
        }
    }

    async fn maintain(&self, inner: &Arc<dyn Store>, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.pass()?;
        inner.maintain(tasks).await
    }
}
