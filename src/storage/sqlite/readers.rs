//! A few read-only connections, shared by all reads.

use super::connection::connect;
use crate::core::limits;
use crate::storage::StoreError;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The pool of read-only connections.
pub struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let idle = Arc::new(Mutex::new(vec![connect(&path, false)?]));
        Ok(Self { path, idle, permits: Arc::new(Semaphore::new(limits::READERS_MAX)) })
    }

    /// Looks up one row by key on the calling thread: this takes microseconds, less than a switch of threads.
    pub async fn point<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let permit = self.permits.acquire().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.path, false)?,
        };
        let result = work(&connection);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        drop(permit);
        result
    }

    /// Runs a query on the blocking pool.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = |error: &dyn std::fmt::Display| StoreError::Unavailable(error.to_string());
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| gone(&error))?;
        let (idle, path) = (self.idle.clone(), self.path.clone());
        let task = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => connect(&path, false)?,
            };
            let result = work(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            result
        });
        task.await.map_err(|error| gone(&error))?
    }
}
