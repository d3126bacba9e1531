//! Rows of cells become JSON objects with the types of the schema. An empty cell is an absent property.

use super::csv::{Rows, Syntax};
use super::reading::Reading;
use crate::core::notation::Notation;
use crate::core::{json, limits};
use crate::dataset::assemble::{Chunk, Decoded, Decoder};
use crate::schema::{ColumnType, Schema, Spelling, Violation};
use std::borrow::Cow;

/// What spreadsheets show where a formula has no value.
const ERRORS: [&str; 7] = ["#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"];

/// The column with the reason why a row was left out of a publication; it is not read.
pub const PROBLEM: &str = "x-problem";

struct Column {
    /// The property.
    name: String,
    /// `"name":` as JSON text.
    prefix: Vec<u8>,
    holds: Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Values of a property; of a text, whether markers of missing values are none.
    Values(ColumnType, bool),
    /// The problem of an earlier rejection.
    Problem,
    /// The numbers of the rows, which some programs write into a column without a name.
    Numbers,
    /// Nothing, and no name.
    Nothing,
}

/// How numbers and missing values are written.
#[derive(Debug, Clone, Default)]
pub struct Writing {
    pub(super) notation: Notation,
    pub(super) missing: Vec<String>,
    /// Whether the cells are those of a spreadsheet, which shows errors in them.
    sheet: bool,
}

/// Decodes rows into JSON objects.
pub struct CsvDecoder {
    columns: Vec<Column>,
    syntax: Syntax,
    writing: Writing,
}

impl CsvDecoder {
    /// Reads the header row at `line`; each column must be a property of the schema, by name or title, and occur once.
    pub fn new(header: &[u8], line: u64, syntax: Syntax, reading: &Reading, schema: &Schema) -> Result<Self, String> {
        let (titles, mut unknown) = (schema.titles(), Vec::new());
        let decoder = Self::with(header, line, syntax, reading, |name| match titles.column(name) {
            Some((property, kind)) => {
                (property.to_owned(), Holds::Values(kind, schema.may_miss(&json::pointer_part(property))))
            }
            // All of them are told at once.
            None => {
                unknown.push(name.to_owned());
                (format!("\0{}", unknown.len()), Holds::Nothing)
            }
        })?;
        if unknown.is_empty() { Ok(decoder) } else { Err(decoder.unknown_columns(&unknown, line, schema)) }
    }

    fn unknown_columns(&self, unknown: &[String], line: u64, schema: &Schema) -> String {
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
            "line {line}: the {columns} `{}` {verb} neither a property of {} nor the title of one; not in the file are: {}; \
             `crosspark map suggest` proposes which columns become which properties",
            unknown.join("`, `"),
            schema.id(),
            free.join(", ")
        )
    }

    /// Reads the header row of a file without a schema: every cell is text.
    pub fn of_text(header: &[u8], line: u64, syntax: Syntax, reading: &Reading) -> Result<Self, String> {
        Self::with(header, line, syntax, reading, |name| {
            (name.trim().to_owned(), Holds::Values(ColumnType::String, false))
        })
    }

    /// How its cells are written.
    pub fn writing(&self) -> Writing {
        self.writing.clone()
    }

    /// The properties that the columns hold.
    pub fn names(&self) -> Vec<String> {
        let read = self.columns.iter().filter(|column| matches!(column.holds, Holds::Values(..)));
        read.map(|column| column.name.clone()).collect()
    }

    /// The number of columns, and which of them has the reasons for which rows were left out.
    pub fn problem_column(&self) -> (usize, Option<usize>) {
        (self.columns.len(), self.columns.iter().position(|column| column.holds == Holds::Problem))
    }

    fn with(
        header: &[u8],
        line: u64,
        syntax: Syntax,
        reading: &Reading,
        mut column_of: impl FnMut(&str) -> (String, Holds),
    ) -> Result<Self, String> {
        let mut rows = Rows::new(header, line, syntax);
        rows.next_row().ok_or_else(|| format!("line {line} is empty: a CSV file needs a header"))?;
        let row: Vec<&[u8]> = rows.cells().collect();
        if row.len() > limits::CSV_COLUMNS_MAX {
            return Err(format!("line {line}: more than {} columns", limits::CSV_COLUMNS_MAX));
        }
        let mut columns: Vec<Column> = Vec::with_capacity(row.len());
        for (at, cell) in row.iter().enumerate() {
            let name = std::str::from_utf8(cell)
                .map_err(|_| format!("line {line}: the header is not UTF-8; give another --encoding"))?;
            if row.len() == 1 && name.contains([';', '\t', '|']) {
                return Err(format!("line {line}: `{name}` is one column; give the delimiter of the cells"));
            }
            let (property, holds) = match name.trim() {
                PROBLEM => (name.to_owned(), Holds::Problem),
                "" if at == 0 && reading.numbered => (String::new(), Holds::Numbers),
                "" => (format!("\0 {at}"), Holds::Nothing),
                _ => column_of(name),
            };
            if columns.iter().any(|column| column.name == property) {
                let of = if property == name { String::new() } else { format!(" (it is `{property}`)") };
                return Err(format!("line {line}: the column `{name}`{of} appears twice"));
            }
            let mut prefix = serde_json::to_vec(&property).map_err(|error| error.to_string())?;
            prefix.push(b':');
            columns.push(Column { name: property, prefix, holds });
        }
        let Reading { decimal, thousands, missing, .. } = reading.clone();
        Ok(Self {
            columns,
            syntax,
            writing: Writing { notation: Notation { decimal, thousands }, missing, sheet: syntax.rows },
        })
    }

    /// The record of a row, without what cannot be read.
    fn record(&self, cells: &[&[u8]], json: &mut Vec<u8>) -> Result<Vec<Violation>, Violation> {
        let (count, columns) = (cells.len(), self.columns.len());
        if count < columns || cells[columns..].iter().any(|cell| !cell.trim_ascii().is_empty()) {
            return Err(Violation::new("", "csv", format!("the row has {count} cells, the header has {columns}")));
        }
        json.clear();
        json.push(b'{');
        let filled = self.columns.iter().enumerate().zip(cells).filter(|(_, cell)| !cell.is_empty());
        let wrong = filled.filter_map(|((at, column), cell)| column.member(at, cell, &self.writing, json).err());
        let wrong = wrong.collect();
        json.push(b'}');
        Ok(wrong)
    }
}

