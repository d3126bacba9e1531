//! A stream that is written on a thread of its own.

use super::invalid;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pieces that wait for the reader.
const PIECES: usize = 4;
/// Bytes collected before they are sent.
const PIECE_BYTES: usize = 256 * 1024;

enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

/// What `write` writes. A panic in it is an error of the file.
pub fn piped(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> impl Read + Send {
    let (sender, pieces) = sync_channel(PIECES);
    let writer = move || {
        let mut out = Out { sender, buffer: Vec::with_capacity(PIECE_BYTES) };
        let last = match write(&mut out).and_then(|()| out.flush()) {
            Ok(()) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        // Nobody may be reading any more.
        let _ = out.sender.send(last);
    };
    // Without a thread, nothing is written, which the reader takes for damage.
    let _ = std::thread::Builder::new().name(THREAD.into()).spawn(writer);
    In { pieces, current: Vec::new(), at: 0, ended: false }
}

/// What `read` returns, on a thread of its own. A panic in it is an error of the file.
pub fn apart<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name(THREAD.into()).spawn(read)?;
    thread.join().unwrap_or_else(|_| Err(invalid(DAMAGED)))
}

/// The name of threads on which a panic is an error of a file, and is told as such.
pub const THREAD: &str = "reading a file";

const DAMAGED: &str = "the file is damaged, so that reading it failed";

struct Out {
    sender: SyncSender<Piece>,
    buffer: Vec<u8>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.sender.send(Piece::Bytes(full)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct In {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for In {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => (self.current, self.at) = (bytes, 0),
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => return Err(error),
                Err(_) => return Err(invalid(DAMAGED)),
            }
        }
        let length = buffer.len().min(self.current.len() - self.at);
        buffer[..length].copy_from_slice(&self.current[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_a_failure() {
        let mut text = String::new();
        piped(|out| (0..100_000).try_for_each(|n| writeln!(out, "{n}"))).read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 100_000);
        let failed = piped(|_| Err(io::Error::other("no"))).read_to_string(&mut text);
        assert_eq!(failed.unwrap_err().to_string(), "no");
        let panicked = piped(|_| panic!("a defect of a library")).read_to_string(&mut text);
        assert!(panicked.unwrap_err().to_string().contains("damaged"));
        // A reader that goes away ends the writer.
        let _ = piped(|out| std::iter::repeat(()).try_for_each(|()| out.write_all(&[0; 4_096]))).read(&mut [0; 10]);
    }
}
