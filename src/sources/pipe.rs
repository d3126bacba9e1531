//! Records that a task makes while they are published.

use crate::core::limits;
use crate::publishing::{Arriving, Piece};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Bytes that are passed on together.
const PIECE_BYTES: usize = 64 * 1024;

/// The reader of a pipe is gone: the publication has failed, and says why.
pub struct Gone;

/// What may be kept of a failure whose text may quote records.
pub type Told = Arc<Mutex<Option<String>>>;

/// Why a task could not go on.
pub enum Stopped {
    /// Nobody reads.
    Gone,
    /// The input failed, for people.
    Failed(String),
    /// The input failed with a text that may quote records; the second one does not.
    FailedWith(String, String),
}

impl From<Gone> for Stopped {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<String> for Stopped {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// The end into which a task writes.
pub struct Pipe {
    sender: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
}

impl Pipe {
    /// Adds to the last piece.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Begins a record.
    pub fn line(&mut self) -> Line<'_> {
        Line { line: &mut self.buffer, is_empty: true }
    }

    /// Passes on what was added, once it is enough.
    pub async fn flush_if_full(&mut self) -> Result<(), Gone> {
        if self.buffer.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer);
        self.sender.send(Piece::Bytes(piece.into())).await.map_err(|_| Gone)
    }
}

/// Adds JSON to a line. Line breaks are between its tokens only: in a string they are escaped.
pub fn push_json(line: &mut Vec<u8>, json: &str) {
    line.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

/// A record that is written as a line of its own, member by member.
pub struct Line<'a> {
    line: &'a mut Vec<u8>,
    is_empty: bool,
}

impl Line<'_> {
    /// Adds a member: its name and its value, as JSON.
    pub fn push(&mut self, name: &[u8], value: &str) {
        self.line.push(if self.is_empty { b'{' } else { b',' });
        self.is_empty = false;
        self.line.extend_from_slice(name);
        self.line.push(b':');
        push_json(self.line, value);
    }

    /// Ends the record.
    pub fn end(self) {
        self.line.extend_from_slice(if self.is_empty { b"{}\n" } else { b"}\n" });
    }
}

/// Runs `make` beside the publication, which reads what it writes; what it writes is complete only if it returns `Ok`.
pub fn records<F, T>(make: F) -> Arriving
where
    F: FnOnce(Pipe) -> T + Send + 'static,
    T: Future<Output = (Pipe, Result<(), Stopped>)> + Send + 'static,
{
    told_records(Told::default(), make)
}

/// Likewise; what may be kept of a failure is stored in `told`.
pub fn told_records<F, T>(told: Told, make: F) -> Arriving
where
    F: FnOnce(Pipe) -> T + Send + 'static,
    T: Future<Output = (Pipe, Result<(), Stopped>)> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(16);
    let making = make(Pipe { sender: sender.clone(), buffer: Vec::new() });
    tokio::spawn(async move {
        let made = tokio::select! {
            made = tokio::time::timeout(limits::SOURCE_RUN_TIME_MAX, making) => made,
            // Nothing is read any more.
            () = sender.closed() => return,
        };
        let last = match made {
            Ok((mut pipe, Ok(()))) => match pipe.flush().await {
                Ok(()) => Piece::End,
                Err(Gone) => return,
            },
            Ok((_, Err(Stopped::Failed(reason)))) => Piece::Broken(reason),
            Ok((_, Err(Stopped::FailedWith(reason, kept)))) => {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                Piece::Broken(reason)
            }
            Ok((_, Err(Stopped::Gone))) => return,
            Err(_) => {
                let hours = limits::SOURCE_RUN_TIME_MAX.as_secs() / 3_600;
                Piece::Broken(format!("the input was not complete after {hours} hours"))
            }
        };
        let _ = sender.send(last).await;
    });
    Arriving::new(pieces)
}
