//! The loop that runs sources when they are due, and looks at watched folders.

use super::input::Look;
use super::run::Reads;
use super::{Sources, folder};
use crate::config::Connection;
use crate::core::id::SourceName;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::source::{Input, Outcome, Source};
use crate::storage::StoreError;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The longest pause: a clock that is set right must not keep a source waiting.
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Sources {
    /// Ends the runs that a stop interrupted, then runs sources when they are due, until the node is dropped.
    pub async fn run(self: Arc<Self>) {
        self.node.read_only().left().await;
        while let Err(error) = self.end_interrupted().await {
            tracing::warn!(%error, "interrupted runs of sources could not be ended; trying again");
            tokio::time::sleep(PAUSE_MAX).await;
        }
        loop {
            let pause = match self.start_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "the sources could not be read");
                    Some(PAUSE_MAX)
                }
            };
            let timer = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause.min(PAUSE_MAX)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = timer => {}
            }
        }
    }

    /// A run that began and did not end was stopped with the node: nothing of it was published, or all of it.
    async fn end_interrupted(&self) -> Result<(), crate::node::Error> {
        for source in self.node.store().sources().await? {
            if let Some(started) = source.progress.running {
                let (code, reason) = ("interrupted".to_owned(), "the node stopped during the run".to_owned());
                let seen = source.progress.seen.clone();
                self.record(&source.name, started, Outcome::Failed { code, reason }, seen).await?;
            }
        }
        Ok(())
    }

    /// Starts what is due, and returns the time until something may be.
    async fn start_due(self: &Arc<Self>) -> Result<Option<Duration>, StoreError> {
        let (sources, now) = (self.node.store().sources().await?, self.node.now());
        let closed = self.node.closed().is_some();
        let mut pause: Option<Duration> = None;
        let mut sooner = |than: Duration| pause = Some(pause.map_or(than, |pause| pause.min(than)));
        for source in sources.iter().filter(|source| !source.progress.paused) {
            if self.is_running(&source.name) {
                // Its end wakes the loop.
                continue;
            }
            if closed {
                sooner(PAUSE_MAX);
                continue;
            }
            if source.is_watched(now) {
                sooner(limits::FOLDER_LOOK_INTERVAL);
                if let Some(look) = self.arrived(source).await {
                    self.start(&source.name, look);
                }
            } else if source.is_due(now) {
                self.start(&source.name, Look::default());
            } else if let Some(next) = source.progress.next {
                sooner(until(next, now));
            }
        }
        Ok(pause)
    }

    fn is_running(&self, name: &SourceName) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn start(self: &Arc<Self>, name: &SourceName, look: Look) {
        let (sources, name) = (self.clone(), name.clone());
        tokio::spawn(async move {
            // What failed is recorded, and logged there; what could not even begin is tried again.
            if let Err(error) = sources.run_once(&name, Reads::Input(look)).await {
                tracing::debug!(source = %name, %error, "a run of a source failed");
            }
        });
    }

    /// How to read a file that is new, and has not changed since the folder was last looked at. What cannot be read is due,
    /// too: the run says why.
    async fn arrived(&self, source: &Source) -> Option<Look> {
        let Input::Folder { connection, files } = &source.definition.input else { return None };
        let Some(Connection::Folder(folder)) = self.connections.get(connection) else { return Some(Look::default()) };
        let (folder, files) = (folder.clone(), files.clone());
        // A network folder may hang.
        let listing = tokio::task::spawn_blocking(move || folder::list(&folder, &files));
        let listing = match tokio::time::timeout(limits::FOLDER_LOOK_INTERVAL, listing).await {
            Ok(Ok(Ok(listing))) => listing,
            Ok(_) => return Some(Look::default()),
            Err(_) => {
                tracing::warn!(source = %source.name, "the folder does not respond");
                return None;
            }
        };
        let next = listing.next(&source.progress.seen.files);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = looked.insert(source.name.clone(), listing).unwrap_or_default();
        let complete = next.is_some_and(|file| before.has(&file));
        complete.then_some(Look { again: false, before: Some(before) })
    }
}

fn until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(next.ms().saturating_sub(now.ms()).max(1) as u64)
}
