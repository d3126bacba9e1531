//! What a file is, from its bytes: its format, and how it is to be read. What the user states is not questioned.

use super::dialect::{self, Sample};
use super::encoding::{self, Evidence};
use super::expected::Expected;
use super::format::{Format, other_format, packed_format};
use super::packing::{self, Packing};
use super::reading::Reading;
use super::{Spool, invalid, workbook};
use crate::core::limits;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Seek};

/// What the user states of a file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Its format.
    pub format: Option<Format>,
    /// As [`Reading::encoding`].
    pub encoding: Option<String>,
    /// As [`Reading::delimiter`].
    pub delimiter: Option<char>,
    /// As [`Reading::decimal`].
    pub decimal: Option<char>,
    /// As [`Reading::thousands`].
    pub thousands: Option<char>,
    /// As [`Reading::header`].
    pub header: Option<u32>,
    /// As [`Reading::missing`].
    pub missing: Vec<String>,
    /// As [`Reading::sheet`].
    pub sheet: Option<String>,
    /// As [`Reading::at`].
    pub at: Option<String>,
}

impl Given {
    /// The reading of a file that cannot be looked at before.
    pub fn reading(&self) -> Reading {
        let default = Reading::default();
        Reading {
            encoding: self.encoding.clone().unwrap_or(default.encoding),
            delimiter: self.delimiter.unwrap_or(default.delimiter),
            decimal: self.decimal.unwrap_or(default.decimal),
            thousands: self.thousands,
            header: self.header.unwrap_or(default.header),
            missing: self.missing.clone(),
            sheet: self.sheet.clone(),
            at: self.at.clone().unwrap_or_default(),
            ..Reading::default()
        }
    }
}

/// What was found out.
#[derive(Debug)]
pub struct Detected {
    /// The format.
    pub format: Format,
    /// How the file is to be read.
    pub reading: Reading,
    /// What of the file is left out.
    pub notes: Vec<String>,
}

impl Detected {
    /// In words, if there is anything to say that the file's name does not.
    pub fn in_words(&self) -> Option<String> {
        let words = self.reading.in_words();
        let words = match words.is_empty() {
            true => String::new(),
            false => format!("read as {}: {}", self.format.name(), words.join("; ")),
        };
        let all: Vec<&str> = std::iter::once(words.as_str())
            .chain(self.notes.iter().map(String::as_str))
            .filter(|w| !w.is_empty())
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Looks at a file.
pub fn detect(
    file: &mut File,
    name: &str,
    given: &Given,
    expected: Expected<'_>,
    spool: &Spool<'_>,
) -> io::Result<Detected> {
    let start = start_of(&mut *file)?;
    let reading = Reading { sheet: given.sheet.clone(), missing: given.missing.clone(), ..Reading::default() };
    let mut found = Detected { format: Format::Csv, reading, notes: Vec::new() };
    if start.starts_with(b"PAR1") {
        expect(given, Format::Parquet)?;
        found.format = Format::Parquet;
    } else if start.starts_with(b"ARROW1") || start.starts_with(&[0xFF; 4]) {
        expect(given, Format::Arrow)?;
        found.format = Format::Arrow;
    } else if let Some(format) = workbook_of(file, &start)? {
        expect(given, format)?;
        found.format = format;
        found.workbook(file, given, expected)?;
    } else {
        found.reading.packing = Packing::of(&start);
        let (name, mut unpacked) = found.unpacked(file, name, spool)?;
        let mut head = Vec::new();
        unpacked.by_ref().take(limits::SAMPLE_BYTES_MAX as u64).read_to_end(&mut head)?;
        if let Some(what) = other_format(&head) {
            return Err(invalid(format!("the file is {what}; save it as a table (CSV, xlsx) or as JSON")));
        }
        if let Some(what) = packed_format(&head).filter(|_| !found.reading.packing.is_none()) {
            return Err(invalid(format!("what is compressed is {what}: give that file itself")));
        }
        found.reading.encoding = match &given.encoding {
            Some(encoding) => encoding.clone(),
            None => Evidence::of(head.as_slice().chain(unpacked))?.verdict().map_err(invalid)?.into(),
        };
        let mut text = encoding::sample(&head, &found.reading.encoding);
        // A number of which the end is cut off would tell something wrong.
        if head.len() == limits::SAMPLE_BYTES_MAX {
            text.truncate(text.rfind(['\n', '\r']).unwrap_or(text.len()));
        }
        found.format = given.format.unwrap_or_else(|| format_of(&name, &text));
        match found.format {
            Format::Csv => found.table(&text, &name, given, expected)?,
            Format::Json => found.document(&text, head.len() < limits::SAMPLE_BYTES_MAX, given)?,
            Format::Ndjson => {}
            other => return Err(invalid(format!("the file is not {}", other.name()))),
        }
    }
    found.reading.check().map_err(invalid)?;
    file.rewind()?;
    Ok(found)
}

fn start_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take(8).read_to_end(&mut start)?;
    Ok(start)
}

fn expect(given: &Given, format: Format) -> io::Result<()> {
    match given.format {
        Some(other) if other != format => Err(invalid(format!("the file is {}, not {}", format.name(), other.name()))),
        _ => Ok(()),
    }
}

/// The format of a workbook; `None` if the file is something else.
fn workbook_of(file: &File, start: &[u8]) -> io::Result<Option<Format>> {
    if start.starts_with(b"\xD0\xCF\x11\xE0") {
        return Ok(Some(Format::Xls));
    }
    if Packing::of(start) != Packing::Zip {
        return Ok(None);
    }
    let mut archive = zip::ZipArchive::new(file).map_err(invalid)?;
    if archive.by_name("xl/workbook.xml").is_ok() {
        return Ok(Some(Format::Xlsx));
    }
    let mut kind = String::new();
    if let Ok(part) = archive.by_name("mimetype") {
        part.take(100).read_to_string(&mut kind)?;
    }
    Ok(kind.contains("opendocument.spreadsheet").then_some(Format::Ods))
}

/// The format of a text, from the file's name or the text itself.
fn format_of(name: &str, text: &str) -> Format {
    let first = text.trim_start().chars().next();
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let is_object = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object());
    match (Format::of_file(name).filter(|format| !format.is_workbook()), first) {
        (Some(Format::Csv), _) => Format::Csv,
        (Some(Format::Ndjson), Some('[')) | (_, Some('[')) => Format::Json,
        (_, Some('{')) => {
            // A document on one line is one record, too.
            let several = lines().nth(1).is_some_and(|line| line.trim_start().starts_with('{'));
            let one = lines().count() == 1;
            match lines().next().is_some_and(is_object)
                && (several || one && Format::of_file(name) != Some(Format::Json))
            {
                true => Format::Ndjson,
                false if Format::of_file(name) == Some(Format::Ndjson) => Format::Ndjson,
                false => Format::Json,
            }
        }
        (Some(format), _) => format,
        (None, _) => Format::Csv,
    }
}

