//! Import of local formats: NDJSON and CSV. One thread splits the source into chunks of whole records; all threads
//! decode the chunks.

mod csv;
mod export;
mod infer;
mod ndjson;
mod rejects;

pub use self::csv::CsvDecoder;
pub use export::Export;
pub use infer::sketch;
pub use ndjson::NdjsonDecoder;
pub use rejects::divide;

use crate::core::limits;
use crate::dataset::assemble::{Chunk, Decoder};
use crate::schema::Schema;
use schemars::JsonSchema;
use std::io::{self, Read};

/// A local file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180 with a header that names properties.
    Csv,
}

impl Format {
    /// The format's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// The format with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Ndjson, Self::Csv].into_iter().find(|format| format.name() == name)
    }

    /// The format of a file, from its extension.
    pub fn of_file(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// A decoder without a schema.
pub struct TextDecoder {
    decoder: Box<dyn Decoder>,
    /// Names of the columns, if the format has columns.
    columns: Option<Vec<String>>,
}

/// Target size of a chunk. CSV grows when decoded, because each cell gets its property name.
const CHUNK_BYTES: usize = limits::FRAME_TEXT_BYTES;

/// Splits a source into chunks of whole records.
pub struct Chunks<R> {
    source: R,
    /// Bytes read but not yet in a chunk.
    rest: Vec<u8>,
    /// Bytes outside of records that precede the next chunk.
    head: Vec<u8>,
    line: u64,
    ended: bool,
    splitter: Splitter,
}

/// Finds the ends of records.
enum Splitter {
    Lines,
    Csv(csv::Scanner),
}

impl<R: Read> Chunks<R> {
    /// Reads the start of `source`: skips a byte order mark and, for CSV, reads the header.
    pub fn open(source: R, format: Format, schema: &Schema) -> io::Result<(Self, Box<dyn Decoder>)> {
        let mut chunks = Self::begin(source, format)?;
        let decoder: Box<dyn Decoder> = match format {
            Format::Ndjson => Box::new(NdjsonDecoder),
            Format::Csv => Box::new(CsvDecoder::new(&chunks.header()?, schema).map_err(invalid)?),
        };
        Ok((chunks, decoder))
    }

    /// Likewise, without a schema: all cells are text. Returns the names of the columns, if the format has columns.
    pub fn open_text(source: R, format: Format) -> io::Result<(Self, TextDecoder)> {
        let mut chunks = Self::begin(source, format)?;
        let decoder = match format {
            Format::Ndjson => TextDecoder { decoder: Box::new(NdjsonDecoder), columns: None },
            Format::Csv => {
                let decoder = CsvDecoder::of_text(&chunks.header()?).map_err(invalid)?;
                TextDecoder { columns: Some(decoder.names()), decoder: Box::new(decoder) }
            }
        };
        Ok((chunks, decoder))
    }

    fn begin(source: R, format: Format) -> io::Result<Self> {
        let splitter = match format {
            Format::Ndjson => Splitter::Lines,
            Format::Csv => Splitter::Csv(csv::Scanner::default()),
        };
        let mut chunks = Self { source, rest: Vec::new(), head: Vec::new(), line: 1, ended: false, splitter };
        while chunks.rest.len() < 4 && !chunks.ended {
            chunks.fill(4)?;
        }
        if let Some(what) = other_format(&chunks.rest) {
            return Err(invalid(format!("the file is {what}; save it as {} in UTF-8", format.name().to_uppercase())));
        }
        if chunks.rest.starts_with(b"\xEF\xBB\xBF") {
            chunks.head = chunks.rest.drain(..3).collect();
        }
        Ok(chunks)
    }

    /// Reads the header of a CSV file.
    fn header(&mut self) -> io::Result<Vec<u8>> {
        let header = self.cut(1)?.ok_or_else(|| invalid("the file is empty: a CSV file needs a header"))?;
        self.head = [header.head.as_slice(), &header.bytes].concat();
        Ok(header.bytes)
    }

    /// The next chunk.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        self.cut(CHUNK_BYTES)
    }

    fn fill(&mut self, more: usize) -> io::Result<()> {
        self.rest.reserve(more);
        let read = (&mut self.source).take(more as u64).read_to_end(&mut self.rest)?;
        self.ended = read < more;
        Ok(())
    }

    /// Cuts at the first record end at or beyond `aim` bytes, or at the end of the source.
    fn cut(&mut self, aim: usize) -> io::Result<Option<Chunk>> {
        let mut from = 0;
        let end = loop {
            if let Some(end) = self.record_end(from, aim)? {
                break end;
            }
            from = self.rest.len();
            if self.ended {
                if let Splitter::Csv(scanner) = &self.splitter {
                    scanner.check_end().map_err(invalid)?;
                }
                break self.rest.len();
            }
            if self.rest.len() > aim + limits::RECORD_BYTES_MAX {
                let (line, max) = (self.line, limits::RECORD_BYTES_MAX);
                return Err(invalid(format!(
                    "after line {line}: a record is longer than {max} bytes, or a quoted cell is not closed"
                )));
            }
            self.fill(CHUNK_BYTES)?;
        };
        if end == 0 {
            return Ok(None);
        }
        // The buffer keeps its capacity; less than one record remains in it.
        let bytes = self.rest[..end].to_vec();
        self.rest.drain(..end);
        let first_line = self.line;
        self.line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Ok(Some(Chunk { head: std::mem::take(&mut self.head), first_line, bytes }))
    }

    /// The end of the first record that ends at `aim` bytes or later; `from` is the end of the part already searched.
    fn record_end(&mut self, from: usize, aim: usize) -> io::Result<Option<usize>> {
        match &mut self.splitter {
            Splitter::Lines => {
                let begin = from.max(aim.saturating_sub(1)).min(self.rest.len());
                Ok(memchr::memchr(b'\n', &self.rest[begin..]).map(|at| begin + at + 1))
            }
            Splitter::Csv(scanner) => scanner.record_end(&self.rest, from, aim, self.line).map_err(invalid),
        }
    }
}

/// What a file is that was given by mistake, from its first bytes.
pub fn other_format(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 7] = [
        (b"PK\x03\x04", "a zip archive or an Office document (xlsx, ods)"),
        (b"\xD0\xCF\x11\xE0", "an Office document (xls)"),
        (b"%PDF", "a PDF"),
        (b"\x1F\x8B", "compressed (gzip)"),
        (b"\x28\xB5\x2F\xFD", "compressed (zstd)"),
        (b"\xFF\xFE", "in UTF-16"),
        (b"\xFE\xFF", "in UTF-16"),
    ];
    known.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| what)
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests;
