//! Properties as columns, and their values as cells.

use crate::core::json::{Kind, Node, Tape, pointer_part};
use crate::core::limits;
use crate::schema::{ColumnType, Schema};
use serde_json::Value;
use std::collections::HashMap;
use std::io;

/// A property as a column.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) holds: Holds,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Whole,
    Number,
    Boolean,
    Date,
    Time,
    /// Lists and objects, as JSON.
    Json,
}

/// A value.
pub(super) enum Cell<'a> {
    Nothing,
    Text(&'a str),
    /// A number in canonical form.
    Number(&'a str),
    Boolean(bool),
    Json(String),
}

/// The columns of a table.
pub(super) struct Columns {
    all: Vec<Column>,
    by_name: HashMap<String, usize>,
    /// Whether a record may have properties that are no columns.
    chosen: bool,
}

impl Columns {
    /// The properties with these names, or all in the schema's order.
    pub(super) fn of(schema: &Schema, names: &[String]) -> Result<Self, String> {
        let known: HashMap<&str, ColumnType> = schema.columns().into_iter().collect();
        let in_order: Vec<&str> = match names {
            [] => schema.columns().into_iter().map(|(name, _)| name).collect(),
            names => names.iter().map(String::as_str).collect(),
        };
        let mut columns = Self { all: Vec::new(), by_name: HashMap::new(), chosen: !names.is_empty() };
        for name in in_order {
            let kind = *known.get(name).ok_or_else(|| unknown(schema, name))?;
            if columns.by_name.insert(name.to_owned(), columns.all.len()).is_some() {
                return Err(format!("the column `{name}` is chosen twice"));
            }
            columns.all.push(Column { name: name.to_owned(), holds: Holds::of(schema, name, kind) });
        }
        Ok(columns)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.all.iter()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The cells of a record. Fails if it has a property that is no column, because the schema does not name it.
    pub(super) fn cells<'t>(&self, tape: &'t Tape) -> io::Result<Vec<Cell<'t>>> {
        let mut cells: Vec<Cell<'t>> = self.all.iter().map(|_| Cell::Nothing).collect();
        for (name, value) in tape.root().members() {
            match self.by_name.get(name) {
                Some(at) => cells[*at] = Cell::of(value),
                None if self.chosen => {}
                None => {
                    let problem = format!(
                        "it has `{name}`, which the schema does not name, so that a table has no column for it; choose columns, or write NDJSON or JSON"
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
                }
            }
        }
        Ok(cells)
    }
}

/// What is wrong with a name that no property has.
pub(super) fn unknown(schema: &Schema, name: &str) -> String {
    let all = schema.columns();
    let known: Vec<&str> = all.iter().map(|(name, _)| *name).take(limits::NAMES_IN_ERRORS_MAX).collect();
    format!("{} has no property `{name}`; it has {}", schema.id(), known.join(", "))
}

impl Holds {
    pub(super) fn of(schema: &Schema, name: &str, kind: ColumnType) -> Self {
        let keyword = |keyword: &str| schema.keyword(&pointer_part(name), keyword);
        match (kind, keyword("format").and_then(Value::as_str)) {
            (ColumnType::String, Some("date")) => Self::Date,
            (ColumnType::String, Some("date-time")) => Self::Time,
            (ColumnType::String, _) => Self::Text,
            (ColumnType::Number, _) if keyword("type").is_some_and(|kind| kind == "integer") => Self::Whole,
            (ColumnType::Number, _) => Self::Number,
            (ColumnType::Boolean, _) => Self::Boolean,
            (ColumnType::Nested, _) => Self::Json,
        }
    }
}

impl<'a> Cell<'a> {
    /// The value of a record's property.
    pub(super) fn at(record: &'a Tape, property: &str) -> Self {
        let found = record.root().members().find(|(name, _)| *name == property);
        found.map_or(Self::Nothing, |(_, value)| Self::of(value))
    }

    fn of(value: Node<'a>) -> Self {
        match value.kind() {
            Kind::Null => Self::Nothing,
            Kind::String => Self::Text(value.text()),
            Kind::Number => Self::Number(value.text()),
            Kind::Boolean => Self::Boolean(value.value() == Value::Bool(true)),
            Kind::Array | Kind::Object => {
                let mut text = Vec::new();
                value.write_canonical(&mut text);
                Self::Json(String::from_utf8_lossy(&text).into_owned())
            }
        }
    }

    /// As a text; nothing is an empty one.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Text(text) | Self::Number(text) => text,
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
            Self::Json(text) => text,
        }
    }
}
