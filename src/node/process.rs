//! What negotiations and transfers have in common: a message changes the state, then this side takes its next steps.

use super::Counterparty;
use crate::core::digest::Digest;
use crate::core::id::ProcessId;
use crate::core::limits;
use crate::core::time::backoff;
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

/// Does this side's next steps in a process, one after the other, in the background. `step` returns whether it did one.
pub fn run_steps<F>(process: ProcessId, step: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<bool, StoreError>> + Send,
{
    tokio::spawn(async move {
        let mut failures = 0u32;
        loop {
            match step().await {
                Ok(true) => failures = 0,
                Ok(false) => break,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    // After a conflict the facts are read again at once.
                    if matches!(error, StoreError::Conflict(_)) && failures as usize <= limits::CONFLICT_RETRIES_MAX {
                        continue;
                    }
                    tracing::warn!(%error, %process, failures, "a process could not be continued yet");
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
    });
}
