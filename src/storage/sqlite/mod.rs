//! SQLite: one database file. One thread owns the writing connection; readers use read-only connections.

mod apply;
mod catalog;
mod log;
mod reader;
mod schema;
mod writer;

pub use log::{LogFile, Snapshot, examine, rows as log_rows, snapshot};

use super::{Change, Logged, Maintenance, Store, StoreError};
use crate::audit::checkpoint::CheckpointSigner;
use crate::core::id::LogOrigin;
use crate::core::limits;
use crate::core::time::Clock;
use reader::Readers;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use tokio::sync::{Notify, oneshot, watch};
use writer::Job;

/// Name of the database in the data folder.
pub const FILE: &str = "state.db";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => Self::Corrupt(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// The SQLite store. When it is dropped, the writer processes the queued jobs and ends.
pub struct SqliteStore {
    jobs: SyncSender<Job>,
    readers: Readers,
    commits: watch::Receiver<u64>,
    outbox: Arc<Notify>,
}

/// Opens a connection with the settings of this store.
fn connect(path: &Path, writable: bool) -> Result<Connection, StoreError> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | if writable {
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
        } else {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        };
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(64);
    if writable {
        // `secure_delete` overwrites erased personal values and keys with zeroes.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 1000; PRAGMA cache_size = -32768;",
        )?;
    }
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

impl SqliteStore {
    /// Opens or creates the database in `folder` and starts the writer.
    pub fn open(
        folder: &Path,
        origin: LogOrigin,
        signer: Arc<dyn CheckpointSigner>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let path: PathBuf = folder.join(FILE);
        let connection = connect(&path, true)?;
        schema::migrate(&connection)?;
        let (jobs, queue) = std::sync::mpsc::sync_channel(limits::COMMIT_QUEUE_MAX);
        let (count, commits) = watch::channel(0);
        let outbox = Arc::new(Notify::new());
        let writer = writer::Writer::open(connection, origin, signer, clock, count, outbox.clone())?;
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

    pub(super) async fn do_housekeep(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.submit(|reply| Job::Housekeep(tasks, reply)).await
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
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(folder, origin, signer, clock)?))
}

#[cfg(test)]
mod tests;
