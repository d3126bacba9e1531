//! Permits for plain downloads, and a small cache of their indexes.

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::node::Error;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Shared state of all plain downloads.
pub struct Pulls {
    permits: Arc<Semaphore>,
    /// Permits per member, so that a slow reader cannot occupy all permits.
    of_members: Mutex<HashMap<ParticipantId, Arc<Semaphore>>>,
    /// End offset of each frame's text, by blob; the newest last.
    indexes: Mutex<VecDeque<(Digest, Arc<Vec<u64>>)>>,
}

impl Default for Pulls {
    fn default() -> Self {
        let permits = Arc::new(Semaphore::new(limits::PULLS_MAX));
        Self { permits, of_members: Mutex::default(), indexes: Mutex::default() }
    }
}

impl Pulls {
    /// Permits for one more download. The member's own permit is acquired first, so that waiting for it does not occupy
    /// a shared one.
    pub(super) async fn permits(&self, member: &ParticipantId) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let own = {
            let mut of_members = self.of_members.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(limits::PULLS_PER_MEMBER_MAX));
            of_members.entry(member.clone()).or_insert_with(new).clone()
        };
        let both = async { Ok([own.acquire_owned().await?, self.permits.clone().acquire_owned().await?]) };
        match tokio::time::timeout(limits::PULL_WAIT_MAX, both).await {
            Ok(Ok::<_, AcquireError>(permits)) => Ok(permits),
            _ => Err(Error::Unavailable("too many concurrent plain downloads; try again".into())),
        }
    }

    pub(super) fn known(&self, blob: &Digest) -> Option<Arc<Vec<u64>>> {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.iter().find(|(known, _)| known == blob).map(|(_, ends)| ends.clone())
    }

    pub(super) fn keep(&self, blob: Digest, ends: Arc<Vec<u64>>) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if indexes.len() == limits::PULL_INDEXES_MAX {
            indexes.pop_front();
        }
        indexes.push_back((blob, ends));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_member_leaves_permits_for_others() {
        let pulls = Pulls::default();
        let [one, other] = ["did:web:a.example", "did:web:b.example"].map(|id| ParticipantId::parse(id).unwrap());
        let mut held = Vec::new();
        for _ in 0..limits::PULLS_PER_MEMBER_MAX {
            held.push(pulls.permits(&one).await.unwrap());
        }
        assert!(matches!(pulls.permits(&one).await, Err(Error::Unavailable(_))));
        assert_eq!(pulls.permits.available_permits(), limits::PULLS_MAX - limits::PULLS_PER_MEMBER_MAX);
        held.push(pulls.permits(&other).await.unwrap());
        drop(held.remove(0));
        assert!(pulls.permits(&one).await.is_ok());
    }
}
