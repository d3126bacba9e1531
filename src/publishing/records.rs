//! The records of a publication as they arrive. A publication that waits for data gives its permit to work to another one.

use bytes::Bytes;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Records as bytes of a file.
pub trait Records: Read + Send + 'static {
    /// Whether reading would wait for data.
    fn would_wait(&mut self) -> bool;
}

impl Records for Box<dyn Records> {
    fn would_wait(&mut self) -> bool {
        (**self).would_wait()
    }
}

impl Records for io::Cursor<Vec<u8>> {
    fn would_wait(&mut self) -> bool {
        false
    }
}

/// Records whose reader holds a permit to work, except while it waits. Read on a thread that may block.
pub(super) struct Working<S> {
    source: S,
    working: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    runtime: Handle,
}

impl<S: Records> Working<S> {
    pub(super) fn new(source: S, working: Arc<Semaphore>, runtime: Handle) -> Self {
        Self { source, working, permit: None, runtime }
    }
}

impl<S: Records> Read for Working<S> {
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

/// A body that arrives asynchronously, read synchronously by the threads that validate.
pub struct Arriving {
    pieces: mpsc::Receiver<Piece>,
    next: Option<Piece>,
    current: Bytes,
    ended: bool,
}

/// A piece of the body. The end is explicit: a sender that is dropped without it must not look like an end.
pub enum Piece {
    /// Data.
    Bytes(Bytes),
    /// The upload failed.
    Broken(String),
    /// The part is complete.
    End,
}

impl Arriving {
    /// Reads what is sent to the other half of the channel.
    pub fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, next: None, current: Bytes::new(), ended: false }
    }
}

impl Records for Arriving {
    fn would_wait(&mut self) -> bool {
        if self.current.is_empty() && !self.ended && self.next.is_none() {
            self.next = self.pieces.try_recv().ok();
        }
        self.current.is_empty() && !self.ended && self.next.is_none()
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.next.take().or_else(|| self.pieces.blocking_recv()) {
                Some(Piece::Bytes(piece)) => self.current = piece,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Broken(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upload was interrupted")),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
