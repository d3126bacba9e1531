//! Limits on concurrent downloads.

use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::limits;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

/// A container by its provider and digest.
type Container = (ParticipantId, Digest);

/// What downloads share.
pub(super) struct Concurrency {
    /// Transfers being fetched; none is fetched twice at the same time.
    transfers: Mutex<HashSet<ProcessId>>,
    providers: Mutex<HashMap<ParticipantId, ProviderPermits>>,
    containers: Mutex<HashMap<Container, Weak<AsyncMutex<()>>>>,
    /// Permits to verify a dataset; verification uses all cores.
    pub(super) verifications: Semaphore,
}

/// The permits of one provider.
#[derive(Clone)]
pub(super) struct ProviderPermits {
    pub(super) downloads: Arc<Semaphore>,
    /// One, so that no provider alone holds all permits to verify.
    pub(super) verification: Arc<Semaphore>,
}

impl Concurrency {
    pub(super) fn new() -> Self {
        Self {
            transfers: Mutex::default(),
            providers: Mutex::default(),
            containers: Mutex::default(),
            verifications: Semaphore::new(limits::VERIFICATIONS_MAX),
        }
    }

    /// The transfers being fetched.
    pub(super) fn transfers(&self) -> MutexGuard<'_, HashSet<ProcessId>> {
        locked(&self.transfers)
    }

    /// The permits of one provider.
    pub(super) fn permits_of(&self, provider: &ParticipantId) -> ProviderPermits {
        let permits = || ProviderPermits {
            downloads: Arc::new(Semaphore::new(limits::DELIVERIES_PER_PROVIDER_MAX)),
            verification: Arc::new(Semaphore::new(1)),
        };
        locked(&self.providers).entry(provider.clone()).or_insert_with(permits).clone()
    }

    /// Held while a container is fetched: a download that waits for it finds the complete bytes.
    pub(super) fn container(&self, provider: &ParticipantId, container: &Digest) -> Arc<AsyncMutex<()>> {
        let mut containers = locked(&self.containers);
        containers.retain(|_, held| held.strong_count() > 0);
        let name = (provider.clone(), *container);
        if let Some(held) = containers.get(&name).and_then(Weak::upgrade) {
            return held;
        }
        let new = Arc::default();
        containers.insert(name, Arc::downgrade(&new));
        new
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
