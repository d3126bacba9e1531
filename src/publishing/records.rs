//! The records of a publication as they arrive, and the files that they describe. A publication that waits for data gives its permit to work to another one.

use crate::dataset::contents::Contents;
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Records as bytes of a file; files that they describe follow.
pub trait Records: Contents + Send + 'static {
    /// Whether reading would wait for data.
    fn would_wait(&mut self) -> bool;
}

impl Records for Box<dyn Records> {
    fn would_wait(&mut self) -> bool {
        (**self).would_wait()
    }
}

impl Contents for Box<dyn Records> {
    fn next_file(&mut self) -> io::Result<bool> {
        (**self).next_file()
    }
}

impl Contents for io::Cursor<Vec<u8>> {}

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

impl<S: Records> Working<S> {
    fn while_working<T>(&mut self, read: impl FnOnce(&mut S) -> io::Result<T>) -> io::Result<T> {
        if self.source.would_wait() {
            self.permit = None;
        }
        let read = read(&mut self.source)?;
        if self.permit.is_none() {
            let permit = self.runtime.block_on(self.working.clone().acquire_owned());
            self.permit = Some(permit.map_err(io::Error::other)?);
        }
        Ok(read)
    }
}

impl<S: Records> Read for Working<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.while_working(|source| source.read(buffer))
    }
}

impl<S: Records> Contents for Working<S> {
    fn next_file(&mut self) -> io::Result<bool> {
        self.while_working(S::next_file)
    }
}

/// A body that arrives asynchronously, read synchronously by the threads that validate.
pub struct Arriving {
    pieces: mpsc::Receiver<Piece>,
    next: Option<Piece>,
    current: Bytes,
    end: Option<End>,
}

/// A piece of the body. The end is explicit: a sender that is dropped without it must not look like an end.
pub enum Piece {
    /// Data.
    Bytes(Bytes),
    /// The part is complete; a file follows.
    File,
    /// The upload failed.
    Broken(String),
    /// Everything is complete.
    End,
}

/// The end of what is being read.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// A file follows.
    OfPart,
    OfAll,
}

impl Arriving {
    /// Reads what is sent to the other half of the channel.
    pub fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, next: None, current: Bytes::new(), end: None }
    }
}

impl Records for Arriving {
    fn would_wait(&mut self) -> bool {
        if self.current.is_empty() && self.end.is_none() && self.next.is_none() {
            self.next = self.pieces.try_recv().ok();
        }
        self.current.is_empty() && self.end.is_none() && self.next.is_none()
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && self.end.is_none() {
            match self.next.take().or_else(|| self.pieces.blocking_recv()) {
                Some(Piece::Bytes(piece)) => self.current = piece,
                Some(Piece::File) => self.end = Some(End::OfPart),
                Some(Piece::End) => self.end = Some(End::OfAll),
                Some(Piece::Broken(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upload was interrupted")),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

impl Contents for Arriving {
    fn next_file(&mut self) -> io::Result<bool> {
        io::copy(self, &mut io::sink())?;
        if self.end == Some(End::OfPart) {
            self.end = None;
            return Ok(true);
        }
        Ok(false)
    }
}
