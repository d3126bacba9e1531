//! A file of any format as text, read once from beginning to end.

use super::encoding::{self, LineFeeds, Utf8};
use super::format::{Form, Format};
use super::packing::unpack;
use super::reading::Reading;
use super::{columnar, csv, invalid, json, workbook};
use crate::core::limits;
use std::fs::File;
use std::io::{self, Read};

/// Copies a stream to a temporary file, which is read from its beginning.
pub type Spool<'a> = dyn Fn(&mut dyn Read) -> io::Result<File> + 'a;

/// The text of a file.
pub struct Input<'a> {
    /// UTF-8.
    pub source: Box<dyn Read + Send + 'a>,
    /// How it is to be divided into records.
    pub form: Form,
    /// How its cells are separated and counted.
    pub syntax: csv::Syntax,
    /// How it is to be understood: what the file needs beyond its text is done.
    pub reading: Reading,
    /// Whether it comes from a program that needs a byte order mark to read UTF-8, as spreadsheets do.
    pub marked: bool,
}

impl<'a> Input<'a> {
    /// Reads `source`. Formats that cannot be read from beginning to end are copied to a temporary file first.
    pub fn open<R: Read + Send + 'a>(
        source: R,
        format: Format,
        reading: &Reading,
        spool: &Spool<'_>,
    ) -> io::Result<Self> {
        reading.check().map_err(invalid)?;
        let mut reading = reading.clone();
        let unpacked = unpack(source, reading.packing, |source| bounded(source, limits::ZIP_BYTES_MAX, spool))?;
        let utf8 = |unpacked| encoding::utf8(unpacked, &reading.encoding);
        let Utf8 { source, marked } = match format {
            Format::Xlsx | Format::Xls | Format::Ods => {
                let most = if format == Format::Xls { limits::XLS_BYTES_MAX } else { limits::WORKBOOK_BYTES_MAX };
                let rows = workbook::rows(bounded(unpacked, most, spool)?, format, &reading)?;
                Utf8 { source: Box::new(rows), marked: true }
            }
            Format::Parquet | Format::Arrow => {
                let file = bounded(unpacked, limits::COLUMNAR_BYTES_MAX, spool)?;
                let source: Box<dyn Read + Send> = match format {
                    Format::Arrow => Box::new(columnar::arrow(file)),
                    _ => Box::new(columnar::parquet(file)),
                };
                Utf8 { source, marked: true }
            }
            Format::Ndjson | Format::Csv => utf8(unpacked)?,
            Format::Json => {
                let Utf8 { source, marked } = utf8(unpacked)?;
                Utf8 { source: Box::new(json::Elements::new(source, &reading.at)), marked }
            }
        };
        let source = match format {
            Format::Csv if reading.carriage_returns => Box::new(LineFeeds(source)),
            _ => source,
        };
        let syntax = match format {
            // Written with commas; in a file of columns, the names are in no row.
            format if format.is_columnar() => csv::Syntax { delimiter: b',', rows: true, first: 0 },
            format if format.is_workbook() => csv::Syntax { delimiter: b',', rows: true, first: 1 },
            _ => csv::Syntax { delimiter: reading.delimiter as u8, rows: false, first: 1 },
        };
        if format.is_columnar() {
            reading.header = 0;
        }
        Ok(Self { source, form: format.form(), syntax, reading, marked })
    }

    /// A text in UTF-8 and the default dialect.
    pub fn plain(source: impl Read + Send + 'a, form: Form) -> io::Result<Self> {
        let format = match form {
            Form::Ndjson => Format::Ndjson,
            Form::Csv => Format::Csv,
        };
        Self::open(source, format, &Reading::default(), &|_| Err(io::ErrorKind::Unsupported.into()))
    }
}

/// A file with what the stream has.
fn bounded(source: impl Read, most: u64, spool: &Spool<'_>) -> io::Result<File> {
    let file = spool(&mut source.take(most + 1))?;
    if file.metadata()?.len() > most {
        return Err(invalid(format!(
            "a file of this format may have at most {} MiB; save it as CSV, or as CSV compressed with gzip",
            most >> 20
        )));
    }
    Ok(file)
}
