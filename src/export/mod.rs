//! Records out: a dataset's canonical text becomes a file that people and programs read, while it is read; nothing is kept.

mod archive;
mod cells;
mod csv;
mod json;
mod parquet;
mod rows;
mod writer;
mod xlsx;

pub use archive::archive;
pub use rows::Rows;
pub use writer::Origin;

use crate::core::json::Tape;
use crate::schema::Schema;
use cells::Columns;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use writer::RecordWriter;

/// A format in which records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180.
    Csv,
    /// A JSON array.
    Json,
    /// Office Open XML workbook.
    Xlsx,
    /// Apache Parquet.
    Parquet,
    /// A ZIP archive of files, with their records as a workbook.
    Zip,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] = [Self::Ndjson, Self::Csv, Self::Json, Self::Xlsx, Self::Parquet, Self::Zip];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Xlsx => "xlsx",
            Self::Parquet => "parquet",
            Self::Zip => "zip",
        }
    }

    /// The format with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format of a file, from its extension.
    pub fn of_file(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "jsonl" => Some(Self::Ndjson),
            other => Self::parse(other),
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Zip => "application/zip",
        }
    }
}

/// What of the records is written, and how.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The properties, in this order; all in the schema's order, if there are none.
    pub columns: Vec<String>,
    /// The records.
    pub rows: Rows,
    /// CSV: a byte order mark, without which spreadsheets read UTF-8 as something else.
    pub mark: bool,
    /// CSV: texts that a spreadsheet would run as a formula stay as they are.
    pub raw: bool,
}

impl Choice {
    /// Fails if a column or condition names no property of the schema.
    pub fn check(&self, schema: &Schema) -> io::Result<()> {
        Columns::of(schema, &self.columns).map_err(wrong)?;
        self.rows.clone().resolve(schema).map_err(wrong)
    }
}

/// An export of a dataset's records.
pub struct Export<'a> {
    writer: Box<dyn RecordWriter + Send + 'a>,
    rows: Rows,
    tape: Tape,
    records: u64,
}

impl<'a> Export<'a> {
    /// Begins a file. Fails if a column or condition names no property.
    pub fn begin(
        format: Format,
        schema: &Schema,
        choice: Choice,
        origin: &Origin,
        out: impl Write + Send + 'a,
    ) -> io::Result<Self> {
        let Choice { columns, mut rows, mark, raw } = choice;
        let selected = !columns.is_empty();
        let columns = Columns::of(schema, &columns).map_err(wrong)?;
        rows.resolve(schema).map_err(wrong)?;
        let writer: Box<dyn RecordWriter + Send + 'a> = match format {
            Format::Ndjson => Box::new(json::Lines::new(out, selected.then_some(columns))),
            Format::Json => Box::new(json::Array::begin(out, selected.then_some(columns))?),
            Format::Csv => Box::new(csv::Table::begin(out, columns, mark, raw)?),
            Format::Xlsx => Box::new(xlsx::Book::begin(out, columns, origin)?),
            Format::Parquet => Box::new(parquet::File::begin(out, columns)?),
            Format::Zip => return Err(wrong("an archive has files, and is no format of records")),
        };
        // What was accepted once is read without being checked for what a double keeps.
        Ok(Self { writer, rows, tape: Tape::of_doubles(), records: 0 })
    }

    /// Writes the records of a part of the canonical text.
    pub fn text(&mut self, text: &[u8]) -> io::Result<()> {
        if self.rows.is_empty() && self.writer.whole(text)? {
            self.records += memchr::memchr_iter(b'\n', text).count() as u64;
            return Ok(());
        }
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            self.tape.parse(line).map_err(wrong)?;
            if self.rows.has(&self.tape) {
                self.records += 1;
                let written = self.writer.record(&self.tape);
                written.map_err(|error| io::Error::new(error.kind(), format!("record {}: {error}", self.records)))?;
            }
        }
        Ok(())
    }

    /// Ends the file; returns the number of records.
    pub fn finish(self) -> io::Result<u64> {
        self.writer.finish().map(|()| self.records)
    }
}

/// The properties that some record has.
#[derive(Debug, Default)]
pub struct Filled {
    found: std::collections::BTreeSet<String>,
    tape: Tape,
}

impl Filled {
    /// Looks at a part of the canonical text.
    pub fn text(&mut self, text: &[u8]) -> io::Result<()> {
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            self.tape.parse(line).map_err(wrong)?;
            for (name, _) in self.tape.root().members() {
                if !self.found.contains(name) {
                    self.found.insert(name.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The properties of `schema` that some record has, in its order.
    pub fn columns(&self, schema: &Schema) -> Vec<String> {
        let names = schema.columns().into_iter().map(|(name, _)| name.to_owned());
        names.filter(|name| self.found.contains(name)).collect()
    }
}

fn wrong(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

#[cfg(test)]
mod tests;
