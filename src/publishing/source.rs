//! The records of a publication as they arrive. A publication that waits for data gives its permit to work to another one.

use std::io::{self, Read};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A source of records.
pub trait Source: Read + Send + 'static {
    /// Whether reading would wait for data.
    fn would_wait(&mut self) -> bool;
}

impl Source for io::Cursor<Vec<u8>> {
    fn would_wait(&mut self) -> bool {
        false
    }
}

/// A source that holds a permit to work, except while it waits. Read on a thread that may block.
pub(super) struct Working<S> {
    source: S,
    working: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    runtime: Handle,
}

impl<S: Source> Working<S> {
    pub(super) fn new(source: S, working: Arc<Semaphore>, runtime: Handle) -> Self {
        Self { source, working, permit: None, runtime }
    }
}

impl<S: Source> Read for Working<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.source.would_wait() {
            self.permit = None;
        }
        let read = self.source.read(buffer)?;
        if self.permit.is_none() {
            let permit = self.runtime.block_on(self.working.clone().acquire_owned());
            self.permit = Some(permit.map_err(io::Error::other)?);
        }
        Ok(read)
    }
}
