//! Rows of cells become JSON objects with the types of the schema. An empty cell is an absent property.

use super::csv::{Rows, Syntax};
use super::reading::Reading;
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

/// Whether a marker of a missing value cannot be a value of the property itself.
pub fn may_miss(schema: &Schema, property: &str, kind: ColumnType) -> bool {
    let format = schema.keyword(&json::pointer_part(property), "format").and_then(|format| format.as_str());
    kind != ColumnType::String || matches!(format, Some("date" | "date-time" | "period" | "time"))
}

/// How numbers and missing values are written.
#[derive(Debug, Clone)]
pub struct Writing {
    decimal: char,
    thousands: Option<char>,
    missing: Vec<String>,
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
            Some((property, kind)) => (property.to_owned(), Holds::Values(kind, may_miss(schema, property, kind))),
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
            "line {line}: the {columns} `{}` {verb} neither a property of {} nor the title of one; not in the file are: {}",
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
        Ok(Self { columns, syntax, writing: Writing { decimal, thousands, missing, sheet: syntax.rows } })
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
            ColumnType::Number => match writing.number(trimmed) {
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

impl Writing {
    /// A number as JSON writes it.
    fn number<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, &'static str> {
        if (self.decimal == '.' || !text.contains('.')) && is_json_number(text) {
            return Ok(text.into());
        }
        let (sign, rest) = match text.strip_prefix(['-', '−']) {
            Some(rest) => ("-", rest),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = rest.split_at(rest.find(['e', 'E']).unwrap_or(rest.len()));
        let (whole, part) = match mantissa.split_once(self.decimal) {
            Some((whole, part)) => (whole, part),
            None => (mantissa, ""),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let whole = self.without_groups(whole).filter(|whole| digits(whole) && digits(part));
        let whole = whole.ok_or_else(|| self.not_a_number(rest))?;
        // As in .5 and 5.
        let whole = if whole.is_empty() && !part.is_empty() { "0" } else { &whole };
        let point = if part.is_empty() { "" } else { "." };
        let number = format!("{sign}{whole}{point}{part}{exponent}");
        if is_json_number(&number) { Ok(number.into()) } else { Err(self.not_a_number(rest)) }
    }

    fn not_a_number(&self, text: &str) -> &'static str {
        let digits = |other: &[char]| text.chars().all(|c| c.is_ascii_digit() || other.contains(&c));
        let whole = text.len() > 1 && text.starts_with('0') && digits(&[]);
        match self.decimal {
            _ if whole => "is not a number: it begins with a zero, so a schema in which it is a text may be meant",
            '.' if digits(&[',', '.']) => {
                "is not a number; if it has a decimal comma, or commas between thousands, say so"
            }
            ',' if digits(&[',', '.']) => "is not a number with a decimal comma",
            _ => "is not a number",
        }
    }

    /// The digits of groups of three.
    fn without_groups<'a>(&self, whole: &'a str) -> Option<Cow<'a, str>> {
        let Some(separator) = self.thousands.filter(|separator| whole.contains(*separator)) else {
            return Some(whole.into());
        };
        let mut groups = whole.split(separator);
        let first = groups.next().filter(|first| (1..=3).contains(&first.len()))?;
        let mut digits = first.to_owned();
        for group in groups {
            if group.len() != 3 {
                return None;
            }
            digits.push_str(group);
        }
        Some(digits.into())
    }
}

impl Spelling for Writing {
    fn number(&self, cell: &str) -> Option<String> {
        Self::number(self, cell.trim()).ok().map(Cow::into_owned)
    }

    fn is_missing(&self, cell: &str) -> bool {
        self.missing.iter().any(|marker| marker == cell.trim())
    }
}

/// Whether the text is a number in JSON (RFC 8259 section 6).
fn is_json_number(text: &str) -> bool {
    json::number::scan(text.as_bytes(), 0).is_ok_and(|end| end == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writing(decimal: char, thousands: Option<char>) -> Writing {
        Writing { decimal, thousands, missing: Vec::new(), sheet: false }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (decimal, thousands, text, expected) in [
            ('.', None, "12", Ok("12")),
            ('.', None, "-1.50", Ok("-1.50")),
            ('.', None, ".5", Ok("0.5")),
            ('.', None, "5.", Ok("5")),
            ('.', None, "+7", Ok("7")),
            ('.', None, "−7", Ok("-7")),
            ('.', None, "1e3", Ok("1e3")),
            ('.', None, "007", Err("begins with a zero")),
            ('.', None, "1,5", Err("decimal comma")),
            ('.', None, "abc", Err("is not a number")),
            ('.', None, "", Err("is not a number")),
            ('.', None, ".", Err("is not a number")),
            ('.', None, "1.2.3", Err("is not a number")),
            ('.', None, "1}", Err("is not a number")),
            (',', None, "1,5", Ok("1.5")),
            (',', None, "1,73922", Ok("1.73922")),
            (',', None, "1.5", Err("with a decimal comma")),
            (',', Some('.'), "1.234,5", Ok("1234.5")),
            (',', Some('.'), "1.5", Err("with a decimal comma")),
            ('.', Some(','), "1,234,567.25", Ok("1234567.25")),
            ('.', Some(','), "12,34", Err("say so")),
            ('.', Some(','), "1234,567", Err("say so")),
            ('.', Some(' '), "1 234", Ok("1234")),
        ] {
            match (writing(decimal, thousands).number(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
                (found, _) => panic!("{decimal} {text}: {found:?}"),
            }
        }
    }

    proptest! {
        /// No cell becomes anything but one number.
        #[test]
        fn a_number_is_one_number(text in "[-+0-9.,eE ]{0,12}|\\PC{0,6}", decimal in "[.,]", thousands in prop::option::of("[,. ]")) {
            let thousands = thousands.and_then(|text| text.chars().next());
            if let Ok(number) = writing(decimal.chars().next().unwrap(), thousands).number(&text) {
                prop_assert!(is_json_number(&number), "{text} {number}");
            }
        }

        /// What is written with commas and groups is the number that was meant.
        #[test]
        fn groups_and_commas_change_no_value(whole in 0u64..10_000_000_000, part in 0u32..1000) {
            let digits = whole.to_string();
            let grouped: Vec<String> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8(group.to_vec()).unwrap()).collect();
            let text = format!("{},{part:03}", grouped.join("."));
            let expected = format!("{whole}.{part:03}");
            prop_assert_eq!(writing(',', Some('.')).number(&text).unwrap(), expected);
        }
    }
}