impl Detected {
    /// The unpacked stream, and the name of the file in it.
    fn unpacked<'a>(
        &self,
        file: &'a mut File,
        name: &str,
        spool: &Spool<'_>,
    ) -> io::Result<(String, Box<dyn Read + Send + 'a>)> {
        let mut name = name.to_owned();
        if self.reading.packing == Packing::Zip {
            let mut archive = zip::ZipArchive::new(&*file).map_err(invalid)?;
            for at in 0..archive.len().min(limits::ZIP_ENTRIES_MAX) {
                let entry = archive.by_index_raw(at).map_err(invalid)?;
                let inside = entry.name().map(std::borrow::Cow::into_owned).unwrap_or_default();
                if Format::of_file(&inside).is_some() {
                    name = inside;
                }
            }
        }
        file.rewind()?;
        Ok((name, packing::unpack(file, self.reading.packing, |source| spool(source))?))
    }

    /// A CSV file.
    fn table(&mut self, text: &str, name: &str, given: &Given, expected: Expected<'_>) -> io::Result<()> {
        self.reading.carriage_returns = text.contains('\r') && !text.contains('\n');
        let text = if self.reading.carriage_returns { text.replace('\r', "\n") } else { text.to_owned() };
        let stated = dialect::stated_delimiter(&text);
        let tabs = name.trim_end_matches(".gz").ends_with(".tsv").then_some('\t');
        let delimiter = given.delimiter.or(stated).or(tabs);
        self.reading.delimiter = delimiter.unwrap_or_else(|| dialect::delimiter(&text));
        let mut sample = Sample::read(&text, self.reading.delimiter);
        if stated.is_some() {
            sample.rows.retain(|(line, _)| *line > 1);
        }
        let names = |header: u32| {
            let row = sample.rows.iter().find(|(line, _)| *line == u64::from(header));
            row.map(|(_, cells)| cells.clone()).unwrap_or_default()
        };
        let line = header_line(&sample, given, expected) as u32;
        self.cells(&sample, given, expected, (line, &names(line)))
    }

    fn workbook(&mut self, file: &File, given: &Given, expected: Expected<'_>) -> io::Result<()> {
        let outline = workbook::outline(file.try_clone()?, self.format, given.sheet.as_deref())?;
        if outline.sheets.len() > 1 {
            let read = given.sheet.as_ref().or(outline.sheets.first()).cloned().unwrap_or_default();
            let others: Vec<&str> = outline.sheets.iter().filter(|sheet| **sheet != read).map(String::as_str).collect();
            let others = &others[..others.len().min(limits::NAMES_IN_ERRORS_MAX)];
            self.notes.push(format!("only the sheet `{read}` is read, not {}", others.join(", ")));
            self.reading.sheet = Some(read);
        }
        let sample = Sample { rows: outline.rows };
        // Cells that are merged downwards belong to a header of several rows.
        let merged = |line: u64| {
            let areas = outline.merged.iter().filter(|area| area.start.1 == area.end.1);
            let ends = areas.filter(|area| (area.start.0..=area.end.0).contains(&(line as u32 - 1)));
            ends.map(|area| u64::from(area.end.0) + 1 - line).max().unwrap_or(0)
        };
        let line = header_line(&sample, given, expected);
        let line = given.header.unwrap_or((line + merged(line)) as u32);
        let names = workbook::header(&sample.rows, &outline.merged, u64::from(line));
        self.cells(&sample, given, expected, (line, &names))
    }

    /// What the cells of a table say.
    fn cells(
        &mut self,
        sample: &Sample,
        given: &Given,
        expected: Expected<'_>,
        (line, names): (u32, &[String]),
    ) -> io::Result<()> {
        self.reading.header = line;
        let names: Vec<&str> = names.iter().map(|name| name.trim()).collect();
        let known = expected.columns();
        if given.missing.is_empty() {
            let columns = known.gaps(&names).into_iter().map(|at| sample.column(at, line));
            self.reading.missing = dialect::missing(columns);
        }
        let (decimal, thousands) = match (given.decimal, given.thousands) {
            (None, None) if self.format.is_workbook() => ('.', None),
            (None, None) => {
                let commas = self.reading.delimiter == ',';
                dialect::numbers(&known.numbers(sample, &names, line), commas).map_err(invalid)?
            }
            (decimal, thousands) => (decimal.unwrap_or(if thousands == Some('.') { ',' } else { '.' }), thousands),
        };
        self.reading.thousands = thousands;
        // The numbers of a workbook have points.
        if !self.format.is_workbook() {
            self.reading.decimal = decimal;
        }
        // As pandas writes its index.
        let first = sample.column(0, line);
        let numbers = |from: usize| first.iter().zip(from..).all(|(cell, n)| *cell == n.to_string());
        let unnamed = names.first().is_some_and(|name| name.is_empty()) && names.len() > 1;
        self.reading.numbered = unnamed && !first.is_empty() && (numbers(0) || numbers(1));
        Ok(())
    }

    /// A JSON document.
    fn document(&mut self, text: &str, whole: bool, given: &Given) -> io::Result<()> {
        if let Some(at) = &given.at {
            self.reading.at.clone_from(at);
            return Ok(());
        }
        if text.trim_start().starts_with('[') {
            return Ok(());
        }
        let found = match serde_json::from_str::<Value>(text) {
            Ok(value) => arrays(&value, "", 0),
            Err(error) if whole => return Err(invalid(format!("the file is not JSON: {error}"))),
            Err(_) => Vec::new(),
        };
        match found.as_slice() {
            [at] => self.reading.at.clone_from(at),
            [] => return Err(invalid("give the JSON pointer of the array of records, such as --at /data/items")),
            several => {
                return Err(invalid(format!(
                    "several arrays may be the records: give --at with one of {}",
                    several.join(", ")
                )));
            }
        }
        Ok(())
    }
}

fn header_line(sample: &Sample, given: &Given, expected: Expected<'_>) -> u64 {
    let known = expected.columns();
    let is_known = |cell: &str| known.has(cell);
    let first = sample.rows.first().map_or(1, |(line, _)| *line);
    given.header.map_or_else(|| dialect::header(sample, &is_known).unwrap_or(first), u64::from)
}

/// Pointers to the arrays of objects that are in no such array.
fn arrays(value: &Value, pointer: &str, depth: usize) -> Vec<String> {
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_object) => vec![pointer.to_owned()],
        Value::Object(members) if depth < 4 => {
            let part = |name: &String| format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            members.iter().flat_map(|(name, value)| arrays(value, &part(name), depth + 1)).collect()
        }
        _ => Vec::new(),
    }
}
