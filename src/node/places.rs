//! Limited places, in all and for each holder: who finds none waits for a while, and is told when to try again.

use super::Error;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Places for one kind of work.
pub struct Places<K> {
    all: Arc<Semaphore>,
    of_holders: Mutex<HashMap<K, Arc<Semaphore>>>,
    per_holder: usize,
    wait_max: Duration,
    what: &'static str,
}

/// A place, given back when it is dropped: the holder's own permit and a shared one.
pub type Place = [OwnedSemaphorePermit; 2];

impl<K: Eq + Hash + Clone> Places<K> {
    /// `all` places, at most `per_holder` of them for one holder; `what` names the work in errors.
    pub fn new(all: usize, per_holder: usize, wait_max: Duration, what: &'static str) -> Self {
        let all = Arc::new(Semaphore::new(all));
        Self { all, of_holders: Mutex::default(), per_holder, wait_max, what }
    }

    /// A place. The holder's own permit is acquired first, so that waiting for it does not occupy a shared one.
    pub async fn take(&self, holder: &K) -> Result<Place, Error> {
        let own = self.permits_of(holder);
        let both = async { Ok([own.acquire_owned().await?, self.all.clone().acquire_owned().await?]) };
        match tokio::time::timeout(self.wait_max, both).await {
            Ok(Ok::<_, AcquireError>(place)) => Ok(place),
            _ => Err(Error::Unavailable(format!("too many {} at the same time; try again later", self.what))),
        }
    }

    fn permits_of(&self, holder: &K) -> Arc<Semaphore> {
        let mut of_holders = self.of_holders.lock().unwrap_or_else(PoisonError::into_inner);
        // Holders without a place or a wait are forgotten.
        of_holders.retain(|_, permits| Arc::strong_count(permits) > 1 || permits.available_permits() < self.per_holder);
        of_holders.entry(holder.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.per_holder))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_holder_leaves_places_for_others() {
        let places = Places::new(4, 2, Duration::from_secs(10), "downloads");
        let mut held = vec![places.take(&"a").await.unwrap(), places.take(&"a").await.unwrap()];
        match places.take(&"a").await {
            Err(Error::Unavailable(reason)) => {
                assert_eq!(reason, "too many downloads at the same time; try again later")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(places.all.available_permits(), 2);
        held.extend([places.take(&"b").await.unwrap(), places.take(&"c").await.unwrap()]);
        assert!(places.take(&"d").await.is_err());
        drop(held.remove(0));
        assert!(places.take(&"a").await.is_ok());
        held.clear();
        drop(places.take(&"e").await.unwrap());
        assert_eq!(places.of_holders.lock().unwrap().len(), 1, "nobody else has or wants a place");
    }
}
