//! What negotiations and transfers have in common: a message moves one, and then this side's next steps are done.

use super::Counterparty;
use crate::core::digest::Digest;
use crate::core::id::ProcessId;
use crate::core::limits;
use crate::storage::StoreError;

/// A message about a process, as it arrived.
#[derive(Debug, Clone)]
pub struct Inbound<'a> {
    /// From whom.
    pub from: &'a Counterparty,
    /// The process, as this node names it.
    pub pid: &'a ProcessId,
    /// The process, as the sender names it.
    pub peer_pid: &'a ProcessId,
    /// Digest of the message's canonical form.
    pub digest: Digest,
    /// Whether the message has a name of its own.
    pub named: bool,
}

impl Inbound<'_> {
    /// Whether the message came before. Without a name of its own, only what came last can be told from what is said again.
    pub fn is_repeated(&self, seen: &[Digest]) -> bool {
        if self.named { seen.contains(&self.digest) } else { seen.last() == Some(&self.digest) }
    }
}

/// A process after a message, and the entry of its move (none if the message was a repetition).
#[derive(Debug, Clone)]
pub struct Transition<T> {
    /// The process.
    pub process: T,
    /// The entry.
    pub logged: Option<crate::storage::Logged>,
}

impl<T> Transition<T> {
    /// A repetition: nothing moved.
    pub fn repeated(process: T) -> Self {
        Self { process, logged: None }
    }
}

/// Does this side's next steps in a process, one after the other, in the background. `step` tells whether there was one to
/// do.
pub(super) fn run_steps<F>(process: ProcessId, step: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<bool, StoreError>> + Send,
{
    tokio::spawn(async move {
        let mut pause = Pause::default();
        loop {
            match step().await {
                Ok(true) => pause = Pause::default(),
                Ok(false) => break,
                Err(error) => pause.after(&error, &process).await,
            }
        }
    });
}

/// The pauses of a step that did not succeed: none at first after a conflict, growing after anything else.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    /// Waits as long as `error` and the tries so far demand.
    async fn after(&mut self, error: &StoreError, process: &ProcessId) {
        self.0 = self.0.saturating_add(1);
        if matches!(error, StoreError::Conflict(_)) && self.0 as usize <= limits::CONFLICT_RETRIES_MAX {
            return;
        }
        tracing::warn!(%error, %process, tries = self.0, "a process could not go on yet");
        let pause = std::time::Duration::from_millis(100 << self.0.min(12));
        tokio::time::sleep(pause.min(limits::OUTBOX_BACKOFF_MAX)).await;
    }
}
