//! The SQLite store: writes go to the writer's thread, reads to the readers.

use super::connection::{FILE, connect};
use super::readers::Readers;
use super::schema;
use super::writer::{Job, Writer};
use crate::audit::checkpoint::CheckpointSigner;
use crate::core::id::LogOrigin;
use crate::core::limits;
use crate::core::time::NodeClock;
use crate::storage::{Change, Logged, Maintenance, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use tokio::sync::{Notify, oneshot, watch};

/// The SQLite store. When it is dropped, the writer processes the queued jobs and ends.
pub struct SqliteStore {
    jobs: SyncSender<Job>,
    pub(super) readers: Readers,
    commits: watch::Receiver<u64>,
    outbox: Arc<Notify>,
}

impl SqliteStore {
    /// Opens or creates the database in `folder` and starts the writer.
    pub fn open(
        folder: &Path,
        origin: LogOrigin,
        signer: Arc<dyn CheckpointSigner>,
        clock: Arc<NodeClock>,
    ) -> Result<Self, StoreError> {
        let path: PathBuf = folder.join(FILE);
        let connection = connect(&path, true)?;
        schema::migrate(&connection)?;
        let (jobs, queue) = std::sync::mpsc::sync_channel(limits::COMMIT_QUEUE_MAX);
        let (count, commits) = watch::channel(0);
        let outbox = Arc::new(Notify::new());
        let writer = Writer::open(connection, origin, signer, clock, count, outbox.clone())?;
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&queue))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { jobs, readers: Readers::open(path)?, commits, outbox })
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(job(reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(StoreError::Unavailable("the writer has ended".into())),
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer has ended".into())))
    }

    pub(super) async fn do_commit(&self, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.submit(|reply| Job::Commit(Box::new(change), reply)).await
    }

    pub(super) async fn do_maintain(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.submit(|reply| Job::Maintain(tasks, reply)).await
    }

    pub(super) async fn wait_changed(&self, seen: u64) -> u64 {
        let mut commits = self.commits.clone();
        if commits.wait_for(|count| *count > seen).await.is_err() {
            // The writer has ended, so nothing will change any more.
            std::future::pending::<()>().await;
        }
        *self.commits.borrow()
    }

    pub(super) async fn wait_outbox(&self) {
        self.outbox.notified().await;
    }
}

/// Opens the store as a trait object.
pub fn open(
    folder: &Path,
    origin: LogOrigin,
    signer: Arc<dyn CheckpointSigner>,
    clock: Arc<NodeClock>,
) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(folder, origin, signer, clock)?))
}
