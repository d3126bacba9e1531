//! A text in chunks of whole records.

use super::cells::CsvDecoder;
use super::csv::{Scanner, Syntax};
use super::decoder::TextDecoder;
use super::format::{Form, other_format, packed_format};
use super::ndjson::NdjsonDecoder;
use super::reading::Reading;
use super::{Input, MappedDecoder, invalid};
use crate::core::limits;
use crate::dataset::assemble::{Chunk, Decoder};
use crate::mapping::Mapping;
use crate::schema::Schema;
use std::io::{self, Read};

/// Target size of a chunk. CSV grows when decoded, because each cell gets its property name.
const CHUNK_BYTES: usize = limits::FRAME_TEXT_BYTES;

/// Splits a text into chunks of whole records.
pub struct Chunks<'a> {
    source: Box<dyn Read + Send + 'a>,
    /// Bytes read but not yet in a chunk.
    rest: Vec<u8>,
    /// CSV: what precedes the first record.
    head: Vec<u8>,
    line: u64,
    ended: bool,
    splitter: Splitter,
}

/// Finds the ends of records.
enum Splitter {
    Lines,
    Csv(Scanner),
}

/// The header of a CSV text.
pub(super) struct Header {
    pub(super) line: u64,
    pub(super) bytes: Vec<u8>,
}

impl<'a> Chunks<'a> {
    /// Reads the start of `text`: of CSV, the header. The records are those of the schema, or become them by the mapping.
    pub fn open(text: Input<'a>, schema: &Schema, mapping: Option<&Mapping>) -> io::Result<(Self, Box<dyn Decoder>)> {
        if let Some(mapping) = mapping {
            let (chunks, decoder) = Self::open_mapped(text, schema, mapping)?;
            return Ok((chunks, Box::new(decoder)));
        }
        let (form, syntax, reading) = (text.form, text.syntax, text.reading.clone());
        let mut chunks = Self::begin(text)?;
        let decoder: Box<dyn Decoder> = match form {
            Form::Ndjson => Box::new(NdjsonDecoder),
            Form::Csv => Box::new(chunks.decoder(syntax, &reading, schema)?),
        };
        Ok((chunks, decoder))
    }

    /// Likewise, by a mapping.
    pub fn open_mapped(text: Input<'a>, schema: &Schema, mapping: &Mapping) -> io::Result<(Self, MappedDecoder)> {
        let (chunks, decoder) = Self::open_text(text)?;
        Ok((chunks, MappedDecoder::new(decoder, mapping, schema)?))
    }

    /// Likewise, without a schema: all cells are text.
    pub(super) fn open_text(text: Input<'a>) -> io::Result<(Self, TextDecoder)> {
        let (form, syntax, reading) = (text.form, text.syntax, text.reading.clone());
        let mut chunks = Self::begin(text)?;
        let decoder = match form {
            Form::Ndjson => TextDecoder { decoder: Box::new(NdjsonDecoder), columns: None },
            Form::Csv => {
                let decoder = chunks.text_decoder(syntax, &reading)?;
                TextDecoder { columns: Some((decoder.names(), decoder.writing())), decoder: Box::new(decoder) }
            }
        };
        Ok((chunks, decoder))
    }

    pub(super) fn begin(text: Input<'a>) -> io::Result<Self> {
        let splitter = match text.form {
            Form::Ndjson => Splitter::Lines,
            Form::Csv => Splitter::Csv(Scanner::new(text.syntax)),
        };
        let mut chunks = Self {
            source: text.source,
            rest: Vec::new(),
            head: Vec::new(),
            line: text.syntax.first,
            ended: false,
            splitter,
        };
        while chunks.rest.len() < 4 && !chunks.ended {
            chunks.fill(4)?;
        }
        if let Some(what) = packed_format(&chunks.rest).or_else(|| other_format(&chunks.rest)) {
            return Err(invalid(format!("the file is {what}, not text: give its format")));
        }
        Ok(chunks)
    }

    /// The decoder of a CSV text whose cells are all texts.
    pub(super) fn text_decoder(&mut self, syntax: Syntax, reading: &Reading) -> io::Result<CsvDecoder> {
        let Header { line, bytes } = self.header(reading.header)?;
        CsvDecoder::of_text(&bytes, line, syntax, reading).map_err(invalid)
    }

    /// The decoder of a CSV text with the types of a schema.
    fn decoder(&mut self, syntax: Syntax, reading: &Reading, schema: &Schema) -> io::Result<CsvDecoder> {
        let Header { line, bytes } = self.header(reading.header)?;
        CsvDecoder::new(&bytes, line, syntax, reading, schema).map_err(invalid)
    }

    /// Reads up to the header, which is in the first row that is not blank and not before `line`.
    fn header(&mut self, line: u32) -> io::Result<Header> {
        loop {
            let row =
                self.cut(1)?.ok_or_else(|| invalid("the file has no header: a table needs names of its columns"))?;
            self.head.extend_from_slice(&row.bytes);
            let blank = row.bytes.iter().all(|b| b.is_ascii_whitespace());
            if self.line > u64::from(line) && !blank {
                return Ok(Header { line: row.first_line, bytes: row.bytes });
            }
            if row.first_line > u64::from(limits::HEADER_LINE_MAX) {
                return Err(invalid("the first lines are blank: a table needs names of its columns"));
            }
        }
    }

    /// What of a CSV text precedes the first record.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
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
        self.line = match &self.splitter {
            Splitter::Lines => self.line + memchr::memchr_iter(b'\n', &bytes).count() as u64,
            Splitter::Csv(scanner) => scanner.line(),
        };
        Ok(Some(Chunk { first_line, bytes }))
    }

    /// The end of the first record that ends at `aim` bytes or later; `from` is the end of the part already searched.
    fn record_end(&mut self, from: usize, aim: usize) -> io::Result<Option<usize>> {
        match &mut self.splitter {
            Splitter::Lines => {
                let begin = from.max(aim.saturating_sub(1)).min(self.rest.len());
                Ok(memchr::memchr(b'\n', &self.rest[begin..]).map(|at| begin + at + 1))
            }
            Splitter::Csv(scanner) => scanner.record_end(&self.rest, from, aim).map_err(invalid),
        }
    }
}
