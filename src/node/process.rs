//! Common parts of negotiations and transfers: a message changes the state, then this side takes its next steps.

use super::Counterparty;
use crate::core::digest::Digest;
use crate::core::id::ProcessId;
use crate::core::limits;
use crate::core::time::backoff;
use crate::storage::StoreError;

/// A received message about a process.
#[derive(Debug, Clone)]
pub struct Inbound<'a> {
    /// Sender.
    pub from: &'a Counterparty,
    /// This node's process id.
    pub pid: &'a ProcessId,
    /// Sender's process id.
    pub peer_pid: &'a ProcessId,
    /// Digest of the message's canonical form.
    pub digest: Digest,
    /// Whether the message has a message id.
    pub named: bool,
}

impl Inbound<'_> {
    /// Whether the message was received before. Without a message id, only a repetition of the last message is
    /// recognised: the same content as in an older one may be a new message.
    pub fn is_repeated(&self, seen: &[Digest]) -> bool {
        if self.named { seen.contains(&self.digest) } else { seen.last() == Some(&self.digest) }
    }
}

/// A process after a message.
#[derive(Debug, Clone)]
pub struct Transition<T> {
    /// Process.
    pub process: T,
    /// Log entry of the transition; none if the message was a repetition.
    pub logged: Option<crate::storage::Logged>,
}

impl<T> Transition<T> {
    /// The result of a repeated message.
    pub fn repeated(process: T) -> Self {
        Self { process, logged: None }
    }
}

/// Takes this side's next steps in a process in the background, one after the other, until `step` returns false.
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
                    let pause = backoff(failures);
                    failures = failures.saturating_add(1);
                    // After a conflict the facts are read again immediately.
                    if matches!(error, StoreError::Conflict(_)) && failures as usize <= limits::CONFLICT_RETRIES_MAX {
                        continue;
                    }
                    tracing::warn!(%error, %process, failures, "the next step of a process failed; trying again later");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    });
}
