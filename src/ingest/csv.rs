//! The rows and cells of CSV: RFC 4180, with any delimiter.

use crate::dataset::assemble::Chunk;
use std::io::{self, Write};
use std::ops::Range;

/// How a text is divided.
#[derive(Debug, Clone, Copy)]
pub struct Syntax {
    /// What separates cells.
    pub delimiter: u8,
    /// Whether rows are counted; otherwise lines, of which a quoted cell may have several.
    pub rows: bool,
    /// The number of the first row or line.
    pub first: u64,
}

/// Writes a row with commas.
pub fn write_row<'a>(out: &mut dyn Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    for (n, cell) in cells.enumerate() {
        if n > 0 {
            out.write_all(b",")?;
        }
        match cell.contains(['"', ',', '\n', '\r']) {
            true => write!(out, "\"{}\"", cell.replace('"', "\"\""))?,
            false => out.write_all(cell.as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

/// State of the scanner between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    CellStart,
    Plain,
    Quoted,
    /// After a quote in a quoted cell: either the end of the cell or the first half of an escaped quote.
    QuoteSeen,
}

/// Finds the ends of records, which may contain line breaks in quoted cells.
pub struct Scanner {
    syntax: Syntax,
    state: State,
    line: u64,
    /// Line of the last quote that opened a cell.
    opened: u64,
}

impl Scanner {
    /// At the beginning of a text.
    pub fn new(syntax: Syntax) -> Self {
        Self { syntax, state: State::default(), line: syntax.first, opened: syntax.first }
    }

    /// The line or row after the part that was scanned.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The end of the first record that ends at `aim` or later; scans `text` from `from`.
    pub fn record_end(&mut self, text: &[u8], from: usize, aim: usize) -> Result<Option<usize>, String> {
        let delimiter = self.syntax.delimiter;
        for (at, &b) in text.iter().enumerate().skip(from) {
            let quoted = matches!(self.state, State::Quoted);
            self.state = match (self.state, b) {
                (State::CellStart, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::QuoteSeen,
                (State::Quoted, _) => State::Quoted,
                (State::QuoteSeen, b'"') => State::Quoted,
                (State::CellStart | State::Plain | State::QuoteSeen, b) if b == delimiter || b == b'\n' => {
                    State::CellStart
                }
                (State::QuoteSeen, b'\r') => State::QuoteSeen,
                (State::Plain, b'"') => return Err(self.stray("a quote inside an unquoted cell")),
                (State::QuoteSeen, _) => return Err(self.stray("text after the closing quote of a cell")),
                (State::CellStart | State::Plain, _) => State::Plain,
            };
            if self.state == State::Quoted && !quoted {
                self.opened = self.line;
            }
            if b == b'\n' {
                self.line += u64::from(!quoted || !self.syntax.rows);
                if !quoted && at + 1 >= aim {
                    return Ok(Some(at + 1));
                }
            }
        }
        Ok(None)
    }

    fn stray(&self, what: &str) -> String {
        format!("line {}: {what}; RFC 4180 requires quotes around the cell and doubled quotes inside it", self.line)
    }

    /// Checks that no quoted cell is open at the end of the source.
    pub fn check_end(&self) -> Result<(), String> {
        if self.state == State::Quoted {
            return Err(format!("line {}: the quote that begins a cell here is never closed", self.opened));
        }
        Ok(())
    }
}

/// Iterates over the rows of a text that the scanner accepted. Not the `csv` crate, because a strict scanner is needed
/// anyway to split chunks, and because that crate loses the exact line number after empty lines and drops a byte order
/// mark from the first cell of any input.
pub struct Rows<'a> {
    syntax: Syntax,
    text: &'a [u8],
    at: usize,
    /// Where the last row begins.
    begin: usize,
    line: u64,
    cells: Vec<Cell<'a>>,
    /// Where the cells are, with their quotes.
    spans: Vec<Range<usize>>,
}

enum Cell<'a> {
    Plain(&'a [u8]),
    /// The cell contained doubled quotes.
    Unescaped(Vec<u8>),
}

impl Cell<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Unescaped(bytes) => bytes,
        }
    }
}

