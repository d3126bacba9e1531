//! XML that is read event by event: none is so long that it would fill the memory.

use super::invalid;
use crate::core::limits;
use std::io::{self, Read};

/// Fails where a tag or a text is longer than a record may be, or all of it than a sheet.
pub struct Markup<R> {
    source: R,
    run: usize,
    size: u64,
}

impl<R> Markup<R> {
    /// Reads `source`.
    pub fn new(source: R) -> Self {
        Self { source, run: 0, size: 0 }
    }
}

impl<R: Read> Read for Markup<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let bytes = &buffer[..read];
        // Buffers are shorter than that, so that only runs that go on from one to the next are too long.
        self.run = match memchr::memrchr(b'<', bytes) {
            Some(at) => read - at,
            None => self.run + read,
        };
        self.size += read as u64;
        if self.run > limits::RECORD_BYTES_MAX {
            return Err(invalid("a part of the workbook is too long for a cell"));
        }
        if self.size > limits::SHEET_BYTES_MAX {
            return Err(invalid(format!("the workbook is longer than {} MiB unpacked", limits::SHEET_BYTES_MAX >> 20)));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_end_it() {
        let cells = |count: usize| "<c>1</c>".repeat(count).into_bytes();
        let read = |bytes: Vec<u8>| io::copy(&mut Markup::new(&bytes[..]), &mut io::sink());
        assert!(read(cells(2_000_000)).is_ok());
        for long in [
            vec![b'x'; 2 * limits::RECORD_BYTES_MAX],
            [b"<c a='".to_vec(), vec![b'y'; 2 * limits::RECORD_BYTES_MAX]].concat(),
        ] {
            assert!(read([cells(10), long, cells(10)].concat()).is_err());
        }
    }
}
