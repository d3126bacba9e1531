//! A record through a mapping.

use super::plan::{Answer, Field, From, Layout, Plan};
use super::{Factor, Numbers, dates};
use crate::core::json::{self, Kind, Node, Tape, number};
use crate::core::limits;
use crate::core::notation::Notation;
use crate::schema::{ColumnType, Violation};
use serde_json::Value;
use std::borrow::Cow;

/// The rule of a violation by a mapping.
pub const RULE_MAPPING: &str = "mapping";

/// A value before it has the type of its field.
enum Found<'a> {
    Text(Cow<'a, str>),
    /// Anything but a text or null.
    Other(Node<'a>),
}

/// Why a value cannot be mapped: the value and what is wrong with it.
struct Wrong {
    value: String,
    problem: String,
}

impl Wrong {
    fn new(value: &str, problem: impl Into<String>) -> Self {
        Self { value: value.to_owned(), problem: problem.into() }
    }
}

impl Plan {
    /// Writes the record that the object `record` becomes to `out`; returns what cannot be mapped. `missing` are the
    /// texts that stand for missing values in the file, `answers` those of the jq programs.
    pub fn apply(&self, record: Node<'_>, missing: &[String], answers: &[Answer], out: &mut Vec<u8>) -> Vec<Violation> {
        let values = self.values(record);
        let (mut made, mut violations) = (Vec::with_capacity(self.fields.len()), Vec::new());
        let mut bytes = 0;
        for field in &self.fields {
            // What is beyond a record is not even made.
            let value = match bytes > limits::RECORD_BYTES_MAX {
                true => Err(Wrong::new("", too_long())),
                false => field.value(&values, missing, answers),
            };
            match value {
                Ok(value) => {
                    bytes += value.as_ref().map_or(0, Vec::len);
                    made.push(value);
                }
                Err(wrong) => {
                    made.push(None);
                    violations.push(field.violation(&wrong));
                }
            }
        }
        out.clear();
        if !self.layout.write(&made, out) {
            out.extend_from_slice(b"{}");
        }
        violations.truncate(limits::VIOLATIONS_RECORD_MAX);
        violations
    }
}

impl Layout {
    /// Writes an object without the members that have no value; false if none has.
    fn write(&self, made: &[Option<Vec<u8>>], out: &mut Vec<u8>) -> bool {
        let members = match self {
            Self::Field(at) => {
                let Some(value) = &made[*at] else { return false };
                out.extend_from_slice(value);
                return true;
            }
            Self::Object(members) => members,
        };
        let begin = out.len();
        for (name, layout) in members {
            let before = out.len();
            out.push(if before == begin { b'{' } else { b',' });
            out.extend_from_slice(&json::to_canonical(name));
            out.push(b':');
            if !layout.write(made, out) {
                out.truncate(before);
            }
        }
        if out.len() > begin {
            out.push(b'}');
        }
        out.len() > begin
    }
}

fn too_long() -> String {
    format!("the mapping makes more than {} bytes of one record", limits::RECORD_BYTES_MAX)
}

/// What is wrong with a program, which has no value.
fn of_program(problem: &str) -> Wrong {
    Wrong::new("", format!("the jq program {problem}"))
}

impl Field {
    fn violation(&self, wrong: &Wrong) -> Violation {
        let (pointer, problem) = (self.pointer.clone(), &wrong.problem);
        if wrong.value.is_empty() {
            return Violation::new(pointer, RULE_MAPPING, problem.as_str());
        }
        let shown: String = wrong.value.chars().take(limits::SHOWN_CHARS_MAX).collect();
        let of = if self.named.is_empty() { String::new() } else { format!(" (from {})", self.named) };
        Violation::new(pointer, RULE_MAPPING, format!("`{shown}`{of} {problem}")).of(&wrong.value)
    }

    /// The value as JSON.
    fn value(
        &self,
        values: &[Option<Node<'_>>],
        missing: &[String],
        answers: &[Answer],
    ) -> Result<Option<Vec<u8>>, Wrong> {
        let default = || self.rule.default.as_ref().map(json::to_canonical);
        let mut tape = Tape::default();
        let found = match &self.from {
            From::Constant => return Ok(self.rule.value.as_ref().map(json::to_canonical)),
            From::First(sources) => sources.iter().find_map(|at| self.present(values[*at]?, missing)),
            From::Joined(parts, with) => self.joined(parts.iter().filter_map(|at| values[*at]), with, missing)?,
            From::Program(at) => match answers.get(*at) {
                Some(Ok(Some(text))) => {
                    tape.parse(text).map_err(|error| of_program(&error.problem))?;
                    self.present(tape.root(), missing)
                }
                Some(Err(problem)) => return Err(of_program(problem)),
                Some(Ok(None)) | None => None,
            },
        };
        match found {
            None => Ok(default()),
            Some(found) => Ok(self.convert(found)?.or_else(default)),
        }
    }

    /// A value, unless it stands for a missing one.
    fn present<'a>(&self, node: Node<'a>, missing: &[String]) -> Option<Found<'a>> {
        match node.kind() {
            Kind::Null => None,
            Kind::String => {
                let (text, trimmed) = (node.text(), node.text().trim());
                let none = self.rule.missing.iter().any(|marker| marker == trimmed)
                    || self.may_miss && missing.iter().any(|marker| marker == trimmed)
                    || trimmed.is_empty() && (self.may_miss || self.rule.trim || text.is_empty());
                (!none).then_some(Found::Text(if self.rule.trim { trimmed.into() } else { text.into() }))
            }
            _ => Some(Found::Other(node)),
        }
    }

    fn joined<'a>(
        &self,
        parts: impl Iterator<Item = Node<'a>>,
        with: &str,
        missing: &[String],
    ) -> Result<Option<Found<'a>>, Wrong> {
        let mut text: Option<String> = None;
        for part in parts.filter_map(|node| self.present(node, missing)) {
            let part = part.into_text(&self.named)?;
            let joined = text.get_or_insert_default();
            if !joined.is_empty() {
                joined.push_str(with);
            }
            joined.push_str(&part);
            if joined.len() > limits::RECORD_BYTES_MAX {
                return Err(Wrong::new("", too_long()));
            }
        }
        Ok(text.map(|text| Found::Text(text.into())))
    }

    /// The value with the type of the field; `None` if nothing is left of it.
    fn convert(&self, found: Found<'_>) -> Result<Option<Vec<u8>>, Wrong> {
        let Some(separator) = &self.rule.split else { return self.one(found, self.kind).map(Some) };
        let text = found.into_text(&self.named)?;
        let parts = text.split(separator.as_str()).map(str::trim).filter(|part| !part.is_empty());
        let (mut elements, mut bytes) = (Vec::new(), 0);
        for part in parts {
            let element = self.one(Found::Text(part.into()), self.elements)?;
            bytes += element.len();
            if bytes > limits::RECORD_BYTES_MAX {
                return Err(Wrong::new("", too_long()));
            }
            elements.push(element);
        }
        // An empty list says that there are none; an empty cell does not.
        Ok((!elements.is_empty()).then(|| [b"[", elements.join(&b","[..]).as_slice(), b"]"].concat()))
    }

    fn one(&self, found: Found<'_>, kind: ColumnType) -> Result<Vec<u8>, Wrong> {
        if !self.rule.table.is_empty() {
            return self.looked_up(&found.into_text(&self.named)?);
        }
        if let Some(dates) = &self.rule.date {
            let text = found.into_text(&self.named)?;
            return match dates::convert(text.trim(), dates) {
                Ok(date) => typed(&date, kind, Notation::default()).map_err(|problem| Wrong::new(&text, problem)),
                Err(problem) => Err(Wrong::new(&text, problem)),
            };
        }
        match (found, kind) {
            (Found::Other(node), ColumnType::Number) if node.kind() == Kind::Number => self.scaled(node.text(), ""),
            (Found::Other(node), ColumnType::String) if matches!(node.kind(), Kind::Number | Kind::Boolean) => {
                Ok(json::to_canonical(&Found::Other(node).into_text(&self.named)?))
            }
            // Whether it is right, the schema says.
            (Found::Other(node), _) => Ok(json::to_canonical(&node.value())),
            (Found::Text(text), ColumnType::Number) => self.measured(text.trim()),
            (Found::Text(text), kind) => {
                typed(&text, kind, self.notation).map_err(|problem| Wrong::new(&text, problem))
            }
        }
    }

    fn looked_up(&self, text: &str) -> Result<Vec<u8>, Wrong> {
        let table = &self.rule.table;
        let found = table.get(text).or_else(|| table.get(text.trim())).or(self.rule.otherwise.as_ref());
        found.map(json::to_canonical).ok_or_else(|| {
            let known: Vec<&str> = table.keys().take(limits::NAMES_IN_ERRORS_MAX).map(String::as_str).collect();
            Wrong::new(text, format!("is not in the table, which has {}", known.join(", ")))
        })
    }

    /// A number with the units of the rule.
    fn measured(&self, text: &str) -> Result<Vec<u8>, Wrong> {
        let units = self.rule.number.iter().flat_map(|numbers| &numbers.units);
        let without = |(unit, factor): (&String, &Factor)| {
            let rest = text.strip_suffix(unit.as_str()).or_else(|| text.strip_prefix(unit.as_str()))?;
            Some((rest.trim().to_owned(), unit.len(), factor.lexeme().to_owned()))
        };
        // 千万 comes before 万.
        let (rest, _, factor) = units.filter_map(without).max_by_key(|(_, length, _)| *length).unwrap_or_default();
        let rest = if factor.is_empty() { text } else { &rest };
        let lexeme = self.notation.number(rest).map_err(|problem| Wrong::new(text, problem))?;
        self.scaled(&lexeme, &factor)
    }

    /// A number times the factors of its unit and its column.
    fn scaled(&self, lexeme: &str, factor: &str) -> Result<Vec<u8>, Wrong> {
        let own =
            self.rule.number.as_ref().and_then(|Numbers { factor, .. }| factor.as_ref()).map_or("", Factor::lexeme);
        let mut lexeme = Cow::Borrowed(lexeme);
        for factor in [factor, own].into_iter().filter(|factor| !factor.is_empty()) {
            let product = number::product(&lexeme, factor);
            lexeme = product.map(Cow::Owned).ok_or_else(|| Wrong::new(&lexeme, "has too many digits for a factor"))?;
        }
        Ok(lexeme.into_owned().into_bytes())
    }
}