impl Decoder for CsvDecoder {
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>)) {
        let mut rows = Rows::new(&chunk.bytes, chunk.first_line, self.syntax);
        let mut json = Vec::new();
        while let Some(line) = rows.next_row() {
            let cells: Vec<&[u8]> = rows.cells().collect();
            // Spreadsheets leave such rows where there was something once.
            if cells.iter().all(|cell| cell.trim_ascii().is_empty()) {
                continue;
            }
            match self.record(&cells, &mut json) {
                Ok(wrong) => each(Decoded { line, json: Some(&json), wrong }),
                Err(wrong) => each(Decoded { line, json: None, wrong: vec![wrong] }),
            }
        }
    }
}

impl Column {
    /// Appends a cell as a member, or nothing if it cannot be read.
    fn member(&self, at: usize, cell: &[u8], writing: &Writing, out: &mut Vec<u8>) -> Result<(), Violation> {
        let (kind, may_miss) = match self.holds {
            Holds::Values(kind, may_miss) => (kind, may_miss),
            Holds::Problem => return Ok(()),
            Holds::Numbers if cell.iter().all(u8::is_ascii_digit) => return Ok(()),
            Holds::Nothing if cell.trim_ascii().is_empty() => return Ok(()),
            Holds::Numbers | Holds::Nothing => {
                let reason = format!("column {} has no name, but this cell; give the column a name", at + 1);
                return Err(Violation::new("", "csv", reason).of(&String::from_utf8_lossy(cell)));
            }
        };
        let wrong = |rule: &str, reason: &str| Violation::new(json::pointer_part(&self.name), rule, reason);
        let text = std::str::from_utf8(cell)
            .map_err(|_| wrong("csv", "the cell is not UTF-8; give the file's encoding or convert it"))?;
        let refuse = |rule: &str, why: &str| {
            let shown: String = text.chars().take(40).collect();
            Err(wrong(rule, &format!("`{shown}` {why}")).of(text))
        };
        let trimmed = text.trim();
        if may_miss && (trimmed.is_empty() || writing.missing.iter().any(|marker| marker == trimmed)) {
            return Ok(());
        }
        let value: Cow<'_, str> = match kind {
            ColumnType::String if writing.sheet && ERRORS.contains(&trimmed) => {
                return refuse("csv", "is an error of the spreadsheet, not a value");
            }
            ColumnType::String => {
                return self.push(out, |out| serde_json::to_writer(out, text)).map_err(|error| wrong("csv", &error));
            }
            // As `Export` writes them; whether it is valid JSON is checked with the record.
            ColumnType::Nested if !matches!(text.as_bytes(), [b'[', .., b']'] | [b'{', .., b'}']) => {
                return refuse("csv", "is neither a list nor an object in JSON, such as [\"a\",\"b\"]");
            }
            ColumnType::Nested if !is_json(text) => return refuse("csv", "is not valid JSON"),
            ColumnType::Nested => text.into(),
            ColumnType::Boolean => match trimmed {
                "true" | "True" | "TRUE" => "true".into(),
                "false" | "False" | "FALSE" => "false".into(),
                _ => return refuse("type", "is neither true nor false"),
            },
            ColumnType::Number => match writing.notation.number(trimmed) {
                Ok(number) => number,
                Err(why) => return refuse("type", why),
            },
        };
        self.push(out, |out| {
            out.extend_from_slice(value.as_bytes());
            Ok(())
        })
        .map_err(|error| wrong("csv", &error))
    }

    fn push(
        &self,
        out: &mut Vec<u8>,
        value: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<(), String> {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&self.prefix);
        value(out).map_err(|error| error.to_string())
    }
}

/// Whether the text is one JSON value. Without this check, a cell could close its record and begin another.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

impl Spelling for Writing {
    fn number(&self, cell: &str) -> Option<String> {
        self.notation.number(cell.trim()).ok().map(Cow::into_owned)
    }

    fn is_missing(&self, cell: &str) -> bool {
        self.missing.iter().any(|marker| marker == cell.trim())
    }
}
