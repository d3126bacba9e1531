//! Read-only mode: while it is active, writes are rejected with its reason.

use tokio::sync::watch;

/// Read-only mode of a store; initially inactive.
#[derive(Debug)]
pub struct ReadOnlyMode(watch::Sender<Option<String>>);

impl Default for ReadOnlyMode {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl ReadOnlyMode {
    /// Enters read-only mode, or replaces its reason.
    pub fn enter(&self, reason: impl Into<String>) {
        self.0.send_replace(Some(reason.into()));
    }

    /// Leaves read-only mode.
    pub fn leave(&self) {
        self.0.send_replace(None);
    }

    /// The reason for read-only mode, or `None` if it is inactive.
    pub fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Completes when read-only mode is inactive.
    pub async fn left(&self) {
        // `self` owns the sender, so the channel cannot be closed.
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }
}
