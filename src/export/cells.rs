//! Properties as columns, and their values as cells.

use crate::core::json::{Kind, Node, Tape, pointer_part};
use crate::core::limits;
use crate::schema::{ColumnType, Schema};
use serde_json::Value;

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

impl Column {
    /// The properties with these names, or all in the schema's order.
    pub(super) fn of(schema: &Schema, names: &[String]) -> Result<Vec<Self>, String> {
        let all = schema.columns();
        let column =
            |name: &str, kind: ColumnType| Self { name: name.to_owned(), holds: Holds::of(schema, name, kind) };
        if names.is_empty() {
            return Ok(all.into_iter().map(|(name, kind)| column(name, kind)).collect());
        }
        if let Some((_, repeated)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("the column `{repeated}` is chosen twice"));
        }
        let find = |name: &String| {
            let found = all.iter().find(|(known, _)| known == name);
            found.map(|(name, kind)| column(name, *kind)).ok_or_else(|| unknown(schema, name))
        };
        names.iter().map(find).collect()
    }

    pub(super) fn cell<'t>(&self, record: Node<'t>) -> Cell<'t> {
        match record.members().find(|(name, _)| *name == self.name) {
            None => Cell::Nothing,
            Some((_, value)) => Cell::of(value),
        }
    }

    /// Fails if a record has a property that is no column, because the schema does not name it.
    pub(super) fn ensure_all(columns: &[Self], tape: &Tape) -> Result<(), String> {
        let other = |(name, _): &(&str, Node<'_>)| columns.iter().all(|column| column.name != *name);
        match tape.root().members().find(other) {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "it has `{name}`, which the schema does not name, so that a table has no column for it; choose columns, or write NDJSON or JSON"
            )),
        }
    }

    /// The cells of a record.
    pub(super) fn cells<'t>(columns: &[Self], tape: &'t Tape) -> Vec<Cell<'t>> {
        columns.iter().map(|column| column.cell(tape.root())).collect()
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
