//! What is known of the columns of a file before it is read.

use super::dialect::{self, Sample};
use crate::core::json::pointer_part;
use crate::mapping::Mapping;
use crate::schema::{ColumnType, Schema, Titles};

/// What the columns of a file are expected to be.
#[derive(Clone, Copy, Default)]
pub enum Expected<'a> {
    /// Anything.
    #[default]
    Unknown,
    /// Properties of a schema.
    Schema(&'a Schema),
    /// What a mapping reads for a schema.
    Mapped(&'a Mapping, &'a Schema),
}

/// The expected columns, to be asked about a file's.
pub(super) struct Columns<'a> {
    expected: Expected<'a>,
    titles: Option<Titles<'a>>,
}

impl<'a> Expected<'a> {
    pub(super) fn columns(self) -> Columns<'a> {
        let titles = if let Self::Schema(schema) = self { Some(schema.titles()) } else { None };
        Columns { expected: self, titles }
    }

    fn schema(self) -> Option<&'a Schema> {
        match self {
            Self::Unknown => None,
            Self::Schema(schema) | Self::Mapped(_, schema) => Some(schema),
        }
    }
}

impl Columns<'_> {
    /// Whether a column with this header is expected.
    pub(super) fn has(&self, header: &str) -> bool {
        match self.expected {
            Expected::Mapped(mapping, _) => mapping.reads(header),
            _ => self.field(header).is_some(),
        }
    }

    /// The JSON pointer of the field that is read from a column as the file writes it.
    fn field(&self, header: &str) -> Option<String> {
        match self.expected {
            Expected::Unknown => None,
            Expected::Schema(_) => self.titles.as_ref()?.column(header).map(|(property, _)| pointer_part(property)),
            Expected::Mapped(mapping, _) => mapping.field_of(header),
        }
    }

    /// The columns in which a marker of a missing value cannot be a value: any, if nothing is known.
    pub(super) fn gaps(&self, names: &[&str]) -> Vec<usize> {
        let may = |name: &&str| match (self.expected, self.field(name)) {
            (Expected::Mapped(..), None) => false,
            (expected, Some(pointer)) => expected.schema().is_some_and(|schema| schema.may_miss(&pointer)),
            (_, None) => true,
        };
        names.iter().enumerate().filter(|(_, name)| may(name)).map(|(at, _)| at).collect()
    }

    /// The columns that hold numbers, and whether they are whole; if nothing is known, those that look like it.
    pub(super) fn numbers<'s>(&self, sample: &'s Sample, names: &[&str], header: u32) -> Vec<dialect::Column<'s>> {
        let schema = self.expected.schema();
        let column = |(at, name): (usize, &&str)| {
            let cells = sample.column(at, header);
            let pointer = self.field(name);
            let is_number = match (self.expected, &pointer) {
                (_, Some(pointer)) => schema?.column_type(pointer) == Some(ColumnType::Number),
                (Expected::Mapped(..), None) => false,
                (_, None) => look_like_numbers(&cells),
            };
            let whole = pointer.is_some_and(|pointer| {
                schema.and_then(|schema| schema.keyword(&pointer, "type")).is_some_and(|kind| kind == "integer")
            });
            is_number.then_some(dialect::Column { cells, whole })
        };
        names.iter().enumerate().filter_map(column).collect()
    }
}

fn look_like_numbers(cells: &[&str]) -> bool {
    let filled: Vec<&&str> = cells.iter().filter(|cell| !cell.trim().is_empty()).collect();
    let numeric = |cell: &&&str| {
        cell.chars().any(|c| c.is_ascii_digit())
            && cell.trim().chars().all(|c| c.is_ascii_digit() || "+-−.,'’eE \u{A0}\u{202F}".contains(c))
    };
    filled.iter().filter(|cell| numeric(cell)).count() * 10 > filled.len() * 9
}
