//! The loop that runs sources when they are due, and looks at watched folders.

use super::input::Look;
use super::run::Reads;
use super::{Sources, folder};
use crate::config::Connection;
use crate::core::id::SourceName;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::source::{After, Input, Outcome, Run, Source};
use crate::storage::StoreError;
use futures_util::future::join_all;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause: a clock that is set right must not keep a source waiting.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The shortest one: whatever goes wrong, the loop does not spin.
const PAUSE_MIN: Duration = Duration::from_millis(250);

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
            tokio::time::sleep(PAUSE_MIN).await;
        }
    }

    /// A run that began and did not end was stopped with the node: nothing of it was published, or all of it.
    async fn end_interrupted(&self) -> Result<(), crate::node::Error> {
        for source in self.node.store().sources().await? {
            if let Some(started) = source.progress.running {
                let (code, reason) = ("interrupted".to_owned(), "the node stopped during the run".to_owned());
                let run = Run { started, ended: self.node.now(), outcome: Outcome::Failed { code, reason } };
                let seen = source.progress.seen.clone();
                self.record(None, &source, &run, &After { seen, ..After::default() }).await?;
            }
        }
        Ok(())
    }

    /// Starts what is due, and returns the time until something may be.
    async fn start_due(self: &Arc<Self>) -> Result<Option<Duration>, StoreError> {
        let (sources, now) = (self.node.store().sources().await?, self.node.now());
        // The end of a run wakes the loop.
        let waiting = sources.iter().filter(|source| !source.progress.paused && !self.is_running(&source.name));
        let waiting: Vec<&Source> = waiting.collect();
        if self.node.closed().is_some() {
            return Ok((!waiting.is_empty()).then_some(PAUSE_MAX));
        }
        let (watched, planned): (Vec<&Source>, Vec<&Source>) =
            waiting.into_iter().partition(|source| source.is_watched(now));
        let mut pause = (!watched.is_empty()).then_some(limits::FOLDER_LOOK_INTERVAL);
        // At the same time: a folder that hangs delays no others.
        let looks = join_all(watched.iter().map(|source| self.arrived(source))).await;
        for (source, look) in watched.iter().zip(looks) {
            if let Some(look) = look {
                self.start(&source.name, look);
            }
        }
        for source in planned {
            let replanned = if source.is_misplanned(now) { self.replanned(source, now) } else { None };
            let Some(next) = replanned.or(source.progress.next) else { continue };
            if next <= now {
                self.start(&source.name, Look::default());
            } else {
                let until = Duration::from_millis(next.ms().saturating_sub(now.ms()).max(1) as u64);
                pause = Some(pause.map_or(until, |pause| pause.min(until)));
            }
        }
        Ok(pause)
    }

    /// The next time of a schedule, if the recorded one was planned while the clock was ahead.
    fn replanned(&self, source: &Source, now: Timestamp) -> Option<Timestamp> {
        let next = source.definition.schedule.as_ref()?.next(now)?;
        let mut replanned = self.replanned.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, at) = replanned.entry(source.name.clone()).or_insert((source.revision, next));
        if *revision != source.revision {
            (*revision, *at) = (source.revision, next);
        }
        Some(*at)
    }

    fn is_running(&self, name: &SourceName) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn start(self: &Arc<Self>, name: &SourceName, look: Look) {
        let (sources, name) = (self.clone(), name.clone());
        tokio::spawn(async move {
            // What failed is recorded, and logged there; what could not even begin is tried again.
            if let Err(error) = sources.run_once(None, &name, Reads::Input(look)).await {
                tracing::debug!(source = %name, %error, "a run of a source failed");
            }
        });
    }

    /// How to read a file that is new, and has not changed for a while. What cannot be read is due, too: the run says why.
    async fn arrived(&self, source: &Source) -> Option<Look> {
        let Input::Folder { connection, files } = &source.definition.input else { return None };
        let connections = self.connections();
        let Some(Connection::Folder(folder)) = connections.get(connection) else { return Some(Look::default()) };
        {
            let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.get(&source.name).is_some_and(|(at, _)| at.elapsed() < limits::FOLDER_LOOK_INTERVAL) {
                return None;
            }
        }
        let at = Instant::now();
        let Ok(listing) = folder::list_apart(&self.looks, folder, files).await else { return Some(Look::default()) };
        let next = listing.next(&source.progress.seen.files);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = looked.insert(source.name.clone(), (at, listing));
        let before = before?.1;
        // What failed is well again once the folder can be read.
        let recovers = source.progress.failures > 0 && next.is_none();
        let complete = next.is_some_and(|next| before.has(&next));
        (complete || recovers).then_some(Look { again: false, before: Some(before) })
    }
}
