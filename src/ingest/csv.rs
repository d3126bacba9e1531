//! Strict CSV by RFC 4180: commas, double quotes, a header of property names or their titles. An empty cell is an absent property.

use crate::core::{json, limits};
use crate::dataset::assemble::{Chunk, Decoded, Decoder};
use crate::schema::{ColumnType, Schema, Violation};
use std::ops::Range;

/// The column with the reason why a row was left out of a publication; it is not read.
pub const PROBLEM: &str = "x-problem";

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
#[derive(Default)]
pub struct Scanner {
    state: State,
    line: u64,
    /// Line of the last quote that opened a cell.
    opened: u64,
}

impl Scanner {
    /// The end of the first record that ends at `aim` or later; scans `text` from `from`.
    pub fn record_end(&mut self, text: &[u8], from: usize, aim: usize, line: u64) -> Result<Option<usize>, String> {
        if from == 0 {
            self.line = line;
        }
        for (at, &b) in text.iter().enumerate().skip(from) {
            let quoted = matches!(self.state, State::Quoted);
            self.state = match (self.state, b) {
                (State::CellStart, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::QuoteSeen,
                (State::Quoted, _) => State::Quoted,
                (State::QuoteSeen, b'"') => State::Quoted,
                (State::CellStart | State::Plain | State::QuoteSeen, b',' | b'\n') => State::CellStart,
                (State::QuoteSeen, b'\r') => State::QuoteSeen,
                (State::Plain, b'"') => return Err(self.stray("a quote inside an unquoted cell")),
                (State::QuoteSeen, _) => return Err(self.stray("text after the closing quote of a cell")),
                (State::CellStart | State::Plain, _) => State::Plain,
            };
            if self.state == State::Quoted && !quoted {
                self.opened = self.line;
            }
            if b == b'\n' {
                self.line += 1;
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

struct Column {
    name: String,
    /// `"name":` as JSON text.
    prefix: Vec<u8>,
    /// `None` if the column is not read.
    kind: Option<ColumnType>,
}

/// Decodes rows into JSON objects with the types of the schema.
pub struct CsvDecoder {
    columns: Vec<Column>,
}

impl CsvDecoder {
    /// Reads the header row; each column must be a property of the schema, by name or title, and occur once.
    pub fn new(header: &[u8], schema: &Schema) -> Result<Self, String> {
        let (titles, mut unknown) = (schema.titles(), Vec::new());
        let decoder = Self::with(header, |name| {
            let found = titles.column(name).map(|(property, kind)| (property.to_owned(), kind));
            // All of them are told at once.
            Ok(found.unwrap_or_else(|| {
                unknown.push(name.to_owned());
                (format!("\0{}", unknown.len()), ColumnType::String)
            }))
        })?;
        if unknown.is_empty() { Ok(decoder) } else { Err(decoder.unknown_columns(&unknown, schema)) }
    }

    fn unknown_columns(&self, unknown: &[String], schema: &Schema) -> String {
        let free =
            schema.columns().into_iter().filter(|(name, _)| self.columns.iter().all(|column| column.name != *name));
        let titled = |(name, _): (&str, ColumnType)| match schema.property_title(name) {
            Some(title) => format!("{name} ({title})"),
            None => name.to_owned(),
        };
        let free: Vec<String> = free.take(limits::NAMES_IN_ERRORS_MAX).map(titled).collect();
        let unknown = &unknown[..unknown.len().min(limits::NAMES_IN_ERRORS_MAX)];
        let (columns, verb) = if unknown.len() == 1 { ("column", "is") } else { ("columns", "are") };
        format!(
            "line 1: the {columns} `{}` {verb} neither a property of {} nor the title of one; not in the file are: {}",
            unknown.join("`, `"),
            schema.id(),
            free.join(", ")
        )
    }

    /// Reads the header row of a file without a schema: every cell is text.
    pub fn of_text(header: &[u8]) -> Result<Self, String> {
        let mut number = 0;
        Self::with(header, |name| {
            number += 1;
            match name.trim() {
                "" => Err(format!("line 1: column {number} has no name; give it one")),
                _ => Ok((name.to_owned(), ColumnType::String)),
            }
        })
    }

    /// The properties that the columns hold.
    pub fn names(&self) -> Vec<String> {
        let read = self.columns.iter().filter(|column| column.kind.is_some());
        read.map(|column| column.name.clone()).collect()
    }

    /// The number of columns, and which of them has the reasons for which rows were left out.
    pub fn problem_column(&self) -> (usize, Option<usize>) {
        (self.columns.len(), self.columns.iter().position(|column| column.kind.is_none()))
    }

    fn with(
        header: &[u8],
        mut column_of: impl FnMut(&str) -> Result<(String, ColumnType), String>,
    ) -> Result<Self, String> {
        let mut rows = Rows::new(header, 1);
        rows.next_row().ok_or("the first line is empty: a CSV file needs a header")?;
        let row = rows.cells;
        if row.len() > limits::CSV_COLUMNS_MAX {
            return Err(format!("line 1: more than {} columns", limits::CSV_COLUMNS_MAX));
        }
        let mut columns: Vec<Column> = Vec::with_capacity(row.len());
        for cell in &row {
            let name =
                std::str::from_utf8(cell.bytes()).map_err(|_| "line 1: the header is not UTF-8; convert the file")?;
            if row.len() == 1 && name.contains([';', '\t']) {
                return Err(format!("line 1: `{name}` is one column: separate the columns with commas"));
            }
            if name == PROBLEM {
                columns.push(Column { name: name.to_owned(), prefix: Vec::new(), kind: None });
                continue;
            }
            let (property, kind) = column_of(name)?;
            if columns.iter().any(|column| column.name == property) {
                let of = if property == name { String::new() } else { format!(" (it is `{property}`)") };
                return Err(format!("line 1: the column `{name}`{of} appears twice"));
            }
            let mut prefix = serde_json::to_vec(&property).map_err(|error| error.to_string())?;
            prefix.push(b':');
            columns.push(Column { name: property, prefix, kind: Some(kind) });
        }
        Ok(Self { columns })
    }
}

impl Column {
    /// Appends a cell as a member, or nothing if it cannot be read.
    fn member(&self, cell: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        let Some(kind) = self.kind else { return Ok(()) };
        let wrong = |rule: &str, reason: &str| Violation::new(json::pointer_part(&self.name), rule, reason);
        let text = std::str::from_utf8(cell).map_err(|_| wrong("csv", "the cell is not UTF-8; convert the file"))?;
        let why = match kind {
            // As `Export` writes them; whether it is valid JSON is checked with the record.
            ColumnType::Nested if !matches!(text.as_bytes(), [b'[', .., b']'] | [b'{', .., b'}']) => {
                Some(("csv", "is neither a list nor an object in JSON, such as [\"a\",\"b\"]"))
            }
            ColumnType::Nested if !is_json(text) => Some(("csv", "is not valid JSON")),
            ColumnType::Boolean if !matches!(text, "true" | "false") => Some(("type", "is neither true nor false")),
            ColumnType::Number if !is_number(text) => {
                Some(("type", "is not a JSON number (no thousands separators, no leading zeros, a point for decimals)"))
            }
            _ => None,
        };
        if let Some((rule, why)) = why {
            let shown: String = text.chars().take(40).collect();
            return Err(wrong(rule, &format!("`{shown}` {why}")).of(text));
        }
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&self.prefix);
        match kind {
            ColumnType::String => serde_json::to_writer(out, text).map_err(|error| wrong("csv", &error.to_string())),
            ColumnType::Number | ColumnType::Boolean | ColumnType::Nested => {
                out.extend_from_slice(cell);
                Ok(())
            }
        }
    }
}

/// Whether the text is one JSON value. Without this check, a cell could close its record and begin another.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_number(text: &str) -> bool {
    // `from_str` would accept surrounding white space, but cells are not trimmed.
    !text.starts_with([' ', '\t', '\r', '\n'])
        && !text.ends_with([' ', '\t', '\r', '\n'])
        && serde_json::from_str::<&serde_json::value::RawValue>(text)
            .is_ok_and(|raw| raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

/// Iterates over the rows of a text that the scanner accepted. Not the `csv` crate, because a strict scanner is needed
/// anyway to split chunks, and because that crate loses the exact line number after empty lines and drops a byte order
/// mark from the first cell of any input.
struct Rows<'a> {
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
    fn new(text: &'a [u8], line: u64) -> Self {
        Self { text, at: 0, begin: 0, line, cells: Vec::new(), spans: Vec::new() }
    }

    /// Reads the next row into `cells` and returns its line, or `None` at the end. Empty lines are skipped.
    fn next_row(&mut self) -> Option<u64> {
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
            if separator != Some(b',') {
                self.line += 1;
                return Some(line);
            }
        }
    }

    /// Reads one cell, up to the following comma or line end.
    fn cell(&mut self) -> Cell<'a> {
        let rest = &self.text[self.at.min(self.text.len())..];
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            return self.quoted_cell(quoted);
        }
        let end = rest.iter().position(|b| matches!(b, b',' | b'\n')).unwrap_or(rest.len());
        self.at += end;
        let ends_row = rest.get(end) != Some(&b',');
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
        self.line += inside.iter().filter(|b| **b == b'\n').count() as u64;
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
pub fn raw_rows(chunk: &Chunk, each: &mut dyn FnMut(&RawRow<'_>)) {
    let mut rows = Rows::new(&chunk.bytes, chunk.first_line);
    while let Some(line) = rows.next_row() {
        let (begin, end) = (rows.begin, rows.at.min(chunk.bytes.len()));
        let cells: Vec<Range<usize>> = rows.spans.iter().map(|cell| cell.start - begin..cell.end - begin).collect();
        each(&RawRow { line, bytes: &chunk.bytes[begin..end], cells: &cells });
    }
}

impl Decoder for CsvDecoder {
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>)) {
        let mut rows = Rows::new(&chunk.bytes, chunk.first_line);
        let mut json = Vec::new();
        while let Some(line) = rows.next_row() {
            if rows.cells.len() != self.columns.len() {
                let reason = format!("the row has {} cells, the header has {}", rows.cells.len(), self.columns.len());
                each(Decoded { line, json: None, wrong: vec![Violation::new("", "csv", reason)] });
                continue;
            }
            json.clear();
            json.push(b'{');
            let cells = self.columns.iter().zip(&rows.cells).filter(|(_, cell)| !cell.bytes().is_empty());
            let wrong = cells.filter_map(|(column, cell)| column.member(cell.bytes(), &mut json).err()).collect();
            json.push(b'}');
            each(Decoded { line, json: Some(&json), wrong });
        }
    }
}