impl<'a> Rows<'a> {
    /// The rows of a text that begins with `line`.
    pub fn new(text: &'a [u8], line: u64, syntax: Syntax) -> Self {
        Self { syntax, text, at: 0, begin: 0, line, cells: Vec::new(), spans: Vec::new() }
    }

    /// Reads the next row into `cells` and returns its line, or `None` at the end. Empty lines are skipped.
    pub fn next_row(&mut self) -> Option<u64> {
        loop {
            match self.text.get(self.at..)? {
                [] => return None,
                [b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                _ => break,
            }
            self.line += 1;
        }
        let line = self.line;
        self.begin = self.at;
        self.cells.clear();
        self.spans.clear();
        loop {
            let begin = self.at;
            let cell = self.cell();
            self.cells.push(cell);
            let end = self.at.min(self.text.len());
            let ends_line = self.text.get(end) == Some(&b'\n') && self.text[begin..end].ends_with(b"\r");
            self.spans.push(begin..if ends_line { end - 1 } else { end });
            let separator = self.text.get(self.at).copied();
            self.at += 1;
            if separator != Some(self.syntax.delimiter) {
                self.line += 1;
                return Some(line);
            }
        }
    }

    /// The cells of the last row.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.cells.iter().map(Cell::bytes)
    }

    /// Reads one cell, up to the following delimiter or line end.
    fn cell(&mut self) -> Cell<'a> {
        let rest = &self.text[self.at.min(self.text.len())..];
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            return self.quoted_cell(quoted);
        }
        let delimiter = self.syntax.delimiter;
        let end = rest.iter().position(|b| *b == delimiter || *b == b'\n').unwrap_or(rest.len());
        self.at += end;
        let ends_row = rest.get(end) != Some(&delimiter);
        let cell = &rest[..end];
        Cell::Plain(if ends_row { cell.strip_suffix(b"\r").unwrap_or(cell) } else { cell })
    }

    fn quoted_cell(&mut self, quoted: &'a [u8]) -> Cell<'a> {
        let mut doubled = false;
        let mut end = 0;
        while let Some(b) = quoted.get(end) {
            match (b, quoted.get(end + 1)) {
                (b'"', Some(b'"')) => (doubled, end) = (true, end + 1),
                (b'"', _) => break,
                _ => {}
            }
            end += 1;
        }
        let inside = &quoted[..end];
        if !self.syntax.rows {
            self.line += memchr::memchr_iter(b'\n', inside).count() as u64;
        }
        self.at += end + 2;
        while self.text.get(self.at) == Some(&b'\r') {
            self.at += 1;
        }
        if !doubled {
            return Cell::Plain(inside);
        }
        let mut unescaped = Vec::with_capacity(inside.len());
        let mut skip = false;
        for b in inside {
            skip = *b == b'"' && !skip;
            if !skip {
                unescaped.push(*b);
            }
        }
        Cell::Unescaped(unescaped)
    }
}

/// A row as it stands in the file.
pub struct RawRow<'a> {
    /// Its line.
    pub line: u64,
    /// Its bytes, with its line end if it has one.
    pub bytes: &'a [u8],
    /// Where each cell is in `bytes`, with its quotes.
    pub cells: &'a [Range<usize>],
}

impl RawRow<'_> {
    /// Its bytes without the line end.
    pub fn content(&self) -> &[u8] {
        &self.bytes[..self.cells.last().map_or(0, |cell| cell.end)]
    }
}

/// Calls `each` with each row.
pub fn raw_rows(chunk: &Chunk, syntax: Syntax, each: &mut dyn FnMut(&RawRow<'_>)) {
    let mut rows = Rows::new(&chunk.bytes, chunk.first_line, syntax);
    while let Some(line) = rows.next_row() {
        let (begin, end) = (rows.begin, rows.at.min(chunk.bytes.len()));
        let cells: Vec<Range<usize>> = rows.spans.iter().map(|cell| cell.start - begin..cell.end - begin).collect();
        each(&RawRow { line, bytes: &chunk.bytes[begin..end], cells: &cells });
    }
}