impl Found<'_> {
    /// As a text. A number must be written as its canonical form: 1.10 may be a version, and is not 1.1 then.
    fn into_text(self, named: &str) -> Result<String, Wrong> {
        match self {
            Self::Text(text) => Ok(text.into_owned()),
            Self::Other(node) if node.kind() == Kind::Number && !node.is_as_written() => {
                let shown = node.text();
                Err(Wrong::new(
                    shown,
                    format!("is written otherwise as a number in {named}; make it a text in the file"),
                ))
            }
            Self::Other(node) if node.kind() == Kind::Number => Ok(node.text().to_owned()),
            Self::Other(node) => match node.value() {
                Value::Array(list) if list.iter().all(Value::is_string) => {
                    Ok(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
                }
                value => Ok(value.to_string()),
            },
        }
    }
}

/// A text as JSON of this type; fails with what is wrong.
fn typed(text: &str, kind: ColumnType, notation: Notation) -> Result<Vec<u8>, String> {
    let trimmed = text.trim();
    match kind {
        ColumnType::String => Ok(json::to_canonical(text)),
        ColumnType::Number => Ok(notation.number(trimmed)?.into_owned().into_bytes()),
        ColumnType::Boolean => match trimmed {
            "true" | "True" | "TRUE" => Ok(b"true".to_vec()),
            "false" | "False" | "FALSE" => Ok(b"false".to_vec()),
            _ => Err("is neither true nor false; a table in the rule says which it is".into()),
        },
        ColumnType::Nested if serde_json::from_str::<Value>(trimmed).is_ok_and(|v| v.is_array() || v.is_object()) => {
            Ok(trimmed.as_bytes().to_vec())
        }
        ColumnType::Nested => Err("is neither a list nor an object in JSON; split makes a list of it".into()),
    }
}
